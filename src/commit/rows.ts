// Promises: the rows of one aggregate as of one version, the changes a transaction has made to them, and what a plan sees of both.
// Folding: the last change of a row counts, and deletes go before the rest (protocols.md, Commit protocol; faults.md 48).
import { assert } from '../lib/assert.ts'
import type { AggregateAddress } from '../model/executor.ts'
import type { Stamp } from '../model/ids.ts'
import type { TableName } from '../model/mapping.ts'
import type { AggregateRows, ReadRequest } from '../model/plan.ts'
import type { Row, RowChange, RowPut, StampedRow } from '../model/row.ts'

/** Rows of a table by clustering; null: known not to be there. */
interface TableState {
  complete: boolean
  readonly rows: Map<string, Row | null>
}

export interface AggregateState {
  readonly tables: Map<TableName, TableState>
  /** Approximate size in memory. */
  bytes: number
}

export type ChangeSet = Map<TableName, Map<string, RowChange>>

export function emptyState(): AggregateState {
  return { tables: new Map(), bytes: 0 }
}

/** A text of PostgreSQL holds no NUL, so the joined texts of one table's clustering columns are told apart. */
export function clusteringId(clustering: readonly string[]): string {
  return clustering.length === 1 ? (clustering[0] as string) : clustering.join('\u0000')
}

export function holdRow(state: AggregateState, table: TableName, clustering: readonly string[], row: Row | null): void {
  setRow(state, tableState(state, table), clusteringId(clustering), row)
}

export function holdRows(state: AggregateState, rows: readonly StampedRow[]): void {
  for (const row of rows) holdRow(state, row.table, row.clustering, row.values)
}

export function holdTable(state: AggregateState, table: TableName): void {
  tableState(state, table).complete = true
}

/** Whether everything asked for is held. */
export function covers(state: AggregateState, requests: readonly ReadRequest[]): boolean {
  for (const request of requests) {
    const table = state.tables.get(request.table)
    if (table === undefined) return false
    if (!table.complete && (request.kind === 'range' || !table.rows.has(clusteringId(request.clustering)))) return false
  }
  return true
}

/** Takes over what `other`, a state of the same version, holds and this one does not. */
export function absorb(state: AggregateState, other: AggregateState): void {
  for (const [name, from] of other.tables) {
    const to = tableState(state, name)
    for (const [id, row] of from.rows) if (!to.rows.has(id)) setRow(state, to, id, row)
    if (from.complete) to.complete = true
  }
}

/** The state after a transaction. Changes made on the target have all cells. */
export function advance(state: AggregateState, changes: readonly RowChange[]): void {
  for (const change of changes) holdRow(state, change.table, change.clustering, change.values as Row | null)
}

/** What a plan may look at. A look at what it has not asked for is a bug of the plan, and named as one. */
export function viewOf(state: AggregateState, changes: ChangeSet | null): AggregateRows {
  return {
    point(table, clustering) {
      const id = clusteringId(clustering)
      const own = changes?.get(table)?.get(id)
      if (own !== undefined) return (own.values as Row | null) ?? undefined
      const held = state.tables.get(table)
      const row = held?.rows.get(id)
      assert(row !== undefined || held?.complete, `a plan looked at a row of ${table} that it had not asked for`)
      return row ?? undefined
    },
    range(table) {
      const held = state.tables.get(table)
      assert(held?.complete, `a plan looked at the rows of ${table}, which it had not asked for`)
      const own = changes?.get(table)
      const rows: Row[] = []
      for (const [id, row] of held.rows) if (row !== null && !own?.has(id)) rows.push(row)
      if (own !== undefined) for (const change of own.values()) if (change.values !== null) rows.push(change.values as Row)
      return rows
    },
  }
}

export function foldInto(set: ChangeSet, changes: readonly RowChange[]): void {
  for (const change of changes) {
    let table = set.get(change.table)
    if (table === undefined) {
      table = new Map()
      set.set(change.table, table)
    }
    table.set(clusteringId(change.clustering), change)
  }
}

export function changeCount(set: ChangeSet): number {
  let count = 0
  for (const table of set.values()) count += table.size
  return count
}

/** In the order in which they are applied everywhere: deletes first, so that an inner unique key freed and taken again is no conflict. */
export function ordered(set: ChangeSet): RowChange[] {
  const deletes: RowChange[] = []
  const puts: RowChange[] = []
  for (const table of set.values()) for (const change of table.values()) (change.values === null ? deletes : puts).push(change)
  return deletes.length === 0 ? puts : deletes.concat(puts)
}

export function fold(changes: readonly RowChange[]): readonly RowChange[] {
  if (changes.length < 2) return changes
  const set: ChangeSet = new Map()
  foldInto(set, changes)
  return ordered(set)
}

export function stampOf(address: AggregateAddress, version: number): Stamp {
  return address.base + BigInt(version)
}

/** A row carries the mark if its transaction wrote several rows, also where only some of them are put now. */
export function putsOf(
  address: AggregateAddress,
  version: number,
  changes: readonly RowChange[],
  options: { readonly mark: boolean },
): RowPut[] {
  const stamp = stampOf(address, version)
  return changes.map(({ table, clustering, values }) => ({ table, key: address.key, clustering, values, stamp, mark: options.mark }))
}

const ROW_BYTES = 96

function setRow(state: AggregateState, table: TableState, id: string, row: Row | null): void {
  const before = table.rows.get(id)
  if (before !== undefined) state.bytes -= rowBytes(id, before)
  table.rows.set(id, row)
  state.bytes += rowBytes(id, row)
}

function rowBytes(id: string, row: Row | null): number {
  let bytes = ROW_BYTES + 2 * id.length
  if (row !== null) for (const cell of row) bytes += 2 * (cell?.length ?? 0) + 8
  return bytes
}

function tableState(state: AggregateState, name: TableName): TableState {
  let table = state.tables.get(name)
  if (table === undefined) {
    table = { complete: false, rows: new Map() }
    state.tables.set(name, table)
  }
  return table
}
