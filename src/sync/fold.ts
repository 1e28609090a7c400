// Promises: one committed transaction of the source as what it leaves behind, row by row. Pure.
// The last change of a row wins, a key change is a delete and an insert, deletes come first (faults.md 18, 48). Unchanged TOAST
// cells stay undefined unless the transaction itself, or the old row of an identity FULL, says what they are (faults.md 17, 64).
import type { SourceChange, StreamRow } from '../model/change.ts'
import { SwitchbackError } from '../model/errors.ts'
import { formatLsn, type Lsn } from '../model/ids.ts'
import { type AggregateKey, canonicalKey } from '../model/key.ts'
import type { Mapping, TableMapping, TableName } from '../model/mapping.ts'
import type { Cell } from '../model/row.ts'

export interface FoldedRow {
  /** Names the row among all mapped tables. */
  readonly id: string
  readonly table: TableName
  readonly key: AggregateKey
  readonly clustering: readonly string[]
  readonly values: StreamRow | null
}

export interface FoldedTransaction {
  /** Deletes first. */
  readonly rows: readonly FoldedRow[]
  /** Tables emptied by it; `rows` holds what was written to them afterwards. */
  readonly truncated: readonly TableName[]
  readonly messages: readonly { readonly prefix: string; readonly content: string }[]
}

interface TableShape {
  readonly table: TableMapping
  readonly index: number
  /** Partition column first, then the clustering ones. */
  readonly keyColumns: readonly number[]
}

export interface Folder {
  fold(changes: readonly SourceChange[], commitLsn: Lsn): FoldedTransaction
  rowId(table: TableName, key: AggregateKey, clustering: readonly string[]): string
}

export function createFolder(mapping: Mapping): Folder {
  const shapes = new Map<TableName, TableShape>()
  mapping.tables.forEach((table, index) => {
    shapes.set(table.name, { table, index, keyColumns: [table.partition, ...table.clustering] })
  })
  return {
    fold: (changes, commitLsn) => foldChanges(mapping, shapes, changes, commitLsn),
    rowId: (table, key, clustering) => idOf(shapes.get(table)!.index, key, clustering),
  }
}

function foldChanges(
  mapping: Mapping,
  shapes: ReadonlyMap<TableName, TableShape>,
  changes: readonly SourceChange[],
  commitLsn: Lsn,
): FoldedTransaction {
  const rows = new Map<string, FoldedRow>()
  const truncated = new Set<TableName>()
  const messages: { prefix: string; content: string }[] = []
  const shapeOf = (name: TableName, row: StreamRow | null): TableShape => {
    const shape = shapes.get(name)
    if (shape === undefined || (row !== null && row.length !== shape.table.columns.length)) {
      throw new SwitchbackError('STREAM_TABLE_UNKNOWN', { table: name, columns: row?.length ?? 0, lsn: formatLsn(commitLsn) })
    }
    return shape
  }
  for (const change of changes) {
    switch (change.kind) {
      case 'insert': {
        const row = addressed(mapping, shapeOf(change.table, change.after), change.after, null, commitLsn)
        rows.set(row.id, row)
        break
      }
      case 'delete': {
        const row = addressed(mapping, shapeOf(change.table, change.before), change.before, null, commitLsn)
        rows.set(row.id, { ...row, values: null })
        break
      }
      case 'update':
        foldUpdate(mapping, shapeOf(change.table, change.after), rows, change.before, change.after, commitLsn)
        break
      case 'truncate':
        for (const name of change.tables) {
          shapeOf(name, null)
          truncated.add(name)
          for (const [id, row] of rows) if (row.table === name) rows.delete(id)
        }
        break
      case 'message':
        messages.push({ prefix: change.prefix, content: change.content })
        break
    }
  }
  return { rows: deletesFirst(rows), truncated: [...truncated], messages }
}

function foldUpdate(
  mapping: Mapping,
  shape: TableShape,
  rows: Map<string, FoldedRow>,
  before: StreamRow | null,
  after: StreamRow,
  commitLsn: Lsn,
): void {
  const now = addressed(mapping, shape, after, before, commitLsn)
  const old = before === null ? now : addressed(mapping, shape, before, after, commitLsn)
  let values = filled(now.values!, before)
  values = filled(values, rows.get(old.id)?.values ?? null)
  if (old.id !== now.id) {
    const missing = values.indexOf(undefined)
    if (missing >= 0) {
      const column = shape.table.columns[missing]!.name
      throw new SwitchbackError('KEY_CHANGE_UNCHANGED_TOAST', { table: shape.table.name, column, lsn: formatLsn(commitLsn) })
    }
    rows.set(old.id, { ...old, values: null })
  }
  rows.set(now.id, values === now.values ? now : { ...now, values })
}

/** Key columns that `row` leaves out (unchanged TOAST) come from the other image of the same row. */
function addressed(mapping: Mapping, shape: TableShape, row: StreamRow, other: StreamRow | null, commitLsn: Lsn): FoldedRow {
  const { table, keyColumns } = shape
  const clustering: string[] = new Array(keyColumns.length - 1)
  let key = ''
  for (let i = 0; i < keyColumns.length; i++) {
    const column = keyColumns[i]!
    let cell: Cell | undefined = row[column]
    if (cell === undefined && other !== null) cell = other[column]
    if (cell === undefined || cell === null) {
      throw new SwitchbackError('ROW_KEY_MISSING', { table: table.name, column: table.columns[column]!.name, lsn: formatLsn(commitLsn) })
    }
    if (i === 0) key = canonicalKey(mapping.keyType, cell)
    else clustering[i - 1] = cell
  }
  return { id: idOf(shape.index, key, clustering), table: table.name, key, clustering, values: row }
}

/** Cells that are undefined taken from another image of the row, where that has them. */
export function filled(values: StreamRow, from: StreamRow | null): StreamRow {
  if (from === null || values.indexOf(undefined) < 0) return values
  return values.map((cell, i) => (cell === undefined ? from[i] : cell))
}

/** Lengths make it unambiguous whatever the texts hold. */
function idOf(tableIndex: number, key: AggregateKey, clustering: readonly string[]): string {
  let id = `${tableIndex}:${key.length}:${key}`
  for (const text of clustering) id += `${text.length}:${text}`
  return id
}

function deletesFirst(rows: ReadonlyMap<string, FoldedRow>): readonly FoldedRow[] {
  const all = [...rows.values()]
  if (!all.some((row) => row.values === null)) return all
  return [...all.filter((row) => row.values === null), ...all.filter((row) => row.values !== null)]
}
