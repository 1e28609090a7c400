// Promises: a select over one aggregate runs on its rows as PostgreSQL would run it: conditions, groups, order, distinct, limit.
import type { SelectStmt } from 'libpg-query'
import type { ColumnType } from '../model/mapping.ts'
import { type AggregateRows, type Params, SqlError, type StatementEnv, type StatementResult } from '../model/plan.ts'
import type { Row } from '../model/row.ts'
import { runAggregates } from './aggregates.ts'
import { type Node, NotDerivable } from './ast.ts'
import { coerce } from './coerce.ts'
import { deriveFrom, type FromClause, type JoinedRow, joinRows, keyOfFrom } from './derive-from.ts'
import { type DerivedPlan, type Deriving, frameOf, mergeReads, NO_ENV, parameterTypesOf, readOf } from './derive-plan.ts'
import { compile, condition } from './expression.ts'
import type { Expression, Frame } from './expression-types.ts'
import { orderOf } from './operators.ts'
import type { Aggregate, Scope } from './scope.ts'
import { compileTargets, printerFor, type Target } from './targets.ts'
import { identityOf, type Value } from './value.ts'

export function deriveSelect(statement: SelectStmt, deriving: Deriving): DerivedPlan {
  refuseForms(statement)
  const parameters = new Map<number, ColumnType>()
  const from = deriveFrom(statement.fromClause, deriving, parameters)
  const { scope } = from
  const grouping = isGrouped(statement)
  if (grouping) scope.aggregates = []
  const targets = compileTargets(statement.targetList, scope)
  const shown = scope.aggregates
  // Conditions are analysed without aggregates: there they may not stand.
  scope.aggregates = null
  const where = statement.whereClause === undefined ? null : condition(statement.whereClause, scope)
  scope.aggregates = shown
  const having = statement.havingClause === undefined ? null : condition(statement.havingClause, scope)
  const order = (statement.sortClause ?? []).map((node) => sortKey(node, targets, scope))
  const grouped = isAggregating(statement, scope)
  const keys = grouped ? groupKeys(statement, targets, scope) : []
  if (grouped) checkGrouped(scope, keys)
  const aggregates = scope.aggregates ?? []
  scope.aggregates = null
  const limit = bound(statement.limitCount, scope)
  const offset = bound(statement.limitOffset, scope)
  const distinct = distinctOf(statement, targets, order)
  const locks = lockOf(statement, grouped || distinct !== null)
  const { source, accesses } = keyOfFrom(from, statement.whereClause, deriving)
  const group = grouped ? { keys, aggregates, having, always: (statement.groupClause ?? []).length === 0 } : null
  const run = runner({ from, accesses, where, group, targets, order, distinct, limit, offset })
  return {
    kind: 'keyed',
    readOnly: !locks,
    locks,
    returnsRows: true,
    key: source.key,
    asks: [],
    insertedRows: 0,
    parameterTypes: parameterTypesOf(parameters),
    reads: (params) => {
      const frame = frameOf(params, NO_ENV, 0)
      return mergeReads(accesses.flatMap((access) => readOf(access, frame)))
    },
    run: (params, rows, env) => (source.isNull(params) ? result([]) : run(params, rows, env)),
  }
}

function result(rows: readonly Row[]): StatementResult {
  return { rows, commandTag: `SELECT ${rows.length}`, changes: [] }
}

function refuseForms(statement: SelectStmt): void {
  if (statement.op !== undefined && statement.op !== 'SETOP_NONE')
    throw new NotDerivable('a union, intersect or except', 'run its parts as statements')
  if (statement.withClause !== undefined) throw new NotDerivable('a with query', 'run it as a statement of its own')
  if (statement.valuesLists !== undefined) throw new NotDerivable('values')
  if (statement.windowClause !== undefined) throw new NotDerivable('a window')
  if (statement.intoClause !== undefined) throw new NotDerivable('select into')
  if (statement.groupDistinct) throw new NotDerivable('group by distinct')
  if (statement.limitOption === 'LIMIT_OPTION_WITH_TIES') throw new NotDerivable('fetch first with ties')
}

/** Whether aggregates may stand: told apart from "does" only after the select list is compiled. */
function isGrouped(statement: SelectStmt): boolean {
  if ((statement.groupClause ?? []).length > 0 || statement.havingClause !== undefined) return true
  return !(statement.targetList ?? []).some(hasStar)
}

function hasStar(node: Node): boolean {
  if (!('ResTarget' in node) || node.ResTarget.val === undefined || !('ColumnRef' in node.ResTarget.val)) return false
  return (node.ResTarget.val.ColumnRef.fields ?? []).some((field) => 'A_Star' in field)
}

function isAggregating(statement: SelectStmt, scope: Scope): boolean {
  return (statement.groupClause ?? []).length > 0 || statement.havingClause !== undefined || (scope.aggregates ?? []).length > 0
}

function groupKeys(statement: SelectStmt, targets: readonly Target[], scope: Scope): Expression[] {
  scope.aggregates = scope.aggregates ?? []
  const before = scope.loose.length
  const keys = (statement.groupClause ?? []).map((node) => {
    if ('A_Const' in node) {
      const position = node.A_Const.ival?.ival
      const target = position === undefined ? undefined : targets[position - 1]
      if (target === undefined) throw new NotDerivable('a group by position that is none')
      return target.value
    }
    return compile(node, scope)
  })
  // What is grouped by is not loose.
  scope.loose.length = before
  if (keys.some((key) => key.column === undefined || identityOf(key.type) === null))
    throw new NotDerivable('group by an expression', 'group by columns')
  return keys
}

/** Columns outside of aggregates must be grouped by, or follow from a primary key that is. */
function checkGrouped(scope: Scope, keys: readonly Expression[]): void {
  const has = (entry: number, index: number) => keys.some((key) => key.column?.entry === entry && key.column.index === index)
  for (const { entry, index } of scope.loose) {
    const { table } = scope.entries[entry]!
    const dependent = [table.partition, ...table.clustering].every((one) => has(entry, one))
    if (!has(entry, index) && !dependent)
      throw new NotDerivable(`the column ${table.columns[index]!.name} is neither grouped by nor aggregated`)
  }
}

interface SortKey {
  readonly value: Expression
  readonly target: Target | null
  readonly compare: (a: Value, b: Value) => number
}

function sortKey(node: Node, targets: readonly Target[], scope: Scope): SortKey {
  if (!('SortBy' in node) || node.SortBy.node === undefined) throw new NotDerivable('an order that is none')
  const { sortby_dir, sortby_nulls, useOp } = node.SortBy
  if (useOp !== undefined || sortby_dir === 'SORTBY_USING') throw new NotDerivable('order by using')
  const target = outputOf(node.SortBy.node, targets)
  const compiled = target === null ? compile(node.SortBy.node, scope) : target.value
  const value = compiled.type === 'unknown' ? coerce(scope, compiled, 'text', 'implicit') : compiled
  const descending = sortby_dir === 'SORTBY_DESC'
  const nullsFirst = sortby_nulls === 'SORTBY_NULLS_FIRST' || (sortby_nulls !== 'SORTBY_NULLS_LAST' && descending)
  const order = orderOf(value)
  return {
    value,
    target,
    compare: (a, b) => {
      if (a === null || b === null) return a === b ? 0 : (a === null) === nullsFirst ? -1 : 1
      return descending ? order(b, a) : order(a, b)
    },
  }
}

/** SQL-92: a number is a position, a bare name an output's name first. */
function outputOf(node: Node, targets: readonly Target[]): Target | null {
  if ('A_Const' in node) {
    const position = node.A_Const.ival?.ival
    const target = position === undefined ? undefined : targets[position - 1]
    if (target === undefined) throw new NotDerivable('order by a constant')
    return target
  }
  if (!('ColumnRef' in node) || node.ColumnRef.fields?.length !== 1) return null
  const field = node.ColumnRef.fields[0]!
  if (!('String' in field)) return null
  const named = targets.filter((target) => target.name === field.String.sval)
  if (named.length > 1 && !named.every((one) => sameColumn(one.value, named[0]!.value)))
    throw new NotDerivable('an ambiguous name in order by')
  return named[0] ?? null
}

function sameColumn(a: Expression, b: Expression): boolean {
  return a.column !== undefined && a.column.entry === b.column?.entry && a.column.index === b.column.index
}

function bound(node: Node | undefined, scope: Scope): Expression | null {
  if (node === undefined) return null
  const one = coerce(scope, compile(node, scope), 'int8', 'assignment')
  if (!one.fixed) throw new NotDerivable('a limit or offset that is computed')
  return one
}

function distinctOf(
  statement: SelectStmt,
  targets: readonly Target[],
  order: readonly SortKey[],
): ((values: readonly Value[]) => string) | null {
  if (statement.distinctClause === undefined) return null
  const named = statement.distinctClause.some((node) => Object.keys(node).length > 0)
  if (named) throw new NotDerivable('distinct on')
  for (const key of order) {
    if (!targets.some((target) => target === key.target || sameColumn(target.value, key.value))) {
      throw new NotDerivable('an order by that is not selected, under distinct')
    }
  }
  const identities = targets.map((target) => {
    const identity = identityOf(target.value.type)
    if (identity === null) throw new NotDerivable(`distinct over ${target.value.type}`)
    return identity
  })
  return (values) => JSON.stringify(values.map((value, i) => (value === null ? null : identities[i]!(value))))
}

function lockOf(statement: SelectStmt, refused: boolean): boolean {
  for (const node of statement.lockingClause ?? []) {
    if (!('LockingClause' in node)) throw new NotDerivable('a lock that is none')
    if (node.LockingClause.waitPolicy !== 'LockWaitBlock') throw new NotDerivable('skip locked or nowait')
    if (refused) throw new NotDerivable('a lock over grouped rows')
  }
  return (statement.lockingClause ?? []).length > 0
}

interface Running {
  readonly from: FromClause
  readonly accesses: Parameters<typeof joinRows>[1]
  readonly where: Expression | null
  readonly group: Grouping | null
  readonly targets: readonly Target[]
  readonly order: readonly SortKey[]
  readonly distinct: ((values: readonly Value[]) => string) | null
  readonly limit: Expression | null
  readonly offset: Expression | null
}

interface Grouping {
  readonly keys: readonly Expression[]
  readonly aggregates: readonly Aggregate[]
  readonly having: Expression | null
  /** Without GROUP BY there is one group, of no rows even. */
  readonly always: boolean
}

interface Output {
  readonly row: Row
  readonly sort: readonly Value[]
}

function runner(running: Running): (params: Params, rows: AggregateRows, env: StatementEnv) => StatementResult {
  const { from, accesses, where, group, order, distinct } = running
  const print = printerFor(running.targets)
  const size = from.scope.entries.length
  return (params, rows, env) => {
    const frame = frameOf(params, env, size)
    const outputs: Output[] = []
    const seen = distinct === null ? null : new Set<string>()
    const emit = () => {
      if (seen !== null) {
        const identity = distinct!(running.targets.map((target) => target.value.evaluate(frame)))
        if (seen.has(identity)) return
        seen.add(identity)
      }
      outputs.push({ row: print(frame), sort: order.map((key) => key.value.evaluate(frame)) })
    }
    const matched: JoinedRow[] = []
    joinRows(from, accesses, rows, frame, () => {
      if (where !== null && where.evaluate(frame) !== true) return
      if (group === null) emit()
      else matched.push([...frame.rows])
    })
    if (group !== null) emitGroups(group, matched, frame, emit)
    if (order.length > 0) outputs.sort((a, b) => byKeys(order, a.sort, b.sort))
    return result(window(outputs, running, frame))
  }
}

function emitGroups(group: Grouping, matched: readonly JoinedRow[], frame: Frame, emit: () => void): void {
  const show = (row: JoinedRow) => {
    for (let i = 0; i < row.length; i++) frame.rows[i] = row[i]!
  }
  for (const members of groupsOf(group, matched, frame, show)) {
    frame.aggregates = runAggregates(group.aggregates, members, show, frame)
    const first = members[0]
    if (first === undefined) frame.rows.fill(null)
    else show(first)
    if (group.having === null || group.having.evaluate(frame) === true) emit()
  }
}

function groupsOf(
  group: Grouping,
  matched: readonly JoinedRow[],
  frame: Frame,
  show: (row: JoinedRow) => void,
): readonly (readonly JoinedRow[])[] {
  if (group.keys.length === 0) return group.always ? [matched] : []
  const identities = group.keys.map((key) => identityOf(key.type)!)
  const groups = new Map<string, JoinedRow[]>()
  for (const row of matched) {
    show(row)
    const name = JSON.stringify(
      group.keys.map((key, i) => {
        const value = key.evaluate(frame)
        return value === null ? null : identities[i]!(value)
      }),
    )
    const members = groups.get(name)
    if (members === undefined) groups.set(name, [row])
    else members.push(row)
  }
  return [...groups.values()]
}

function byKeys(order: readonly SortKey[], a: readonly Value[], b: readonly Value[]): number {
  for (let i = 0; i < order.length; i++) {
    const verdict = order[i]!.compare(a[i]!, b[i]!)
    if (verdict !== 0) return verdict
  }
  return 0
}

function window(outputs: readonly Output[], running: Running, frame: Frame): Row[] {
  const offset = running.offset?.evaluate(frame) as bigint | null | undefined
  const limit = running.limit?.evaluate(frame) as bigint | null | undefined
  if (offset != null && offset < 0n) throw new SqlError('2201X', 'OFFSET must not be negative')
  if (limit != null && limit < 0n) throw new SqlError('2201W', 'LIMIT must not be negative')
  const all = BigInt(outputs.length)
  const start = offset == null ? 0n : offset > all ? all : offset
  const end = limit == null || start + limit > all ? all : start + limit
  return outputs.slice(Number(start), Number(end)).map((output) => output.row)
}
