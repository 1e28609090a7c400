// Promises: what PostgreSQL's catalog says that a plan depends on: which relations and functions reach a mapped table by any way
// (views, rules, inheritance, partition leaves, function bodies). Read by src/source, used by src/sql. Unknown is not healthy:
// what could not be followed is 'unknown', and such a statement is unroutable (INV-10; faults.md 39, 62).
import type { TableName } from './mapping.ts'

/** Mapped tables in its closure; 'unknown' where that could not be told (a function in another language, dynamic SQL). */
export type Reach = readonly TableName[] | 'unknown'

export interface CatalogRelation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** pg_class.relkind: r table, p partitioned, v view, m materialised view, f foreign, S sequence, i index, c composite. */
  readonly kind: string
  readonly reach: Reach
}

export interface CatalogFunction {
  readonly schema: string
  readonly name: string
  /** Lives in pg_catalog and was not made by a user. */
  readonly builtin: boolean
  readonly volatility: 'immutable' | 'stable' | 'volatile'
  readonly reach: Reach
}

export interface Catalog {
  /** Changes whenever anything in here may have changed: plans of another digest are void. */
  readonly digest: string
  /** By `schema.name`. */
  readonly relations: ReadonlyMap<string, CatalogRelation>
  /** By `schema.name`, every overload. Built-in functions only where they are not what their name says; absent means unknown. */
  readonly functions: ReadonlyMap<string, readonly CatalogFunction[]>
  /** Names of built-in functions of pg_catalog that are not volatile. */
  readonly pureBuiltins: ReadonlySet<string>
}
