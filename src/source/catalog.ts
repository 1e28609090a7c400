// Promises: the mapping as the live catalog has it. What cannot be mapped at all is refused here; what can, but should not be, is
// preflight's.
import type pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'
import {
  type CheckConstraint,
  type ColumnMapping,
  type ColumnType,
  type ForeignKey,
  KEY_TYPES,
  type KeyType,
  type Mapping,
  SCALAR_TYPES,
  type TableMapping,
  type UniqueKey,
} from '../model/mapping.ts'
import type { MigrationConfig, TableConfig } from '../model/migration.ts'

interface RelationRow {
  readonly oid: number
  readonly columns: readonly ColumnRow[]
  readonly constraints: readonly ConstraintRow[]
  readonly unique_indexes: readonly UniqueIndexRow[]
}

interface ColumnRow {
  readonly number: number
  readonly name: string
  readonly type: string
  readonly type_schema: string
  readonly element: string | null
  readonly oid: number
  readonly typmod: number
  readonly not_null: boolean
  readonly default: string | null
  readonly identity: string
  readonly generated: string
}

interface ConstraintRow {
  readonly name: string
  readonly type: string
  readonly columns: readonly number[] | null
  readonly expr: string
  readonly references: string | null
  readonly referenced_columns: readonly number[] | null
  readonly on_delete: string
  readonly on_update: string
}

interface UniqueIndexRow {
  readonly name: string
  readonly columns: readonly number[]
}

/** @throws TABLE_UNKNOWN, PARTITION_KEY_UNKNOWN, PARTITION_KEY_NOT_IN_PRIMARY_KEY, PARTITION_KEY_TYPE, KEY_TYPES_DIFFER, COLUMN_TYPE_UNSUPPORTED. */
export async function readMapping(client: pg.ClientBase, config: MigrationConfig): Promise<Mapping> {
  const names = Object.keys(config.tables)
  const relations = new Map<string, RelationRow>()
  for (const name of names) relations.set(name, await readRelation(client, name))
  const tables = names.map((name) => tableMapping(name, relations.get(name)!, config.tables[name]!, relations, config))
  const keyTypes = new Set(tables.map((table) => keyFamily(table.columns[table.partition]!.type as KeyType)))
  if (keyTypes.size > 1) {
    throw new SwitchbackError('KEY_TYPES_DIFFER', {
      tables: tables.map((table) => `${table.name}: ${table.columns[table.partition]!.type}`),
    })
  }
  return { migration: config.migration, keyType: widest(tables), tables }
}

async function readRelation(client: pg.ClientBase, name: string): Promise<RelationRow> {
  const [schema, table] = name.split('.') as [string, string]
  const { rows } = await client.query<{ relation: string }>(RELATION, [schema, table])
  if (rows[0] === undefined) throw new SwitchbackError('TABLE_UNKNOWN', { table: name })
  return JSON.parse(rows[0].relation) as RelationRow
}

function tableMapping(
  name: string,
  relation: RelationRow,
  config: TableConfig,
  relations: ReadonlyMap<string, RelationRow>,
  migration: MigrationConfig,
): TableMapping {
  const [schema, table] = name.split('.') as [string, string]
  const columns = relation.columns.map((column) => columnMapping(name, column))
  const indexOf = (number: number) => relation.columns.findIndex((column) => column.number === number)
  const partition = columns.findIndex((column) => column.name === config.partitionKey)
  if (partition < 0) throw new SwitchbackError('PARTITION_KEY_UNKNOWN', { table: name, column: config.partitionKey })
  const type = columns[partition]!.type
  if (!(KEY_TYPES as readonly string[]).includes(type))
    throw new SwitchbackError('PARTITION_KEY_TYPE', { table: name, column: config.partitionKey, type })
  const primary = relation.constraints.find((constraint) => constraint.type === 'p')
  const primaryColumns = (primary?.columns ?? []).map(indexOf)
  if (primary === undefined || !primaryColumns.includes(partition)) {
    throw new SwitchbackError('PARTITION_KEY_NOT_IN_PRIMARY_KEY', { table: name, column: config.partitionKey })
  }
  return {
    name,
    schema,
    table,
    relationOid: relation.oid,
    primaryKeyName: primary.name,
    columns,
    partition,
    clustering: primaryColumns.filter((column) => column !== partition),
    checks: relation.constraints.filter((constraint) => constraint.type === 'c').map(checkOf),
    foreignKeys: innerForeignKeys(relation, partition, indexOf, relations, migration),
    uniqueKeys: innerUniqueKeys(relation, partition, indexOf, primary.name),
    targetName: config.targetName ?? table,
  }
}

function columnMapping(table: string, column: ColumnRow): ColumnMapping {
  const scalar = column.element ?? column.type
  if (column.type_schema !== 'pg_catalog' || !(SCALAR_TYPES as readonly string[]).includes(scalar)) {
    throw new SwitchbackError('COLUMN_TYPE_UNSUPPORTED', { table, column: column.name, type: `${column.type_schema}.${column.type}` })
  }
  return {
    name: column.name,
    type: (column.element === null ? scalar : `${scalar}[]`) as ColumnType,
    typeOid: column.oid,
    typmod: column.typmod,
    notNull: column.not_null,
    defaultExpr: column.generated === '' ? column.default : null,
    identity: column.identity === 'a' ? 'always' : column.identity === 'd' ? 'by default' : null,
    generatedExpr: column.generated === '' ? null : column.default,
  }
}

function checkOf({ name, expr }: ConstraintRow): CheckConstraint {
  return { name, expr }
}

/** Both ends in one aggregate: the partition keys of both tables correspond. */
function innerForeignKeys(
  relation: RelationRow,
  partition: number,
  indexOf: (number: number) => number,
  relations: ReadonlyMap<string, RelationRow>,
  config: MigrationConfig,
): ForeignKey[] {
  return relation.constraints.flatMap((constraint) => {
    const other = constraint.references === null ? undefined : relations.get(constraint.references)
    if (constraint.type !== 'f' || other === undefined) return []
    const columns = (constraint.columns ?? []).map(indexOf)
    const referencedColumns = (constraint.referenced_columns ?? []).map((number) =>
      other.columns.findIndex((column) => column.number === number),
    )
    const at = columns.indexOf(partition)
    const referenced = other.columns[referencedColumns[at] ?? -1]
    if (referenced?.name !== config.tables[constraint.references!]!.partitionKey) return []
    return [
      {
        name: constraint.name,
        columns,
        references: constraint.references!,
        referencedColumns,
        onDelete: ACTIONS[constraint.on_delete]!,
        onUpdate: ACTIONS[constraint.on_update]!,
      },
    ]
  })
}

function innerUniqueKeys(
  relation: RelationRow,
  partition: number,
  indexOf: (number: number) => number,
  primaryKeyName: string,
): UniqueKey[] {
  return relation.unique_indexes
    .map(({ name, columns }) => ({ name, columns: columns.map(indexOf) }))
    .filter((unique) => unique.name !== primaryKeyName && unique.columns.includes(partition))
}

const ACTIONS: Readonly<Record<string, ForeignKey['onDelete']>> = {
  a: 'no action',
  r: 'restrict',
  c: 'cascade',
  n: 'set null',
  d: 'set default',
}

function keyFamily(type: KeyType): string {
  return type.startsWith('int') ? 'int' : type === 'uuid' ? 'uuid' : 'text'
}

/** The widest type of a family canonicalises the others' values as well. */
function widest(tables: readonly TableMapping[]): KeyType {
  const types = tables.map((table) => table.columns[table.partition]!.type as KeyType)
  for (const type of ['int8', 'int4', 'int2', 'text', 'varchar', 'uuid'] as const) if (types.includes(type)) return type
  return types[0]!
}

const RELATION = `
select json_build_object(
  'oid', c.oid::bigint,
  'columns', (
    select coalesce(json_agg(json_build_object(
      'number', a.attnum, 'name', a.attname,
      'type', t.typname, 'type_schema', n.nspname,
      'element', case when t.typcategory = 'A' then e.typname end,
      'oid', a.atttypid::bigint, 'typmod', a.atttypmod, 'not_null', a.attnotnull,
      'default', pg_get_expr(d.adbin, d.adrelid), 'identity', a.attidentity, 'generated', a.attgenerated) order by a.attnum), '[]')
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    join pg_namespace n on n.oid = t.typnamespace
    left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'constraints', (
    select coalesce(json_agg(json_build_object(
      'name', k.conname, 'type', k.contype, 'columns', k.conkey,
      'expr', case when k.contype = 'c' then pg_get_expr(k.conbin, k.conrelid) else '' end,
      'references', (select rn.nspname || '.' || rc.relname from pg_class rc join pg_namespace rn on rn.oid = rc.relnamespace where rc.oid = k.confrelid),
      'referenced_columns', k.confkey, 'on_delete', k.confdeltype, 'on_update', k.confupdtype) order by k.conname), '[]')
    from pg_constraint k where k.conrelid = c.oid),
  'unique_indexes', (
    select coalesce(json_agg(json_build_object(
      'name', ic.relname, 'columns', (select json_agg(k order by ord) from unnest(i.indkey::int[]) with ordinality as x(k, ord) where ord <= i.indnkeyatts)) order by ic.relname), '[]')
    from pg_index i join pg_class ic on ic.oid = i.indexrelid
    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null)
)::text as relation
from pg_class c join pg_namespace s on s.oid = c.relnamespace
where s.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')`
