// Promises: an insert of rows of one aggregate, with everything PostgreSQL does on the way in: defaults, identity, generated
// columns, constraints, ON CONFLICT, RETURNING.
import type { InsertStmt, OnConflictClause } from 'libpg-query'
import type { ColumnType, TableMapping } from '../model/mapping.ts'
import { type AggregateRows, type Params, type ReadRequest, SqlError, type StatementEnv, type StatementResult } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { type Node, NotDerivable } from './ast.ts'
import {
  type DerivedPlan,
  type Deriving,
  entryFor,
  frameOf,
  hasExactClustering,
  isBare,
  mergeReads,
  NO_ENV,
  oneSource,
  parameterTypesOf,
} from './derive-plan.ts'
import { checkFixed, compileSets, type Sets, setReads, updateRow } from './derive-sets.ts'
import { compile, condition } from './expression.ts'
import { type Expression, type Frame, NO_FRAME, textOf } from './expression-types.ts'
import { checkReferences, parentReads, referencesFrom } from './foreign-keys.ts'
import { type Scope, scopeOver } from './scope.ts'
import { compileTargets, printerFor } from './targets.ts'
import { checkUnique, holderOf, type Key, keysOf } from './unique.ts'
import { workingRows } from './working-rows.ts'
import { assigned, defaultOf, finishRow, type TableRules } from './write-rules.ts'

interface RowSource {
  /** One for each column of the table. */
  readonly values: readonly Expression[]
  readonly texts: readonly ((frame: Frame) => Cell)[]
}

interface Conflict {
  /** Keys that decide; all of them where none was named. */
  readonly arbiters: readonly Key[]
  readonly sets: Sets | null
  readonly where: Expression | null
}

export function deriveInsert(statement: InsertStmt, deriving: Deriving): DerivedPlan {
  if (statement.withClause !== undefined) throw new NotDerivable('a with query', 'run it as a statement of its own')
  const entry = entryFor(deriving, statement.relation)
  const { table } = entry
  const rules = deriving.rules.get(table.name)!
  if (rules.refused !== null) throw rules.refused
  const parameters = new Map<number, ColumnType>()
  const scope = scopeOver([entry], { parameters, foreignFunction: deriving.foreignFunction })
  const asks: string[] = []
  const { sources, refusal } = rowSources(statement, rules, scope, asks)
  const excluded = { alias: 'excluded', schema: null, table }
  const both = scopeOver([entry, excluded], { parameters, foreignFunction: deriving.foreignFunction })
  const conflict = statement.onConflictClause === undefined ? null : conflictOf(statement.onConflictClause, rules, both)
  const targets = compileTargets(statement.returningClause?.exprs, scope)
  if (statement.returningClause?.options !== undefined) throw new NotDerivable('returning with (old as ..., new as ...)')
  const partition = sources.map((row) => ({
    column: { entry: 0, index: table.partition },
    value: row.values[table.partition]!,
    bare: true,
  }))
  if (!partition.every((one) => one.value.fixed && !isNullConstant(one.value))) {
    throw new NotDerivable(`the partition key ${table.columns[table.partition]!.name} is not given`, 'give it as a parameter or literal')
  }
  const source = oneSource(deriving.mapping.keyType, partition, table)
  const inserting: Inserting = {
    table,
    rules,
    sources,
    conflict,
    keys: keysOf(table),
    references: referencesFrom(table, deriving.mapping),
    print: targets.length === 0 ? null : printerFor(targets),
  }
  return {
    kind: 'keyed',
    readOnly: false,
    locks: false,
    returnsRows: targets.length > 0,
    key: source.key,
    asks,
    insertedRows: sources.length,
    parameterTypes: parameterTypesOf(parameters),
    reads: (params, env) => (refusal === null ? readsOf(inserting, params, env, deriving) : []),
    run: (params, rows, env) => {
      if (refusal !== null) throw refusal
      return run(inserting, params, rows, env)
    },
  }
}

function isNullConstant(value: Expression): boolean {
  return value.constant && value.evaluate(NO_FRAME) === null
}

function targetColumns(statement: InsertStmt, table: TableMapping, width: number): number[] {
  if (statement.cols === undefined) return table.columns.slice(0, width).map((_, index) => index)
  return statement.cols.map((node) => {
    if (!('ResTarget' in node) || node.ResTarget.indirection !== undefined) throw new NotDerivable('a part of a column as target')
    const index = table.columns.findIndex((column) => column.name === node.ResTarget.name)
    if (index < 0) throw new NotDerivable(`${node.ResTarget.name} is no column of ${table.name}`)
    return index
  })
}

function rowSources(
  statement: InsertStmt,
  rules: TableRules,
  scope: Scope,
  asks: string[],
): { sources: RowSource[]; refusal: SqlError | null } {
  const select = statement.selectStmt
  if (select === undefined || !('SelectStmt' in select)) throw new NotDerivable('insert of default values alone', 'give the partition key')
  const { valuesLists, withClause, sortClause, limitCount, limitOffset } = select.SelectStmt
  if (valuesLists === undefined || withClause || sortClause || limitCount || limitOffset)
    throw new NotDerivable('insert from a query', 'insert values')
  const { table } = rules
  const lists = valuesLists.map((node) => ('List' in node ? (node.List.items ?? []) : []))
  const columns = targetColumns(statement, table, lists[0]?.length ?? 0)
  if (new Set(columns).size !== columns.length || lists.some((list) => list.length !== columns.length))
    throw new NotDerivable('values that do not fit the columns')
  let refusal: SqlError | null = null
  const sources = lists.map((list) => {
    // Questions are numbered anew for each row; a row that needs fewer lets the rest go.
    scope.asks = []
    const given = new Map<number, Expression>()
    for (const [i, node] of list.entries()) {
      const index = columns[i]!
      const verdict = overriding(statement, table, index, node)
      if (verdict instanceof SqlError) refusal ??= verdict
      else if (verdict === 'given') given.set(index, valueFor(node, table, index, scope))
    }
    const values = table.columns.map((_, index) => given.get(index) ?? defaultOf(rules, index, scope))
    mergeAsks(asks, scope.asks)
    return { values, texts: values.map(textOf) }
  })
  scope.asks = null
  return { sources, refusal }
}

/** All rows are asked the same list, so their lists must be one, or the beginning of it. */
function mergeAsks(all: string[], row: readonly string[]): void {
  for (const [i, sql] of row.entries()) {
    if (i === all.length) all.push(sql)
    else if (all[i] !== sql)
      throw new NotDerivable('rows that take different values from sequences', 'insert them in statements of their own')
  }
}

function valueFor(node: Node, table: TableMapping, index: number, scope: Scope): Expression {
  if (index === table.partition && !isBare(node)) {
    throw new NotDerivable(`the partition key ${table.columns[index]!.name} is computed`, 'give it as a parameter or literal')
  }
  // Columns of the table itself cannot stand in VALUES.
  const value = compile(node, { ...scope, entries: [] })
  return assigned(value, table.columns[index]!, scope)
}

function overriding(statement: InsertStmt, table: TableMapping, index: number, node: Node): 'given' | 'default' | SqlError {
  const column = table.columns[index]!
  if ('SetToDefault' in node) return 'default'
  const refuse = (detail: string) =>
    new SqlError('428C9', `cannot insert a non-DEFAULT value into column "${column.name}"`, {
      detail,
      table: table.name,
      column: column.name,
    })
  if (column.generatedExpr !== null) return refuse(`Column "${column.name}" is a generated column.`)
  if (column.identity !== null && statement.override === 'OVERRIDING_USER_VALUE') return 'default'
  if (column.identity === 'always' && statement.override !== 'OVERRIDING_SYSTEM_VALUE') {
    return refuse(`Column "${column.name}" is an identity column defined as GENERATED ALWAYS.`)
  }
  return 'given'
}

function conflictOf(clause: OnConflictClause, rules: TableRules, scope: Scope): Conflict {
  const arbiters = arbitersOf(clause, rules.table)
  if (clause.action !== 'ONCONFLICT_UPDATE') return { arbiters, sets: null, where: null }
  const sets = compileSets(clause.targetList, rules, scope)
  if (sets.changesKey) throw new NotDerivable('on conflict do update of a key column')
  const where = clause.whereClause === undefined ? null : condition(clause.whereClause, scope)
  return { arbiters, sets, where }
}

function arbitersOf(clause: OnConflictClause, table: TableMapping): readonly Key[] {
  const keys = keysOf(table)
  const { infer } = clause
  if (infer === undefined) return keys
  if (infer.conname !== undefined && infer.conname !== '') {
    const named = keys.filter((key) => key.name === infer.conname)
    if (named.length === 0) throw new NotDerivable(`the constraint ${infer.conname} is none that is known`)
    return named
  }
  if (infer.whereClause !== undefined) throw new NotDerivable('on conflict of a partial index')
  const columns = (infer.indexElems ?? []).map((node) => {
    if (
      !('IndexElem' in node) ||
      node.IndexElem.name === undefined ||
      node.IndexElem.collation !== undefined ||
      node.IndexElem.opclass !== undefined
    ) {
      throw new NotDerivable('on conflict of an expression')
    }
    const { name } = node.IndexElem
    return table.columns.findIndex((column) => column.name === name)
  })
  const wanted = new Set(columns)
  const found = keys.filter((key) => key.columns.length === wanted.size && key.columns.every((index) => wanted.has(index)))
  if (found.length === 0) throw new NotDerivable('on conflict of columns that are no key')
  return found
}

interface Inserting {
  readonly table: TableMapping
  readonly rules: TableRules
  readonly sources: readonly RowSource[]
  readonly conflict: Conflict | null
  readonly keys: readonly Key[]
  readonly references: ReturnType<typeof referencesFrom>
  readonly print: ((frame: Frame) => Row) | null
}

function readsOf(inserting: Inserting, params: Params, env: StatementEnv | undefined, deriving: Deriving): readonly ReadRequest[] {
  const { table, sources, keys, references, conflict } = inserting
  const frame = frameOf(params, env ?? NO_ENV, 2)
  const requests: ReadRequest[] = []
  const range: ReadRequest = { kind: 'range', table: table.name }
  if (keys.length > 1 || !hasExactClustering(table)) requests.push(range)
  for (const [i, source] of sources.entries()) {
    frame.inserted = i
    const known = (index: number): Cell | undefined => {
      const value = source.values[index]!
      // A default that was not asked yet, or that is drawn anew each time, has no text before the run.
      if (!value.fixed && (env === undefined || drawn(table, index))) return undefined
      return source.texts[index]!(frame)
    }
    const clustering = table.clustering.map(known)
    if (clustering.includes(undefined)) requests.push(range)
    else if (!clustering.includes(null)) requests.push({ kind: 'point', table: table.name, clustering: clustering as string[] })
    requests.push(...parentReads(references, known))
  }
  if (conflict?.sets !== null && conflict?.sets !== undefined) requests.push(...setReads(table, conflict.sets, deriving.mapping))
  return mergeReads(requests)
}

/** A value that is not the same when it is computed twice: an uuid. */
function drawn(table: TableMapping, index: number): boolean {
  return table.columns[index]!.type === 'uuid'
}

function run(inserting: Inserting, params: Params, read: AggregateRows, env: StatementEnv): StatementResult {
  const { table, rules, sources, conflict, keys, references, print } = inserting
  const rows = workingRows(read)
  const frame = frameOf(params, env, 2)
  if (conflict !== null && conflict.sets !== null) checkFixed(conflict.sets, frame)
  const written: Row[] = []
  const touchedBefore = new Set<Row>()
  const output: Row[] = []
  for (const [i, source] of sources.entries()) {
    frame.inserted = i
    frame.rows.fill(null)
    const cells = finishRow(
      rules,
      source.texts.map((text) => text(frame)),
      frame,
    )
    const holder = conflict === null ? undefined : firstHolder(table, conflict.arbiters, cells, rows)
    let stored: Row | null = cells
    if (holder === undefined) {
      checkUnique(table, keys, cells, rows, null)
      rows.put(table, cells)
    } else {
      stored = conflict!.sets === null ? null : resolveConflict(inserting, { holder, cells, frame, rows, touchedBefore })
    }
    if (stored === null) continue
    touchedBefore.add(stored)
    written.push(stored)
    frame.rows[0] = stored
    if (print !== null) output.push(print(frame))
  }
  checkReferences(references, written, rows)
  return { rows: output, commandTag: `INSERT 0 ${written.length}`, changes: rows.changes() }
}

function firstHolder(
  table: TableMapping,
  arbiters: readonly Key[],
  cells: readonly Cell[],
  rows: ReturnType<typeof workingRows>,
): Row | undefined {
  for (const key of arbiters) {
    const holder = holderOf(table, key, cells, rows, null)
    if (holder !== undefined) return holder
  }
  return undefined
}

interface Meeting {
  readonly holder: Row
  readonly cells: Row
  readonly frame: Frame
  readonly rows: ReturnType<typeof workingRows>
  readonly touchedBefore: ReadonlySet<Row>
}

function resolveConflict(inserting: Inserting, meeting: Meeting): Row | null {
  const { table, rules, conflict, keys } = inserting
  const { holder, cells, frame, rows } = meeting
  if (meeting.touchedBefore.has(holder)) {
    throw new SqlError('21000', 'ON CONFLICT DO UPDATE command cannot affect row a second time')
  }
  frame.rows[0] = holder
  frame.rows[1] = cells
  if (conflict!.where !== null && conflict!.where.evaluate(frame) !== true) return null
  const stored = updateRow(rules, conflict!.sets!, holder, frame)
  checkUnique(table, keys, stored, rows, holder)
  rows.put(table, stored)
  return stored
}
