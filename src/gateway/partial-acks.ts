// Promises: while an ack is held up by work that does not end, as with a target that answers nothing, the gateway says what it can say:
// which slots hold it up, and of which entries it does not know what became (protocols.md, The flip, Target unreachable). It never
// stands for an ack.
import { type BackoffLimits, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { GatewayControl } from '../model/control.ts'
import type { TargetExecutor } from '../model/executor.ts'
import type { Epoch, LeaseId, SlotId } from '../model/ids.ts'
import type { FenceGate } from './fence-gate.ts'

export interface PartialAckOptions {
  readonly gate: FenceGate
  readonly control: Pick<GatewayControl, 'ackPartly'>
  readonly executor: Pick<TargetExecutor, 'nextSequences' | 'undecided'>
  readonly clock: Clock
  readonly random: Random
  readonly failed: (error: unknown) => void
  readonly signal: AbortSignal
}

/** Work that ends by itself is given so long: then the ack says it all. A rollback asks a silent target for as long (silentAnswerMs). */
const PARTIAL_AFTER_MS = 200
const RETRY: BackoffLimits = { firstMs: 50, capMs: 500 }

interface Told {
  readonly lease: LeaseId
  readonly epoch: Epoch
  readonly busy: ReadonlySet<SlotId>
}

export async function runPartialAcks(options: PartialAckOptions): Promise<void> {
  const { gate, signal, clock } = options
  let told: Told | null = null
  let failures = 0
  while (!signal.aborted) {
    const changed = gate.changed.next(signal)
    const seen = now(gate)
    if (seen === null || (told !== null && same(told, seen))) {
      if (seen === null) told = null
      await changed
      continue
    }
    // What has not ended for so long will not end now: the word for the next epoch comes at once.
    const stuck = told !== null && [...seen.busy].some((slot) => told!.busy.has(slot))
    if (!stuck) await clock.sleep(PARTIAL_AFTER_MS, signal)
    const word = now(gate)
    if (word === null || signal.aborted) continue
    const { lease, epoch, busy } = word
    // All of it in one turn, so that what is said fits together.
    const partial = { epoch, busy, nextSequences: options.executor.nextSequences(lease), undecided: options.executor.undecided(lease) }
    try {
      await options.control.ackPartly(lease, partial)
      told = word
      failures = 0
    } catch (error) {
      options.failed(error)
      await clock.sleep(backoffMs(failures++, RETRY, options.random), signal)
    }
  }
}

function now(gate: FenceGate): Told | null {
  const { lease } = gate
  const held = gate.heldUpBy()
  return lease === null || held === null ? null : { lease: lease.id, ...held }
}

function same(a: Told, b: Told): boolean {
  return a.lease === b.lease && a.epoch === b.epoch && a.busy.size === b.busy.size && [...a.busy].every((slot) => b.busy.has(slot))
}
