// Promises: how many more slow requests than expected a block has, as one of five categories, and how often each comes where nothing is
// wrong: the frequencies of a pseudo-canary, a part of control that is judged as if it were one. Pure.

export const CATEGORIES = 5

/**
 * cat = clamp(round((a - max(0, n k/m - .01 n)) / max(1, .015 n)), 0, 4): a of the canary's n requests and k of control's m were slow.
 * What both arms share (a burst, a pause of the gateway) goes with control's k/m; a hundredth of the requests is forgiven to it.
 */
export function categoryOf(a: number, n: number, k: number, m: number): number {
  const expected = m > 0 ? Math.max(0, (n * k) / m - 0.01 * n) : 0
  return Math.min(CATEGORIES - 1, Math.max(0, Math.round((a - expected) / Math.max(1, 0.015 * n))))
}

/** Rarer splits than this are left out. */
const LEAST_CHANCE = 1e-13

/**
 * The chance of each category for a pseudo-canary of n requests, over every way to split: given that K of all N = n + m requests are slow
 * and that arms differ by chance alone, the canary's are hypergeometric. K is control's own, scaled from m to N requests; what is between
 * two whole numbers is shared out to both. (One drawn pseudo-canary would be one sample of this.)
 */
export function splitChances(n: number, k: number, m: number): number[] {
  const chances = new Array<number>(CATEGORIES).fill(0)
  const slow = (k * (n + m)) / m
  const low = Math.floor(slow)
  addSplits(chances, n, m, low, 1 - (slow - low))
  if (slow > low) addSplits(chances, n, m, low + 1, slow - low)
  return chances
}

function addSplits(chances: number[], n: number, m: number, slow: number, weight: number): void {
  const [least, most] = [Math.max(0, slow - m), Math.min(n, slow)]
  const mode = Math.min(most, Math.max(least, Math.floor(((n + 1) * (slow + 1)) / (n + m + 2))))
  const atMode = weight * Math.exp(logChoose(n, mode) + logChoose(m, slow - mode) - logChoose(n + m, slow))
  for (let [a, chance] = [mode, atMode]; a <= most && chance > LEAST_CHANCE; a++) {
    chances[categoryOf(a, n, slow - a, m)]! += chance
    chance *= ((n - a) * (slow - a)) / ((a + 1) * (m - slow + a + 1))
  }
  for (let [a, chance] = [mode, atMode]; a > least; ) {
    chance *= (a * (m - slow + a)) / ((n - a + 1) * (slow - a + 1))
    a--
    if (chance <= LEAST_CHANCE) break
    chances[categoryOf(a, n, slow - a, m)]! += chance
  }
}

function logChoose(n: number, k: number): number {
  return logFactorial(n) - logFactorial(k) - logFactorial(n - k)
}

const TABLE = (() => {
  const table = new Float64Array(1024)
  for (let i = 2; i < table.length; i++) table[i] = table[i - 1]! + Math.log(i)
  return table
})()

/** Stirling's series past the table: exact to a double's last digits there. */
export function logFactorial(n: number): number {
  if (n < TABLE.length) return TABLE[n]!
  const r = 1 / n
  return (n + 0.5) * Math.log(n) - n + 0.5 * Math.log(2 * Math.PI) + r / 12 - (r * r * r) / 360
}
