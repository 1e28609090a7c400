// Promises: rows as DynamoDB items that a native client can read, and back exactly (INV-12).
//
// | Column type                         | Attribute                                                                      |
// |-------------------------------------|--------------------------------------------------------------------------------|
// | int2, int4, int8                    | N                                                                              |
// | bool                                | BOOL                                                                           |
// | bytea                               | B                                                                              |
// | text, varchar, bpchar, uuid         | S                                                                              |
// | numeric                             | S, PostgreSQL's text: N drops trailing zeros, stops at 38 digits, has no NaN   |
// | float4, float8                      | S, PostgreSQL's shortest exact text: N has no NaN, infinity or -0              |
// | date, time, timestamp, timestamptz, | S, PostgreSQL's text: microseconds, BC and infinity survive                    |
// | interval                            |                                                                                |
// | json, jsonb                         | S, PostgreSQL's text: a map would lose 1.10, key order and doubles of json     |
// | arrays                              | S, PostgreSQL's text: dimensions, bounds and null elements survive             |
// | null of any type                    | NULL                                                                           |
//
// Keys. HASH is the partition column under its own name. RANGE is the clustering column under its own name where there is one
// and its text is its only form (int2/4/8: N; text, varchar, uuid, date, time, timestamp, timestamptz, bytea as hex text: S);
// else the attribute `_sb_order` (clustering.ts), and the clustering columns are plain attributes beside it. DynamoDB has no
// empty key text: '' is written U+0001, and a key text that begins with U+0001 gets one more in front; order and exactness hold.
import { SwitchbackError } from '../../model/errors.ts'
import type { ColumnMapping, ColumnType, TableMapping } from '../../model/mapping.ts'
import type { Cell, RowKey, RowPut, StampedRow } from '../../model/row.ts'
import { clusteringTypes, decodeClustering, encodeClustering, isInteger } from '../clustering.ts'
import { checkText } from '../codec.ts'
import type { Attribute, Item } from './api.ts'

export const STAMP = '_sb_stamp'
export const MARK = '_sb_mark'
export const DELETED = '_sb_deleted'
export const ORDER = '_sb_order'
export const RESERVED_ATTRIBUTES: ReadonlySet<string> = new Set([STAMP, MARK, DELETED, ORDER])

/** DynamoDB's limits, bytes. */
export const ITEM_BYTES_MAX = 400 * 1024
const HASH_KEY_BYTES_MAX = 2048
const RANGE_KEY_BYTES_MAX = 1024

const OWN_RANGE_TYPES: ReadonlySet<ColumnType> = new Set<ColumnType>([
  'int2',
  'int4',
  'int8',
  'text',
  'varchar',
  'uuid',
  'date',
  'time',
  'timestamp',
  'timestamptz',
  'bytea',
])
const CANONICAL_INTEGER = /^(?:0|-?[1-9]\d{0,18})$/
const BYTEA_TEXT = /^\\x(?:[0-9a-f]{2})*$/
const EMPTY_KEY = '\u0001'

export interface KeyAttribute {
  readonly name: string
  readonly type: 'S' | 'N'
}

/** How a table's rows lie in DynamoDB. */
export interface Layout {
  readonly mapping: TableMapping
  readonly tableName: string
  readonly hash: KeyAttribute
  /** Null: the partition column is the whole key. */
  readonly range: KeyAttribute | null
  /** Index of the column that is the range key under its own name; -1 where none is. */
  readonly ownRange: number
  readonly types: readonly ColumnType[]
}

export function layoutOf(mapping: TableMapping, tableName: string): Layout {
  const types = clusteringTypes(mapping)
  const partition = mapping.columns[mapping.partition]!
  const own = types.length === 1 && OWN_RANGE_TYPES.has(types[0]!) ? mapping.clustering[0]! : -1
  const range: KeyAttribute | null =
    types.length === 0 ? null : own === -1 ? { name: ORDER, type: 'S' } : { name: mapping.columns[own]!.name, type: keyType(types[0]!) }
  return { mapping, tableName, hash: { name: partition.name, type: keyType(partition.type) }, range, ownRange: own, types }
}

/** The key attributes of a row. Throws TARGET_REFUSED where DynamoDB cannot hold them. */
export function keyItem(layout: Layout, row: Pick<RowKey, 'key' | 'clustering'>): Record<string, Attribute> {
  const item: Record<string, Attribute> = { [layout.hash.name]: keyAttribute(layout, layout.hash, row.key, HASH_KEY_BYTES_MAX) }
  if (row.clustering.length !== layout.types.length)
    throw refused(layout, `a key of ${row.clustering.length} clustering parts where the table has ${layout.types.length}`)
  if (layout.range !== null) item[layout.range.name] = rangeAttribute(layout, row.clustering)
  return item
}

export function rangeAttribute(layout: Layout, clustering: readonly string[]): Attribute {
  const text = layout.ownRange === -1 ? encodeClustering(layout.types, clustering) : clustering[0]!
  return keyAttribute(layout, layout.range!, text, RANGE_KEY_BYTES_MAX)
}

/** The attributes of a put that are not its key; undefined cells are left out. Throws TARGET_REFUSED. */
export function bodyItem(layout: Layout, row: RowPut): Record<string, Attribute> {
  const item: Record<string, Attribute> = { [STAMP]: { N: String(row.stamp) }, [MARK]: { BOOL: row.mark } }
  if (row.values === null) {
    item[DELETED] = { BOOL: true }
    return item
  }
  const { columns, partition } = layout.mapping
  if (row.values.length !== columns.length) throw refused(layout, `${row.values.length} values for ${columns.length} columns`)
  for (let i = 0; i < columns.length; i++) {
    const cell = row.values[i]
    if (cell === undefined) continue
    if (i !== partition && i !== layout.ownRange) {
      item[columns[i]!.name] = cellAttribute(columns[i]!, cell)
    } else if (cell !== (i === partition ? row.key : row.clustering[0])) {
      throw refused(layout, `the value of the key column ${columns[i]!.name} is not the key's own text`)
    }
  }
  return item
}

export function rowOf(layout: Layout, item: Item): StampedRow {
  const { mapping } = layout
  const key = keyText(item[layout.hash.name])
  const range = layout.range === null ? '' : keyText(item[layout.range.name])
  const clustering = layout.range === null ? [] : layout.ownRange === -1 ? decodeClustering(layout.types, range) : [range]
  const head = { table: mapping.name, key, clustering, stamp: BigInt(textOf(item[STAMP]) ?? '0'), mark: isTrue(item[MARK]) }
  if (isTrue(item[DELETED])) return { ...head, values: null }
  const values = mapping.columns.map((column, i) => {
    if (i === mapping.partition) return key
    if (i === layout.ownRange) return range
    return cellOf(column, item[column.name])
  })
  return { ...head, values }
}

/** DynamoDB's size of an item: UTF-8 of names and texts, raw bytes of B, numbers about half their digits; rounded up here. */
export function itemBytes(item: Item): number {
  let bytes = 100
  for (const name in item) {
    const value = item[name]!
    bytes += Buffer.byteLength(name, 'utf8')
    if ('S' in value) bytes += Buffer.byteLength(value.S, 'utf8')
    else if ('B' in value) bytes += (value.B.length * 3) / 4
    else bytes += 'N' in value ? value.N.length / 2 + 2 : 1
  }
  return Math.ceil(bytes)
}

/** A unit is at most three bytes: below a third of the limit nothing has to be measured. */
function itemUnits(item: Item): number {
  let units = 100
  for (const name in item) {
    const value = item[name]!
    units += name.length + ('S' in value ? value.S.length : 'N' in value ? value.N.length : 'B' in value ? value.B.length : 1)
  }
  return units
}

export function checkItemBytes(layout: Layout, item: Item): void {
  if (itemUnits(item) * 3 <= ITEM_BYTES_MAX) return
  const bytes = itemBytes(item)
  if (bytes > ITEM_BYTES_MAX) throw refused(layout, `${bytes} bytes, above maxRowBytes ${ITEM_BYTES_MAX}`)
}

export function cellAttribute(column: ColumnMapping, cell: Cell): Attribute {
  if (cell === null) return { NULL: true }
  const operation = `put ${column.name}`
  switch (column.type) {
    case 'int2':
    case 'int4':
    case 'int8':
      if (!CANONICAL_INTEGER.test(cell)) throw unfit(operation, column.type, cell)
      return { N: cell }
    case 'bool':
      if (cell !== 't' && cell !== 'f') throw unfit(operation, column.type, cell)
      return { BOOL: cell === 't' }
    case 'bytea':
      if (!BYTEA_TEXT.test(cell)) throw unfit(operation, column.type, cell)
      return { B: Buffer.from(cell.slice(2), 'hex').toString('base64') }
    default:
      checkText(cell, operation)
      return { S: cell }
  }
}

/** A missing attribute is null: a column that was added after the row was written. */
export function cellOf(column: ColumnMapping, value: Attribute | undefined): Cell {
  if (value === undefined || 'NULL' in value) return null
  if ('BOOL' in value) return value.BOOL ? 't' : 'f'
  if ('B' in value) return `\\x${Buffer.from(value.B, 'base64').toString('hex')}`
  const text = textOf(value)
  if (text === undefined)
    throw new SwitchbackError('TARGET_REFUSED', { operation: `read ${column.name}`, reason: 'an attribute type that is not ours' })
  return text
}

export function textOf(value: Attribute | undefined): string | undefined {
  if (value === undefined) return undefined
  return 'S' in value ? value.S : 'N' in value ? value.N : undefined
}

export function keyString(text: string): string {
  return text === '' || text.startsWith(EMPTY_KEY) ? EMPTY_KEY + text : text
}

function keyText(value: Attribute | undefined): string {
  const text = textOf(value) ?? ''
  return text.startsWith(EMPTY_KEY) ? text.slice(1) : text
}

function keyType(type: ColumnType): 'S' | 'N' {
  return isInteger(type) ? 'N' : 'S'
}

function keyAttribute(layout: Layout, attribute: KeyAttribute, text: string, bytesMax: number): Attribute {
  if (attribute.type === 'N') {
    if (!CANONICAL_INTEGER.test(text)) throw refused(layout, `"${text.slice(0, 40)}" is not a canonical integer key`)
    return { N: text }
  }
  checkText(text, `put ${layout.mapping.name}`)
  const stored = keyString(text)
  if (stored.length * 3 > bytesMax && Buffer.byteLength(stored, 'utf8') > bytesMax)
    throw refused(layout, `the key attribute ${attribute.name} is above ${bytesMax} bytes`)
  return { S: stored }
}

function isTrue(value: Attribute | undefined): boolean {
  return value !== undefined && 'BOOL' in value && value.BOOL
}

function refused(layout: Layout, reason: string): SwitchbackError {
  return new SwitchbackError('TARGET_REFUSED', { operation: `a row of ${layout.mapping.name}`, reason })
}

function unfit(operation: string, type: string, cell: string): SwitchbackError {
  return new SwitchbackError('TARGET_REFUSED', { operation, reason: `"${cell.slice(0, 40)}" is not a canonical ${type}` })
}
