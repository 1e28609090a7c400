// Promises: the narrow waist. What Switchback asks of a store; everything above is written once over it. One contract suite
// (test/contract/target-contract.ts) that every target passes, unknown outcomes, late duplicates and stale tenures included.
//
// Outcomes. A call that resolves is durable and visible to every later strongest-level read. A call that throws
// TARGET_THROTTLED or TARGET_REFUSED has not taken effect and never will. Anything else (TARGET_UNKNOWN, or an error without
// a code) may have taken effect, or may yet, any time later. No adapter retries a compare-and-set inside its driver: that
// would make a refusal uncertain.
//
// What the callers promise in turn, and a target may build on:
// - Of one outbox at most ENTRIES_IN_FLIGHT_MAX entries (head.ts) are under way at once. So below the last entry that is there fewer are
//   missing than a bucket holds, and no bucket below it is empty but those that were deleted.
// - An outbox is read from a durable position on, or from later: never across a deleted bucket. A deleted bucket gets no entry any more.
// - A put with undefined cells is sent when every earlier put of that row has resolved, or in one call with them: it builds on what they
//   left, and where an earlier one came after it, its cells would be lost.
import type { BucketSums } from '../lib/digest.ts'
import type { Head, OutboxEntry, OutboxId } from './head.ts'
import type { AggregateKey } from './key.ts'
import type { Mapping, TableName } from './mapping.ts'
import type { BucketChoice } from './parity.ts'
import type { RowKey, RowPut, StampedRow } from './row.ts'

export interface TargetCapabilities {
  readonly name: string
  /** Largest redo or outbox entry, bytes of its encoded text. */
  readonly maxEntryBytes: number
  readonly maxRowBytes: number
  /** What the strongest read level is called there. */
  readonly strongestRead: string
}

export type CasResult = { readonly won: true } | { readonly won: false; readonly head: Head | null }

export interface RowRange {
  readonly table: TableName
  readonly key: AggregateKey
  /** At most so many rows, tombstones included. */
  readonly limit: number
  /** Clustering texts after which the range begins (exclusive), in the target's own order. */
  readonly after?: readonly string[]
}

export interface RowPage {
  readonly rows: readonly StampedRow[]
  /** Pass as `after` for the next page; null at the end. */
  readonly next: readonly string[] | null
}

export interface OutboxPage {
  readonly entries: readonly { readonly sequence: number; readonly entry: OutboxEntry }[]
  /** False: there may be more after the last one. */
  readonly end: boolean
}

export interface ScanOptions {
  readonly table: TableName
  /** The table's rows are divided into `segments` disjoint parts, by key; an aggregate lies in one part. */
  readonly segment: number
  readonly segments: number
  readonly signal?: AbortSignal
}

/** Says who the target belongs to (protocols.md, Durable control). */
export interface ControlItem {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly epoch: number
}

export interface Target {
  readonly capabilities: TargetCapabilities

  /** Makes the tables of the mapping, heads, outbox and control item where they are missing. Idempotent. */
  prepare(mapping: Mapping): Promise<void>
  /** Removes what Switchback made for itself; `rows` also the mapped tables. Idempotent. */
  remove(mapping: Mapping, what: { readonly rows: boolean }): Promise<void>

  /** Strongest level. Null: the aggregate never had a head. */
  readHead(key: AggregateKey): Promise<Head | null>
  /** Replaces the head if it is still `expected` (tenure, version, txnId and lock compared; null: there is none). */
  compareAndSetHead(key: AggregateKey, expected: Head | null, next: Head): Promise<CasResult>

  /** Idempotent: the same sequence always carries the same entry. Once it resolves, every later readOutbox finds it. */
  appendEntry(outbox: OutboxId, sequence: number, entry: OutboxEntry): Promise<void>
  /**
   * Entries with a sequence above `after`, in order, strongest level. Reads forward by bucket, past holes: `after` may lie anywhere,
   * and nothing may be left of the bucket that it lies in. The first bucket after that one that has no entry may be taken for the end;
   * `end: true` says that no entry above the last one was there when the call began, for an outbox is called final by it. A page that
   * is not the end has at least one entry.
   */
  readOutbox(outbox: OutboxId, after: number, limit: number): Promise<OutboxPage>
  /** Deletes a whole bucket (head.ts, bucketOf). Idempotent. */
  deleteBucket(outbox: OutboxId, bucket: number): Promise<void>

  /**
   * INV-4: puts each row unless the stored one has the same or a higher stamp; undefined cells keep the stored ones; null values
   * leave a tombstone. Resolves when all are durable, so that a put with undefined cells sent after it finds theirs. Several puts of
   * one row in one call take effect by stamp, whatever their order. A put with undefined cells whose row is not there, or deleted by an
   * older stamp, is TARGET_REFUSED, never made up; sent again once the row has come, it is taken. If it throws, any of them may have
   * taken effect; sending all again is harmless.
   */
  putRows(rows: readonly RowPut[]): Promise<void>
  /** Strongest level, in the order asked; undefined where there is neither row nor tombstone. */
  readRows(keys: readonly RowKey[]): Promise<readonly (StampedRow | undefined)[]>
  /** Rows of one aggregate and table in the target's clustering order (see TableOrder in docs), tombstones included. Strongest level. */
  readRange(range: RowRange): Promise<RowPage>
  /** All rows, tombstones included, in batches; no order, not a snapshot. */
  scanRows(options: ScanOptions): AsyncIterable<readonly StampedRow[]>
  /**
   * Where a store can digest its own rows: sums and counts of the digests of all rows by bucket (model/parity.ts), tombstones left out,
   * the same as a scan gives. Without it parity scans.
   */
  bucketSums?(
    table: TableName,
    choice: BucketChoice,
    options: { readonly progress: (rows: number) => void; readonly signal: AbortSignal },
  ): Promise<BucketSums>
  /** Forgets tombstones whose stamp is below the given one for good. */
  purgeTombstones(table: TableName, below: bigint, signal?: AbortSignal): Promise<number>

  /** Strongest level. Null: none was written, for which nothing need be prepared. */
  readControl(): Promise<ControlItem | null>
  /** Compare-and-set of the control item. */
  writeControl(expected: ControlItem | null, next: ControlItem): Promise<boolean>

  close(): Promise<void>
}
