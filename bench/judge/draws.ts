// Promises: draws from exact distributions, under a seed: normal, Poisson, binomial.
import { logFactorial } from '../../src/canary/splits.ts'
import type { Random } from '../../src/lib/prng.ts'

/** Below this mean by inversion, from it on by rejection. */
const FEW = 10

/** Hörmann's PTRS (The transformed rejection method for generating Poisson random variables, 1993). */
export function poisson(random: Random, mean: number): number {
  if (mean <= 0) return 0
  if (mean < FEW) return inverted(random, Math.exp(-mean), (k) => mean / k)
  const b = 0.931 + 2.53 * Math.sqrt(mean)
  const a = -0.059 + 0.02483 * b
  const alpha = 1.1239 + 1.1328 / (b - 3.4)
  const sure = 0.9277 - 3.6224 / (b - 2)
  for (;;) {
    const u = random.next() - 0.5
    const v = random.next()
    const us = 0.5 - Math.abs(u)
    const k = Math.floor(((2 * a) / us + b) * u + mean + 0.43)
    if (us >= 0.07 && v <= sure) return k
    if (k < 0 || (us < 0.013 && v > us)) continue
    if (Math.log((v * alpha) / (a / (us * us) + b)) <= -mean + k * Math.log(mean) - logFactorial(k)) return k
  }
}

/** Hörmann's BTRS (The generation of binomial random variates, 1993). */
export function binomial(random: Random, n: number, p: number): number {
  if (n <= 0 || p <= 0) return 0
  if (p >= 1) return n
  if (p > 0.5) return n - binomial(random, n, 1 - p)
  if (n * p < FEW) return inverted(random, Math.exp(n * Math.log1p(-p)), (k) => ((n - k + 1) * p) / (k * (1 - p)))
  const spread = Math.sqrt(n * p * (1 - p))
  const b = 1.15 + 2.53 * spread
  const a = -0.0873 + 0.0248 * b + 0.01 * p
  const sure = 0.92 - 4.2 / b
  const alpha = (2.83 + 5.1 / b) * spread
  const odds = Math.log(p / (1 - p))
  const mode = Math.floor((n + 1) * p)
  const atMode = logFactorial(mode) + logFactorial(n - mode)
  for (;;) {
    const u = random.next() - 0.5
    const v = random.next()
    const us = 0.5 - Math.abs(u)
    const k = Math.floor(((2 * a) / us + b) * u + n * p + 0.5)
    if (k < 0 || k > n) continue
    if (us >= 0.07 && v <= sure) return k
    if (Math.log((v * alpha) / (a / (us * us) + b)) <= atMode - logFactorial(k) - logFactorial(n - k) + (k - mode) * odds) return k
  }
}

/** From the chance of 0, and the factor from k - 1 to k. */
function inverted(random: Random, none: number, factor: (k: number) => number): number {
  let left = random.next()
  let chance = none
  let k = 0
  while (left > chance && chance > 0) {
    left -= chance
    chance *= factor(++k)
  }
  return k
}

export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
}

export function exponential(random: Random, mean: number): number {
  return -mean * Math.log(1 - random.next())
}

/** P(Z > z) of a standard normal: Cody's forms are not needed, a continued product of Abramowitz and Stegun 26.2.17 errs by 7.5e-8. */
export function normalAbove(z: number): number {
  if (z < 0) return 1 - normalAbove(-z)
  const t = 1 / (1 + 0.2316419 * z)
  const poly = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * poly
}

/** The z with P(Z > z) = p (Acklam, relative error 1.2e-9). */
export function normalQuantileAbove(p: number): number {
  if (p > 0.5) return -normalQuantileAbove(1 - p)
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p))
    const top =
      ((((-7.784894002430293e-3 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734) * q + 4.374664141464968) * q +
      2.938163982698783
    return -top / ((((7.784695709041462e-3 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1)
  }
  const q = 0.5 - p
  const r = q * q
  const top =
    (((((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.357751867269) * r - 30.66479806614716) * r +
      2.506628277459239) *
    q
  return (
    top /
    (((((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972) * r - 13.28068155288572) * r + 1)
  )
}
