// Promises: which mapped tables a statement reaches by any way the catalog knows: relations named anywhere in it, functions called,
// views, rules, leaves and bodies behind them. Unknown is not healthy (INV-10): what cannot be told is told apart.
import type { RangeVar } from 'libpg-query'
import type { Catalog, Reach } from '../model/catalog.ts'
import type { Mapping, TableMapping, TableName } from '../model/mapping.ts'
import { type Node, walk } from './ast.ts'
import { BUILTIN_OPERATORS, isHarmlessVolatile, PINNING_FUNCTIONS, READS_BY_NAME } from './builtins.ts'

export interface Names {
  readonly mapping: Mapping
  readonly catalog: Catalog
  /** Without pg_catalog where it is not listed: it is looked at first then. */
  readonly searchPath: readonly string[]
}

/** `schema.table` of the first relation of that name; null where none is known. */
export function resolveRelation(names: Names, relation: Pick<RangeVar, 'schemaname' | 'relname'>): TableName | null {
  const { schemaname, relname = '' } = relation
  const exists = (name: TableName) => names.catalog.relations.has(name) || tableByName(names, name) !== undefined
  if (schemaname) return exists(`${schemaname}.${relname}`) ? `${schemaname}.${relname}` : null
  for (const schema of names.searchPath) {
    const name = `${schema}.${relname}`
    if (exists(name)) return name
  }
  return null
}

export function tableByName(names: Names, name: TableName): TableMapping | undefined {
  return names.mapping.tables.find((table) => table.name === name)
}

/** A function of this name that is not PostgreSQL's own may be meant. */
export function hasForeignFunction(names: Names, name: string): boolean {
  return names.searchPath.some((schema) => names.catalog.functions.get(`${schema}.${name}`)?.some((one) => !one.builtin) ?? false)
}

/** Operators and functions are PostgreSQL's own first only where pg_catalog is looked at first. */
export function systemFirst(names: Names): boolean {
  const at = names.searchPath.indexOf('pg_catalog')
  return at <= 0
}

export interface Closure {
  readonly mapped: ReadonlySet<TableName>
  /** What could not be followed, in words; empty where all was. */
  readonly unknown: readonly string[]
  /** Relations named that are not in the catalog at all. */
  readonly missing: readonly string[]
  /** Calls something that differs from call to call or has an effect. */
  readonly volatile: boolean
  /** Takes session state that only PostgreSQL keeps. */
  readonly pins: boolean
  /** Changes a setting by function. */
  readonly sets: boolean
  /** An insert, update, delete or merge anywhere in it. */
  readonly writes: boolean
  readonly locks: boolean
}

const WRITES = new Set(['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt'])

export function closureOf(node: Node, names: Names): Closure {
  const found = {
    mapped: new Set<TableName>(),
    unknown: new Set<string>(),
    missing: new Set<string>(),
    volatile: false,
    pins: false,
    sets: false,
    writes: false,
    locks: false,
  }
  const common = new Set<string>()
  walk(node, (_, fields) => {
    if (typeof fields['ctename'] === 'string') common.add(fields['ctename'])
    return undefined
  })
  const reach = (what: string, of: Reach) => {
    if (of === 'unknown') found.unknown.add(`what ${what} reaches is not known`)
    else for (const table of of) found.mapped.add(table)
  }
  walk(node, (kind, fields) => {
    if (WRITES.has(kind)) found.writes = true
    if (kind === 'LockingClause') found.locks = true
    if (typeof fields['relname'] === 'string' && 'relpersistence' in fields)
      relationReach(fields as RangeVar, names, { common, reach, missing: found.missing })
    if (Array.isArray(fields['funcname'])) functionReach(strings(fields['funcname']), names, reach, found)
    if (kind === 'A_Expr' && Array.isArray(fields['name'])) operatorReach(strings(fields['name']), reach)
    if (Array.isArray(fields['useOp'])) operatorReach(strings(fields['useOp']), reach)
    return undefined
  })
  return { ...found, unknown: [...found.unknown], missing: [...found.missing] }
}

type Take = (what: string, of: Reach) => void

function relationReach(relation: RangeVar, names: Names, into: { common: ReadonlySet<string>; reach: Take; missing: Set<string> }): void {
  const { schemaname, catalogname, relname = '' } = relation
  const written = schemaname ? `${schemaname}.${relname}` : relname
  if (catalogname) {
    into.reach(`${catalogname}.${written}`, 'unknown')
    return
  }
  if (schemaname === 'pg_catalog' || schemaname === 'information_schema') return
  const name = resolveRelation(names, relation)
  // A WITH query of that name may hide the table or not: both are taken.
  if (name === null) {
    if (!schemaname && (into.common.has(relname) || relname.startsWith('pg_'))) return
    into.missing.add(written)
    return
  }
  if (tableByName(names, name) !== undefined) into.reach(name, [name])
  into.reach(name, names.catalog.relations.get(name)?.reach ?? [])
}

function functionReach(
  path: readonly string[],
  names: Names,
  reach: Take,
  found: { volatile: boolean; pins: boolean; sets: boolean },
): void {
  const name = path.at(-1) ?? ''
  const schema = path.length > 1 ? path.at(-2)! : null
  const called = `${path.join('.')}()`
  const schemas = schema === null ? names.searchPath : [schema]
  const known = schemas.flatMap((one) => names.catalog.functions.get(`${one}.${name}`) ?? [])
  for (const one of known) {
    if (one.volatility === 'volatile') found.volatile = true
    reach(called, one.reach)
  }
  const system = schema === null || schema === 'pg_catalog'
  if (system && PINNING_FUNCTIONS.test(name)) found.pins = true
  if (system && name === 'set_config') found.sets = true
  if (system && (names.catalog.pureBuiltins.has(name) || isHarmlessVolatile(name))) {
    if (READS_BY_NAME.test(name)) reach(called, 'unknown')
    if (!names.catalog.pureBuiltins.has(name)) found.volatile = true
    return
  }
  if (known.length === 0) {
    found.volatile = true
    reach(called, 'unknown')
  }
}

function operatorReach(path: readonly string[], reach: Take): void {
  const name = path.at(-1) ?? ''
  if ((path.length > 1 && path[0] !== 'pg_catalog') || !BUILTIN_OPERATORS.has(name)) reach(`the operator ${path.join('.')}`, 'unknown')
}

function strings(list: readonly unknown[]): string[] {
  return list.map((one) => {
    const text = (one as { String?: { sval?: string } }).String
    return text?.sval ?? ''
  })
}
