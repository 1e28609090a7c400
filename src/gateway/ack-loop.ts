// Promises: a fence is acked when everything this gateway began under the older view on slots in flip has ended, never before, with
// the outbox positions of its lease and the backends that need not be waited for (protocols.md, The flip, 3; Guard).
import { type BackoffLimits, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { inTime, LATE } from '../lib/in-time.ts'
import type { Random } from '../lib/prng.ts'
import type { BackendId, GatewayControl } from '../model/control.ts'
import type { TargetExecutor } from '../model/executor.ts'
import type { Epoch } from '../model/ids.ts'
import type { FenceGate, Work } from './fence-gate.ts'

export interface Excuse {
  readonly work: Work
  readonly backend: BackendId
}

export interface AckLoopOptions {
  readonly gate: FenceGate
  readonly control: GatewayControl
  readonly executor: Pick<TargetExecutor, 'nextSequences'>
  /** Asks the sessions whose open transactions may be excused for their backends; those that are busy or behind a pooler are left out. */
  readonly excuses: (known: ReadonlySet<Work>) => Promise<readonly Excuse[]>
  readonly clock: Clock
  readonly random: Random
  readonly failed: (error: unknown) => void
  readonly signal: AbortSignal
}

/** Asking the backends of open transactions may delay an ack by so much. */
const EXCUSES_WITHIN_MS = 100
const RETRY: BackoffLimits = { firstMs: 20, capMs: 500 }

export async function runAckLoop(options: AckLoopOptions): Promise<void> {
  const { gate, signal } = options
  let excused: readonly Excuse[] = []
  while (!signal.aborted) {
    const changed = gate.changed.next(signal)
    excused = excused.filter(({ work }) => gate.excusable(work))
    const epoch = gate.ackable() ?? (gate.parking.size > 0 ? gate.sealed : null)
    if (epoch === null || gate.lease === null || gate.view?.epoch !== epoch) {
      await changed
      continue
    }
    // A backend that does not answer (PostgreSQL has just crashed) is not excused: an ack never waits for it.
    const asked = await inTime(options.clock, EXCUSES_WITHIN_MS, options.excuses(new Set(excused.map(({ work }) => work))))
    const fresh = asked === LATE ? [] : asked
    const sealed = gate.sealed === epoch
    // The sessions were asked meanwhile: look again, and seal in the same turn, so that no excused transaction slips in.
    if (signal.aborted || (!sealed && gate.ackable() !== epoch)) continue
    if (sealed && (fresh.length === 0 || gate.view?.epoch !== epoch)) {
      await changed
      continue
    }
    gate.seal(epoch)
    excused = [...excused, ...fresh].filter(({ work }) => gate.excusable(work))
    await send(options, epoch, excused)
  }
}

async function send(options: AckLoopOptions, epoch: Epoch, excused: readonly Excuse[]): Promise<void> {
  const { gate, signal } = options
  const lease = gate.lease
  if (lease === null) return
  const ack = {
    lease: lease.id,
    epoch,
    nextSequences: options.executor.nextSequences(lease.id),
    excused: excused.map(({ backend }) => backend),
  }
  for (let attempt = 0; !signal.aborted && lease.holds() && gate.view?.epoch === epoch; attempt++) {
    try {
      await options.control.ack(ack)
      return
    } catch (error) {
      options.failed(error)
      await options.clock.sleep(backoffMs(attempt, RETRY, options.random), signal)
    }
  }
}
