// A ramp as people give it and read it.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { RampRow } from '../../src/app/ramp-decision.ts'
import { JUDGE_DEFAULTS } from '../../src/canary/judge.ts'
import { planRamp } from '../../src/canary/ramp.ts'
import { rampPlan } from '../../src/cli/ramp-plan.ts'
import { changesOf, duration, limitLines, planLines, resultOf, slotRanges, standingOf } from '../../src/cli/ramp-told.ts'
import { canaryOrder } from '../../src/flip/batches.ts'

const DEFAULTS = { distanceMax: 0.1, overshootMax: 1.25, observeMs: 600_000 }

test('a ramp says first what its judge goes by, and that without a bound any tail longer than PostgreSQL’s goes back', () => {
  const { promotion, ...others } = JUDGE_DEFAULTS
  assert.deepEqual(limitLines(JUDGE_DEFAULTS), [
    'All traffic goes back by: a tail longer than that of PostgreSQL, however short (`judge.sloMs` names what would do); more than 0.5 % of errors; a wrong write; 1 min without evidence.',
    'Each step is out for at least 10 min and 10000 requests (`judge.promotion`), and until it is proven to be as good.',
  ])
  assert.match(limitLines({ ...others, promotion, sloMs: 150 })[0]!, /: more than 1 % of requests over 150 ms, or a tail that is over it/)
})

test('a plan is steps in one word or the fields of the configuration in a file; what it leaves out is the configuration’s', () => {
  const config = { ramp: { observeMs: 5_000 } }
  assert.deepEqual(rampPlan('1%:90s, 5.5%:10m,25%:1.5h,50%:250ms,100%', config), {
    ...DEFAULTS,
    observeMs: 5_000,
    steps: [
      { percent: 1, bakeMs: 90_000 },
      { percent: 5.5, bakeMs: 600_000 },
      { percent: 25, bakeMs: 5_400_000 },
      { percent: 50, bakeMs: 250 },
      { percent: 100, bakeMs: 0 },
    ],
  })
  assert.equal(rampPlan(undefined, {}).steps.length, 5)
  const folder = mkdtempSync(join(tmpdir(), 'switchback-plan-'))
  try {
    const file = join(folder, 'plan.json')
    writeFileSync(file, '{"steps": [{"percent": 2, "bakeMs": 1000}], "distanceMax": 0.2}')
    assert.deepEqual(rampPlan(file, config), { ...DEFAULTS, observeMs: 5_000, distanceMax: 0.2, steps: [{ percent: 2, bakeMs: 1_000 }] })
    for (const [text, problem] of [
      ['{', /is no JSON/],
      ['{"steps": []}', /it has no step/],
      ['{"step": []}', /the plan: .*"step"/],
      ['{"steps": [{"percent": "1", "bakeMs": 1}]}', /steps\.0\.percent/],
    ] as const) {
      writeFileSync(file, text)
      assert.throws(() => rampPlan(file, config), { code: 'RAMP_INVALID', message: problem })
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  for (const [text, problem] of [
    ['5%,1%', /step 2 \(1 %\) is not larger/],
    ['0%', /step 1 has 0 %/],
    ['1%:10', /"1%:10" is no step/],
    ['1%:10m,', /"" is no step/],
    ['1%:ten m', /is no step/],
  ] as const)
    assert.throws(() => rampPlan(text, {}), { code: 'RAMP_INVALID', message: problem })
  assert.throws(() => rampPlan('no-such-plan.json', {}), { code: 'FILE_UNREADABLE' })
})

test('slots are told as ranges, times in the largest unit that is whole', () => {
  assert.deepEqual(slotRanges([5, 3, 4, 9, 0]), [
    [0, 0],
    [3, 5],
    [9, 9],
  ])
  assert.deepEqual([600_000, 90_000, 86_400_000, 250, 0].map(duration), ['10 min', '90 s', '1 d', '250 ms', '0 ms'])
})

test('a ramp is followed by a line a change: its plan with the blast radius, each step as it moves and bakes, a reason once, its end', () => {
  const settings = { ...DEFAULTS, steps: [1, 100].map((percent) => ({ percent, bakeMs: 60_000 })) }
  const slots = new Map(Array.from({ length: 4_096 }, (_, slot) => [slot, 10]))
  const profile = { slots, keys: [{ key: 'hot', slot: 7, requests: 100 }] }
  const plan = planRamp({ config: settings, order: canaryOrder(), profile })
  const job = { id: 4, state: 'running', slotsDone: 0, slotsTotal: 41, held: [], because: null } as const
  let before: RampRow | null = null
  let now: RampRow = {
    id: 3,
    state: 'ordered',
    config: settings,
    plan: null,
    step: -1,
    job: null,
    observedMs: 0,
    bakedMs: 0,
    passed: [],
    heldBecause: [],
    because: null,
    ended: false,
    toldAgeMs: 0,
  }
  const next = (more: Partial<RampRow>) => {
    before = now
    now = { ...now, ...more }
    return changesOf(before, now)
  }
  assert.deepEqual(changesOf(null, now), ['Ramp 3: 1 % for 1 min, then 100 % for 1 min.'])
  assert.match(next({ state: 'arming', job }).join(), /^Gateways and guard are armed/)
  assert.match(next({ state: 'observing', job: null }).join(), /^The traffic is observed for 10 min/)
  assert.deepEqual(next({ heldBecause: ['observed for 1 of 600 s'] }), [])
  const planned = next({ state: 'running', plan, heldBecause: [] })
  assert.deepEqual(planned, planLines(plan, { withSlots: false }))
  assert.match(
    planned[0]!,
    /^Step 1 of 2, 1 %: \d+ more slots, then \d+ of 4096, [\d.]+ % of all requests, profile 0\.\d\d from production's; out/,
  )
  assert.deepEqual(next({ step: 0, job }), ['Step 1 of 2 (1 %): its slots move.'])
  assert.match(standingOf({ ...now, job: { ...job, slotsDone: 10 } }), /10 of 41 slots/)
  assert.match(next({ job: { ...job, state: 'done' } }).join(), /^Step 1 of 2 \(1 %\) is out\. It bakes for 1 min/)
  assert.deepEqual(next({ heldBecause: ['baked for 1 of 60 s', 'evidence 1.5 of 20'] }), ['Holds: evidence 1.5 of 20.'])
  assert.deepEqual(next({ heldBecause: ['baked for 2 of 60 s', 'evidence 3e+5 of 20'] }), []) // the same, with other numbers
  assert.deepEqual(resultOf(now)['state'], 'held')
  assert.match(standingOf({ ...now, toldAgeMs: 20_000 }), /no controller has said anything for 20 s/)
  assert.deepEqual(next({ step: 1, job, passed: [{ bakedMs: 60_000, held: [] }], heldBecause: [] }), [
    'Step 2 of 2 (100 %): its slots move.',
  ])
  next({ job: { ...job, state: 'done', held: [{ slot: 9, because: 'poison' }] } })
  assert.deepEqual(next({ state: 'done', ended: true }), [
    'Done: the last step, 100 %, is out and has baked. Slot 9 stays where it is: poison.',
  ])
  const result = resultOf(now)
  assert.deepEqual([result['ok'], result['state'], result['held']], [false, 'done', [{ slot: 9, because: 'poison' }]])
  assert.deepEqual(
    (result['steps'] as { state: string; bakedMs: number | null }[]).map(({ state, bakedMs }) => [state, bakedMs]),
    [
      ['passed', 60_000],
      ['out', 0],
    ],
  )
  assert.match(changesOf(now, { ...now, state: 'rolled back', because: 'tail' }).join(), /^ROLLED BACK: tail\./)
})
