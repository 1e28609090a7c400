// Promises: rows and their changes, in the one form that all stores and both syncs exchange: PostgreSQL's own text of each
// column, in the mapping's column order. Text is exact for every mapped type (INV-12).
import type { Stamp } from './ids.ts'
import type { AggregateKey } from './key.ts'
import type { TableName } from './mapping.ts'

/** A column's value as PostgreSQL prints it under the pinned settings; null is SQL's null. */
export type Cell = string | null

/** A whole row, in the mapping's column order. */
export type Row = readonly Cell[]

export interface RowKey {
  readonly table: TableName
  readonly key: AggregateKey
  /** Canonical texts of the clustering columns, in key order. */
  readonly clustering: readonly string[]
}

/**
 * What a transaction does to one row of its aggregate; several changes of one row are folded into the last.
 * `values` null deletes. A cell that is undefined stays as it is on the target (an unchanged TOAST column of the forward
 * sync; a change made on the target always has all cells).
 */
export interface RowChange {
  readonly table: TableName
  readonly clustering: readonly string[]
  readonly values: readonly (Cell | undefined)[] | null
}

/** A change on its way to the target's rows. */
export interface RowPut extends RowKey {
  readonly values: readonly (Cell | undefined)[] | null
  readonly stamp: Stamp
  /** Its transaction wrote several rows: shown only when that transaction is known to be finished. */
  readonly mark: boolean
}

/** A row as the target holds it. `values` null is a tombstone. */
export interface StampedRow extends RowKey {
  readonly values: Row | null
  readonly stamp: Stamp
  readonly mark: boolean
}

export function sameRow(a: { table: string; clustering: readonly string[] }, b: { table: string; clustering: readonly string[] }): boolean {
  return a.table === b.table && a.clustering.length === b.clustering.length && a.clustering.every((text, i) => text === b.clustering[i])
}
