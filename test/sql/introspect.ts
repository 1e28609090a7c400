// Promises: a mapping and a catalog of a test database, read the short way.
import type pg from 'pg'
import type { Catalog, CatalogFunction, CatalogRelation } from '../../src/model/catalog.ts'
import type { ColumnType, ForeignKey, KeyType, Mapping, TableMapping } from '../../src/model/mapping.ts'

const ACTIONS = { a: 'no action', r: 'restrict', c: 'cascade', n: 'set null', d: 'set default' } as const

interface Constraint {
  readonly name: string
  readonly type: string
  readonly columns: number[]
  readonly ref: string | null
  readonly refcolumns: number[] | null
  readonly del: keyof typeof ACTIONS
  readonly upd: keyof typeof ACTIONS
  readonly def: string
}

/** `tables` is each table's name and its partition column. */
export async function mappingOf(client: pg.Client, tables: Readonly<Record<string, string>>): Promise<Mapping> {
  const mapped: TableMapping[] = []
  for (const [name, partition] of Object.entries(tables)) mapped.push(await tableMapping(client, name, partition))
  const first = mapped[0]!
  return { migration: 'test', keyType: first.columns[first.partition]!.type as KeyType, tables: mapped }
}

async function tableMapping(client: pg.Client, name: string, partition: string): Promise<TableMapping> {
  const { rows: columns } = await client.query(
    `select attname as name, typname as type, atttypid::int4 as oid, atttypmod as typmod, attnotnull as notnull, attidentity as identity,
            attgenerated as generated, pg_get_expr(adbin, adrelid) as expr
       from pg_attribute join pg_type t on t.oid = atttypid left join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [name],
  )
  const { rows: constraints } = await client.query<Constraint>(
    `select conname as name, contype as type, (select array_agg(k - 1) from unnest(conkey) k) as columns,
            confrelid::regclass::text as ref, (select array_agg(k - 1) from unnest(confkey) k) as refcolumns,
            confdeltype as del, confupdtype as upd, pg_get_constraintdef(oid) as def
       from pg_constraint where conrelid = $1::regclass order by oid`,
    [name],
  )
  const primary = constraints.find((one) => one.type === 'p')!
  const at = columns.findIndex((column) => column.name === partition)
  return {
    name: `public.${name}`,
    schema: 'public',
    table: name,
    relationOid: 0,
    primaryKeyName: primary.name,
    columns: columns.map((column) => ({
      name: column.name,
      type: (column.type.startsWith('_') ? `${column.type.slice(1)}[]` : column.type) as ColumnType,
      typeOid: column.oid,
      typmod: column.typmod,
      notNull: column.notnull,
      defaultExpr: column.generated === '' ? column.expr : null,
      identity: column.identity === 'a' ? 'always' : column.identity === 'd' ? 'by default' : null,
      generatedExpr: column.generated === '' ? null : column.expr,
    })),
    partition: at,
    clustering: primary.columns.filter((index) => index !== at),
    checks: constraints
      .filter((one) => one.type === 'c')
      .map((one) => ({ name: one.name, expr: one.def.replace(/^CHECK \((.*)\)$/s, '$1') })),
    foreignKeys: constraints
      .filter((one) => one.type === 'f')
      .map(
        (one): ForeignKey => ({
          name: one.name,
          columns: one.columns,
          references: `public.${one.ref}`,
          referencedColumns: one.refcolumns!,
          onDelete: ACTIONS[one.del],
          onUpdate: ACTIONS[one.upd],
        }),
      ),
    uniqueKeys: constraints.filter((one) => one.type === 'u').map((one) => ({ name: one.name, columns: one.columns })),
    targetName: name,
  }
}

/** Reach is given by hand: `reaches` for views and functions over mapped tables. */
export async function catalogOf(
  client: pg.Client,
  mapping: Mapping,
  reaches: Readonly<Record<string, readonly string[] | 'unknown'>> = {},
): Promise<Catalog> {
  const { rows: relations } = await client.query(
    `select c.oid::int4 as oid, nspname as schema, relname as name, relkind as kind from pg_class c join pg_namespace n on n.oid = relnamespace
      where nspname not like 'pg\\_%' and nspname <> 'information_schema'`,
  )
  const { rows: functions } = await client.query(
    `select nspname as schema, proname as name, provolatile as volatility from pg_proc p join pg_namespace n on n.oid = pronamespace
      where nspname not in ('pg_catalog', 'information_schema')`,
  )
  const { rows: pure } = await client.query(
    `select proname as name from pg_proc where pronamespace = 'pg_catalog'::regnamespace group by 1 having bool_and(provolatile <> 'v')`,
  )
  const map = new Map<string, CatalogRelation>()
  for (const one of relations) {
    const name = `${one.schema}.${one.name}`
    const own = mapping.tables.some((table) => table.name === name)
    map.set(name, { ...one, reach: own ? [name] : (reaches[name] ?? []) })
  }
  const byName = new Map<string, CatalogFunction[]>()
  for (const one of functions) {
    const name = `${one.schema}.${one.name}`
    const volatility = ({ i: 'immutable', s: 'stable', v: 'volatile' } as const)[one.volatility as 'i' | 's' | 'v']
    const list = byName.get(name) ?? []
    list.push({ schema: one.schema, name: one.name, builtin: false, volatility, reach: reaches[`${name}()`] ?? 'unknown' })
    byName.set(name, list)
  }
  return { digest: '1', relations: map, functions: byName, pureBuiltins: new Set(pure.map((one) => one.name)) }
}
