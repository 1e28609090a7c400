// Promises: outbox sequences, dense from 1 within (group, lease), at most entriesInFlightMax of them under way at once, and entries
// that are sent until they are there or the lease ends, whatever becomes of their compare-and-set (protocols.md, Commit protocol 2;
// faults.md 52).
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import type { Head, OutboxEntry } from '../model/head.ts'
import type { LeaseId, SlotId } from '../model/ids.ts'
import type { CommitContext } from './context.ts'
import { insist, OVER, pause } from './insist.ts'
import type { CommitLimits } from './limits.ts'

export interface Sequences {
  /**
   * The next unused sequence, used up by this call, whose entry is under way from now on; null: too many are. Whoever takes one sends
   * its entry, by `appendUntilThere`.
   */
  take(lease: LeaseHandle, group: number, slot: SlotId): number | null
  /** The entry of one sequence is there. */
  there(lease: LeaseId, group: number): void
  /** What became of one entry is known. */
  settled(lease: LeaseId, group: number, sequence: number): void
  /** Next unused by group, for groups that were written. */
  next(lease: LeaseId): ReadonlyMap<number, number>
  /** Sequences that were taken and are not settled, with their slots, by group. */
  undecided(lease: LeaseId): ReadonlyMap<number, ReadonlyMap<number, SlotId>>
}

interface Group {
  next: number
  underWay: number
  readonly undecided: Map<number, SlotId>
}

export function createSequences({ entriesInFlightMax }: Pick<CommitLimits, 'entriesInFlightMax'>): Sequences {
  const leases = new Map<LeaseId, { readonly handle: LeaseHandle; readonly groups: Map<number, Group> }>()
  return {
    take(lease, group, slot) {
      let of = leases.get(lease.id)
      if (of === undefined) {
        // A new lease: those that are over send nothing any more, so their counters go.
        for (const [id, { handle }] of leases) if (!handle.holds()) leases.delete(id)
        of = { handle: lease, groups: new Map() }
        leases.set(lease.id, of)
      }
      let at = of.groups.get(group)
      if (at === undefined) {
        at = { next: 1, underWay: 0, undecided: new Map() }
        of.groups.set(group, at)
      }
      if (at.underWay >= entriesInFlightMax) return null
      at.underWay++
      at.undecided.set(at.next, slot)
      return at.next++
    },
    there(lease, group) {
      const at = leases.get(lease)?.groups.get(group)
      if (at !== undefined) at.underWay--
    },
    settled(lease, group, sequence) {
      leases.get(lease)?.groups.get(group)?.undecided.delete(sequence)
    },
    undecided: (lease) =>
      new Map(
        [...(leases.get(lease)?.groups ?? [])]
          .filter(([, { undecided }]) => undecided.size > 0)
          .map(([group, { undecided }]) => [group, new Map(undecided)]),
      ),
    next: (lease) => new Map([...(leases.get(lease)?.groups ?? [])].map(([group, { next }]) => [group, next])),
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
  const outbox = { group: at.group, lease: lease.id }
  // Without an answer it may never be there: it stays under way, as long as its lease.
  if (ctx.sendsEntries()) {
    const done = await insist(ctx, lease, 'append of an entry', () => ctx.target.appendEntry(outbox, at.sequence, entry))
    if (done === OVER) return false
  }
  ctx.sequences.there(lease.id, at.group)
  return lease.holds()
}

/** For who must finish a transaction whoever waits: a sequence as soon as there is room. Null: the lease ended first. */
export async function sequenceWhenRoom(ctx: CommitContext, lease: LeaseHandle, { group, slot }: AggregateAddress): Promise<number | null> {
  for (let tries = 0; lease.holds(); tries++) {
    const sequence = ctx.sequences.take(lease, group, slot)
    if (sequence !== null) return sequence
    await pause(ctx, tries)
  }
  return null
}
