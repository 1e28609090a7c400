// Promises: heads, entries, changes and rows as JSON text and back, exactly; a cell that is undefined stays undefined. Refuses by
// name what UTF-8 or PostgreSQL cannot hold (lone surrogates, NUL), so that no store replaces it silently (INV-12).
import { SwitchbackError } from '../model/errors.ts'
import type { Head, OutboxEntry } from '../model/head.ts'
import type { Cell, RowChange, RowPut, StampedRow } from '../model/row.ts'

/** Rows come in runs of one stamp, and a bigint costs more to print than to compare. */
const lastStamp = { value: 0n, text: '0' }

function stampText(stamp: bigint): string {
  if (stamp !== lastStamp.value) {
    lastStamp.value = stamp
    lastStamp.text = stamp.toString()
  }
  return lastStamp.text
}

function stampOf(text: string): bigint {
  if (text !== lastStamp.text) {
    lastStamp.text = text
    lastStamp.value = BigInt(text)
  }
  return lastStamp.value
}

/** JSON has no undefined: 0 stands for it, which no cell is. */
type WireCell = string | null | 0
type WireValues = readonly WireCell[] | null
type WireChange = readonly [table: string, clustering: readonly string[], values: WireValues]
export type WireRow = readonly [table: string, key: string, clustering: readonly string[], values: WireValues, stamp: string, mark: 0 | 1]
export type WireHead = readonly [
  tenure: number,
  version: number,
  txnId: string,
  prev: string | null,
  redo: readonly WireChange[],
  lock: string | null,
  recent: readonly (readonly [number, string])[],
]
export type WireEntry = readonly [
  key: string,
  slot: number,
  tenure: number,
  version: number,
  txnId: string,
  prev: string | null,
  changes: readonly WireChange[],
]

const UNENCODABLE = /[\0\p{Surrogate}]/u

export function encodeChanges(changes: readonly RowChange[]): WireChange[] {
  return changes.map((change) => [change.table, change.clustering, wireValues(change.values)])
}

export function decodeChanges(wire: readonly WireChange[]): RowChange[] {
  return wire.map(([table, clustering, values]) => ({ table, clustering, values: cells(values) }))
}

export function encodeHead(head: Head): WireHead {
  const recent = head.recent.map((one) => [one.version, one.txnId] as const)
  return [head.tenure, head.version, head.txnId, head.prev, encodeChanges(head.redo), head.lock, recent]
}

export function decodeHead([tenure, version, txnId, prev, redo, lock, recent]: WireHead): Head {
  return { tenure, version, txnId, prev, redo: decodeChanges(redo), lock, recent: decodeRecent(recent) }
}

export function decodeRecent(recent: WireHead[6]): Head['recent'] {
  return recent.map(([version, txnId]) => ({ version, txnId }))
}

export function encodeEntry(entry: OutboxEntry): WireEntry {
  return [entry.key, entry.slot, entry.tenure, entry.version, entry.txnId, entry.prev, encodeChanges(entry.changes)]
}

export function decodeEntry([key, slot, tenure, version, txnId, prev, changes]: WireEntry): OutboxEntry {
  return { key, slot, tenure, version, txnId, prev, changes: decodeChanges(changes) }
}

export function encodeRow(row: RowPut | StampedRow): WireRow {
  return [row.table, row.key, row.clustering, wireValues(row.values), stampText(row.stamp), row.mark ? 1 : 0]
}

export function decodePut([table, key, clustering, values, stamp, mark]: WireRow): RowPut {
  return { table, key, clustering, values: cells(values), stamp: stampOf(stamp), mark: mark === 1 }
}

export function decodeRow(wire: WireRow): StampedRow {
  return decodePut(wire) as StampedRow // a target sends whole rows only
}

/** Throws TARGET_REFUSED where the text holds a NUL or a lone surrogate. */
export function checkText(text: string, operation: string): void {
  if (UNENCODABLE.test(text)) throw new SwitchbackError('TARGET_REFUSED', { operation, reason: 'a text with a NUL or a lone surrogate' })
}

/** Throws TARGET_REFUSED, by the name of the limit, where an entry's or a redo's JSON text is too large. Returns the text. */
export function boundedJson(value: unknown, maxBytes: number, operation: string): string {
  const text = JSON.stringify(value)
  // Beyond a third of the limit in units it may be above it in bytes.
  if (text.length * 3 > maxBytes) {
    const bytes = Buffer.byteLength(text, 'utf8')
    if (bytes > maxBytes)
      throw new SwitchbackError('TARGET_REFUSED', { operation, reason: `${bytes} bytes, above maxEntryBytes ${maxBytes}` })
  }
  return text
}

/** Puts' JSON texts, as arguments of one call. Throws TARGET_REFUSED by the name of the limit where one is too large, or of a text that no store holds. */
export function boundedRows(rows: readonly RowPut[], maxRowBytes: number): string {
  for (const row of rows) {
    // Beyond a third of the limit in units it may be above it in bytes.
    if (rowUnits(row) * 3 <= maxRowBytes) continue
    const bytes = rowBytes(row)
    if (bytes > maxRowBytes)
      throw new SwitchbackError('TARGET_REFUSED', {
        operation: `put ${row.table}`,
        reason: `${bytes} bytes, above maxRowBytes ${maxRowBytes}`,
      })
  }
  const text = JSON.stringify(rows.map(encodeRow))
  if (text.includes('\\u')) {
    for (const row of rows)
      for (const cell of [row.key, ...row.clustering, ...(row.values ?? [])]) checkText(cell ?? '', `put ${row.table}`)
  }
  return text.slice(1, -1)
}

function rowUnits(row: RowPut): number {
  let units = row.key.length
  for (const cell of row.clustering) units += cell.length
  if (row.values !== null) for (const cell of row.values) units += cell?.length ?? 0
  return units
}

/** UTF-8 bytes of a row's texts. */
export function rowBytes(row: RowPut): number {
  return [row.key, ...row.clustering, ...(row.values ?? [])].reduce((sum, cell) => sum + Buffer.byteLength(cell ?? '', 'utf8'), 0)
}

function wireValues(values: readonly (Cell | undefined)[] | null): WireValues {
  if (values === null) return null
  return values.includes(undefined) ? values.map((cell) => (cell === undefined ? 0 : cell)) : (values as readonly Cell[])
}

function cells(values: WireValues): readonly (Cell | undefined)[] | null {
  if (values === null) return null
  return values.includes(0) ? values.map((cell) => (cell === 0 ? undefined : cell)) : (values as readonly Cell[])
}
