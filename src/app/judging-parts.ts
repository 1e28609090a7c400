// Promises: what the parts of the live judge are to each other: the gateways' measurements, the judge, the ramp. Types alone.
import type { Arms } from '../canary/arm-counts.ts'
import type { HotKey, HotKeyWeight } from '../canary/hot-keys.ts'
import type { Saturation } from '../canary/judge.ts'
import type { TrafficProfile } from '../canary/ramp.ts'
import type { KeySaturation } from '../canary/saturation.ts'
import type { JudgeVerdict } from '../canary/verdict.ts'
import type { Owner } from '../model/ids.ts'
import type { LostMeasurements } from './lost-reports.ts'

/** The leader's book of what all gateways told over the feed. */
export interface Measurements {
  /**
   * What came since the last call, of all gateways together; ends the span. Null: of some gateway that holds a lease nothing came for
   * longer than it may be late, so that nothing is known of its clients (INV-10); `silent` names those. What is late is by the book's own
   * monotonic clock.
   */
  takeSpan(nowMs: number): { readonly statements: Readonly<Record<string, Arms>> | null; readonly silent: readonly string[] }
  /** What gateways measured and this leader never heard, of the last hour. */
  lost(): readonly LostMeasurements[]
  /** Requests of the last minutes by slot and hottest key, both arms: what a ramp is planned by. */
  profile(): TrafficProfile
  hotKeys(): Readonly<Record<Owner, Readonly<Record<HotKeyWeight, readonly HotKey[]>>>>
  /** Hottest first. `growth` of the load, 1 is today's. */
  saturation(growth: number): readonly KeySaturation[]
}

/** What the ramp asks the judge. */
export interface LiveJudge {
  now(): JudgeNow
  /** A person starts a canary again after a rollback: durable before it returns. */
  startAgain(): Promise<void>
}

export interface JudgeNow {
  /** Slots that the target owns when the last span was judged: the judge's `step`. */
  readonly step: number
  readonly promote: boolean
  /** Why the next step is not taken, or nothing is judged. */
  readonly holds: readonly string[]
  readonly rolledBack: JudgeVerdict | null
  readonly saturation: readonly Saturation[]
}
