// Promises: what the forward sync and the backfill ask of the source. Implemented by src/source over PostgreSQL.
import type { SourceTransaction } from './change.ts'
import type { Lsn } from './ids.ts'
import type { TableMapping, TableName } from './mapping.ts'
import type { Row } from './row.ts'

export interface SlotPoint {
  /** Every backfilled row is stamped with it. */
  readonly consistentPoint: Lsn
  /** Name of the exported snapshot; dies with the connection that made it. */
  readonly snapshot: string
}

export interface SlotState {
  readonly confirmedFlushLsn: Lsn
  readonly active: boolean
  /** pg_replication_slots.wal_status: reserved, extended, unreserved, lost. */
  readonly walStatus: string
  readonly safeWalSizeBytes: number | null
}

/** Key ranges of one table, cut by the primary key; `from` exclusive, `to` inclusive; null is open. Texts of the key columns. */
export interface KeyRange {
  readonly table: TableName
  readonly from: readonly string[] | null
  readonly to: readonly string[] | null
}

export interface ChangeStream {
  /** Committed transactions after the confirmed position, in commit order. Keepalives are answered inside. */
  transactions(signal: AbortSignal): AsyncIterable<SourceTransaction>
  /** INV-3: call it only when the target durably holds everything before it. */
  acknowledge(lsn: Lsn): void
  /** The newest position the server has told of, transactions or not: lag is known while nothing is written. */
  serverLsn(): Lsn
  close(): Promise<void>
}

export interface SnapshotReader {
  /** Rows of a range in key order, in batches, raw text in mapping order. Whoever stops before the last batch closes the reader. */
  rows(range: KeyRange, batchRows: number, signal: AbortSignal): AsyncIterable<readonly Row[]>
  close(): Promise<void>
}

export interface Source {
  systemIdentifier(): Promise<{ readonly systemIdentifier: string; readonly timeline: number }>
  /** Creates publication and slot, exports the snapshot, and keeps the connection that holds it until `release`. */
  createSlot(): Promise<SlotPoint & { release(): Promise<void> }>
  slotState(): Promise<SlotState | null>
  dropSlot(): Promise<void>
  stream(): Promise<ChangeStream>
  /** Readers at the exported snapshot; without one, at a snapshot of their own (a resumed range). */
  snapshotReader(snapshot: string | null): Promise<SnapshotReader>
  /** Cuts a table into about `ranges` ranges of equal size from the planner's statistics and an index scan. */
  keyRanges(table: TableMapping, ranges: number): Promise<readonly KeyRange[]>
  estimatedRows(table: TableMapping): Promise<number>
  currentWalLsn(): Promise<Lsn>
}
