import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { NO_COUNTS } from '../../src/canary/arm-counts.ts'
import { type EDetector, levelOf } from '../../src/canary/e-detector.ts'
import { coinLogRatio, errorStep, FRESH_ERRORS } from '../../src/canary/errors.ts'
import { errorLimit, FRESH_LIMIT, limitStep, SLO_LIMIT } from '../../src/canary/limits.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { arm, coins, day } from './seen.ts'

const THRESHOLD = 4e6
const LIMIT = errorLimit(0.005)

test('a coin of the bias that is assumed gives evidence of mean 1: nothing is gained by chance alone', () => {
  const of = fc.record({
    n: fc.integer({ min: 1, max: 1_000 }),
    m: fc.integer({ min: 1, max: 1_000 }),
    d: fc.double({ min: 1.1, max: 64, noNaN: true }),
  })
  fc.assert(
    fc.property(of, ({ n, m, d }) => {
      const mean =
        (n * Math.exp(coinLogRatio(d, 1, { e: 1, n, f: 0, m })) + m * Math.exp(coinLogRatio(d, 1, { e: 0, n, f: 1, m }))) / (n + m)
      assert.ok(Math.abs(mean - 1) < 1e-9)
    }),
  )
})

test('errors that grow on the canary alone are found; those that both arms have, at whatever rate, are not', () => {
  const after = (canary: number, control: number, seed: number) => {
    const random = seededRandom(seed)
    let detector = FRESH_ERRORS
    for (let second = 0; second < 60; second++) {
      const arms = {
        canary: arm({ requests: 50, errors: coins(random, 50, canary) }),
        control: arm({ requests: 950, errors: coins(random, 950, control) }),
      }
      detector = errorStep(detector, arms, 1_000)
    }
    return levelOf(detector)
  }
  for (let seed = 1; seed <= 10; seed++) {
    assert.ok(after(0.05, 0.001, seed) > THRESHOLD)
    assert.ok(after(0.2, 0.2, seed) < THRESHOLD / 100)
    assert.ok(after(0.001, 0.05, seed) < 1)
  }
})

test('spans without an error, and spans with one arm silent, are no evidence: a week of them leaves the level where it was', () => {
  const quiet = { canary: arm({ requests: 50 }), control: arm({ requests: 950 }) }
  const some = errorStep(FRESH_ERRORS, { canary: arm({ requests: 50, errors: 2 }), control: arm({ requests: 950, errors: 1 }) }, 1_000)
  let detector: EDetector = some
  for (const arms of [
    quiet,
    { canary: arm({ requests: 50, errors: 9 }), control: NO_COUNTS },
    { canary: NO_COUNTS, control: arm({ requests: 9, errors: 9 }) },
  ]) {
    for (let second = 0; second < 1_000; second++) detector = errorStep(detector, arms, 1_000)
  }
  assert.deepEqual([detector.r, levelOf(detector) > 0], [some.r, true])
})

test('a whole second of failures gains no more than the clip, and a stall of four does not go back', () => {
  const failing = { canary: arm({ requests: 50, errors: 50 }), control: arm({ requests: 950, errors: 1 }) }
  let [coin, limit] = [FRESH_ERRORS, FRESH_LIMIT]
  for (let second = 0; second < 4; second++) {
    coin = errorStep(coin, failing, 1_000)
    limit = limitStep(limit, LIMIT, { a: 50, n: 50, k: 1, m: 950 }, 1_000)
  }
  assert.ok(Math.log(levelOf(coin)) <= 6 && Math.log(levelOf(limit)) <= 13)
})

test('the absolute limit finds 5 % of errors at 50 requests a second within 20 s, mostly within 10, with no control at all, and leaves 0.1 % alone for a day', () => {
  const delays: number[] = []
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed)
    let [detector, seconds] = [FRESH_LIMIT, 0]
    for (; levelOf(detector) < THRESHOLD; seconds++)
      detector = limitStep(detector, LIMIT, { a: coins(random, 50, 0.05), n: 50, k: 0, m: 0 }, 1_000)
    delays.push(seconds)
  }
  delays.sort((a, b) => a - b)
  assert.ok(delays[10]! <= 10 && delays[19]! <= 20, String(delays))
  let [detector, most] = [FRESH_LIMIT, 0]
  for (const { canary } of day({ seed: 1, seconds: 20_000, canaryPerSecond: 50, controlPerSecond: 1 })) {
    detector = limitStep(detector, LIMIT, { a: canary.errors, n: 50, k: 0, m: 0 }, 1_000)
    most = Math.max(most, levelOf(detector))
  }
  assert.ok(most < THRESHOLD / 1_000, String(most))
})

test('what a limit tolerates gives evidence of mean at most 1, for every bias up to it', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.constantFrom(LIMIT, SLO_LIMIT),
      (n, part, limit) => {
        const bias = part * limit.share
        let mean = 0
        let chance = (1 - bias) ** n
        for (let a = 0; a <= n; a++) {
          mean += chance * levelOf(limitStep(FRESH_LIMIT, { ...limit, clip: { nats: 1e3, windowMs: 1_000 } }, { a, n, k: 0, m: 0 }, 1_000))
          chance *= bias === 1 ? 0 : ((n - a) * bias) / ((a + 1) * (1 - bias))
        }
        assert.ok(mean <= 1 + 1e-9, String(mean))
      },
    ),
  )
})

test('a limit is lifted to what control suffers in the same span, and rests where there is no traffic', () => {
  const level = (k: number, n = 100) => levelOf(limitStep(FRESH_LIMIT, LIMIT, { a: Math.min(n, 10), n, k, m: 1_000 }, 1_000))
  assert.ok(level(0) > 5 && level(100) < 0.1)
  assert.equal(level(1_000), 0)
  assert.equal(level(0, 0), 0)
})
