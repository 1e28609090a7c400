// Promises: which slots each step of a ramp has, so that a small canary sees what production does: as much of its traffic from hot keys as
// all traffic has, the hottest ones as early as that allows; and how large each step's blast radius is. A larger step always contains the
// smaller one. Pure: a plan from a profile.
// A canary by key hash misses the hot keys, which are few; yet they are what goes wrong (canary.md, "What a small canary hides").
// Formula: keys fall into classes by their share of all requests, an octave each: class c has the keys of 2^-c to 2^-(c+1); those under 2^-10
// are one class, the cold. A profile p_c is the share of requests that class c gets. The distance of a canary's profile from production's is
// the total variation distance, 1/2 sum_c |canary_c - p_c|: the share of the canary's requests that would have to be others. A step of a
// share s of the requests takes
//   1  keys, the hottest first, each with its whole slot, where its class has less than its part yet (x_c < s p_c, x_c: requests taken of
//      class c, as a share of all), so that parts are rounded up, and while sum_c max(0, x_c - s p_c) <= distanceMax * s
//   2  slots without hot keys in their order until it has its share; when there are no more, others within the same bound
// and never more than overshootMax times its share, but for a first step for which every slot is too much: it has the least of them.
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'

export interface RampStep {
  /** Of all requests. */
  readonly percent: number
  /** So long it is out before the next one may come. */
  readonly bakeMs: number
}

export interface RampConfig {
  readonly steps: readonly RampStep[]
  /** How far hot keys may bring a step's profile from production's. */
  readonly distanceMax: number
  /** A step has at most so many times its share of the requests. */
  readonly overshootMax: number
}

export const RAMP_DEFAULTS: RampConfig = {
  steps: [
    { percent: 1, bakeMs: 600_000 },
    { percent: 5, bakeMs: 600_000 },
    { percent: 25, bakeMs: 1_800_000 },
    { percent: 50, bakeMs: 1_800_000 },
    { percent: 100, bakeMs: 0 },
  ],
  distanceMax: 0.1,
  overshootMax: 1.25,
}

const STEPS_MAX = 100

/** What `canary run` is given: a ramp, and how long the traffic is observed before its first step. */
export interface RampSettings extends RampConfig {
  readonly observeMs: number
}

/** Control's first ten minutes are what the judge's tail detector wants of it too (tail.ts). */
export const OBSERVE_MS = 600_000

/** What the gateways saw within some minutes, of both arms. */
export interface TrafficProfile {
  /** Slots without requests need not be named. */
  readonly slots: ReadonlyMap<SlotId, number>
  /** The hottest keys (hot-keys.ts). */
  readonly keys: readonly KeyLoad[]
}

export interface KeyLoad {
  readonly key: string
  readonly slot: SlotId
  readonly requests: number
}

export interface PlannedStep extends RampStep {
  /** Not in the step before; in the order in which they are to flip. */
  readonly adds: readonly SlotId[]
  /** All of the step's. */
  readonly slots: number
  /** Blast radius: the share of all requests that this step has on the target; null: not known. */
  readonly requestShare: number | null
  /** The hottest of those that it adds, with their shares of all requests. */
  readonly hotKeys: readonly HotShare[]
  /** Of its profile from production's; null: not known. */
  readonly distance: number | null
}

export interface HotShare {
  readonly key: string
  readonly slot: SlotId
  readonly share: number
}

export interface RampPlan {
  /** Without a profile slots are taken by their order alone: nothing is known of what such a canary hides. */
  readonly basis: 'profile' | 'slot order'
  readonly steps: readonly PlannedStep[]
  /** The hottest keys, and the step (from 0) that has each first, which for those that have moved is the first; null: it is kept where it is. */
  readonly hottest: readonly (HotShare & { readonly step: number | null })[]
}

const COLD_CLASS = 10
const CLASSES = COLD_CLASS + 1
const TOLD_KEYS_MAX = 10

/**
 * `order`: every slot that may move, pins too, in the order in which a growing canary takes them (flip/batches.ts). `moved`: those that the
 * target has already; every step contains them, and no step adds them. @throws RAMP_INVALID
 */
export function planRamp(options: {
  readonly config: RampConfig
  readonly order: readonly SlotId[]
  readonly profile: TrafficProfile
  readonly moved?: readonly SlotId[]
}): RampPlan {
  const { config, order, profile, moved = [] } = options
  const problems = rampProblems(config)
  if (problems.length > 0) throw new SwitchbackError('RAMP_INVALID', { problems })
  const loads = slotLoads(order, profile)
  if (loads === null) return bySlotOrder(config, order, moved)
  const canary = new Canary(loads, config, moved)
  const steps = config.steps.map((step) => canary.grow(step))
  return {
    basis: 'profile',
    steps,
    hottest: loads.hottest.slice(0, TOLD_KEYS_MAX).map((one) => ({ ...one, step: moved.includes(one.slot) ? 0 : stepOf(steps, one.slot) })),
  }
}

/** A sentence each. */
export function rampProblems({ steps, distanceMax, overshootMax }: RampConfig): string[] {
  const problems: string[] = []
  if (steps.length === 0) problems.push('it has no step')
  if (steps.length > STEPS_MAX) problems.push(`it has more than ${STEPS_MAX} steps`)
  for (const [i, { percent, bakeMs }] of steps.entries()) {
    if (!(percent > 0 && percent <= 100)) problems.push(`step ${i + 1} has ${percent} % of the requests, not more than 0 and at most 100`)
    else if (i > 0 && percent <= steps[i - 1]!.percent) problems.push(`step ${i + 1} (${percent} %) is not larger than the one before`)
    if (!(bakeMs >= 0 && bakeMs < Number.POSITIVE_INFINITY)) problems.push(`step ${i + 1} bakes for ${bakeMs} ms`)
  }
  if (!(distanceMax > 0 && distanceMax <= 1)) problems.push(`distanceMax is ${distanceMax}, not more than 0 and at most 1`)
  if (!(overshootMax >= 1 && overshootMax <= 2)) problems.push(`overshootMax is ${overshootMax}, not from 1 to 2`)
  return problems
}

/** By class, shares of the arm's own requests; classes are by the shares of `allRequests`, so that both arms' are the same. Null of none. */
export function frequencyProfile(
  keys: readonly Pick<KeyLoad, 'requests'>[],
  { armRequests, allRequests }: { readonly armRequests: number; readonly allRequests: number },
): readonly number[] | null {
  if (!(armRequests > 0 && allRequests > 0 && Number.isFinite(allRequests))) return null
  const profile = new Array<number>(CLASSES).fill(0)
  let hot = 0
  for (const { requests } of keys) {
    const at = classOf(requests / allRequests)
    if (at === COLD_CLASS) continue
    profile[at]! += requests
    hot += requests
  }
  // Estimates of keys may come to more than there was.
  const all = Math.max(armRequests, hot)
  profile[COLD_CLASS] = all - hot
  return profile.map((requests) => requests / all)
}

/** Total variation: 0 of the same profiles, 1 of those that have nothing in common. */
export function profileDistance(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, share, i) => sum + Math.abs(share - b[i]!), 0) / 2
}

function classOf(share: number): number {
  // NaN is of no key that is known to be hot.
  return share > 0 ? Math.min(COLD_CLASS, Math.max(0, Math.floor(-Math.log2(share)))) : COLD_CLASS
}

interface SlotLoad {
  /** Share of all requests. */
  readonly share: number
  readonly byClass: readonly number[]
}

interface Loads {
  readonly order: readonly SlotId[]
  readonly bySlot: ReadonlyMap<SlotId, SlotLoad>
  readonly production: readonly number[]
  /** All known keys, those too that are kept where they are. */
  readonly hottest: readonly HotShare[]
}

const NO_LOAD: SlotLoad = { share: 0, byClass: new Array<number>(CLASSES).fill(0) }

/** Null: there was no traffic, or its numbers are none. */
function slotLoads(order: readonly SlotId[], profile: TrafficProfile): Loads | null {
  // In one order, so that the sums, and with them the plan, are the same of the same profile.
  const keys = profile.keys.toSorted((a, b) => b.requests - a.requests || (a.key < b.key ? -1 : 1))
  const requests = new Map<SlotId, number>([...profile.slots].sort(([a], [b]) => a - b))
  const ofKeys = new Map<SlotId, number>()
  for (const key of keys) ofKeys.set(key.slot, (ofKeys.get(key.slot) ?? 0) + key.requests)
  // Counts of slots and estimates of keys are not of the same instant.
  for (const [slot, sum] of ofKeys) requests.set(slot, Math.max(sum, requests.get(slot) ?? 0))
  let all = 0
  for (const count of requests.values()) {
    if (!(count >= 0)) return null
    all += count
  }
  if (!(all > 0 && Number.isFinite(all))) return null
  const classes = new Map<SlotId, number[]>()
  const production = new Array<number>(CLASSES).fill(0)
  for (const [slot, count] of requests) {
    const byClass = new Array<number>(CLASSES).fill(0)
    byClass[COLD_CLASS] = count / all
    classes.set(slot, byClass)
  }
  for (const { slot, requests: count } of keys) {
    const byClass = classes.get(slot)!
    byClass[COLD_CLASS]! -= count / all
    byClass[classOf(count / all)]! += count / all
  }
  for (const byClass of classes.values()) for (let c = 0; c < CLASSES; c++) production[c]! += byClass[c]!
  const hottest = keys.map(({ key, slot, requests: count }) => ({ key, slot, share: count / all }))
  const bySlot = new Map([...classes].map(([slot, byClass]) => [slot, { share: requests.get(slot)! / all, byClass }]))
  return { order, bySlot, production, hottest }
}

/** What has been taken so far. */
class Canary {
  readonly #loads: Loads
  readonly #config: RampConfig
  readonly #movable: ReadonlySet<SlotId>
  readonly #taken = new Set<SlotId>()
  readonly #byClass = new Array<number>(CLASSES).fill(0)
  #share = 0

  constructor(loads: Loads, config: RampConfig, moved: readonly SlotId[]) {
    this.#loads = loads
    this.#config = config
    this.#movable = new Set(loads.order)
    for (const slot of moved) this.#take(slot)
  }

  grow(step: RampStep): PlannedStep {
    const { order, production, hottest } = this.#loads
    const before = this.#taken.size
    if (step.percent === 100) for (const slot of order) this.#take(slot)
    else this.#fill(step.percent / 100)
    const adds = [...this.#taken].slice(before)
    const added = new Set(adds)
    const profile = this.#byClass.map((share) => (this.#share === 0 ? 0 : share / this.#share))
    return {
      ...step,
      adds,
      slots: this.#taken.size,
      requestShare: this.#share,
      hotKeys: hottest.filter(({ slot }) => added.has(slot)).slice(0, TOLD_KEYS_MAX),
      distance: this.#share === 0 ? null : profileDistance(profile, production),
    }
  }

  #fill(aim: number): void {
    const { order, hottest, production } = this.#loads
    const excessMax = this.#config.distanceMax * aim
    const like = (slot: SlotId) => this.#fits(slot, aim) && this.#excessWith(slot, aim) <= excessMax
    for (const { slot, share } of hottest) {
      const c = classOf(share)
      if (c !== COLD_CLASS && this.#byClass[c]! < aim * production[c]! && like(slot)) this.#take(slot)
    }
    // Idle slots make no canary larger: of those it has its part.
    for (const slot of order.slice(0, Math.round(order.length * aim))) if (this.#loadOf(slot).share === 0) this.#take(slot)
    // Where the hot keys are too hot for this step, cold ones have their part of it: the distance tells.
    for (const slot of order) if (this.#share < aim && this.#isCold(slot) && this.#fits(slot, aim)) this.#take(slot)
    for (const slot of order) if (this.#share < aim && like(slot)) this.#take(slot)
    if (this.#share > 0) return
    // Each slot is too much for it, yet a canary without traffic shows nothing.
    const loaded = order.filter((slot) => this.#loadOf(slot).share > 0)
    const least = loaded.sort((a, b) => this.#loadOf(a).share - this.#loadOf(b).share)[0]
    if (least !== undefined) this.#take(least)
  }

  #isCold(slot: SlotId): boolean {
    const { share, byClass } = this.#loadOf(slot)
    return share > 0 && byClass[COLD_CLASS] === share
  }

  #take(slot: SlotId): void {
    if (this.#taken.has(slot)) return
    this.#taken.add(slot)
    const { share, byClass } = this.#loadOf(slot)
    this.#share += share
    for (let c = 0; c < CLASSES; c++) this.#byClass[c]! += byClass[c]!
  }

  #fits(slot: SlotId, aim: number): boolean {
    if (this.#taken.has(slot) || !this.#movable.has(slot)) return false
    return this.#share + this.#loadOf(slot).share <= aim * this.#config.overshootMax
  }

  /** By how much, as a share of all requests, classes would have more than this step's part of them. */
  #excessWith(slot: SlotId, aim: number): number {
    const { byClass } = this.#loadOf(slot)
    let excess = 0
    for (let c = 0; c < CLASSES; c++) excess += Math.max(0, this.#byClass[c]! + byClass[c]! - aim * this.#loads.production[c]!)
    return excess
  }

  #loadOf(slot: SlotId): SlotLoad {
    return this.#loads.bySlot.get(slot) ?? NO_LOAD
  }
}

function bySlotOrder({ steps }: RampConfig, order: readonly SlotId[], moved: readonly SlotId[]): RampPlan {
  const taken = new Set(moved)
  const planned = steps.map((step): PlannedStep => {
    const slots = Math.min(order.length, Math.max(1, Math.round((order.length * step.percent) / 100)))
    const adds = order.slice(0, slots).filter((slot) => !taken.has(slot))
    for (const slot of adds) taken.add(slot)
    return { ...step, adds, slots: taken.size, requestShare: null, hotKeys: [], distance: null }
  })
  return { basis: 'slot order', steps: planned, hottest: [] }
}

function stepOf(steps: readonly PlannedStep[], slot: SlotId): number | null {
  const step = steps.findIndex(({ adds }) => adds.includes(slot))
  return step < 0 ? null : step
}
