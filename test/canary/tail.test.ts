import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Arms } from '../../src/canary/arm-counts.ts'
import { NO_COUNTS } from '../../src/canary/arm-counts.ts'
import { levelOf } from '../../src/canary/e-detector.ts'
import { controlKnown, FRESH_TAIL, type TailState, tailResized, tailStep } from '../../src/canary/tail.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { arm, coins, type Day, day, HARM_MS, SLOW_MS } from './seen.ts'

const NO_SLO = { sloMs: null }
const THRESHOLD = 4e6

/** The second in which the level reaches the threshold; null: never. */
function alarmSecond(all: Day, { restartAt = -1 } = {}): number | null {
  let state = FRESH_TAIL
  let second = 0
  for (const arms of day(all)) {
    state = tailStep(state, arms, 1_000, NO_SLO).state
    if (second === restartAt) state = JSON.parse(JSON.stringify(state)) as TailState
    if (levelOf(state.detector) >= THRESHOLD) return second
    second++
  }
  return null
}

function after(arms: Iterable<Arms>, from: TailState = FRESH_TAIL, config: { readonly sloMs: number | null } = NO_SLO): TailState {
  let state = from
  for (const one of arms) state = tailStep(state, one, 1_000, config).state
  return state
}

const warm = after(day({ seed: 5, seconds: 700 }))

test('a tail that grows on the canary alone is found within a minute and a half, for each of twenty seeds, and none before it is there', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const found = alarmSecond({ seed, seconds: 900, harm: { fromSecond: 700, share: 0.03 } })
    assert.ok(found !== null && found >= 700 && found < 790, `seed ${seed}: ${found}`)
  }
})

test('onset long after the start is found as fast as onset soon after it', () => {
  const delays = (fromSecond: number) =>
    Array.from(
      { length: 15 },
      (_, i) => alarmSecond({ seed: 100 + i, seconds: fromSecond + 200, harm: { fromSecond, share: 0.03 } })! - fromSecond,
    ).sort((a, b) => a - b)
  assert.ok(delays(6_000)[7]! <= 1.2 * delays(620)[7]! + 3)
})

test('what slows both arms alike is no alarm', () => {
  const both = (seed: number) =>
    [...day({ seed, seconds: 120 })].map(({ canary, control }) => ({
      canary: arm({ requests: canary.requests, harmed: Math.round(0.1 * canary.requests) }),
      control: arm({ requests: control.requests, harmed: Math.round(0.1 * control.requests) }),
    }))
  for (let seed = 1; seed <= 5; seed++) assert.ok(levelOf(after(both(seed), warm).detector) < 1_000)
})

test('latency that wanders on both arms, more than in the ten minutes that q is of, is no alarm', () => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = seededRandom(seed)
    const both = Array.from({ length: 300 }, () => ({
      canary: arm({ requests: 100, harmed: coins(random, 100, 0.014) }),
      control: arm({ requests: 400, harmed: coins(random, 400, 0.014) }),
    }))
    const state = after(both, warm)
    assert.ok(levelOf(state.detector) < THRESHOLD / 1_000, `seed ${seed}: ${levelOf(state.detector)}`)
  }
})

test('a canary that is slower than control, but within the bound of the SLO, is no regression where the user has set one', () => {
  const slower = () => day({ seed: 9, seconds: 200, harm: { fromSecond: 0, share: 0.05 } })
  assert.ok(levelOf(after(slower(), warm).detector) > THRESHOLD)
  assert.ok(levelOf(after(slower(), warm, { sloMs: HARM_MS * 1.1 }).detector) < 10)
})

test('a stall of three seconds on the canary alone is no alarm', () => {
  const stall = Array.from({ length: 3 }, () => ({ canary: arm({ requests: 100, harmed: 100 }), control: arm({ requests: 400, slow: 8 }) }))
  assert.ok(Math.log(levelOf(after(stall, warm).detector)) < 7)
})

test('x0 is of control before the block: what control does in a block does not move the bound that the block is held to', () => {
  const quiet = { canary: arm({ requests: 100 }), control: arm({ requests: 400, slow: 8 }) }
  const loud = { canary: arm({ requests: 100 }), control: arm({ requests: 400, harmed: 400 }) }
  const x0 = (arms: Arms) => tailStep(warm, arms, 1_000, NO_SLO).state.last!.x0Ms
  assert.equal(x0(quiet), x0(loud))
  assert.ok(x0(quiet) > 1.2 * SLOW_MS && x0(quiet) < 1.3 * SLOW_MS)
})

test('until control was watched for ten minutes nothing is judged, and it says so', () => {
  const harmed = { canary: arm({ requests: 100, harmed: 50 }), control: arm({ requests: 400, slow: 8 }) }
  let state = FRESH_TAIL
  for (let second = 0; second < 590; second++) {
    const step = tailStep(state, harmed, 1_000, NO_SLO)
    assert.match(step.hold ?? '', /^tail: control/)
    state = step.state
  }
  assert.deepEqual([levelOf(state.detector), state.last], [0, null])
  state = after(
    Array.from({ length: 60 }, () => harmed),
    state,
  )
  assert.ok(levelOf(state.detector) > THRESHOLD)
})

test('that control is known is said when it was watched for ten minutes and had a thousand requests, and is true of what is judged', () => {
  const known = (arms: Arms, seconds: number) =>
    after(
      Array.from({ length: seconds }, () => arms),
      FRESH_TAIL,
    )
  const alone = { canary: NO_COUNTS, control: arm({ requests: 400, slow: 8 }) }
  assert.deepEqual(controlKnown(FRESH_TAIL), { known: false, watchedMs: 0, neededMs: 600_000 })
  assert.deepEqual(controlKnown(known(alone, 301)), { known: false, watchedMs: 300_000, neededMs: 600_000 })
  assert.deepEqual(controlKnown(known(alone, 700)), { known: true, watchedMs: 600_000, neededMs: 600_000 })
  const rare = { canary: arm({ requests: 1 }), control: arm({ requests: 1 }) }
  assert.deepEqual(controlKnown(known(rare, 700)), { known: false, watchedMs: 600_000, neededMs: 600_000 })
  assert.equal(tailStep(known(rare, 700), rare, 1_000, NO_SLO).hold, 'tail: control had 700 of 1000 requests')
})

test('with control gone the x0 and q of before go on, and what hurts is still found; a thin control does not take their place', () => {
  for (const control of [NO_COUNTS, arm({ requests: 3, harmed: 3 })]) {
    const gone = (harmed: number, seconds: number) =>
      Array.from({ length: seconds }, () => ({ canary: arm({ requests: 100, harmed }), control }))
    const quiet = after(gone(0, 3_000), warm)
    assert.ok(levelOf(quiet.detector) < 10)
    assert.ok(quiet.last!.frozen && quiet.last!.x0Ms < 1.3 * SLOW_MS)
    assert.ok(levelOf(after(gone(4, 100), quiet).detector) > THRESHOLD)
    const back = after(day({ seed: 8, seconds: 60 }), quiet)
    assert.deepEqual([back.last!.frozen, back.control.weights.length > 0], [false, true])
  }
})

test('the bound that stands in for a control that is gone is of hours, not of its last bad minutes', () => {
  const bad = { canary: arm({ requests: 100 }), control: arm({ requests: 400, slow: 380, harmed: 20 }) }
  const alone = { canary: arm({ requests: 100 }), control: NO_COUNTS }
  const badly = after(
    Array.from({ length: 120 }, () => bad),
    warm,
  )
  assert.ok(badly.x0Ms! > 1.2 * HARM_MS)
  const gone = after(
    Array.from({ length: 10 }, () => alone),
    badly,
  )
  assert.ok(gone.last!.x0Ms > 1.2 * SLOW_MS && gone.last!.x0Ms < 2 * SLOW_MS, String(gone.last!.x0Ms))
})

test('no traffic on the canary leaves the evidence as it is, and control is learned on', () => {
  const silence = { canary: NO_COUNTS, control: arm({ requests: 400, slow: 8 }) }
  const begun = after([...day({ seed: 3, seconds: 20, harm: { fromSecond: 0, share: 0.03 } }), silence, silence], warm)
  const rest = after(
    Array.from({ length: 300 }, () => silence),
    begun,
  )
  assert.deepEqual(rest.detector.r, begun.detector.r)
  assert.notDeepEqual(rest.control, begun.control)
})

test('harm in the first moments of traffic after a silence is found as fast as ever: no block that was made for silence is waited for', () => {
  for (const silentSeconds of [30, 120, 400]) {
    const silent = after(
      Array.from({ length: silentSeconds }, () => ({ canary: NO_COUNTS, control: arm({ requests: 400, slow: 8 }) })),
      warm,
    )
    const harmed = after(day({ seed: 12, seconds: 60, harm: { fromSecond: 0, share: 0.04 } }), silent)
    assert.ok(levelOf(harmed.detector) > THRESHOLD, `${silentSeconds}: ${levelOf(harmed.detector)}`)
  }
})

test('each block is told once', () => {
  const told: unknown[] = []
  let state = FRESH_TAIL
  let second = 0
  for (const arms of day({ seed: 13, seconds: 800, canaryPerSecond: 30 })) {
    if (++second === 700) state = tailResized(state)
    const step = tailStep(state, arms, 1_000, NO_SLO)
    if (step.judged !== null) told.push(step.judged)
    state = step.state
  }
  assert.ok(told.length > 30)
  assert.equal(new Set(told).size, told.length)
})

test('where control never has a slow request, quiet years are no alarm: R does not grow by its 1 a block', () => {
  const never = { canary: arm({ requests: 100 }), control: arm({ requests: 400 }) }
  let state = after(Array.from({ length: 9_000 }, () => never))
  const levels: number[] = []
  for (let i = 0; i < 3; i++) {
    state = after(
      Array.from({ length: 100 }, () => never),
      { ...state, detector: { r: [1e5, 1e5, 1e5, 1e5], gains: [] } },
    )
    levels.push(levelOf(state.detector))
  }
  assert.ok(levels.every((level) => level < 1e5))
})

test('restarts: evidence that went through JSON half-way comes to the same alarm', () => {
  const incident = { seed: 11, seconds: 900, harm: { fromSecond: 700, share: 0.03 } }
  const found = alarmSecond(incident)
  for (const restartAt of [300, 699, 705]) assert.equal(alarmSecond(incident, { restartAt }), found)
})

test('a larger share of the keys judges by blocks of its own size, and keeps what was gathered', () => {
  const begun = after(day({ seed: 3, seconds: 20, harm: { fromSecond: 0, share: 0.03 } }), warm)
  const grown = tailResized(begun)
  assert.deepEqual([grown.detector, grown.block], [begun.detector, null])
  const quiet = after(day({ seed: 4, seconds: 120, canaryPerSecond: 400, controlPerSecond: 400 }), grown)
  assert.ok(levelOf(quiet.detector) < levelOf(begun.detector))
  assert.ok(Math.abs(quiet.last!.n - 400) < 1)
})

test('from one request in three seconds to 20,000 a second: blocks of a hundred requests within their limits, numbers throughout', () => {
  fc.assert(
    fc.property(fc.constantFrom(0.05, 0.3, 3, 30, 2_000, 20_000), fc.integer({ min: 0, max: 100 }), (perSecond, harmedPercent) => {
      const at = (second: number) => Math.floor((second + 1) * perSecond) - Math.floor(second * perSecond)
      const spans = Array.from({ length: 2_400 }, (_, second) => {
        const requests = at(second)
        const harmed = second < 700 ? 0 : Math.floor((requests * harmedPercent) / 100)
        return { canary: arm({ requests, harmed }), control: arm({ requests: 1_000, slow: 20 }) }
      })
      const state = after(spans, FRESH_TAIL)
      assert.ok(state.detector.r.every((r) => Number.isFinite(r) && r >= 0))
      assert.ok(state.last !== null && state.last.spanMs <= 600_000 && state.last.n >= Math.min(99, Math.floor(500 * perSecond)))
      assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
    }),
    { numRuns: 16 },
  )
})
