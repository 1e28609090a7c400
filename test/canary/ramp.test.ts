import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  frequencyProfile,
  type KeyLoad,
  type PlannedStep,
  planRamp,
  profileDistance,
  RAMP_DEFAULTS,
  type RampConfig,
  type RampPlan,
  rampProblems,
  type TrafficProfile,
} from '../../src/canary/ramp.ts'
import { canaryOrder } from '../../src/flip/batches.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const ORDER = canaryOrder()
const SHOWN_KEYS = 1_024

/** Keys of Zipf's frequencies, each in a slot by chance. */
function zipfProfile(s: number, keys = 100_000, seed = SEED): TrafficProfile {
  const random = seededRandom(seed)
  const slots = new Map<number, number>()
  const shown: KeyLoad[] = []
  for (let rank = 1; rank <= keys; rank++) {
    const load = { key: `k${rank}`, slot: random.int(4_096), requests: 1e6 / rank ** s }
    slots.set(load.slot, (slots.get(load.slot) ?? 0) + load.requests)
    if (rank <= SHOWN_KEYS) shown.push(load)
  }
  return { slots, keys: shown }
}

const plan = (profile: TrafficProfile, config: RampConfig = RAMP_DEFAULTS, order: readonly number[] = ORDER): RampPlan =>
  planRamp({ config, order, profile })

/** The canary that a hash alone would choose, of the same share of the requests. */
function hashDistance(profile: TrafficProfile, share: number): number {
  const all = [...profile.slots.values()].reduce((sum, one) => sum + one, 0)
  const taken = new Set<number>()
  let requests = 0
  for (const slot of ORDER) {
    if (requests >= share * all) break
    taken.add(slot)
    requests += profile.slots.get(slot) ?? 0
  }
  const of = (keys: readonly KeyLoad[], armRequests: number) => frequencyProfile(keys, { armRequests, allRequests: all })!
  return profileDistance(
    of(
      profile.keys.filter(({ slot }) => taken.has(slot)),
      requests,
    ),
    of(profile.keys, all),
  )
}

test("a canary's profile is closer to production's than by hash, with hotter keys, and what it tells of itself is so", () => {
  for (const s of [0.8, 1, 1.2]) {
    let [ours, byHash, ourRanks, hashRanks] = [0, 0, 0, 0]
    for (let seed = SEED; seed < SEED + 32; seed++) {
      const profile = zipfProfile(s, 20_000, seed)
      const { steps } = plan(profile)
      for (const { distance, requestShare } of steps.slice(0, 4)) {
        ours += distance!
        byHash += hashDistance(profile, requestShare!)
      }
      const rankIn = (slots: readonly number[]) => profile.keys.findIndex(({ slot }) => slots.includes(slot)) + 1
      ourRanks += rankIn(steps[0]!.adds)
      hashRanks += rankIn(ORDER.slice(0, 41))
    }
    assert.ok(ours < byHash, `seed ${SEED}, Zipf ${s}: ${ours} and ${byHash} by hash`)
    assert.ok(ourRanks < hashRanks, `seed ${SEED}, Zipf ${s}: the hottest keys at 1 % are ${ourRanks} and ${hashRanks} by hash`)
    const profile = zipfProfile(s)
    const all = [...profile.slots.values()].reduce((sum, one) => sum + one, 0)
    // By another way: counted from the slots that it names.
    const [first] = plan(profile).steps as [PlannedStep]
    const taken = new Set(first.adds)
    const armRequests = [...profile.slots].reduce((sum, [slot, one]) => sum + (taken.has(slot) ? one : 0), 0)
    assert.ok(Math.abs(first.requestShare! - armRequests / all) < 1e-9)
    const canary = frequencyProfile(
      profile.keys.filter(({ slot }) => taken.has(slot)),
      { armRequests, allRequests: all },
    )!
    const production = frequencyProfile(profile.keys, { armRequests: all, allRequests: all })!
    assert.ok(Math.abs(profileDistance(canary, production) - first.distance!) < 1e-9)
  }
})

test('each step has its share of the requests, or as near as its hot keys allow; the hottest key that fits is in it', () => {
  for (const s of [0.8, 1, 1.2]) {
    const profile = zipfProfile(s)
    const all = [...profile.slots.values()].reduce((sum, one) => sum + one, 0)
    const { steps, hottest, basis } = plan(profile)
    assert.equal(basis, 'profile')
    for (const { percent, requestShare } of steps) {
      const aim = percent / 100
      assert.ok(
        requestShare! >= 0.75 * aim && requestShare! <= Math.min(1, 1.25 * aim) + 1e-9,
        `seed ${SEED}: ${percent} %: ${requestShare}`,
      )
    }
    const fits = profile.keys.find(({ slot }) => profile.slots.get(slot)! / all <= 0.1 * 0.01)!
    assert.ok(steps[0]!.hotKeys[0]!.share * all >= fits.requests, `seed ${SEED}, Zipf ${s}`)
    for (const { key, slot, step, share } of hottest) {
      assert.ok(steps[step!]!.adds.includes(slot))
      assert.ok(Math.abs(share - profile.keys.find((one) => one.key === key)!.requests / all) < 1e-9)
    }
  }
})

const loads = fc.array(fc.record({ slot: fc.nat(40), requests: fc.integer({ min: 0, max: 1_000 }) }), { maxLength: 60 })
const steps = fc
  .uniqueArray(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 6 })
  .map((all) => all.toSorted((a, b) => a - b).map((percent) => ({ percent, bakeMs: 0 })))
const order = fc.uniqueArray(fc.nat(40), { minLength: 1, maxLength: 41 })

test('of any traffic, a larger step contains the smaller, no slot comes twice or from elsewhere, and 100 % is all of them', () => {
  fc.assert(
    fc.property(loads, steps, order, fc.double({ min: 0.01, max: 1, noNaN: true }), (some, ramp, slots, distanceMax) => {
      const keys = some.map((one, i) => ({ ...one, key: `k${i}` }))
      const config = { steps: ramp, distanceMax, overshootMax: 1.25 }
      const planned = plan({ slots: new Map(), keys }, config, slots)
      const all = planned.steps.flatMap(({ adds }) => adds)
      assert.equal(new Set(all).size, all.length)
      assert.ok(all.every((slot) => slots.includes(slot)))
      let count = 0
      for (const step of planned.steps) {
        count += step.adds.length
        assert.equal(step.slots, count)
        if (step.percent === 100) assert.equal(count, slots.length)
        if (step.requestShare === null) continue
        const aim = step.percent / 100
        assert.ok(
          step.requestShare <= 1.25 * aim + 1e-9 ||
            step.percent === 100 ||
            count === 1 ||
            step.adds.length === 0 ||
            loadedOf(all.slice(0, count), keys) === 1,
        )
        assert.ok(step.distance === null || (step.distance >= 0 && step.distance <= 1))
      }
      // The same profile, the same plan.
      assert.deepEqual(plan({ slots: new Map(), keys: keys.toReversed() }, config, slots).steps, planned.steps)
    }),
    { seed: SEED },
  )
})

function loadedOf(slots: readonly number[], keys: readonly KeyLoad[]): number {
  return slots.filter((slot) => keys.some((key) => key.slot === slot && key.requests > 0)).length
}

test('a key that is too hot for a step comes in a later one; kept on PostgreSQL, in none', () => {
  const cold = new Map(ORDER.map((slot) => [slot, 10]))
  const hot = { key: 'hot', slot: 5_000, requests: 4_000 }
  const profile = { slots: cold, keys: [hot] }
  const config = { ...RAMP_DEFAULTS, distanceMax: 0.25, steps: [1, 25, 100].map((percent) => ({ percent, bakeMs: 0 })) }
  const withPin = plan(profile, config, [...ORDER, 5_000])
  assert.deepEqual(
    withPin.hottest.map(({ key, step }) => [key, step]),
    [['hot', 2]],
  )
  // 4,000 of 44,960 requests are 9 %: more than a quarter of 25 % is too many.
  assert.equal(plan(profile, { ...config, distanceMax: 0.4 }, [...ORDER, 5_000]).hottest[0]!.step, 1)
  const kept = plan(profile, config, ORDER)
  assert.deepEqual([kept.hottest[0]!.step, kept.steps.at(-1)!.slots], [null, 4_096])
  assert.ok(kept.steps.at(-1)!.requestShare! < 0.92)
})

test('where every slot is too much for the first step, it has the least of them, and says how much that is', () => {
  const keys = [1, 2, 3].map((slot) => ({ key: `k${slot}`, slot, requests: 10 * slot }))
  const { steps } = plan({ slots: new Map(), keys }, RAMP_DEFAULTS, [3, 2, 1])
  assert.deepEqual([steps[0]!.adds, Math.round(steps[0]!.requestShare! * 60)], [[1], 10])
})

test('a step stays below its overshoot, and a key weighs no more than the slot that it is in', () => {
  const keys = [30, 30, 40].map((requests, slot) => ({ key: `k${slot}`, slot, requests }))
  const shares = (overshootMax: number) =>
    plan(
      { slots: new Map(), keys },
      { steps: [30, 55].map((percent) => ({ percent, bakeMs: 0 })), distanceMax: 1, overshootMax },
      [0, 1, 2],
    ).steps.map(({ requestShare }) => Math.round(requestShare! * 100))
  assert.deepEqual(
    [shares(1.25), shares(1.05)],
    [
      [30, 60],
      [30, 30],
    ],
  )
  // The slot's count is of an instant before.
  const behind = new Map([
    [0, 5],
    [1, 50],
  ])
  assert.equal(plan({ slots: behind, keys: [{ key: 'a', slot: 0, requests: 50 }] }).hottest[0]!.share, 0.5)
})

test('of traffic of which nothing is known, slots are taken by their order, and it says so (INV-10)', () => {
  for (const profile of [
    { slots: new Map(), keys: [] },
    { slots: new Map([[1, 0]]), keys: [] },
    { slots: new Map([[1, Number.NaN]]), keys: [] },
    {
      slots: new Map([
        [1, -5],
        [2, 50],
      ]),
      keys: [],
    },
    { slots: new Map([[1, Number.POSITIVE_INFINITY]]), keys: [] },
    { slots: new Map([[1, 5]]), keys: [{ key: 'a', slot: 2, requests: Number.NaN }] },
  ]) {
    const { basis, steps } = plan(profile)
    assert.equal(basis, 'slot order')
    assert.deepEqual(
      steps.map(({ slots, requestShare, distance }) => [slots, requestShare, distance]),
      [41, 205, 1_024, 2_048, 4_096].map((slots) => [slots, null, null]),
    )
    assert.deepEqual(
      steps.flatMap(({ adds }) => adds),
      ORDER,
    )
  }
})

test('a ramp that cannot be is one error with a sentence for each thing', () => {
  assert.deepEqual(rampProblems(RAMP_DEFAULTS), [])
  const step = (percent: number, bakeMs = 0) => ({ percent, bakeMs })
  const problems = (change: Partial<RampConfig>) => rampProblems({ ...RAMP_DEFAULTS, ...change }).length
  for (const steps of [
    [],
    [step(0)],
    [step(101)],
    [step(Number.NaN)],
    [step(5), step(5)],
    [step(5), step(1)],
    [step(5, -1)],
    [step(5, Number.NaN)],
  ])
    assert.equal(problems({ steps }), 1, JSON.stringify(steps))
  for (const distanceMax of [0, 1.1, Number.NaN]) assert.equal(problems({ distanceMax }), 1)
  for (const overshootMax of [0.9, 2.1, Number.NaN]) assert.equal(problems({ overshootMax }), 1)
  assert.equal(problems({ steps: Array.from({ length: 101 }, (_, i) => step((i + 1) / 2)) }), 1)
  assert.throws(() => plan(zipfProfile(1, 10), { ...RAMP_DEFAULTS, steps: [step(0), step(200)] }), {
    code: 'RAMP_INVALID',
    message: /step 1 has 0 %.*, step 2 has 200 %/,
  })
})

test('what has moved is in every step and added by none; a step that it is large enough for adds nothing', () => {
  const profile = zipfProfile(1)
  const [first, second] = plan(profile).steps as [PlannedStep, PlannedStep]
  const moved = [...first.adds, ...second.adds]
  const again = planRamp({ config: RAMP_DEFAULTS, order: ORDER, profile, moved })
  assert.deepEqual(
    again.steps.slice(0, 2).map(({ adds, slots }) => [adds, slots]),
    [
      [[], moved.length],
      [[], moved.length],
    ],
    `seed ${SEED}`,
  )
  assert.ok(Math.abs(again.steps[0]!.requestShare! - second.requestShare!) < 1e-9)
  const added = again.steps.flatMap(({ adds }) => adds)
  assert.deepEqual(
    [...moved, ...added].sort((a, b) => a - b),
    [...ORDER].sort((a, b) => a - b),
  )
  for (const { slot, step } of again.hottest) if (moved.includes(slot)) assert.equal(step, 0)
  // By the order alone as well, whatever a person has moved by hand.
  const byOrder = planRamp({ config: RAMP_DEFAULTS, order: ORDER, profile: { slots: new Map(), keys: [] }, moved: [ORDER[0]!, 4_095] })
  assert.deepEqual([byOrder.steps[0]!.adds.length, byOrder.steps[0]!.slots], [40, 42])
  assert.equal(byOrder.steps.at(-1)!.slots, 4_096)
})

test('distance is a metric from 0 to 1; a profile adds up to 1, and of no traffic there is none', () => {
  const profile = fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 1, maxLength: 50 }).map((all) => {
    const armRequests = all.reduce((sum, one) => sum + one, 0) + 100
    return frequencyProfile(
      all.map((requests) => ({ requests })),
      { armRequests, allRequests: 3_000 },
    )!
  })
  fc.assert(
    fc.property(profile, profile, profile, (a, b, c) => {
      assert.ok(Math.abs(a.reduce((sum, one) => sum + one, 0) - 1) < 1e-9 && a.every((one) => one >= 0))
      assert.equal(profileDistance(a, a), 0)
      assert.equal(profileDistance(a, b), profileDistance(b, a))
      assert.ok(profileDistance(a, c) <= profileDistance(a, b) + profileDistance(b, c) + 1e-9)
      assert.ok(profileDistance(a, b) <= 1 + 1e-9)
    }),
    { seed: SEED },
  )
  for (const [armRequests, allRequests] of [
    [0, 5],
    [5, 0],
    [Number.NaN, 5],
    [5, Number.NaN],
  ] as const)
    assert.equal(frequencyProfile([{ requests: 1 }], { armRequests, allRequests }), null)
})
