// Promises: the tables that the target contract is tested over, and short ways to write heads, entries and puts for them.
import type { Head, OutboxEntry } from '../../src/model/head.ts'
import {
  type ColumnMapping,
  type ColumnType,
  type KeyType,
  type Mapping,
  SCALAR_TYPES,
  type TableMapping,
} from '../../src/model/mapping.ts'
import type { Cell, RowPut, StampedRow } from '../../src/model/row.ts'

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
  const all = [['id', keyType] as const, ...columns].map(([column, type]) => columnOf(column, type))
  return {
    name: `public.${name}`,
    schema: 'public',
    table: name,
    relationOid: 1,
    primaryKeyName: `${name}_pkey`,
    columns: all,
    partition: 0,
    clustering: clustering.map((column) => all.findIndex((one) => one.name === column)),
    checks: [],
    foreignKeys: [],
    uniqueKeys: [],
    targetName: name,
  }
}

function columnOf(name: string, type: ColumnType): ColumnMapping {
  return { name, type, typeOid: 0, typmod: -1, notNull: false, defaultExpr: null, identity: null, generatedExpr: null }
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
