// Promises: what the leader has of the traffic is in the control schema once in a few seconds, under the names that people may see, so that a
// command can plan by it.
import type { Clock } from '../lib/clock.ts'
import type { Session } from '../store/session.ts'
import { writeTraffic } from '../store/traffic.ts'
import type { Measurements } from './judging-parts.ts'
import { plainTraffic } from './ramp-loop.ts'

const TELL_TRAFFIC_MS = 5_000

export interface TellTraffic {
  readonly session: Session
  readonly token: number
  readonly clock: Clock
  readonly measurements: Pick<Measurements, 'profile'>
  nameOf(key: string): string
}

/** Until gateways measure there is nothing to tell. */
export async function tellTraffic({ session, token, clock, measurements, nameOf }: TellTraffic, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const profile = measurements.profile()
    if (profile.slots.size > 0) await writeTraffic(session, token, plainTraffic(profile, nameOf))
    await clock.sleep(TELL_TRAFFIC_MS, signal)
  }
}
