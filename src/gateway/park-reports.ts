// Promises: the leader's journal hears how long each flip held statements back here, after they went on, and while no flip is under way:
// a report never goes before an ack.
import { type BackoffLimits, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { GatewayControl } from '../model/control.ts'
import type { FenceGate } from './fence-gate.ts'

export interface ParkReportsOptions {
  readonly gate: FenceGate
  readonly control: Pick<GatewayControl, 'parked'>
  readonly clock: Clock
  readonly random: Random
  readonly failed: (error: unknown) => void
  readonly signal: AbortSignal
}

/** The ack of the new owner goes first. */
const REPORT_AFTER_MS = 15
const RETRY: BackoffLimits = { firstMs: 100, capMs: 5_000 }

export async function runParkReports({ gate, control, clock, random, failed, signal }: ParkReportsOptions): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    const changed = gate.changed.next(signal)
    const due = () => gate.parking.size === 0 && gate.lease !== null && gate.parkTimes.untold().length > 0
    if (!due()) {
      await changed
      continue
    }
    await clock.sleep(failures === 0 ? REPORT_AFTER_MS : backoffMs(failures - 1, RETRY, random), signal)
    const lease = gate.lease
    if (signal.aborted || lease === null || !due()) continue
    try {
      const untold = gate.parkTimes.untold()
      await control.parked({ lease: lease.id, flips: untold })
      for (const times of untold) gate.parkTimes.told(times)
      failures = 0
    } catch (error) {
      failures++
      failed(error)
    }
  }
}
