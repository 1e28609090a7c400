// Promises: the one table that the benches measure with: the accounts of the ledger example, about 120 bytes a row; its rows by number,
// the same from PostgreSQL and from here.
import type { ColumnMapping, ColumnType, Mapping, TableMapping } from '../src/model/mapping.ts'
import type { Row, RowPut } from '../src/model/row.ts'

export const ACCOUNTS = 'public.accounts'

export const ACCOUNTS_SQL = `
  create table public.accounts (
    id bigint primary key,
    owner text not null,
    currency varchar(3) not null default 'EUR',
    balance numeric(20, 4) not null default 0,
    entry_count integer not null default 0,
    last_op uuid,
    opened_at timestamptz not null default now()
  )`

export function fillSql(rows: number): string {
  return `
    insert into public.accounts (id, owner, balance, last_op, opened_at)
      select n, 'Kontoinhaber Nº ' || n || ' — 残高', n + 0.25, md5(n::text)::uuid,
             timestamptz '2026-01-01 00:00:00.123456+00' + n * interval '1 minute'
        from generate_series(1, ${rows}) as n`
}

const COLUMNS: readonly (readonly [string, ColumnType])[] = [
  ['id', 'int8'],
  ['owner', 'text'],
  ['currency', 'varchar'],
  ['balance', 'numeric'],
  ['entry_count', 'int4'],
  ['last_op', 'uuid'],
  ['opened_at', 'timestamptz'],
]

/** For benches without PostgreSQL; with it the mapping is read from the catalog. */
export function accountsMapping(migration: string): Mapping {
  const table: TableMapping = {
    name: ACCOUNTS,
    schema: 'public',
    table: 'accounts',
    relationOid: 1,
    primaryKeyName: 'accounts_pkey',
    columns: COLUMNS.map(([name, type]): ColumnMapping => columnOf(name, type)),
    partition: 0,
    clustering: [],
    checks: [],
    foreignKeys: [],
    uniqueKeys: [],
    targetName: 'accounts',
  }
  return { migration, keyType: 'int8', tables: [table] }
}

export function accountRow(id: number | string, balance: string): Row {
  return [
    String(id),
    `Kontoinhaber Nº ${id} — 残高`,
    'EUR',
    balance,
    '0',
    '7b3d9a50-3f1c-4a64-9d37-0d1c2f6b8e11',
    '2026-01-01 00:01:00.123456+00',
  ]
}

export function accountPuts(rows: number, stamp = 1n): RowPut[] {
  return Array.from({ length: rows }, (_, i) => ({
    table: ACCOUNTS,
    key: String(i + 1),
    clustering: [],
    values: accountRow(i + 1, `${i + 1}.2500`),
    stamp,
    mark: false,
  }))
}

function columnOf(name: string, type: ColumnType): ColumnMapping {
  return { name, type, typeOid: 0, typmod: -1, notNull: name !== 'last_op', defaultExpr: null, identity: null, generatedExpr: null }
}
