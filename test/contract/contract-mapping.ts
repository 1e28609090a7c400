// Promises: the tables that the target contract is tested over, and short ways to write heads, entries and puts for them.
import type { Head, OutboxEntry } from '../../src/model/head.ts'
import { type ColumnType, type KeyType, type Mapping, SCALAR_TYPES, type TableMapping } from '../../src/model/mapping.ts'
import type { Cell, RowPut, StampedRow } from '../../src/model/row.ts'
import { mappedColumn, mappedTable } from '../support/mapped-table.ts'

export const EVERY_TYPE: readonly ColumnType[] = [...SCALAR_TYPES, 'int4[]', 'text[]', 'numeric[]']

export function contractMapping(migration: string, keyType: KeyType = 'int8'): Mapping {
  return {
    migration,
    keyType,
    tables: [
      table(
        'wide',
        keyType,
        EVERY_TYPE.map((type, i) => [`c${i}`, type] as const),
      ),
      table(
        'numbered',
        keyType,
        [
          ['n', 'int8'],
          ['body', 'text'],
          ['extra', 'text'],
        ],
        ['n'],
      ),
      table(
        'named',
        keyType,
        [
          ['name', 'text'],
          ['body', 'text'],
        ],
        ['name'],
      ),
      table(
        'hashed',
        keyType,
        [
          ['digest', 'bytea'],
          ['body', 'text'],
        ],
        ['digest'],
      ),
      table(
        'amounts',
        keyType,
        [
          ['amount', 'numeric'],
          ['body', 'text'],
        ],
        ['amount'],
      ),
      table(
        'deep',
        keyType,
        [
          ['b', 'text'],
          ['a', 'int4'],
          ['flag', 'bool'],
          ['body', 'text'],
        ],
        ['a', 'b', 'flag'],
      ),
    ],
  }
}

function table(
  name: string,
  keyType: KeyType,
  columns: readonly (readonly [string, ColumnType])[],
  clustering: readonly string[] = [],
): TableMapping {
  const all = [['id', keyType] as const, ...columns].map(([column, type]) => mappedColumn(column, type, { notNull: false }))
  return mappedTable(name, all, { clustering: clustering.map((column) => all.findIndex((one) => one.name === column)) })
}

export function headAt(tenure: number, version: number, txnId: string, more: Partial<Head> = {}): Head {
  return { tenure, version, txnId, prev: null, redo: [], lock: null, recent: [{ version, txnId }], ...more }
}

export function entryOf(key: string, version: number, more: Partial<OutboxEntry> = {}): OutboxEntry {
  return { key, slot: 7, tenure: 3, version, txnId: `t-${key}-${version}`, prev: null, changes: [], ...more }
}

/** A put of `numbered`: id, n, then the values of body and extra; null for both deletes. */
export function numbered(
  key: string,
  n: number | string,
  stamp: number,
  values: readonly [body: Cell | undefined, extra: Cell | undefined] | null,
  mark = false,
): RowPut {
  const text = String(n)
  return {
    table: 'public.numbered',
    key,
    clustering: [text],
    values: values === null ? null : [key, text, ...values],
    stamp: BigInt(stamp),
    mark,
  }
}

/** The row as it is stored once the put, with all its cells, has taken effect. */
export function storedAs(put: RowPut): StampedRow {
  return put as StampedRow
}
