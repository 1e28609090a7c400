// Promises: the findings on each mapped table: what cannot be identified, round-tripped, guarded or kept whole is named by table.
import type pg from 'pg'
import { KEY_TYPES, SCALAR_TYPES } from '../model/mapping.ts'
import type { MigrationConfig, TableConfig } from '../model/migration.ts'
import { blocker, type Finding, note, warning } from './finding.ts'

const PUBLISHES_GENERATED = 180_000

interface Column {
  readonly number: number
  readonly name: string
  readonly type: string
  readonly type_schema: string
  readonly element: string | null
  readonly not_null: boolean
  readonly generated: string
  readonly identity: string
  readonly deterministic: boolean
}

interface Key {
  readonly name: string
  readonly columns: readonly number[]
  readonly primary: boolean
  readonly identity: boolean
  readonly immediate: boolean
  readonly partial: boolean
}

interface Reference {
  readonly name: string
  readonly other: string
  readonly columns: readonly number[]
  readonly other_columns: readonly string[]
  /** The mapped table is the one referenced. */
  readonly incoming: boolean
}

interface Relation {
  readonly kind: string
  readonly persistence: string
  readonly replica_identity: string
  readonly row_security: boolean
  readonly owner: boolean
  readonly rights: boolean
  readonly is_partition: boolean
  readonly parents: readonly string[] | null
  readonly children: readonly string[] | null
  readonly triggers: readonly { readonly name: string; readonly enabled: string }[] | null
  readonly exclusions: readonly string[] | null
  readonly columns: readonly Column[]
  readonly keys: readonly Key[]
  readonly references: readonly Reference[]
}

export async function tableFindings(
  client: pg.ClientBase,
  config: MigrationConfig,
  server: { readonly version: number },
): Promise<readonly Finding[]> {
  const found: Finding[] = []
  for (const [name, table] of Object.entries(config.tables)) {
    const [schema, relname] = name.split('.')
    const { rows } = await client.query<{ relation: string }>(RELATION, [schema ?? '', relname ?? ''])
    if (rows[0] === undefined) {
      found.push(blocker('TABLE_UNKNOWN', `There is no table ${name}.`, 'Correct the name (schema.table, as the catalog has it).'))
      continue
    }
    const relation = JSON.parse(rows[0].relation) as Relation
    found.push(...kindFindings(name, relation))
    if (relation.kind !== 'r' && relation.kind !== 'p') continue
    found.push(
      ...keyFindings(name, table, relation),
      ...columnFindings(name, relation, server.version),
      ...guardFindings(name, relation),
      ...leavingFindings(name, table, relation, config),
    )
  }
  return found
}

function kindFindings(name: string, relation: Relation): Finding[] {
  if (relation.kind !== 'r' && relation.kind !== 'p') {
    return [blocker('NOT_A_TABLE', `${name} is not an ordinary or partitioned table.`, 'Map the table behind it.')]
  }
  const found: Finding[] = []
  if (relation.persistence !== 'p') {
    found.push(blocker('TABLE_NOT_LOGGED', `Table ${name} is unlogged or temporary: it writes no WAL.`, `alter table ${name} set logged`))
  }
  if (relation.is_partition) {
    found.push(
      blocker(
        'TABLE_IS_PARTITION',
        `Table ${name} is a partition of ${(relation.parents ?? []).join(', ')}.`,
        'Map the partitioned table itself.',
      ),
    )
  } else if (relation.parents !== null) {
    found.push(
      blocker('INHERITANCE', `Table ${name} inherits from ${relation.parents.join(', ')}.`, 'Take it out of the inheritance tree.'),
    )
  }
  if (relation.kind === 'r' && relation.children !== null) {
    found.push(
      blocker(
        'INHERITANCE',
        `Tables inherit from ${name}: ${relation.children.join(', ')}.`,
        'Use partitions, or take them out of the inheritance tree.',
      ),
    )
  }
  return found
}

/** An update of a key column outside the identity sends no old key (protocols.md, Forward sync; faults.md 64). */
function keyFindings(name: string, config: TableConfig, relation: Relation): Finding[] {
  const key = relation.columns.find((column) => column.name === config.partitionKey)
  if (key === undefined) {
    return [blocker('PARTITION_KEY_UNKNOWN', `Table ${name} has no column ${config.partitionKey}.`, 'Correct partitionKey.')]
  }
  const found = keyColumnFindings(name, key)
  const primary = relation.keys.find((each) => each.primary)
  if (primary === undefined) {
    found.push(blocker('NO_PRIMARY_KEY', `Table ${name} has no primary key.`, 'Give it one that contains the partition key.'))
  } else if (!primary.columns.includes(key.number)) {
    found.push(
      blocker(
        'PARTITION_KEY_NOT_IN_PRIMARY_KEY',
        `The primary key of ${name} does not contain the partition key ${key.name}.`,
        'Make a primary key that contains it.',
      ),
    )
  }
  if (primary !== undefined && !primary.immediate) {
    found.push(
      blocker(
        'PRIMARY_KEY_DEFERRABLE',
        `The primary key of ${name} is deferrable.`,
        'Make it not deferrable: it identifies no row meanwhile.',
      ),
    )
  }
  const remedy = `alter table ${name} replica identity default (the primary key), or full`
  if (relation.replica_identity === 'n') {
    found.push(blocker('REPLICA_IDENTITY_UNUSABLE', `The replica identity of ${name} is NOTHING.`, remedy))
  } else if (relation.replica_identity === 'i') {
    const index = relation.keys.find((each) => each.identity)
    const lacking = (primary?.columns ?? [key.number]).filter((column) => index?.columns.includes(column) !== true)
    if (lacking.length > 0) {
      const names = lacking.map((number) => relation.columns.find((column) => column.number === number)?.name ?? number).join(', ')
      found.push(blocker('REPLICA_IDENTITY_UNUSABLE', `The replica identity of ${name} lacks ${names}.`, remedy))
    }
  }
  return found
}

function keyColumnFindings(name: string, key: Column): Finding[] {
  const found: Finding[] = []
  if (key.type_schema !== 'pg_catalog' || !(KEY_TYPES as readonly string[]).includes(key.type)) {
    found.push(
      blocker(
        'PARTITION_KEY_TYPE',
        `The partition key ${name}.${key.name} is of type ${key.type}, whose equal values can have several texts.`,
        'Choose a column of type smallint, integer, bigint, uuid, text or varchar.',
      ),
    )
  }
  if (!key.deterministic) {
    found.push(
      blocker(
        'PARTITION_KEY_COLLATION',
        `The partition key ${name}.${key.name} has a nondeterministic collation: equal values can have several texts.`,
        'Give it a deterministic one.',
      ),
    )
  }
  if (key.generated !== '') {
    found.push(
      blocker(
        'PARTITION_KEY_GENERATED',
        `The partition key ${name}.${key.name} is a generated column, which the guard cannot see.`,
        'Choose another one.',
      ),
    )
  }
  return found
}

function columnFindings(name: string, relation: Relation, version: number): Finding[] {
  return relation.columns.flatMap((column) => {
    const at = `${name}.${column.name}`
    const found: Finding[] = []
    const scalar = column.element ?? column.type
    if (column.type_schema !== 'pg_catalog' || !(SCALAR_TYPES as readonly string[]).includes(scalar)) {
      found.push(
        blocker(
          'COLUMN_TYPE_UNSUPPORTED',
          `Column ${at} is of type ${column.type_schema}.${column.type}, which does not round-trip.`,
          "Leave the table out, or change the column's type before the move.",
        ),
      )
    }
    if (column.generated === 's' && version < PUBLISHES_GENERATED) {
      found.push(
        blocker(
          'GENERATED_NOT_PUBLISHED',
          `Column ${at} is generated, and PostgreSQL before 18 does not publish such columns.`,
          'Upgrade, or drop the expression.',
        ),
      )
    } else if (column.generated === 's') {
      found.push(
        note('COLUMN_GENERATED', `Column ${at} is generated.`, 'It is copied to the target, and computed by PostgreSQL on the way back.'),
      )
    } else if (column.generated === 'v') {
      found.push(
        blocker('COLUMN_VIRTUAL', `Column ${at} is a virtual generated column, which no stream carries.`, 'Make it stored, or drop it.'),
      )
    }
    if (column.identity !== '') {
      found.push(
        note(
          'COLUMN_IDENTITY',
          `Column ${at} is an identity column.`,
          'Its next value is always asked of PostgreSQL, also for keys that have moved.',
        ),
      )
    }
    const inKey = relation.keys.some((key) => key.primary && key.columns.includes(column.number))
    if (inKey && ['numeric', 'bpchar', 'float4', 'float8', 'interval', 'jsonb'].includes(scalar)) {
      found.push(
        blocker(
          'KEY_COLUMN_TYPE',
          `Primary key column ${at} is of type ${scalar}, whose equal values can have several texts.`,
          'Change its type before the move.',
        ),
      )
    }
    return found
  })
}

function guardFindings(name: string, relation: Relation): Finding[] {
  const found: Finding[] = []
  if (relation.row_security) {
    found.push(
      blocker(
        'ROW_LEVEL_SECURITY',
        `Table ${name} has row-level security.`,
        'It is not kept on the target: disable it, or leave the table out.',
      ),
    )
  }
  for (const trigger of relation.triggers ?? []) {
    found.push(
      trigger.enabled === 'O'
        ? note(
            'USER_TRIGGER',
            `Trigger ${trigger.name} on ${name} does not fire for keys that have moved.`,
            'Move what it does into the application if it matters there.',
          )
        : blocker(
            'TRIGGER_FIRES_ALWAYS',
            `Trigger ${trigger.name} on ${name} is enabled ALWAYS or REPLICA: it would fire again for what is written back.`,
            `alter table ${name} enable trigger ${trigger.name}`,
          ),
    )
  }
  if (!relation.owner) {
    found.push(
      blocker(
        'NOT_OWNER',
        `The role does not own ${name}: publication and guard need that.`,
        `Run as the owner of ${name}, or as a superuser.`,
      ),
    )
  }
  if (!relation.rights)
    found.push(blocker('MISSING_RIGHTS', `The role may not select, insert, update and delete in ${name}.`, `grant all on ${name} to it.`))
  return found
}

/** Keys that reach beyond one aggregate are not enforced once its rows have moved. */
function leavingFindings(name: string, table: TableConfig, relation: Relation, config: MigrationConfig): Finding[] {
  const found: Finding[] = []
  const partition = relation.columns.find((column) => column.name === table.partitionKey)?.number ?? 0
  for (const reference of relation.references) {
    const other = config.tables[reference.other]
    if (!leaves(reference, partition, other)) continue
    if ((table.acceptForeignKeys ?? []).includes(reference.name) || (other?.acceptForeignKeys ?? []).includes(reference.name)) {
      found.push(
        warning(
          'FOREIGN_KEY_ACCEPTED',
          `Foreign key ${reference.name} (${name}, ${reference.other}) is not enforced for moved keys.`,
          'A drain looks for orphans.',
        ),
      )
      continue
    }
    found.push(
      blocker(
        'FOREIGN_KEY_LEAVES',
        `Foreign key ${reference.name} ${reference.incoming ? `from ${reference.other} to ${name}` : `from ${name} to ${reference.other}`} leaves the aggregate.`,
        `Drop it, map both tables with corresponding keys, or accept it (acceptForeignKeys: ['${reference.name}']).`,
      ),
    )
  }
  for (const key of relation.keys) {
    if (key.primary) continue
    if (!key.immediate) {
      found.push(
        blocker(
          'UNIQUE_KEY_DEFERRABLE',
          `Unique key ${key.name} of ${name} is deferrable: it is not checked for what is written back.`,
          'Make it not deferrable.',
        ),
      )
    }
    if (key.partial || !key.columns.includes(partition)) {
      found.push(
        blocker(
          'UNIQUE_KEY_LEAVES',
          key.partial
            ? `Unique index ${key.name} of ${name} has a predicate or an expression, which the target does not enforce.`
            : `Unique key ${key.name} of ${name} leaves the aggregate: it does not contain the partition key.`,
          'Drop it, or make it a plain unique key that contains the partition key.',
        ),
      )
    }
  }
  for (const exclusion of relation.exclusions ?? []) {
    found.push(
      blocker(
        'EXCLUSION_CONSTRAINT',
        `Exclusion constraint ${exclusion} of ${name} is not enforced on the target.`,
        'Drop it, or leave the table out.',
      ),
    )
  }
  return found
}

function leaves(reference: Reference, partition: number, other: TableConfig | undefined): boolean {
  const at = reference.columns.indexOf(partition)
  return other === undefined || at < 0 || reference.other_columns[at] !== other.partitionKey
}

const RELATION = `
select json_build_object(
  'kind', c.relkind, 'persistence', c.relpersistence, 'replica_identity', c.relreplident, 'row_security', c.relrowsecurity,
  'owner', pg_has_role(session_user, c.relowner, 'usage'),
  'rights', (select bool_and(has_table_privilege(c.oid, p)) from unnest(array['select', 'insert', 'update', 'delete']) p),
  'is_partition', c.relispartition,
  'parents', (select json_agg(h.inhparent::regclass::text) from pg_inherits h where h.inhrelid = c.oid),
  'children', (select json_agg(h.inhrelid::regclass::text) from pg_inherits h where h.inhparent = c.oid),
  'triggers', (select json_agg(json_build_object('name', t.tgname, 'enabled', t.tgenabled) order by t.tgname) from pg_trigger t
    join pg_proc f on f.oid = t.tgfoid
    where t.tgrelid in (select c.oid union select r.relid from pg_partition_tree(c.oid) r)
      and not t.tgisinternal and t.tgenabled <> 'D'
      -- A leaf's clone may have been set to fire otherwise than its root's.
      and (t.tgparentid = 0 or t.tgenabled <> (select p.tgenabled from pg_trigger p where p.oid = t.tgparentid))
      and f.pronamespace is distinct from to_regnamespace('switchback')),
  'exclusions', (select json_agg(k.conname order by k.conname) from pg_constraint k where k.conrelid = c.oid and k.contype = 'x'),
  'columns', (
    select coalesce(json_agg(json_build_object(
      'number', a.attnum, 'name', a.attname, 'type', t.typname, 'type_schema', n.nspname,
      'element', case when t.typcategory = 'A' then e.typname end, 'not_null', a.attnotnull,
      'generated', a.attgenerated, 'identity', a.attidentity, 'deterministic', coalesce(l.collisdeterministic, true)) order by a.attnum), '[]')
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    join pg_namespace n on n.oid = t.typnamespace
    left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    left join pg_collation l on l.oid = a.attcollation
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'keys', (
    select coalesce(json_agg(json_build_object(
      'name', ic.relname, 'primary', i.indisprimary, 'identity', i.indisreplident, 'immediate', i.indimmediate,
      'partial', i.indpred is not null or i.indexprs is not null,
      'columns', (select json_agg(k order by ord) from unnest(i.indkey::int[]) with ordinality as x(k, ord) where ord <= i.indnkeyatts))
      order by ic.relname), '[]')
    from pg_index i join pg_class ic on ic.oid = i.indexrelid where i.indrelid = c.oid and i.indisunique and not i.indisexclusion),
  'references', (
    select coalesce(json_agg(json_build_object(
      'name', k.conname, 'incoming', k.conrelid <> c.oid,
      'other', (select rn.nspname || '.' || rc.relname from pg_class rc join pg_namespace rn on rn.oid = rc.relnamespace
                 where rc.oid = case when k.conrelid = c.oid then k.confrelid else k.conrelid end),
      'columns', case when k.conrelid = c.oid then k.conkey else k.confkey end,
      'other_columns', (select json_agg(a.attname order by ord)
        from unnest(case when k.conrelid = c.oid then k.confkey else k.conkey end) with ordinality as x(number, ord)
        join pg_attribute a on a.attnum = x.number and a.attrelid = case when k.conrelid = c.oid then k.confrelid else k.conrelid end))
      order by k.conname), '[]')
    from pg_constraint k
    where k.contype = 'f' and k.conparentid = 0 and c.oid in (k.conrelid, k.confrelid))
)::text as relation
from pg_class c join pg_namespace s on s.oid = c.relnamespace
where s.nspname = $1 and c.relname = $2`
