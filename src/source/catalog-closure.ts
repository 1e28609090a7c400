// Promises: which mapped tables each relation and function of the database reaches, by views, rules, triggers, inheritance, leaves and
// function bodies; 'unknown' where that cannot be told (faults.md 62). A body is searched for names: a name that reaches a mapped
// table makes the function reach it, dynamic SQL makes it unknown.
import type pg from 'pg'
import type { Catalog, CatalogFunction, CatalogRelation, Reach } from '../model/catalog.ts'
import type { Mapping } from '../model/mapping.ts'

interface RelationRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: string
}

interface FunctionRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly volatility: 'i' | 's' | 'v'
  readonly language: string
  readonly body: string
}

interface CatalogRows {
  readonly relations: readonly RelationRow[]
  readonly functions: readonly FunctionRow[]
  /** From relation or function to what it depends on: ['r' or 'f', oid, 'r' or 'f', oid]. */
  readonly edges: readonly (readonly [string, number, string, number])[]
  readonly pure_builtins: readonly string[]
  readonly volatile_builtins: readonly string[]
}

/** Built-in functions that run SQL or read tables given by name. */
const SQL_RUNNERS =
  /^(query_to_xml|table_to_xml|cursor_to_xml|schema_to_xml|database_to_xml|ts_stat$|ts_rewrite$|pg_logical_slot|pg_get_object)/

export async function readCatalog(client: pg.ClientBase, mapping: Mapping): Promise<Catalog> {
  const { rows } = await client.query<{ catalog: string; digest: string }>(
    `select (${CATALOG})::text as catalog, switchback.catalog_digest() as digest`,
  )
  const read = JSON.parse(rows[0]!.catalog) as CatalogRows
  const reach = closure(read, mapping)
  const relations = new Map<string, CatalogRelation>()
  for (const { oid, schema, name, kind } of read.relations) {
    relations.set(`${schema}.${name}`, { oid, schema, name, kind, reach: reach(`r${oid}`) })
  }
  const functions = new Map<string, CatalogFunction[]>()
  const add = (row: CatalogFunction) => {
    const key = `${row.schema}.${row.name}`
    functions.set(key, [...(functions.get(key) ?? []), row])
  }
  for (const { oid, schema, name, volatility } of read.functions) {
    add({ schema, name, builtin: false, volatility: VOLATILITY[volatility], reach: reach(`f${oid}`) })
  }
  for (const name of read.volatile_builtins) {
    add({ schema: 'pg_catalog', name, builtin: true, volatility: 'volatile', reach: SQL_RUNNERS.test(name) ? 'unknown' : [] })
  }
  return {
    digest: rows[0]!.digest,
    relations,
    functions,
    pureBuiltins: new Set(read.pure_builtins.filter((name) => !SQL_RUNNERS.test(name))),
  }
}

const VOLATILITY = { i: 'immutable', s: 'stable', v: 'volatile' } as const

/** Reach of each node: what its edges reach, to the fixed point. */
function closure(read: CatalogRows, mapping: Mapping): (node: string) => Reach {
  const reached = new Map<string, Set<string>>()
  const unknown = new Set<string>()
  const callers = new Map<string, string[]>()
  const edge = (from: string, to: string) => callers.set(to, [...(callers.get(to) ?? []), from])
  for (const [fromKind, from, toKind, to] of read.edges) edge(`${fromKind}${from}`, `${toKind}${to}`)
  for (const [from, to] of bodyEdges(read, unknown)) edge(from, to)
  const queue: string[] = [...unknown]
  for (const table of mapping.tables) {
    reached.set(`r${table.relationOid}`, new Set([table.name]))
    queue.push(`r${table.relationOid}`)
  }
  for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
    for (const caller of callers.get(node) ?? []) {
      const of = reached.get(caller) ?? new Set<string>()
      const before = of.size + (unknown.has(caller) ? 1 : 0)
      for (const table of reached.get(node) ?? []) of.add(table)
      reached.set(caller, of)
      if (unknown.has(node)) unknown.add(caller)
      if (of.size + (unknown.has(caller) ? 1 : 0) > before) queue.push(caller)
    }
  }
  return (node) => (unknown.has(node) ? 'unknown' : [...(reached.get(node) ?? [])].sort())
}

/** Names in function bodies; bodies that build SQL at run time, or that cannot be read, are added to `unknown`. */
function bodyEdges(read: CatalogRows, unknown: Set<string>): [string, string][] {
  const byName = new Map<string, string[]>()
  const name = (text: string, node: string) => byName.set(text.toLowerCase(), [...(byName.get(text.toLowerCase()) ?? []), node])
  for (const relation of read.relations) if (!isSystem(relation.schema)) name(relation.name, `r${relation.oid}`)
  for (const routine of read.functions) name(routine.name, `f${routine.oid}`)
  const edges: [string, string][] = []
  for (const { oid, language, body } of read.functions) {
    const node = `f${oid}`
    if (language === 'c' || language === 'internal') continue
    if (language !== 'sql' && language !== 'plpgsql') unknown.add(node)
    else if (/\bexecute\b/i.test(body) || /U&['"]/i.test(body)) unknown.add(node)
    for (const word of new Set(body.toLowerCase().match(/[\p{L}_][\p{L}\p{N}_$]*/gu) ?? [])) {
      for (const to of byName.get(word) ?? []) if (to !== node) edges.push([node, to])
    }
  }
  return edges
}

function isSystem(schema: string): boolean {
  return schema === 'pg_catalog' || schema === 'information_schema' || schema.startsWith('pg_toast')
}

const CATALOG = `
select json_build_object(
  'relations', (
    select coalesce(json_agg(json_build_object('oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind)), '[]')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_(toast|temp)'),
  'functions', (
    select coalesce(json_agg(json_build_object('oid', p.oid::bigint, 'schema', n.nspname, 'name', p.proname, 'volatility', p.provolatile,
      'language', l.lanname, 'body', coalesce(pg_get_function_sqlbody(p.oid), p.prosrc))), '[]')
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
    where n.nspname not in ('pg_catalog', 'information_schema', 'switchback') and n.nspname !~ '^pg_temp' and p.prokind in ('f', 'p', 'w')),
  'edges', (
    select coalesce(json_agg(json_build_array(e.fk, e.f, e.tk, e.t)), '[]') from (
      -- views and rules: their relation reaches what the rule's actions name
      select 'r' as fk, r.ev_class::bigint as f, case d.refclassid when 'pg_class'::regclass then 'r' else 'f' end as tk, d.refobjid::bigint as t
        from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
       where d.refclassid in ('pg_class'::regclass, 'pg_proc'::regclass) and d.refobjid <> r.ev_class and d.refobjid >= 16384
      union
      -- a parent shows its children's rows, and a child's rows are its parent's
      select 'r', i.inhparent::bigint, 'r', i.inhrelid::bigint from pg_inherits i
      union
      select 'r', i.inhrelid::bigint, 'r', i.inhparent::bigint from pg_inherits i
      union
      -- a write fires triggers
      select 'r', t.tgrelid::bigint, 'f', t.tgfoid::bigint from pg_trigger t where not t.tgisinternal and t.tgfoid >= 16384 and t.tgname not like '~switchback%'
      union
      -- defaults, checks and index expressions call functions
      select 'r', coalesce(ad.adrelid, k.conrelid)::bigint, 'f', d.refobjid::bigint
        from pg_depend d
        left join pg_attrdef ad on d.classid = 'pg_attrdef'::regclass and ad.oid = d.objid
        left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
       where d.refclassid = 'pg_proc'::regclass and d.refobjid >= 16384 and coalesce(ad.adrelid, k.conrelid) is not null
      union
      select 'f', d.objid::bigint, case d.refclassid when 'pg_class'::regclass then 'r' else 'f' end, d.refobjid::bigint
        from pg_depend d
       where d.classid = 'pg_proc'::regclass and d.refclassid in ('pg_class'::regclass, 'pg_proc'::regclass) and d.refobjid >= 16384
    ) as e),
  'pure_builtins', (
    select coalesce(json_agg(distinct p.proname), '[]') from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      and not exists (select 1 from pg_proc v where v.pronamespace = p.pronamespace and v.proname = p.proname and v.provolatile = 'v')),
  'volatile_builtins', (
    select coalesce(json_agg(distinct p.proname), '[]') from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.provolatile = 'v')
)`
