// Promises: what a flip needs from the other engines and from the world, as interfaces; app/ puts them together, the simulator
// puts its own in.
import type { Clock } from '../lib/clock.ts'
import type { FlipRecord, LeaderControl, LeaseRow } from '../model/control.ts'
import type { Epoch, Owner, SlotId } from '../model/ids.ts'
import type { LeaseLimits } from './lease-watch.ts'
import type { FlipObservation } from './precheck.ts'

export interface DrainReport {
  /** False: the signal, or the end of the reverse sync, came first. */
  readonly drained: boolean
  /** Of what has not drained. */
  readonly waitingFor: readonly string[]
  readonly entriesApplied: number
  /** Aggregates that could not be applied, with the reason. */
  readonly held: readonly { readonly slot: SlotId; readonly because: string }[]
}

export interface StaysParked {
  readonly slot: SlotId
  readonly because: string
}

export interface HeldDrain {
  readonly go: readonly SlotId[]
  readonly stay: readonly StaysParked[]
}

export interface VerifyReport {
  readonly rowsCompared: number
  readonly differences: number
  /** What was left out by the cap, or could not be compared. */
  readonly notChecked: number
  readonly firstDifference: string | null
  /** Whose rows differ, as far as was looked. */
  readonly differing: readonly SlotId[]
}

export interface FlipParts {
  readonly control: LeaderControl
  /** Resolves when the forward sync has durably applied everything before the marker. */
  passed(marker: string, signal: AbortSignal): Promise<void>
  /** Resolves when every outbox entry of these slots is applied in PostgreSQL, or cannot be. `leases` as acked or over, looked at after the park. */
  drain(slots: readonly SlotId[], leases: readonly LeaseRow[], signal: AbortSignal): Promise<DrainReport>
  /** False: the target has answered nothing for targetAnswerMs, of which what was watched before counts, and nothing that this has asked. */
  targetAnswers(signal: AbortSignal): Promise<boolean>
  /** With the target silent, from the gateways' own copies: which of these slots PostgreSQL has whole, and why the others stay. */
  drainHeld(
    request: { readonly slots: readonly SlotId[]; readonly epoch: Epoch; readonly leases: readonly LeaseRow[] },
    signal: AbortSignal,
  ): Promise<HeldDrain>
  /** What changed since the last settled check of these slots, both sides, capped. */
  verify(slots: readonly SlotId[], to: Owner, signal: AbortSignal): Promise<VerifyReport>
  readonly standbys: FlipStandbys
  /**
   * Durable control: before a flip routes, the target knows which PostgreSQL owns it; one known to be silent is not asked, and that is owed.
   * Throws: the flip stays open, and committed.
   */
  recordOwner(flip: FlipRecord, how: { readonly targetSilent: boolean }, signal: AbortSignal): Promise<void>
  /** Resolves at the next sign that a lease row may have changed. */
  nextWake(signal: AbortSignal): Promise<void>
  observe(to: Owner, slots: readonly SlotId[]): Promise<FlipObservation>
  /** Told each step as it begins and ends: progress, metrics, failpoints. */
  onStep(event: StepEvent): void
  readonly clock: Clock
  readonly limits: FlipLimits
}

/** Those of the configuration. */
export interface FlipStandbys {
  /** A commit is held until those that are not struck off have it. */
  any(): boolean
  /** Returns whom it still waited for when the signal came; none: what was committed before the call is flushed on all of them. */
  awaitFlushed(signal: AbortSignal): Promise<readonly string[]>
}

export interface StepEvent {
  readonly flip: string | null
  readonly step: string
  readonly phase: 'begin' | 'end'
  readonly detail: string
}

export interface FlipLimits {
  readonly flipDeadlineMs: number
  readonly forwardLagMaxMs: number
  readonly lease: LeaseLimits
  /** Between looks where no wake comes: the fallback, not the way. */
  readonly pollMs: number
  /** How long `route` waits for gateways to ack before it goes on without the silent ones (they serve nothing by then). */
  readonly routeDeadlineMs: number
}
