// Promises: a ramp is given to the leader, durably, and followed to its end. Ctrl-C stops the following, not the ramp, and says so; whoever
// asks again follows the one that is under way.
import type { RampPlan, RampSettings } from '../canary/ramp.ts'
import { planRamp } from '../canary/ramp.ts'
import { systemClock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'
import { createRamps } from '../store/ramps.ts'
import { readView } from '../store/read-view.ts'
import type { Session } from '../store/session.ts'
import { readTraffic } from '../store/traffic.ts'
import { frozenSlots } from '../store/violations.ts'
import type { RampRow } from './ramp-decision.ts'
import { slotsInOrder, trafficOf } from './ramp-loop.ts'

const LOOK_MS = 150
/** A leader takes a ramp up within its look; without one for so long nobody is there to. */
const LEADER_MISSING_MS = 15_000
/** What the leader last wrote of the traffic plans nothing once it is older (INV-10). */
const TRAFFIC_FRESH_MS = 60_000

/** `given`: by the person; the ramp that is under way is another one then. @throws RAMP_OPEN */
export async function orderRamp(session: Session, settings: RampSettings, given: boolean): Promise<number> {
  const ramps = createRamps<RampSettings, RampPlan>(session)
  const open = await ramps.open()
  if (open === null) {
    const ordered = await ramps.order(settings)
    if (ordered !== null) return ordered
  } else if (!given) return open.id
  throw new SwitchbackError('RAMP_OPEN', { ramp: (await ramps.last())!.id })
}

/** Throws RAMP_OPEN while there is one: what moves meanwhile is the ramp's. */
export async function refuseWhileRamping(session: Session): Promise<void> {
  const open = await createRamps(session).open()
  if (open !== null) throw new SwitchbackError('RAMP_OPEN', { ramp: open.id })
}

/** @throws NO_CONTROLLER (it was withdrawn), INTERRUPTED_RAMP (the leader goes on with it) */
export async function followRamp(session: Session, id: number, onLook: (ramp: RampRow) => void, signal: AbortSignal): Promise<RampRow> {
  const ramps = createRamps<RampSettings, RampPlan>(session)
  const sinceMs = systemClock.monotonicMs()
  for (;;) {
    const ramp = await ramps.read(id)
    onLook(ramp)
    if (ramp.ended) return ramp
    if (ramp.state === 'ordered' && systemClock.monotonicMs() - sinceMs > LEADER_MISSING_MS) {
      if (await ramps.withdraw(id, 'no controller took it up')) throw new SwitchbackError('NO_CONTROLLER', { waitedMs: LEADER_MISSING_MS })
    }
    if (signal.aborted) throw new SwitchbackError('INTERRUPTED_RAMP', { ramp: id })
    await systemClock.sleep(LOOK_MS, signal)
  }
}

export interface RampPreview {
  readonly plan: RampPlan
  /** Of the profile that it is planned by; null: there is none. */
  readonly requests: number | null
  readonly profileAgeMs: number | null
  readonly moved: number
}

/** What a ramp would be by what the gateways have seen. */
export async function previewRamp(session: Session, settings: RampSettings): Promise<RampPreview> {
  const traffic = await readTraffic(session)
  const fresh = traffic !== null && traffic.ageMs < TRAFFIC_FRESH_MS
  const profile = trafficOf(fresh ? traffic.profile : { slots: [], keys: [] })
  const view = await readView(session)
  const kept = new Set((await frozenSlots(session)).map(({ slot }) => slot))
  const order = slotsInOrder(view).filter((slot) => !kept.has(slot))
  const moved: SlotId[] = [...view.rows()].filter(({ owner }) => owner === 'target').map(({ slot }) => slot)
  const plan = planRamp({ config: settings, order, profile, moved })
  const requests = [...profile.slots.values()].reduce((sum, one) => sum + one, 0)
  const known = plan.basis === 'profile' && traffic !== null
  return {
    plan,
    requests: known ? Math.round(requests) : null,
    profileAgeMs: known ? Math.round(traffic.ageMs) : null,
    moved: moved.length,
  }
}
