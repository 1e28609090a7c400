// Promises: read-only, by orders of its own and before a rollback. It is in force when every lease has acked or is over and writers in
// PostgreSQL from before have ended (protocols.md, Read-only). A rollback with a backlog sets the flag first, waits until the reverse
// sync has applied what was written, while reads go on, and only then makes ordinary short flips.
import type { FlipParts } from '../flip/parts.ts'
import { awaitAcks, awaitWriters } from '../flip/waits.ts'
import { untilDeadline } from '../lib/in-time.ts'
import type { LeaseRow } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Epoch, SlotId } from '../model/ids.ts'

const IN_FORCE_WITHIN_MS = 30_000
/** Above it the order fails and the slots stay read-only: an applier that does not move is for people. */
const BACKLOG_WAIT_MAX_MS = 30 * 60_000

export interface InForce {
  readonly epoch: Epoch
  readonly leases: readonly LeaseRow[]
}

/** @throws READ_ONLY_PENDING: the flag is written, not in force everywhere. */
export async function setReadOnly(flips: FlipParts, slots: readonly SlotId[], readOnly: boolean, signal: AbortSignal): Promise<InForce> {
  using deadline = untilDeadline(flips.clock, IN_FORCE_WITHIN_MS, signal)
  const epoch = await flips.control.setReadOnly(slots, readOnly, signal)
  let waiting: string[] = []
  const leases = await awaitAcks(flips, epoch, deadline.signal, (rows) => {
    waiting = rows.map((row) => row.gateway)
  })
  if (leases === null) throw new SwitchbackError('READ_ONLY_PENDING', { waitingFor: waiting })
  if (!readOnly) return { epoch, leases }
  const writers = await awaitWriters(flips, leases, deadline.signal)
  if (writers.length > 0) throw new SwitchbackError('READ_ONLY_PENDING', { waitingFor: writers.map((writer) => `pid ${writer.pid}`) })
  return { epoch, leases }
}

/** What a rollback with `--read-only` does before its flips; printed by its dry run. */
export const READ_ONLY_FIRST = [
  'read-only: refuse writes of these keys (25006) at every gateway and in PostgreSQL, and wait until that is in force; reads go on',
  'backlog: wait until the reverse sync has applied everything that was written on the target, while reads go on',
] as const
export const READ_ONLY_LAST = 'writes: accept them again, on PostgreSQL'

export interface ReadOnlyFirst {
  /** Entries of these slots that were not applied yet when writes had ended. */
  readonly entriesApplied: number
  readonly backlogMs: number
}

/**
 * Slots whose aggregates are halted are not waited for: the flips leave them where they are, by name.
 * @throws READ_ONLY_PENDING, BACKLOG_PENDING: the slots stay read-only.
 */
export async function readOnlyFirst(
  flips: FlipParts,
  slots: { readonly all: readonly SlotId[]; readonly onTarget: readonly SlotId[] },
  onStep: (step: string) => Promise<void>,
  signal: AbortSignal,
): Promise<ReadOnlyFirst> {
  await onStep('stopping writes')
  const { leases } = await setReadOnly(flips, slots.all, true, signal)
  await onStep('read-only; the reverse sync applies what was written')
  const startedMs = flips.clock.monotonicMs()
  using deadline = untilDeadline(flips.clock, BACKLOG_WAIT_MAX_MS, signal)
  const report = await flips.drain(slots.onTarget, leases, deadline.signal)
  if (!report.drained && !signal.aborted)
    throw new SwitchbackError('BACKLOG_PENDING', {
      waitedMs: Math.round(flips.clock.monotonicMs() - startedMs),
      waitingFor: report.waitingFor,
    })
  return { entriesApplied: report.entriesApplied, backlogMs: Math.round(flips.clock.monotonicMs() - startedMs) }
}
