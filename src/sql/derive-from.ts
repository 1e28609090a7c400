// Promises: the FROM of a select over mapped tables of one aggregate: which value fixes the key of all of them, which rows are
// read, and how they join. Every table's partition key must be held equal to that value, or another aggregate would be needed.
import type { JoinExpr } from 'libpg-query'
import type { ColumnType } from '../model/mapping.ts'
import type { AggregateRows } from '../model/plan.ts'
import type { Row } from '../model/row.ts'
import { kindOf, type Node, NotDerivable, names } from './ast.ts'
import {
  type Access,
  accessTo,
  type Deriving,
  type Equalities,
  type Equality,
  entryFor,
  equalitiesOf,
  type KeySource,
  oneSource,
  rowsOf,
} from './derive-plan.ts'
import { condition } from './expression.ts'
import type { Expression, Frame } from './expression-types.ts'
import { conjunction } from './logic.ts'
import { compare } from './operators.ts'
import { columnOf, type RangeEntry, type Scope, scopeOver } from './scope.ts'

interface Join {
  readonly outer: boolean
  readonly on: Node | undefined
  readonly using: readonly string[]
}

export interface FromClause {
  readonly scope: Scope
  readonly joins: readonly Join[]
  /** Conditions of the joins, compiled; index as the entries'. */
  readonly conditions: readonly (Expression | null)[]
}

export function deriveFrom(list: readonly Node[] | undefined, deriving: Deriving, parameters: Map<number, ColumnType>): FromClause {
  const entries: RangeEntry[] = []
  const joins: Join[] = []
  for (const item of list ?? []) addItem(item, { outer: false, on: undefined, using: [] }, { deriving, entries, joins })
  if (entries.length === 0) throw new NotDerivable('a select without a table')
  if (new Set(entries.map((entry) => entry.alias)).size !== entries.length) throw new NotDerivable('one name for two tables')
  const merged = new Map<string, Expression>()
  const scope = scopeOver(entries, { parameters, foreignFunction: deriving.foreignFunction, merged })
  const conditions = joins.map((join, entry) => joinCondition(join, entry, scope, merged))
  return { scope, joins, conditions }
}

interface Adding {
  readonly deriving: Deriving
  readonly entries: RangeEntry[]
  readonly joins: Join[]
}

function addItem(item: Node, join: Join, adding: Adding): void {
  if ('RangeVar' in item) {
    if (!item.RangeVar.inh) throw new NotDerivable('only', 'leave out only')
    adding.entries.push(entryFor(adding.deriving, item.RangeVar))
    adding.joins.push(join)
    return
  }
  if (!('JoinExpr' in item)) throw new NotDerivable(`${kindOf(item)} in from`, 'select from the table itself')
  const tree: JoinExpr = item.JoinExpr
  if (tree.isNatural || tree.alias !== undefined || tree.join_using_alias !== undefined)
    throw new NotDerivable('a natural join or a join with an alias')
  if (tree.jointype !== 'JOIN_INNER' && tree.jointype !== 'JOIN_LEFT')
    throw new NotDerivable('a right or full join', 'write it as a left join')
  if (tree.larg === undefined || tree.rarg === undefined || !('RangeVar' in tree.rarg)) throw new NotDerivable('a join in parentheses')
  if (join.outer || join.on !== undefined) throw new NotDerivable('a join in parentheses')
  addItem(tree.larg, join, adding)
  const using = names(tree.usingClause)
  addItem(tree.rarg, { outer: tree.jointype === 'JOIN_LEFT', on: tree.quals, using }, adding)
}

function joinCondition(join: Join, entry: number, scope: Scope, merged: Map<string, Expression>): Expression | null {
  if (join.using.length === 0) return join.on === undefined ? null : condition(join.on, scope)
  const equal = join.using.map((name) => {
    const index = (at: number) => scope.entries[at]!.table.columns.findIndex((column) => column.name === name)
    const left = merged.get(name) ?? columnBefore(scope, entry, name)
    const right = index(entry)
    if (right < 0) throw new NotDerivable(`using (${name}) names no column`)
    merged.set(name, left)
    return compare(scope, '=', left, columnOf(scope.entries, entry, right))
  })
  return conjunction(equal)
}

function columnBefore(scope: Scope, entry: number, name: string): Expression {
  const found = scope.entries.slice(0, entry).flatMap((range, at) => {
    const index = range.table.columns.findIndex((column) => column.name === name)
    return index < 0 ? [] : [columnOf(scope.entries, at, index)]
  })
  if (found.length !== 1) throw new NotDerivable(`using (${name}) is ambiguous`)
  return found[0]!
}

/** Which value fixes the partition key of every table of the statement. */
export function keyOfFrom(
  from: FromClause,
  where: Node | undefined,
  deriving: Deriving,
): { source: KeySource; accesses: readonly Access[] } {
  const { scope } = from
  const { entries } = scope
  const inner: Equalities[] = [equalitiesOf(where, scope)]
  for (const [entry, join] of from.joins.entries()) if (!join.outer) inner.push(joinEqualities(from, entry))
  const held: Equalities = { values: inner.flatMap((one) => one.values), columns: inner.flatMap((one) => one.columns) }
  const isPartition = (column: Equality['column']) => entries[column.entry]!.table.partition === column.index
  // A condition of WHERE on an outer table holds for every row of the result, so it counts for it as well.
  const sources = held.values.filter((one) => isPartition(one.column))
  const source = oneSource(deriving.mapping.keyType, sources, entries[sources[0]?.column.entry ?? 0]!.table)
  const fixed = new Set(sources.map((one) => one.column.entry))
  spreadKey(fixed, held.columns, isPartition)
  for (const [entry, join] of from.joins.entries()) {
    if (!join.outer || fixed.has(entry)) continue
    const on = joinEqualities(from, entry)
    const direct = on.values.filter((one) => one.column.entry === entry && isPartition(one.column))
    if (direct.length > 0) oneSource(deriving.mapping.keyType, [...direct, ...sources], entries[entry]!.table)
    const through = on.columns.some(
      ([a, b]) =>
        isPartition(a) && isPartition(b) && ((a.entry === entry && fixed.has(b.entry)) || (b.entry === entry && fixed.has(a.entry))),
    )
    if (direct.length > 0 || through) fixed.add(entry)
  }
  for (const [entry, range] of entries.entries()) {
    if (!fixed.has(entry)) oneSource(deriving.mapping.keyType, [], range.table)
  }
  const accesses = entries.map((range, entry) => accessTo(range.table, entry, from.joins[entry]!.outer ? NOTHING : held))
  return { source, accesses }
}

const NOTHING: Equalities = { values: [], columns: [] }

function joinEqualities(from: FromClause, entry: number): Equalities {
  const join = from.joins[entry]!
  const on = equalitiesOf(join.on, from.scope)
  if (join.using.length === 0) return on
  const columns = join.using.flatMap((name) => {
    const left = from.scope.merged.get(name)?.column
    const index = from.scope.entries[entry]!.table.columns.findIndex((column) => column.name === name)
    return left === undefined ? [] : [[left, { entry, index }] as const]
  })
  return { values: on.values, columns }
}

/** Equality is transitive: a table whose key equals a fixed table's is fixed. */
function spreadKey(fixed: Set<number>, columns: Equalities['columns'], isPartition: (column: Equality['column']) => boolean): void {
  for (let grown = true; grown; ) {
    grown = false
    for (const [a, b] of columns) {
      if (!isPartition(a) || !isPartition(b) || fixed.has(a.entry) === fixed.has(b.entry)) continue
      fixed.add(a.entry).add(b.entry)
      grown = true
    }
  }
}

/** Calls `visit` with the frame set to each joined row. */
export function joinRows(from: FromClause, accesses: readonly Access[], rows: AggregateRows, frame: Frame, visit: () => void): void {
  const tables = accesses.map((access) => rowsOf(access, rows, frame))
  const descend = (entry: number): void => {
    if (entry === tables.length) {
      visit()
      return
    }
    const on = from.conditions[entry]!
    let matched = false
    for (const row of tables[entry]!) {
      frame.rows[entry] = row
      if (on !== null && on.evaluate(frame) !== true) continue
      matched = true
      descend(entry + 1)
    }
    if (matched || !from.joins[entry]!.outer) return
    frame.rows[entry] = null
    descend(entry + 1)
  }
  descend(0)
}

export type JoinedRow = readonly (Row | null)[]
