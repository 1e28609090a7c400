// What is done about a ramp, from one look at it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decideRamp, type RampLook, type RampRow, stepReached, timeOf } from '../../src/app/ramp-decision.ts'
import { NO_CANARY } from '../../src/canary/judge.ts'
import type { PlannedStep, RampPlan } from '../../src/canary/ramp.ts'
import type { JudgeVerdict } from '../../src/canary/verdict.ts'
import type { RampJob } from '../../src/store/ramps.ts'

const step = (percent: number, adds: readonly number[], bakeMs = 60_000): PlannedStep => ({
  percent,
  bakeMs,
  adds,
  slots: adds.length,
  requestShare: percent / 100,
  hotKeys: [],
  distance: 0,
})
const PLAN: RampPlan = { basis: 'profile', steps: [step(1, [1, 2]), step(10, [3, 4]), step(100, [5])], hottest: [] }
const CONFIG = { steps: PLAN.steps, distanceMax: 0.1, overshootMax: 1.25, observeMs: 600_000 }

const job = (more: Partial<RampJob> = {}): RampJob => ({
  id: 7,
  state: 'done',
  slotsDone: 0,
  slotsTotal: 0,
  held: [],
  because: null,
  ...more,
})
const row = (more: Partial<RampRow> = {}): RampRow => ({
  id: 1,
  state: 'running',
  config: CONFIG,
  plan: PLAN,
  step: 0,
  job: job(),
  observedMs: 0,
  bakedMs: 0,
  passed: [],
  heldBecause: [],
  because: null,
  ended: false,
  toldAgeMs: 0,
  ...more,
})
const JUDGE = { step: 2, promote: true, holds: [], rolledBack: null, saturation: [] }
/** The first step is out, has baked, and is promoted. */
const LOOK: RampLook = {
  ramp: row(),
  otherOrders: [],
  onTarget: new Set([1, 2]),
  judge: JUDGE,
  requests: 1_000,
  observedMs: 0,
  bakedMs: 60_000,
}
const look = (more: Partial<RampLook>): RampLook => ({ ...LOOK, ...more })
const NOTHING_OUT = { onTarget: new Set<number>(), judge: { ...JUDGE, step: 0, promote: false, holds: [NO_CANARY] } }
const VERDICT: JudgeVerdict = {
  tMs: 1,
  act: 'rollback',
  detector: 'tail',
  evidence: {
    statement: 'select x',
    level: 2e6,
    threshold: 1e6,
    stepsPerFalseAlarm: 1e6,
    window: { fromMs: 0, toMs: 1 },
    arms: null,
    numbers: {},
    quantileTest: null,
  },
}

test('INV-10: the next step comes by the promotion of the one that is out, its own time, and with nothing else under way; by nothing less', () => {
  assert.deepEqual(decideRamp(LOOK), { act: 'step', step: 1, slots: [3, 4] })
  const held: readonly (readonly [Partial<RampLook>, readonly string[]])[] = [
    [{ judge: { ...JUDGE, promote: false, holds: ['parity is not fresh'] } }, ['parity is not fresh']],
    [{ judge: { ...JUDGE, promote: false } }, ['the judge has not promoted it']],
    [{ judge: { ...JUDGE, step: 0 } }, ['the judge has not seen the step that is out yet']],
    [{ judge: { ...JUDGE, step: 3 } }, ['the judge has not seen the step that is out yet']],
    [{ judge: { ...JUDGE, saturation: [{ key: 'k', act: 'block', rho: 0.9, threshold: 0.8 }] } }, ['key k saturates']],
    [{ bakedMs: 59_999 }, ['baked for 59 of 60 s']],
    [{ bakedMs: Number.NaN }, ['baked for NaN of 60 s']],
    [{ otherOrders: [8, 9] }, ['orders 8, 9 are under way']],
    [{ ramp: row({ job: job({ state: 'running' }) }) }, ['order 7 is under way']],
  ]
  for (const [more, because] of held) assert.deepEqual(decideRamp(look(more)), { act: 'hold', because }, JSON.stringify(more))
  // A warning is no block.
  const warned = { ...JUDGE, saturation: [{ key: 'k', act: 'warn', rho: 0.6, threshold: 0.5 }] as const }
  assert.equal(decideRamp(look({ judge: warned })).act, 'step')
})

test('a ramp begins when nothing else is under way; after a verdict it is a person who starts again', () => {
  const ordered = { ramp: row({ state: 'ordered', job: null, plan: null, step: -1 }), ...NOTHING_OUT }
  assert.deepEqual(decideRamp(look(ordered)), { act: 'arm', startAgain: false })
  const after = { ...ordered, judge: { ...NOTHING_OUT.judge, rolledBack: VERDICT } }
  assert.deepEqual(decideRamp(look(after)), { act: 'arm', startAgain: true })
  assert.deepEqual(decideRamp(look({ ...after, otherOrders: [3] })), { act: 'hold', because: ['order 3 is under way'] })
})

test('the first step waits until gateways have told of traffic for long enough', () => {
  const arming = { ramp: row({ state: 'arming', plan: null, step: -1 }), ...NOTHING_OUT }
  assert.deepEqual(decideRamp(look(arming)), { act: 'observe' })
  const observing = { ramp: row({ state: 'observing', plan: null, step: -1 }), ...NOTHING_OUT, observedMs: 600_000 }
  assert.deepEqual(decideRamp(look(observing)), { act: 'plan' })
  assert.deepEqual(decideRamp(look({ ...observing, observedMs: 1_000 })), { act: 'hold', because: ['observed for 1 of 600 s'] })
  assert.match(JSON.stringify(decideRamp(look({ ...observing, requests: 0 }))), /no gateway has told of a request/)
  const silent = { ...NOTHING_OUT.judge, holds: ['no metrics came', NO_CANARY] }
  assert.deepEqual(decideRamp(look({ ...observing, judge: silent })), { act: 'hold', because: ['no metrics came'] })
  // Planned, and nothing is out: no promotion can be asked for, but what is known of control can.
  const planned = { ramp: row({ step: -1, job: null }), ...NOTHING_OUT, bakedMs: 0 }
  assert.deepEqual(decideRamp(look(planned)), { act: 'step', step: 0, slots: [1, 2] })
  assert.deepEqual(decideRamp(look({ ...planned, judge: silent })), { act: 'hold', because: ['no metrics came'] })
  // Some were moved by hand: they are a canary, and the first step of the ramp is its next.
  const byHand = {
    ramp: row({ step: -1, job: null }),
    onTarget: new Set([9]),
    bakedMs: 0,
    judge: { ...JUDGE, step: 1, promote: false, holds: ['x'] },
  }
  assert.deepEqual(decideRamp(look(byHand)), { act: 'hold', because: ['x'] })
  assert.equal(decideRamp(look({ ...byHand, judge: { ...JUDGE, step: 1 } })).act, 'step')
})

test('time counts only while it can tell something: traffic that is measured, a step that the judge sees', () => {
  const observing = { ramp: row({ state: 'observing', plan: null, step: -1 }), ...NOTHING_OUT }
  assert.equal(timeOf(look(observing)), 'observed')
  assert.equal(timeOf(look({ ...observing, requests: 0 })), null)
  assert.equal(timeOf(look({ ...observing, requests: Number.NaN })), null)
  assert.equal(timeOf(look({ ...observing, judge: { ...NOTHING_OUT.judge, holds: ['no metrics came', NO_CANARY] } })), null)
  assert.equal(timeOf(LOOK), 'baked')
  assert.equal(timeOf(look({ judge: { ...JUDGE, step: 1 } })), null)
  assert.equal(timeOf(look({ ramp: row({ job: job({ state: 'running' }) }) })), null)
  assert.equal(timeOf(look({ ramp: row({ step: -1 }) })), null)
})

test('a verdict, an order that failed, and slots that went back end a ramp, each by its reason', () => {
  assert.deepEqual(decideRamp(look({ judge: { ...JUDGE, rolledBack: VERDICT } })), {
    act: 'end',
    state: 'rolled back',
    because: 'the judge turned the traffic back: tail of select x',
  })
  for (const state of ['failed', 'held'] as const)
    assert.deepEqual(decideRamp(look({ ramp: row({ job: job({ state, because: 'lag' }) }) })), {
      act: 'end',
      state: 'stopped',
      because: `order 7 ${state}: lag`,
    })
  const back = decideRamp(look({ onTarget: new Set([1]), judge: { ...JUDGE, step: 1 } }))
  assert.deepEqual([back.act, 'state' in back && back.state], ['end', 'stopped'])
  // What a flip could not take is no reason to stop: it is tried again with the next step.
  const held = row({ job: job({ held: [{ slot: 2, because: 'poison' }] }) })
  assert.deepEqual(decideRamp(look({ ramp: held, onTarget: new Set([1]), judge: { ...JUDGE, step: 1 } })), {
    act: 'step',
    step: 1,
    slots: [2, 3, 4],
  })
})

test('the last step is done when it has baked: at all of the traffic there is nothing to compare with, below that it is promoted first', () => {
  const all = {
    ramp: row({ step: 2 }),
    onTarget: new Set([1, 2, 3, 4, 5]),
    judge: { ...JUDGE, step: 5, promote: false, holds: ['no control'] },
  }
  assert.deepEqual(decideRamp(look(all)), { act: 'end', state: 'done', because: null })
  assert.equal(decideRamp(look({ ...all, bakedMs: 1 })).act, 'hold')
  assert.equal(decideRamp(look({ ...all, judge: { ...all.judge, step: 4 } })).act, 'hold')
  const some = row({ step: 1, plan: { ...PLAN, steps: PLAN.steps.slice(0, 2) } })
  const partly = { ramp: some, onTarget: new Set([1, 2, 3, 4]), judge: { ...JUDGE, step: 4 } }
  assert.deepEqual(decideRamp(look(partly)), { act: 'end', state: 'done', because: null })
  assert.deepEqual(decideRamp(look({ ...partly, judge: { ...partly.judge, promote: false, holds: ['x'] } })), {
    act: 'hold',
    because: ['x'],
  })
})

test('what has moved amounts to the last step that adds nothing', () => {
  const plan = (adds: readonly (readonly number[])[]): RampPlan => ({ ...PLAN, steps: adds.map((one, i) => step(i + 1, one)) })
  assert.deepEqual([plan([[1], [2]]), plan([[], [2]]), plan([[], []])].map(stepReached), [-1, 0, 1])
})
