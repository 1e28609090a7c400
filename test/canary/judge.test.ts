import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Arms, NO_COUNTS } from '../../src/canary/arm-counts.ts'
import {
  type Evidence,
  FRESH_JUDGE,
  JUDGE_DEFAULTS,
  type Judgement,
  type JudgeState,
  judge,
  startedAgain,
  thresholdOf,
} from '../../src/canary/judge.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import type { JudgeVerdict } from '../../src/canary/verdict.ts'
import { arm, day, evidenceAt, START_MS } from './seen.ts'

const HEALTHY: Arms = { canary: arm({ requests: 100, slow: 2 }), control: arm({ requests: 400, slow: 8 }) }

function judgedAll(
  lines: Iterable<Evidence>,
  from: JudgeState = FRESH_JUDGE,
  throughJson = false,
): { readonly last: Judgement; readonly verdicts: readonly JudgeVerdict[]; readonly promoted: boolean } {
  let last: Judgement = { state: from, verdicts: [], holds: [], promote: false, levels: [] }
  const verdicts: JudgeVerdict[] = []
  let promoted = false
  for (const line of lines) {
    const state = throughJson ? (JSON.parse(JSON.stringify(last.state)) as JudgeState) : last.state
    last = judge(state, throughJson ? (JSON.parse(JSON.stringify(line)) as Evidence) : line, JUDGE_DEFAULTS)
    verdicts.push(...last.verdicts)
    promoted ||= last.promote
  }
  return { last, verdicts, promoted }
}

function lines(all: Iterable<Arms>, from = 0, more: Partial<Evidence> = {}): Evidence[] {
  return [...all].map((arms, i) => evidenceAt(from + i, arms, more))
}

const CALM = lines(day({ seed: 21, seconds: 800 }))
const calm = judgedAll(CALM).last.state
const next = CALM.length

test('a calm canary is promoted after its bake, on proof, with nothing left that holds', () => {
  const { promoted, verdicts } = judgedAll(lines(day({ seed: 22, seconds: 1_800 })))
  assert.deepEqual({ promoted, verdicts }, { promoted: true, verdicts: [] })
})

test('under an SLO that nobody comes near a calm canary is promoted too, and one with a P99 over it is not', () => {
  const slo = { ...JUDGE_DEFAULTS, sloMs: 1_000 }
  const promoted = (canary: Arms['canary']) => {
    let last: Judgement = { state: FRESH_JUDGE, verdicts: [], holds: [], promote: false, levels: [] }
    for (const line of lines(new Array<Arms>(1_300).fill({ canary, control: arm({ requests: 400 }) }))) last = judge(last.state, line, slo)
    return last
  }
  assert.deepEqual([promoted(arm({ requests: 100 })).holds, promoted(arm({ requests: 100 })).promote], [[], true])
  const over = latenciesOf([10, 1_500])
  const slow = { requests: 100, errors: 0, wrongWrites: 0, latencies: { buckets: over.buckets, counts: [99, 1] } }
  assert.equal(promoted(slow).promote, false)
})

test('a tail is rolled back once, with the numbers that it can be argued with, and stays so: no evidence brings the canary back', () => {
  const incident = lines(day({ seed: 23, seconds: 200, harm: { fromSecond: 0, share: 0.03 } }), next)
  const { last, verdicts } = judgedAll(incident, calm)
  assert.deepEqual(
    verdicts.map(({ act, detector }) => [act, detector]),
    [['rollback', 'tail']],
  )
  const { evidence } = verdicts[0]!
  assert.ok(evidence.level >= evidence.threshold && evidence.threshold >= JUDGE_DEFAULTS.stepsPerFalseAlarm)
  assert.ok(evidence.arms!.canary.requests > 0 && evidence.arms!.control.p99Ms! > 0 && Number.isFinite(evidence.quantileTest!.nats))
  assert.deepEqual([last.state.rolledBack, last.promote], [verdicts[0], false])
  assert.match(last.holds[0]!, /until a person starts the canary again/)
  const later = judgedAll(lines(day({ seed: 24, seconds: 700 }), next + 200), last.state)
  assert.deepEqual([later.verdicts, later.promoted, later.last.state.rolledBack], [[], false, verdicts[0]])
})

test('a canary that a person starts again is judged from its first minute, by what control did meanwhile, and not for what was before', () => {
  const harmed = (seed: number, from: number) => lines(day({ seed, seconds: 120, harm: { fromSecond: 0, share: 0.04 } }), from)
  const off = judgedAll(harmed(33, next), calm).last.state
  const slower = { canary: NO_COUNTS, control: arm({ requests: 400, slow: 398, harmed: 2 }) }
  const meanwhile = judgedAll(
    Array.from({ length: 900 }, (_, i) => evidenceAt(next + 120 + i, slower, { step: 0 })),
    off,
  ).last.state
  const again = startedAgain(meanwhile)
  assert.equal(again.rolledBack, null)
  const calmAgain = judgedAll(lines(day({ seed: 34, seconds: 120 }), next + 1_020), again)
  assert.deepEqual(calmAgain.verdicts, [])
  assert.deepEqual(
    judgedAll(harmed(35, next + 1_140), calmAgain.last.state).verdicts.map(({ detector }) => detector),
    ['tail'],
  )
})

test('recheck: recorded evidence, judged again after a controller’s restart at each line, comes to the same verdict', () => {
  const recorded = lines(day({ seed: 25, seconds: 780, harm: { fromSecond: 680, share: 0.04, errorShare: 0.002 } }))
  const live = judgedAll(recorded)
  assert.equal(live.verdicts.length, 1)
  assert.deepEqual(JSON.parse(JSON.stringify(judgedAll(recorded, FRESH_JUDGE, true))), JSON.parse(JSON.stringify(live)))
})

test('5 % of errors are found within 15 s, with or without a control', () => {
  for (const control of [true, false]) {
    const failing = [...day({ seed: 26, seconds: 30, harm: { fromSecond: 0, share: 0, errorShare: 0.05 } })]
    const { verdicts } = judgedAll(
      lines(
        failing.map((arms) => (control ? arms : { ...arms, control: NO_COUNTS })),
        next,
      ),
      calm,
    )
    assert.equal(verdicts[0]?.act, 'rollback')
    assert.ok(['errors', 'error-limit'].includes(verdicts[0]!.detector) && verdicts[0]!.tMs <= START_MS + (next + 15) * 1_000)
  }
})

test('one confirmed wrong write goes back at once, even in evidence that is broken otherwise', () => {
  const wrong = { ...HEALTHY.canary, wrongWrites: 1 }
  for (const canary of [wrong, { ...wrong, requests: Number.NaN }]) {
    const { verdicts } = judgedAll([evidenceAt(next, { ...HEALTHY, canary })], calm)
    assert.deepEqual(
      verdicts.map(({ act, detector }) => [act, detector]),
      [['rollback', 'wrong-write']],
    )
  }
})

/** Evidence that says nothing, of each kind. */
const BROKEN: Readonly<Record<string, (second: number) => Evidence>> = {
  'no metrics': (second) => evidenceAt(second, null),
  'NaN counts': (second) => evidenceAt(second, { ...HEALTHY, control: { ...HEALTHY.control, errors: Number.NaN } }),
  'counts below nothing': (second) => evidenceAt(second, { ...HEALTHY, canary: { ...HEALTHY.canary, requests: -5 } }),
  'no canary traffic': (second) => evidenceAt(second, { ...HEALTHY, canary: NO_COUNTS }),
  'no traffic at all': (second) => evidenceAt(second, { canary: NO_COUNTS, control: NO_COUNTS }),
  'no statements': (second) => evidenceAt(second, HEALTHY, { statements: {} }),
  'a time that is NaN': (second) => evidenceAt(second, HEALTHY, { tMs: Number.NaN }),
  'a clock that goes back': (second) => evidenceAt(next - 2 * (second - next) - 2, HEALTHY),
  'a clock that leaps': (second) => evidenceAt(next + 100 * (second - next + 1), HEALTHY),
  'the same time again': () => evidenceAt(next - 1, HEALTHY),
  'a step that is NaN': (second) => evidenceAt(second, HEALTHY, { step: Number.NaN }),
  'a span of nothing': (second) => evidenceAt(second, HEALTHY, { spanMs: 0 }),
  'a span that is NaN': (second) => evidenceAt(second, HEALTHY, { spanMs: Number.NaN }),
}

for (const [name, broken] of Object.entries(BROKEN)) {
  test(`INV-10: ${name} holds and says so, never promotes, and goes back after the bounded silence (faults.md 30)`, () => {
    const { last, verdicts, promoted } = judgedAll(
      Array.from({ length: 59 }, (_, i) => broken(next + i)),
      calm,
    )
    assert.deepEqual([verdicts, promoted], [[], false])
    assert.ok(last.holds.length > 0)
    const end = judgedAll([broken(next + 59), broken(next + 60)], last.state)
    assert.deepEqual(
      end.verdicts.map(({ act, detector }) => [act, detector]),
      [['rollback', 'silence']],
    )
    assert.ok(Number.isFinite(end.verdicts[0]!.tMs))
  })

  test(`${name} in between is held out of the evidence: what was gathered stays`, () => {
    const { last } = judgedAll([broken(next)], calm)
    const deposit = last.state.statements['deposit']!
    assert.deepEqual([deposit.errors.r, last.state.rolledBack], [calm.statements['deposit']!.errors.r, null])
    const on = judgedAll(lines(day({ seed: 27, seconds: 100 }), next + 200), last.state)
    assert.deepEqual([on.verdicts, on.last.state.silentMs], [[], 0])
  })
}

test('INV-10: a canary that grows batch by batch in a silence goes back after the bounded silence, as one that stands does', () => {
  const { verdicts } = judgedAll(
    Array.from({ length: 62 }, (_, i) => evidenceAt(next + i, null, { step: 41 + i })),
    calm,
  )
  assert.deepEqual(
    verdicts.map(({ act, detector }) => [act, detector]),
    [['rollback', 'silence']],
  )
})

test('silence without a canary out is no reason for anything; control alone is learned from', () => {
  const before = judgedAll(Array.from({ length: 700 }, (_, i) => evidenceAt(i, { ...HEALTHY, canary: NO_COUNTS }, { step: 0 })))
  assert.deepEqual([before.verdicts, before.last.holds], [[], ['no canary is out']])
  const out = judgedAll(lines(day({ seed: 28, seconds: 150, harm: { fromSecond: 0, share: 0.03 } }), 700), before.last.state)
  assert.deepEqual(
    out.verdicts.map(({ detector }) => detector),
    ['tail'],
  )
})

test('at 100 % there is no control: never promoted, still judged', () => {
  const alone = (seed: number, share: number) =>
    [...day({ seed, seconds: 900, harm: { fromSecond: 0, share } })].map((arms) => ({ ...arms, control: NO_COUNTS }))
  const { verdicts, promoted, last } = judgedAll(lines(alone(29, 0), next, { step: 2 }), calm)
  assert.deepEqual([verdicts, promoted], [[], false])
  assert.ok(last.holds.some((hold) => hold.startsWith('control has too few')))
  const harmed = judgedAll(lines(alone(30, 0.04), next + 900, { step: 2 }), last.state)
  assert.deepEqual(
    harmed.verdicts.map(({ detector }) => detector),
    ['tail'],
  )
})

test('another step of the ramp bakes anew', () => {
  const { last } = judgedAll(lines(day({ seed: 31, seconds: 30 }), next, { step: 2 }), calm)
  assert.ok(calm.bakedMs >= 700_000 && last.state.bakedMs === 30_000)
  assert.ok(last.holds.some((hold) => hold.startsWith('baked for 30')))
})

test('a key that saturates is told once, a blocked one holds the ramp until it no longer is', () => {
  const saturation = [
    { key: 'a', act: 'warn', rho: 0.6, threshold: 0.5 },
    { key: 'b', act: 'block', rho: 0.9, threshold: 0.8 },
  ] as const
  const { last, verdicts } = judgedAll(lines(day({ seed: 32, seconds: 5 }), next, { saturation }), calm)
  assert.deepEqual(
    verdicts.map(({ act, detector, key }) => [act, detector, key]),
    [
      ['warn', 'saturation', 'a'],
      ['block', 'saturation', 'b'],
    ],
  )
  assert.ok(last.holds.includes('key b saturates'))
  assert.ok(!judgedAll([evidenceAt(next + 5, HEALTHY)], last.state).last.holds.includes('key b saturates'))
})

test('more statements share the same false alarms: the threshold grows with them; those past the limit are judged together', () => {
  const both = { ...evidenceAt(next, HEALTHY), statements: { deposit: HEALTHY, withdraw: HEALTHY } }
  assert.equal(judgedAll([both], calm).last.levels.length, 8)
  assert.equal(thresholdOf({ statements: calm.statements }, JUDGE_DEFAULTS), 3e6)
  assert.equal(thresholdOf(judgedAll([both], calm).last.state, { ...JUDGE_DEFAULTS, sloMs: 100 }), 8e6)
  const many = Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`s${i}`, HEALTHY]))
  let state = judgedAll([evidenceAt(next, HEALTHY, { statements: many })], calm).last.state
  assert.equal(Object.keys(state.statements).length, 65)
  assert.equal(state.statements['all others']!.requests, 700)
  const failing = { canary: arm({ requests: 100, errors: 10 }), control: arm({ requests: 400 }) }
  const late = judgedAll(
    Array.from({ length: 20 }, (_, i) => evidenceAt(next + 1 + i, HEALTHY, { statements: { ...many, s69: failing } })),
    state,
  )
  state = late.last.state
  assert.deepEqual([late.verdicts[0]?.act, late.verdicts[0]?.evidence.statement], ['rollback', 'all others'])
})

test('a canary that was taken back by hand leaves nothing that the next one is judged for', () => {
  const harmed = judgedAll(lines(day({ seed: 36, seconds: 15, harm: { fromSecond: 0, share: 0.03 } }), next), calm)
  const level = (one: Judgement) => one.levels.find(({ detector }) => detector === 'tail')!.level
  assert.ok(level(harmed.last) > 10 && harmed.verdicts.length === 0)
  const off = judgedAll([evidenceAt(next + 15, { ...HEALTHY, canary: NO_COUNTS }, { step: 0 })], harmed.last.state)
  assert.equal(level(judgedAll([evidenceAt(next + 16, HEALTHY)], off.last.state).last), 0)
})

test('statements may be called anything', () => {
  const statements = Object.fromEntries(['constructor', '__proto__', 'toString', ''].map((name) => [name, HEALTHY]))
  const { last } = judgedAll([evidenceAt(next, HEALTHY, { statements }), evidenceAt(next + 1, HEALTHY, { statements })], calm, true)
  assert.deepEqual(
    Object.entries(last.state.statements)
      .map(([name, { requests }]) => [name, requests])
      .slice(1),
    [
      ['constructor', 200],
      ['__proto__', 200],
      ['toString', 200],
      ['', 200],
    ],
  )
})

test('the judge is pure: the same state and evidence give the same judgement, and neither is changed', () => {
  const count = fc.oneof(fc.nat(300), fc.constantFrom(Number.NaN, -1, 0.5))
  const wild = fc.record({
    requests: count,
    errors: count,
    wrongWrites: fc.constantFrom(0, 0, 0, 1, Number.NaN),
    latencies: fc.constant(HEALTHY.canary.latencies),
  })
  fc.assert(
    fc.property(fc.array(fc.record({ canary: wild, control: wild }), { maxLength: 20 }), (spans) => {
      const told = lines(spans, next)
      const before = JSON.stringify([calm, told])
      assert.deepEqual(judgedAll(told, calm), judgedAll(told, calm))
      assert.equal(JSON.stringify([calm, told]), before)
    }),
    { numRuns: 30 },
  )
})
