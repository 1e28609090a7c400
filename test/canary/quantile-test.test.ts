import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { NO_COUNTS } from '../../src/canary/arm-counts.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import { FRESH_QUANTILE, quantileEvidence, quantileStep } from '../../src/canary/quantile-test.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { arm } from './seen.ts'

function of(valuesMs: readonly number[]) {
  return { ...NO_COUNTS, requests: valuesMs.length, latencies: latenciesOf(valuesMs) }
}

/** Exponential: its P99 is its mean times ln 100. */
function latenciesMs(seed: number, count: number, meanMs: number): number[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, () => -meanMs * Math.log(1 - random.next()))
}

test('a canary whose P99 is three times control’s is told with near certainty after 5,000 requests', () => {
  const arms = { canary: of(latenciesMs(1, 5_000, 30)), control: of(latenciesMs(2, 50_000, 10)) }
  assert.ok(quantileEvidence(quantileStep(FRESH_QUANTILE, arms, 100_000)).nats > 20)
})

test('a P99 just within the margin is refuted at 1/20 in at most 1 run of 20, looked at all the time', () => {
  let refuted = 0
  const runs = 60
  for (let seed = 0; seed < runs; seed++) {
    const canary = latenciesMs(1_000 + seed, 8_000, 12.2)
    const control = latenciesMs(2_000 + seed, 16_000, 10)
    let state = FRESH_QUANTILE
    let most = 0
    for (let look = 0; look < 8; look++) {
      const arms = {
        canary: of(canary.slice(look * 1_000, (look + 1) * 1_000)),
        control: of(control.slice(look * 2_000, (look + 1) * 2_000)),
      }
      state = quantileStep(state, arms, 10_000)
      most = Math.max(most, quantileEvidence(state).nats)
    }
    if (most >= Math.log(20)) refuted++
  }
  assert.ok(refuted <= runs / 20, `${refuted} of ${runs}`)
})

test('slower requests of the canary are never less evidence', () => {
  const ms = fc.array(fc.double({ min: 1, max: 500, noNaN: true }), { minLength: 1, maxLength: 60 })
  fc.assert(
    fc.property(ms, ms, fc.double({ min: 1, max: 5, noNaN: true }), (canary, control, factor) => {
      const nats = (values: readonly number[]) =>
        quantileEvidence(quantileStep(FRESH_QUANTILE, { canary: of(values), control: of(control) }, 1_000)).nats
      assert.ok(nats(canary.map((value) => value * factor)) >= nats(canary) - 1e-9)
    }),
    { numRuns: 40 },
  )
})

test('an arm that is silent, or both, is no evidence', () => {
  const some = of(latenciesMs(3, 2_000, 10))
  for (const arms of [
    { canary: some, control: NO_COUNTS },
    { canary: NO_COUNTS, control: some },
    { canary: NO_COUNTS, control: NO_COUNTS },
  ]) {
    assert.ok(quantileEvidence(quantileStep(FRESH_QUANTILE, arms, 1_000)).nats <= 1e-9)
  }
})

test('a window is an hour, then a new one begins', () => {
  let state = FRESH_QUANTILE
  for (let minute = 0; minute < 61; minute++)
    state = quantileStep(state, { canary: arm({ requests: 10 }), control: arm({ requests: 10 }) }, 60_000)
  assert.equal(state.windowMs, 60_000)
})
