// Promises: update and delete of rows of one aggregate, with the constraints and actions PostgreSQL would apply.
import type { DeleteStmt, UpdateStmt } from 'libpg-query'
import type { ColumnType, TableMapping } from '../model/mapping.ts'
import type { AggregateRows, Params, ReadRequest, StatementEnv, StatementResult } from '../model/plan.ts'
import type { Row } from '../model/row.ts'
import { type Node, NotDerivable } from './ast.ts'
import {
  type Access,
  accessTo,
  type DerivedPlan,
  type Deriving,
  entryFor,
  equalitiesOf,
  frameOf,
  type KeySource,
  mergeReads,
  NO_ENV,
  oneSource,
  parameterTypesOf,
  readOf,
  rowsOf,
} from './derive-plan.ts'
import { checkFixed, compileSets, setReads, touchedChildren, touchedReferences, updateRow } from './derive-sets.ts'
import { condition } from './expression.ts'
import type { Expression, Frame } from './expression-types.ts'
import { checkReferences, checkUnreferenced, deleteChildren, deleteReach } from './foreign-keys.ts'
import { type Scope, scopeOver } from './scope.ts'
import { compileTargets, printerFor } from './targets.ts'
import { checkUnique, keysOf } from './unique.ts'
import { clusteringOf, workingRows } from './working-rows.ts'

interface Target {
  readonly table: TableMapping
  readonly scope: Scope
  readonly parameters: Map<number, ColumnType>
  readonly where: Expression | null
  readonly source: KeySource
  readonly access: Access
  readonly print: ((frame: Frame) => Row) | null
}

type Statement = Pick<UpdateStmt & DeleteStmt, 'relation' | 'whereClause' | 'returningClause' | 'withClause'>

function targetOf(statement: Statement, deriving: Deriving): Target {
  if (statement.withClause !== undefined) throw new NotDerivable('a with query', 'run it as a statement of its own')
  if (statement.relation !== undefined && !statement.relation.inh) throw new NotDerivable('only', 'leave out only')
  const entry = entryFor(deriving, statement.relation)
  const parameters = new Map<number, ColumnType>()
  const scope = scopeOver([entry], { parameters, foreignFunction: deriving.foreignFunction })
  const where = statement.whereClause === undefined ? null : condition(statement.whereClause, scope)
  if (statement.returningClause?.options !== undefined) throw new NotDerivable('returning with (old as ..., new as ...)')
  const targets = compileTargets(statement.returningClause?.exprs, scope)
  const held = equalitiesOf(statement.whereClause, scope)
  const partitions = held.values.filter((one) => one.column.index === entry.table.partition)
  const source = oneSource(deriving.mapping.keyType, partitions, entry.table)
  const access = accessTo(entry.table, 0, held)
  return { table: entry.table, scope, parameters, where, source, access, print: targets.length === 0 ? null : printerFor(targets) }
}

function matching(target: Target, rows: AggregateRows, frame: Frame): readonly Row[] {
  const { where } = target
  const candidates = rowsOf(target.access, rows, frame)
  if (where === null) return candidates
  return candidates.filter((row) => {
    frame.rows[0] = row
    return where.evaluate(frame) === true
  })
}

export function deriveUpdate(statement: UpdateStmt, deriving: Deriving): DerivedPlan {
  refuseFrom(statement.fromClause, 'update ... from')
  const target = targetOf(statement, deriving)
  const { table, access } = target
  const rules = deriving.rules.get(table.name)!
  if (rules.refused !== null) throw rules.refused
  const sets = compileSets(statement.targetList, rules, target.scope)
  const keys = sets.changesKey ? keysOf(table) : []
  // Of several rows PostgreSQL checks each as it goes, in an order of its own.
  if (sets.changesKey && access.point === null) {
    throw new NotDerivable('it changes a key column of several rows', 'fix the whole primary key by equality')
  }
  const references = touchedReferences(table, sets, deriving.mapping)
  const children = touchedChildren(table, sets, deriving.mapping)
  const more = setReads(table, sets, deriving.mapping)
  const run = (params: Params, read: AggregateRows, env: StatementEnv): StatementResult => {
    const frame = frameOf(params, env, 1)
    checkFixed(sets, frame)
    const rows = workingRows(read)
    const written: Row[] = []
    const output: Row[] = []
    const replaced: Row[] = []
    for (const before of matching(target, read, frame)) {
      frame.rows[0] = before
      const row = updateRow(rules, sets, before, frame)
      if (keys.length > 0) {
        checkUnique(table, keys, row, rows, before)
        if (!sameClustering(table, before, row)) rows.remove(table, before)
      }
      rows.put(table, row)
      written.push(row)
      replaced.push(before)
      frame.rows[0] = row
      if (target.print !== null) output.push(target.print(frame))
    }
    if (references.length > 0) checkReferences(references, written, rows)
    if (children.length > 0) for (const before of replaced) checkUnreferenced(children, before, rows)
    return { rows: output, commandTag: `UPDATE ${written.length}`, changes: rows.changes() }
  }
  return writePlan(target, { reads: more, none: 'UPDATE 0', run })
}

function sameClustering(table: TableMapping, a: Row, b: Row): boolean {
  const [x, y] = [clusteringOf(table, a), clusteringOf(table, b)]
  return x.every((text, i) => text === y[i])
}

function refuseFrom(list: readonly Node[] | undefined, what: string): void {
  if (list !== undefined && list.length > 0) throw new NotDerivable(what, 'name the rows in the condition alone')
}

export function deriveDelete(statement: DeleteStmt, deriving: Deriving): DerivedPlan {
  refuseFrom(statement.usingClause, 'delete ... using')
  const target = targetOf(statement, deriving)
  const { table } = target
  const reach = deleteReach(table, deriving.mapping)
  const children = [...reach.values()].flat()
  // NO ACTION asks whether another row took the place of what is gone, so the parent's own rows are read too.
  const ranges = new Set(children.flatMap((one) => [one.child.name, one.parent.name]))
  const run = (params: Params, read: AggregateRows, env: StatementEnv): StatementResult => {
    const frame = frameOf(params, env, 1)
    const rows = workingRows(read)
    const output: Row[] = []
    const gone = matching(target, read, frame)
    for (const row of gone) {
      rows.remove(table, row)
      frame.rows[0] = row
      if (target.print !== null) output.push(target.print(frame))
    }
    if (children.length > 0) {
      deleteChildren(
        reach,
        gone.map((row) => ({ table, row })),
        rows,
      )
    }
    return { rows: output, commandTag: `DELETE ${gone.length}`, changes: rows.changes() }
  }
  const reads = [...ranges].map((name) => ({ kind: 'range', table: name }) as const)
  return writePlan(target, { reads, none: 'DELETE 0', run })
}

interface Write {
  /** Beside the rows of the table itself. */
  readonly reads: readonly ReadRequest[]
  /** The tag where the key is null, which no row has. */
  readonly none: string
  readonly run: (params: Params, rows: AggregateRows, env: StatementEnv) => StatementResult
}

function writePlan({ source, access, print, parameters }: Target, { reads, none, run }: Write): DerivedPlan {
  return {
    kind: 'keyed',
    readOnly: false,
    locks: false,
    returnsRows: print !== null,
    key: source.key,
    asks: [],
    insertedRows: 0,
    parameterTypes: parameterTypesOf(parameters),
    reads: (params) => {
      const own = readOf(access, frameOf(params, NO_ENV, 0))
      return reads.length === 0 ? own : mergeReads([...own, ...reads])
    },
    run: (params, rows, env) => (source.isNull(params) ? { rows: [], changes: [], commandTag: none } : run(params, rows, env)),
  }
}
