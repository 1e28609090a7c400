// Promises: the head of an aggregate and the entries of an outbox, as protocols.md, "Commit protocol on the target", has them.
import type { LeaseId, SlotId, Tenure, TxnId } from './ids.ts'
import type { AggregateKey } from './key.ts'
import type { RowChange } from './row.ts'

/** How many of the last transactions a head remembers, newest last. */
export const RECENT_TRANSACTIONS = 16

export interface Head {
  readonly tenure: Tenure
  /** The number of committed transactions of this aggregate in this tenure: 1, 2, 3 ... (INV-6). */
  readonly version: number
  readonly txnId: TxnId
  /** The transaction before it in this tenure; null for version 1. */
  readonly prev: TxnId | null
  readonly redo: readonly RowChange[]
  /** Empty but for transactions that span aggregates. */
  readonly lock: TxnId | null
  readonly recent: readonly { readonly version: number; readonly txnId: TxnId }[]
}

/** An entry alone proves nothing: its compare-and-set may have lost. The reverse sync settles that. */
export interface OutboxEntry {
  readonly key: AggregateKey
  readonly slot: SlotId
  readonly tenure: Tenure
  readonly version: number
  readonly txnId: TxnId
  readonly prev: TxnId | null
  readonly changes: readonly RowChange[]
}

/** One stream of entries: dense sequence numbers 1, 2, 3 ... within (group, lease). */
export interface OutboxId {
  readonly group: number
  readonly lease: LeaseId
}

/** Entries a bucket: the unit that is deleted whole. */
export const ENTRIES_PER_BUCKET = 512

/**
 * Entries of one outbox that may be under way at once: sent, or about to be, and not known to be there. Fewer than a bucket holds, so
 * that no hole ever covers a whole bucket: a target may take a bucket without entries for the end of the outbox.
 */
export const ENTRIES_IN_FLIGHT_MAX = ENTRIES_PER_BUCKET - 1

export function bucketOf(sequence: number, entriesPerBucket = ENTRIES_PER_BUCKET): number {
  return Math.floor((sequence - 1) / entriesPerBucket)
}

/** The version as a transaction of `tenure` sees it: a head of an older tenure counts as version 0. */
export function versionIn(head: Head | null, tenure: Tenure): number {
  return head !== null && head.tenure === tenure ? head.version : 0
}

export function sameHead(a: Head | null, b: Head | null): boolean {
  if (a === null || b === null) return a === b
  return a.tenure === b.tenure && a.version === b.version && a.txnId === b.txnId && a.lock === b.lock
}
