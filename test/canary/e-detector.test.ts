import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { advanced, CLIP, type EDetector, freshDetector, levelOf, rested } from '../../src/canary/e-detector.ts'

const steps = fc.array(
  fc.record({
    spanMs: fc.integer({ min: 100, max: 40_000 }),
    ratios: fc.array(fc.double({ min: -50, max: 50, noNaN: true }), { minLength: 2, maxLength: 2 }),
  }),
  { minLength: 1, maxLength: 40 },
)

function run(detector: EDetector, all: readonly { readonly spanMs: number; readonly ratios: readonly number[] }[]): EDetector {
  return all.reduce((one, { spanMs, ratios }) => advanced(one, ratios, spanMs), detector)
}

test('without a clip, R is the sum over every beginning of the evidence since then', () => {
  const logs = [0.3, -0.2, 0.7, 0.1]
  const sums = logs.map((_, from) => Math.exp(logs.slice(from).reduce((a, b) => a + b, 0)))
  const { r } = run(
    freshDetector(1),
    logs.map((log) => ({ spanMs: 1_000, ratios: [log] })),
  )
  assert.ok(Math.abs(r[0]! - sums.reduce((a, b) => a + b, 0)) < 1e-12)
})

test('no ten seconds gain more than 5 nats, whatever comes, and a step that is longer gains in proportion', () => {
  fc.assert(
    fc.property(steps, (all) => {
      let detector = freshDetector(2)
      const gained: { readonly fromMs: number; readonly toMs: number; readonly nats: number }[] = []
      let tMs = 0
      for (const { spanMs, ratios } of all) {
        const before = detector.r[0]!
        detector = advanced(detector, ratios, spanMs)
        gained.push({ fromMs: tMs, toMs: tMs + spanMs, nats: Math.max(0, Math.log(detector.r[0]! / (before + 1))) })
        tMs += spanMs
      }
      for (const { toMs } of gained) {
        const recent = gained.filter((one) => one.fromMs >= toMs - CLIP.windowMs && one.toMs <= toMs)
        assert.ok(recent.reduce((sum, { nats }) => sum + nats, 0) <= CLIP.nats + 1e-6)
      }
      for (const { fromMs, toMs, nats } of gained) assert.ok(nats <= CLIP.nats * Math.max(1, (toMs - fromMs) / CLIP.windowMs) + 1e-6)
    }),
  )
  const steady = Array.from({ length: 40 }, () => ({ spanMs: 1_000, ratios: [50] }))
  assert.ok(Math.log(levelOf(run(freshDetector(1), steady))) > 19, 'the clip leaves all of 5 nats each ten seconds')
})

test('more evidence in any step is never a lower level at the end, as long as nothing is clipped', () => {
  const small = fc.array(fc.double({ min: -0.4, max: 0.1, noNaN: true }), { minLength: 1, maxLength: 30 })
  fc.assert(
    fc.property(small, fc.nat(29), fc.double({ min: 0, max: 0.3, noNaN: true }), (logs, at, more) => {
      const of = (all: readonly number[]) =>
        levelOf(
          run(
            freshDetector(1),
            all.map((log) => ({ spanMs: 1_000, ratios: [log] })),
          ),
        )
      assert.ok(of(logs.map((log, i) => (i === at ? log + more : log))) >= of(logs))
    }),
  )
})

test('R stays a number through any evidence, NaN and infinities, and goes through JSON unchanged', () => {
  const wild = fc.array(fc.array(fc.oneof(fc.double(), fc.constantFrom(Number.NaN, Infinity, -Infinity)), { minLength: 2, maxLength: 2 }), {
    maxLength: 30,
  })
  fc.assert(
    fc.property(wild, (all) => {
      const detector = run(
        freshDetector(2),
        all.map((ratios) => ({ spanMs: 20_000, ratios })),
      )
      assert.ok(detector.r.every((r) => Number.isFinite(r) && r >= 0))
      assert.deepEqual(JSON.parse(JSON.stringify(detector)), detector)
    }),
  )
})

test('a year of nothing but harm leaves R a number', () => {
  const { r } = run(
    freshDetector(1),
    Array.from({ length: 500 }, () => ({ spanMs: 60_000, ratios: [Infinity] })),
  )
  assert.ok(Number.isFinite(r[0]!) && r[0]! >= 1e20)
})

test('a span without anything seen is no step: R stays, and the clip looks back over it', () => {
  const full = advanced(freshDetector(1), [9], 1_000)
  assert.equal(levelOf(rested(full, 5_000)), levelOf(full))
  const after = (restMs: number) => advanced(rested(full, restMs), [9], 1_000).r[0]!
  assert.equal(after(5_000), full.r[0]! + 1)
  assert.ok(after(10_000) > full.r[0]! * 100)
})
