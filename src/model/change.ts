// Promises: what the source's stream says, one committed transaction at a time, raw text values.
import type { Lsn } from './ids.ts'
import type { TableName } from './mapping.ts'
import type { Cell } from './row.ts'

/** Cells in the mapping's column order; undefined: an unchanged TOAST column, which the stream leaves out. */
export type StreamRow = readonly (Cell | undefined)[]

export type SourceChange =
  | { readonly kind: 'insert'; readonly table: TableName; readonly after: StreamRow }
  /** `before` is there if a column of the replica identity changed (or the identity is FULL): key cells, others undefined. */
  | { readonly kind: 'update'; readonly table: TableName; readonly before: StreamRow | null; readonly after: StreamRow }
  | { readonly kind: 'delete'; readonly table: TableName; readonly before: StreamRow }
  | { readonly kind: 'truncate'; readonly tables: readonly TableName[] }
  /** A transactional message of Switchback's own: the flip's marker, the heartbeat. */
  | { readonly kind: 'message'; readonly prefix: string; readonly content: string }

export interface SourceTransaction {
  /** Start of the commit record: finds the tenure. */
  readonly commitLsn: Lsn
  /** End of the commit record: stamps, positions, acknowledgement. */
  readonly endLsn: Lsn
  readonly committedAtMs: number
  /** Name of the replication origin that wrote it; null: an application. */
  readonly origin: string | null
  readonly changes: readonly SourceChange[]
}
