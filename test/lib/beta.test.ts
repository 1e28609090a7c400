import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { logBeta, logBetaTails, logGamma } from '../../src/lib/beta.ts'

const near = (a: number, b: number, within = 1e-9) => assert.ok(Math.abs(a - b) <= within * Math.max(1, Math.abs(b)), `${a}, not ${b}`)

test('the gamma function is that of factorials and of one half', () => {
  near(logGamma(11), Math.log(3_628_800))
  near(logGamma(0.5), 0.5 * Math.log(Math.PI))
  near(logBeta(2, 3), Math.log(1 / 12))
})

test('both tails of a beta distribution are those of coins, and sum to 1', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 60 }),
      fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      (a, b, x) => {
        const { lower, upper } = logBetaTails(x, a, b)
        near(Math.exp(lower) + Math.exp(upper), 1)
        // P(Beta(a, b) <= x) is the chance of at least a heads of a + b - 1 coins of bias x.
        const all = a + b - 1
        let sum = 0
        for (let heads = a; heads <= all; heads++) {
          sum += Math.exp(-logBeta(heads + 1, all - heads + 1) - Math.log(all + 1) + heads * Math.log(x) + (all - heads) * Math.log(1 - x))
        }
        near(lower, Math.log(sum), 1e-7)
      },
    ),
  )
})

test('a tail far too small for a double has its logarithm', () => {
  near(logBetaTails(0.5, 10_000, 1).lower, 10_000 * Math.log(0.5))
  near(logBetaTails(0.5, 1, 10_000).upper, 10_000 * Math.log(0.5))
  for (const [x, a, b] of [
    [0.01, 1e5, 1e7],
    [0.01, 5e4, 1e7],
  ] as const) {
    const { lower, upper } = logBetaTails(x, a, b)
    assert.ok(Number.isFinite(lower) && Number.isFinite(upper) && Math.max(lower, upper) <= 0, `${lower} ${upper}`)
  }
})
