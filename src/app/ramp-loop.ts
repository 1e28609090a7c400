// Promises: the leader looks at the open ramp four times a second and does what is decided (ramp-decision.ts); for one once a second, or at once
// when somebody says that it was placed. What a ramp is at is durable,
// so a new leader goes on where the old one stopped; only the traffic it has to observe anew, since a profile is in the memory of the leader
// that saw it. Time counts by the leader's monotonic clock, while it looks: a gap between looks, or between leaders, counts for nothing.
import type { Logger } from 'pino'
import { planRamp, type RampPlan, type RampSettings, type TrafficProfile } from '../canary/ramp.ts'
import { canaryOrder } from '../flip/batches.ts'
import type { Clock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'
import { HASH_SLOTS } from '../model/key.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Jobs } from '../store/jobs.ts'
import type { PassedStep, Ramps } from '../store/ramps.ts'
import { isLockRefusal } from '../store/session.ts'
import type { PlainTraffic } from '../store/traffic.ts'
import type { LiveJudge, Measurements } from './judging-parts.ts'
import { lookOrWait, type Waits } from './look-or-wait.ts'
import { decideRamp, type RampDecision, type RampLook, type RampRow, stepReached, timeOf } from './ramp-decision.ts'

export interface RampParts {
  readonly ramps: Ramps<RampSettings, RampPlan>
  readonly jobs: Pick<Jobs, 'open'>
  readonly token: number
  readonly clock: Clock
  readonly log: Logger
  readonly judge: LiveJudge
  readonly measurements: Pick<Measurements, 'profile'>
  /** Resolves when a ramp may have been placed. */
  readonly nextOrder: Waits['nextOrder']
  view(): Promise<RoutingView>
  /** Slots that do not go to the target. */
  frozen(): Promise<readonly SlotId[]>
  /** The name under which people may see a key. */
  nameOf(key: string): string
}

const LOOK_MS = 250
const TELL_MS = 1_000
/** What came later than this after the look before is not counted: nobody looked meanwhile. */
const LOOK_GAP_MAX_MS = 2_000

/** Runs until the signal aborts; rejects with what ends the lead. */
export async function runRamps(parts: RampParts, signal: AbortSignal): Promise<void> {
  const timing = new Timing()
  const telling = { atMs: Number.NEGATIVE_INFINITY, because: '' }
  while (!signal.aborted) {
    const ramp = await lookOrWait(() => parts.ramps.open(), parts, signal)
    if (ramp === null) continue
    try {
      await lookOnce(parts, ramp, timing, telling)
    } catch (error) {
      // Somebody holds its row just now: looked at again.
      if (!isLockRefusal(error)) throw error
    }
    await parts.clock.sleep(LOOK_MS, signal)
  }
}

async function lookOnce(parts: RampParts, ramp: RampRow, timing: Timing, telling: { atMs: number; because: string }): Promise<void> {
  const { clock, ramps, token } = parts
  const seen = await lookAt(parts, ramp)
  const look = { ...seen, ...timing.at(clock.monotonicMs(), seen) }
  const decision = decideRamp(look)
  if (decision.act !== 'hold') return act(parts, look, decision)
  const because = kindOf(decision.because)
  const nowMs = clock.monotonicMs()
  if (because === telling.because && nowMs - telling.atMs < TELL_MS) return
  telling.atMs = nowMs
  telling.because = because
  await ramps.tell(ramp.id, token, { observedMs: look.observedMs, bakedMs: look.bakedMs, heldBecause: decision.because })
}

async function lookAt({ jobs, judge, measurements, view }: RampParts, ramp: RampRow): Promise<RampLook> {
  const open = await jobs.open()
  const onTarget = new Set<SlotId>()
  for (const { slot, owner } of (await view()).rows()) if (owner === 'target') onTarget.add(slot)
  let requests = 0
  // Adding it up costs something, and it is asked for nowhere else.
  if (ramp.state === 'observing') for (const count of measurements.profile().slots.values()) requests += count
  return {
    ramp,
    otherOrders: open.map(({ id }) => id).filter((id) => id !== ramp.job?.id),
    onTarget,
    judge: judge.now(),
    requests,
    observedMs: 0,
    bakedMs: 0,
  }
}

async function act(parts: RampParts, look: RampLook, decision: Exclude<RampDecision, { act: 'hold' }>): Promise<void> {
  const { ramps, token, judge, log } = parts
  const { ramp } = look
  log.info({ ramp: ramp.id, act: decision.act, step: decision.act === 'step' ? decision.step : undefined }, 'ramp')
  if (decision.act === 'arm') {
    if (decision.startAgain) await judge.startAgain()
    // A move of no slots arms the gateways and the guard, as every move to the target does first, and moves nothing.
    return order(parts, ramp, { state: 'arming', plan: null, step: -1, passed: [], slots: [] })
  }
  if (decision.act === 'observe') return ramps.observe(ramp.id, token)
  if (decision.act === 'plan') return plan(parts, look)
  if (decision.act === 'end') return ramps.end(ramp.id, token, decision)
  const passed: (PassedStep | null)[] = [...ramp.passed]
  if (ramp.step >= 0) passed[ramp.step] = { bakedMs: Math.round(look.bakedMs), held: ramp.job?.held ?? [] }
  return order(parts, ramp, { state: 'running', plan: ramp.plan, step: decision.step, passed, slots: decision.slots })
}

async function order({ ramps, token, log }: RampParts, ramp: RampRow, next: Parameters<RampParts['ramps']['step']>[2]): Promise<void> {
  if (!(await ramps.step(ramp.id, token, next))) log.info({ ramp: ramp.id }, 'the ramp was ended before its next order')
}

async function plan({ ramps, token, measurements, frozen, view, nameOf }: RampParts, { ramp, onTarget }: RampLook): Promise<void> {
  const kept = new Set(await frozen())
  const slots = slotsInOrder(await view()).filter((slot) => !kept.has(slot))
  try {
    const planned = planRamp({ config: ramp.config, order: slots, profile: measurements.profile(), moved: [...onTarget] })
    await ramps.plan(ramp.id, token, named(planned, nameOf), stepReached(planned))
  } catch (error) {
    if (!(error instanceof SwitchbackError) || error.code !== 'RAMP_INVALID') throw error
    await ramps.end(ramp.id, token, { state: 'stopped', because: error.message })
  }
}

/** Every slot that there is: hash slots as a growing canary takes them, then the pins. */
export function slotsInOrder(view: RoutingView): readonly SlotId[] {
  return [...canaryOrder(), ...[...view.rows()].map(({ slot }) => slot).filter((slot) => slot >= HASH_SLOTS)]
}

function named(planned: RampPlan, nameOf: (key: string) => string): RampPlan {
  const rename = <One extends { readonly key: string }>(one: One): One => ({ ...one, key: nameOf(one.key) })
  return {
    ...planned,
    steps: planned.steps.map((step) => ({ ...step, hotKeys: step.hotKeys.map(rename) })),
    hottest: planned.hottest.map(rename),
  }
}

/** As it may lie in the control schema. */
export function plainTraffic({ slots, keys }: TrafficProfile, nameOf: (key: string) => string): PlainTraffic {
  return {
    slots: [...slots].filter(([, requests]) => requests >= REQUESTS_LEAST).map(([slot, requests]) => [slot, rounded(requests)]),
    keys: keys.map(({ key, slot, requests }) => [nameOf(key), slot, rounded(requests)]),
  }
}

export function trafficOf({ slots, keys }: PlainTraffic): TrafficProfile {
  return { slots: new Map(slots), keys: keys.map(([key, slot, requests]) => ({ key, slot, requests })) }
}

const REQUESTS_LEAST = 0.01

function rounded(requests: number): number {
  return Math.round(requests * 100) / 100
}

/** `baked for 12 of 600 s` and `baked for 13 of 600 s` are the same reason. */
export function kindOf(because: readonly string[]): string {
  return because.join('; ').replace(/\d+(\.\d+)?(e[+-]?\d+)?/g, '#')
}

/** How long each ramp has been where it is, as far as it counts. */
class Timing {
  #of = ''
  #lastMs = 0
  #ms = { observedMs: 0, bakedMs: 0 }

  at(nowMs: number, look: RampLook): { readonly observedMs: number; readonly bakedMs: number } {
    const { id, state, step, job, bakedMs } = look.ramp
    const of = JSON.stringify([id, state, step, job?.id ?? null])
    if (of !== this.#of) {
      this.#ms = { observedMs: 0, bakedMs }
      this.#lastMs = nowMs
    }
    this.#of = of
    const counts = timeOf(look)
    const elapsedMs = nowMs - this.#lastMs
    this.#lastMs = nowMs
    if (elapsedMs <= LOOK_GAP_MAX_MS) {
      if (counts === 'observed') this.#ms = { ...this.#ms, observedMs: this.#ms.observedMs + elapsedMs }
      if (counts === 'baked') this.#ms = { ...this.#ms, bakedMs: this.#ms.bakedMs + elapsedMs }
    }
    return this.#ms
  }
}
