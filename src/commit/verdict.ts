// Promises: what an entry of an outbox is, told from plain data (protocols.md, Reverse sync, "What an entry is"). Pure: the reverse
// sync, the drain of a flip and the simulator's checker all judge by these two functions.
import type { Head, OutboxEntry } from '../model/head.ts'
import type { Owner, Tenure } from '../model/ids.ts'

/**
 * Where an entry stands against what PostgreSQL has recorded. `old`: of a tenure that is over, discarded and counted. `double`: that
 * version is applied. `wait`: beyond the next (INV-6). `next`: the one to be judged.
 */
export type Standing = 'old' | 'double' | 'wait' | 'next'

export interface SlotNow {
  readonly owner: Owner
  readonly tenure: Tenure
}

export function standing(
  entry: Pick<OutboxEntry, 'tenure' | 'version'>,
  /** The slot's ownership row as it is now. */
  slot: SlotNow,
  /** Version recorded for the entry's aggregate in the entry's tenure; 0 for none. */
  appliedVersion: number,
): Standing {
  if (slot.owner !== 'target' || slot.tenure !== entry.tenure) return 'old'
  if (appliedVersion >= entry.version) return 'double'
  return appliedVersion === entry.version - 1 ? 'next' : 'wait'
}

/** `committed`: apply it. `void`: its compare-and-set lost, or can no longer count; passed and counted. `wait`: not yet known. */
export type Verdict = 'committed' | 'void' | 'wait'

export interface VerdictEvidence {
  readonly entry: OutboxEntry
  /** The aggregate's head at the strongest level, read after the entry was. */
  readonly head: Head | null
  /** The lease that wrote the entry is over, and its outbox had been read to its end after that. */
  readonly leaseOver: boolean
  /** Entries of the same aggregate seen in any outbox: one of the version after it names its predecessor. */
  readonly others: Iterable<Pick<OutboxEntry, 'key' | 'tenure' | 'version' | 'prev'>>
}

/** Whether an entry that stands as `next` was committed, from the head of its aggregate. */
export function verdict({ entry, head, leaseOver, others }: VerdictEvidence): Verdict {
  // A late compare-and-set of a lease that is over may still land; whoever meets it helps with an entry of its own.
  if (head === null || head.tenure < entry.tenure) return leaseOver ? 'void' : 'wait'
  // Unreachable for a `next` entry of the slot's present tenure; nothing can be told from another tenure's head.
  if (head.tenure > entry.tenure) return 'wait'
  if (head.version < entry.version) return leaseOver ? 'void' : 'wait'
  if (head.version === entry.version) return head.txnId === entry.txnId ? 'committed' : 'void'
  if (head.version === entry.version + 1 && head.prev !== null) return head.prev === entry.txnId ? 'committed' : 'void'
  const named = head.recent.find((one) => one.version === entry.version)
  if (named !== undefined) return named.txnId === entry.txnId ? 'committed' : 'void'
  // Further back than the head remembers. An entry of the next version proves only what it names: a void one has the same `prev`
  // as the committed one of its version, because both started from the head that stood.
  for (const other of others) {
    if (other.key === entry.key && other.tenure === entry.tenure && other.version === entry.version + 1 && other.prev === entry.txnId)
      return 'committed'
  }
  return 'wait'
}
