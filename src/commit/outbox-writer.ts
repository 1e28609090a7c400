// Promises: outbox sequences, dense from 1 within (group, lease), and entries that are sent until they are there or the lease ends,
// whatever becomes of their compare-and-set (protocols.md, Commit protocol 2; faults.md 52).
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import type { Head, OutboxEntry } from '../model/head.ts'
import type { LeaseId } from '../model/ids.ts'
import type { CommitContext } from './context.ts'
import { insist, OVER } from './insist.ts'

export interface Sequences {
  /** The next unused sequence, used up by this call. */
  take(lease: LeaseHandle, group: number): number
  /** Next unused by group, for groups that were written. */
  next(lease: LeaseId): ReadonlyMap<number, number>
}

export function createSequences(): Sequences {
  const leases = new Map<LeaseId, { readonly handle: LeaseHandle; readonly next: Map<number, number> }>()
  return {
    take(lease, group) {
      let of = leases.get(lease.id)
      if (of === undefined) {
        // A new lease: those that are over send nothing any more, so their counters go.
        for (const [id, { handle }] of leases) if (!handle.holds()) leases.delete(id)
        of = { handle: lease, next: new Map() }
        leases.set(lease.id, of)
      }
      const sequence = of.next.get(group) ?? 1
      of.next.set(group, sequence + 1)
      return sequence
    },
    next: (lease) => new Map(leases.get(lease)?.next),
  }
}

/** The entry of the transaction that `head` names: the committer's or a helper's, they are equal. */
export function entryOf(address: AggregateAddress, head: Head): OutboxEntry {
  return {
    key: address.key,
    slot: address.slot,
    tenure: head.tenure,
    version: head.version,
    txnId: head.txnId,
    prev: head.prev,
    changes: head.redo,
  }
}

/** False: the lease ended first, and the entry may be there or not. */
export async function appendUntilThere(
  ctx: CommitContext,
  lease: LeaseHandle,
  at: { readonly group: number; readonly sequence: number },
  entry: OutboxEntry,
): Promise<boolean> {
  if (!ctx.sendsEntries()) return lease.holds()
  const outbox = { group: at.group, lease: lease.id }
  return (await insist(ctx, lease, 'append of an entry', () => ctx.target.appendEntry(outbox, at.sequence, entry))) !== OVER
}
