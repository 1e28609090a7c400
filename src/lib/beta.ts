// Promises: the logarithms of the beta function and of both tails of its distribution, where the tails themselves are too small for a double.

/** Lanczos' approximation (g = 7, nine terms): 15 digits. Of x > 0. */
export function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x)
  const y = x - 1
  let sum = LANCZOS[0]!
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i]! / (y + i)
  const t = y + 7.5
  return 0.5 * Math.log(2 * Math.PI) + (y + 0.5) * Math.log(t) - t + Math.log(sum)
}

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
  -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
]

export function logBeta(a: number, b: number): number {
  return logGamma(a) + logGamma(b) - logGamma(a + b)
}

export interface BetaTails {
  /** ln P(X <= x). */
  readonly lower: number
  /** ln P(X >= x). */
  readonly upper: number
}

/** Of X ~ Beta(a, b), a and b > 0, 0 < x < 1. The smaller tail by its continued fraction, the other one as what is left. */
export function logBetaTails(x: number, a: number, b: number): BetaTails {
  const front = a * Math.log(x) + b * Math.log1p(-x) - logBeta(a, b)
  if (x < (a + 1) / (a + b + 2)) {
    const lower = Math.min(0, front + Math.log(continuedFraction(x, a, b) / a))
    return { lower, upper: logOfRest(lower) }
  }
  const upper = Math.min(0, front + Math.log(continuedFraction(1 - x, b, a) / b))
  return { lower: logOfRest(upper), upper }
}

/** ln(1 - e^log). */
function logOfRest(log: number): number {
  return log > -Math.LN2 ? Math.log(-Math.expm1(log)) : Math.log1p(-Math.exp(log))
}

/** It takes about the root of the larger of a and b; ten million requests take some thousands. */
const MOST_TERMS = 20_000
const TINY = 1e-300
const PRECISE = 1e-14

/** Lentz' method. */
function continuedFraction(x: number, a: number, b: number): number {
  const notZero = (value: number) => (Math.abs(value) < TINY ? TINY : value)
  let c = 1
  let d = 1 / notZero(1 - ((a + b) * x) / (a + 1))
  let sum = d
  for (let i = 1; i <= MOST_TERMS; i++) {
    const even = (i * (b - i) * x) / ((a + 2 * i - 1) * (a + 2 * i))
    d = 1 / notZero(1 + even * d)
    c = notZero(1 + even / c)
    sum *= d * c
    const odd = (-(a + i) * (a + b + i) * x) / ((a + 2 * i) * (a + 2 * i + 1))
    d = 1 / notZero(1 + odd * d)
    c = notZero(1 + odd / c)
    sum *= d * c
    if (Math.abs(d * c - 1) < PRECISE) break
  }
  return sum
}
