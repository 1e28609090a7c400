// Promises: what a closure means for a plan: whether it only reads, whether it is complete, what a new relation would hide.
import type { TableName } from '../model/mapping.ts'
import type { Plan } from '../model/plan.ts'
import { kindOf, type Node } from './ast.ts'
import type { Closure, Names } from './closure.ts'

/** Only reads, whatever PostgreSQL is asked to do: no lock, no write in a WITH, nothing volatile. */
export function isRead(closure: Closure): boolean {
  return !closure.writes && !closure.locks && !closure.volatile && closure.unknown.length === 0
}

/** Why the closure is not complete; null where it is. `made` is a relation that the statement itself makes. */
export function openEnd(closure: Closure, made: string | null = null): string | null {
  if (closure.unknown.length > 0) return closure.unknown[0]!
  const missing = closure.missing.find((name) => name !== made)
  return missing === undefined ? null : `the catalog has no relation ${missing}: it may be a temporary one over a mapped table`
}

/** The mapped table that a new relation of this name would hide. */
export function shadowed(relation: { relname?: string; relpersistence?: string; schemaname?: string }, context: Names): TableName | null {
  if (relation.relpersistence !== 't' && !relation.schemaname?.startsWith('pg_temp')) return null
  return context.mapping.tables.find((table) => table.table === relation.relname)?.name ?? null
}

export function shadowing(table: TableName): Plan {
  return {
    kind: 'unroutable',
    reads: false,
    because: `a temporary relation of this name would hide the mapped table ${table}`,
    wouldRoute: 'give the temporary relation another name',
  }
}

export function refusedKind(node: Node): string {
  return kindOf(node)
    .replace(/Stmt$/, '')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase()
}

/** A relation's name as the closure lists it where the catalog has none. */
export function writtenName(relation: { relname?: string; schemaname?: string } | undefined): string | null {
  if (relation?.relname === undefined) return null
  return relation.schemaname ? `${relation.schemaname}.${relation.relname}` : relation.relname
}
