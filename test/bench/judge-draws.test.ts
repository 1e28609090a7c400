// Promises: the judge's simulator draws what it says: a world drawn wrong would prove a judge of another world.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shift } from '../../bench/judge/baselines.ts'
import { binomial, normalAbove, normalQuantileAbove, poisson } from '../../bench/judge/draws.ts'
import { poissonUpper } from '../../bench/judge/poisson-bound.ts'
import { chiSquareChance, sameness } from '../../bench/judge/sameness.ts'
import { logFactorial } from '../../src/canary/splits.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const DRAWS = 40_000

/** The chance of a chi-square as large, of draws against expected counts drawn as a second sample. */
function tally(draw: () => number): Map<number, number> {
  const counts = new Map<number, number>()
  for (let i = 0; i < DRAWS; i++) {
    const value = draw()
    counts.set(value, (counts.get(value) ?? 0) + 1)
  }
  return counts
}

function worstDeviation(counts: ReadonlyMap<number, number>, logChance: (k: number) => number): number {
  let worst = 0
  for (const [k, count] of counts) {
    const expected = DRAWS * Math.exp(logChance(k))
    if (expected >= 25) worst = Math.max(worst, Math.abs(count - expected) / Math.sqrt(expected))
  }
  return worst
}

test('binomial and Poisson draws have the chances of their distributions, by inversion and by rejection', () => {
  const random = seededRandom(5)
  for (const [n, p] of [
    [100, 0.005],
    [100, 0.7],
    [1_900, 0.04],
    [5_000, 0.3],
  ] as const) {
    const log = (k: number) => logFactorial(n) - logFactorial(k) - logFactorial(n - k) + k * Math.log(p) + (n - k) * Math.log(1 - p)
    assert.ok(
      worstDeviation(
        tally(() => binomial(random, n, p)),
        log,
      ) < 4.5,
      `${n} ${p}`,
    )
  }
  for (const mean of [0.4, 9, 12, 100, 1_900]) {
    assert.ok(
      worstDeviation(
        tally(() => poisson(random, mean)),
        (k) => k * Math.log(mean) - mean - logFactorial(k),
      ) < 4.5,
      String(mean),
    )
  }
  assert.deepEqual([binomial(random, 0, 0.5), binomial(random, 9, 0), binomial(random, 9, 1), poisson(random, 0)], [0, 0, 9, 0])
})

test('a normal quantile is the inverse of the tail, on both sides and in the middle', () => {
  for (const p of [1e-6, 0.001, 0.01, 0.02, 0.03, 0.2, 0.5, 0.7, 0.99])
    assert.ok(Math.abs(normalAbove(normalQuantileAbove(p)) - p) < 2e-7, String(p))
  assert.ok(normalQuantileAbove(0.01) > 2.32 && normalQuantileAbove(0.99) < -2.32)
})

test('a span drawn at once is one drawn request by request', () => {
  // Of 4,000 spans: with a tenth of that, requests that a pause leaves below 30 ms, told in other buckets, were not seen to differ.
  const { leastChance } = sameness(20_001, 4_000, { canary: 50, control: 950 }, 2, new AbortController().signal)
  assert.ok(leastChance >= 0.001, String(leastChance))
})

test('samples that are not alike are told apart', () => {
  const random = seededRandom(9)
  const of = (mean: number) => tally(() => poisson(random, mean))
  assert.ok(chiSquareChance(of(3), of(3)) > 0.001)
  assert.ok(chiSquareChance(of(3), of(3.1)) < 1e-6)
})

test('the bound of a count is exact: none in 900 days is at most 0.1 in 30, at 95 %', () => {
  assert.ok(Math.abs(poissonUpper(0, 0.95) + Math.log(0.05)) < 1e-9)
  assert.ok(Math.abs(poissonUpper(2, 0.95) - 6.2958) < 1e-3)
  assert.ok((poissonUpper(0, 0.95) * 30) / 900 < 0.1)
})

test('Mann-Whitney’s interval of a shift holds it, and its lower end is over nothing only where there is one', () => {
  const random = seededRandom(11)
  const sample = (plus: number) => Array.from({ length: 60 }, () => plus + random.next())
  const same = shift(sample(0), sample(0))
  const more = shift(sample(2), sample(0))
  assert.ok(same.lower < 0 && Math.abs(same.estimate) < 0.2)
  assert.ok(more.lower > 1.7 && more.lower < more.estimate && Math.abs(more.estimate - 2) < 0.2)
})
