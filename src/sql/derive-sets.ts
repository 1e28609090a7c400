// Promises: the SET list of an update or of ON CONFLICT DO UPDATE: every right side sees the old row, then the row is finished.
import type { Mapping, TableMapping } from '../model/mapping.ts'
import type { ReadRequest } from '../model/plan.ts'
import { SqlError } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { type Node, NotDerivable } from './ast.ts'
import { compile } from './expression.ts'
import { type Frame, refusalOf, textOf } from './expression-types.ts'
import { type Reference, referencesFrom, referencesTo } from './foreign-keys.ts'
import type { Scope } from './scope.ts'
import { keysOf } from './unique.ts'
import { assigned, defaultOf, finishRow, type TableRules } from './write-rules.ts'

export interface Sets {
  readonly columns: readonly number[]
  readonly texts: readonly ((frame: Frame) => Cell)[]
  /** Values that hang on no row: PostgreSQL computes them while it plans, so one that fails fails without a row to update. */
  readonly fixed: readonly ((frame: Frame) => Cell)[]
  /** Sets a column of the primary or a unique key. */
  readonly changesKey: boolean
  /** What PostgreSQL refuses whatever the row. */
  readonly refusal: SqlError | null
}

export function compileSets(list: readonly Node[] | undefined, rules: TableRules, scope: Scope): Sets {
  const { table } = rules
  const columns: number[] = []
  const texts: ((frame: Frame) => Cell)[] = []
  const fixed: ((frame: Frame) => Cell)[] = []
  let refusal: SqlError | null = null
  for (const node of list ?? []) {
    if (!('ResTarget' in node) || node.ResTarget.indirection !== undefined) throw new NotDerivable('a part of a column as target')
    const { name, val } = node.ResTarget
    const index = table.columns.findIndex((column) => column.name === name)
    if (index < 0 || columns.includes(index)) throw new NotDerivable(`${name} is no column of ${table.name}, or is set twice`)
    const column = table.columns[index]!
    if (index === table.partition) {
      throw new NotDerivable(
        `it changes the partition key ${column.name}`,
        'delete the row and insert it under the new key, in two transactions',
      )
    }
    const right = rightSide(val)
    const isDefault = 'SetToDefault' in right
    if (!isDefault && (column.generatedExpr !== null || column.identity === 'always')) {
      const detail =
        column.generatedExpr !== null
          ? `Column "${column.name}" is a generated column.`
          : `Column "${column.name}" is an identity column defined as GENERATED ALWAYS.`
      refusal ??= new SqlError('428C9', `column "${column.name}" can only be updated to DEFAULT`, {
        detail,
        table: table.name,
        column: column.name,
      })
      continue
    }
    const value = isDefault ? defaultOf(rules, index, scope) : assigned(compile(right, scope), column, scope)
    refusal ??= refusalOf(value)
    const text = textOf(value)
    columns.push(index)
    texts.push(text)
    if (value.fixed && !value.constant) fixed.push(text)
  }
  const keyed = new Set(keysOf(table).flatMap((key) => key.columns))
  return { columns, texts, fixed, changesKey: columns.some((index) => keyed.has(index)), refusal }
}

/** `(a, b) = (1, 2)` is taken apart. */
function rightSide(node: Node | undefined): Node {
  if (node === undefined) throw new NotDerivable('a set without a value')
  if (!('MultiAssignRef' in node)) return node
  const { source, colno = 1 } = node.MultiAssignRef
  if (source === undefined || !('RowExpr' in source)) throw new NotDerivable('columns set from a query')
  const item = source.RowExpr.args?.[colno - 1]
  if (item === undefined) throw new NotDerivable('a set with too few values')
  return item
}

/** What PostgreSQL refuses before it looks at a row. */
export function checkFixed(sets: Sets, frame: Frame): void {
  if (sets.refusal !== null) throw sets.refusal
  for (const text of sets.fixed) text(frame)
}

/** The old row's successor, finished and checked. */
export function updateRow(rules: TableRules, sets: Sets, before: Row, frame: Frame): Row {
  const cells: Cell[] = [...before]
  for (let i = 0; i < sets.columns.length; i++) cells[sets.columns[i]!] = sets.texts[i]!(frame)
  return finishRow(rules, cells, frame)
}

const touches = (columns: readonly number[], sets: Sets) => columns.some((index) => sets.columns.includes(index))

/** Constraints of this table on others that the sets may break. */
export function touchedReferences(table: TableMapping, sets: Sets, mapping: Mapping): readonly Reference[] {
  return referencesFrom(table, mapping).filter((one) => touches(one.key.columns, sets))
}

/** Constraints of others on this table that the sets may break. */
export function touchedChildren(table: TableMapping, sets: Sets, mapping: Mapping): readonly Reference[] {
  const children = referencesTo(table, mapping).filter((one) => touches(one.key.referencedColumns, sets))
  for (const one of children) {
    if (one.key.onUpdate !== 'no action') throw new NotDerivable(`the foreign key ${one.key.name} is on update ${one.key.onUpdate}`)
  }
  return children
}

/** Reads that the checks after the sets need, besides the rows that are updated. */
export function setReads(table: TableMapping, sets: Sets, mapping: Mapping): ReadRequest[] {
  const requests: ReadRequest[] = []
  const range = (one: TableMapping) => requests.push({ kind: 'range', table: one.name })
  if (sets.changesKey) range(table)
  for (const one of touchedReferences(table, sets, mapping)) {
    if (one.point !== null && one.point.length === 0) requests.push({ kind: 'point', table: one.parent.name, clustering: [] })
    else range(one.parent)
  }
  for (const one of touchedChildren(table, sets, mapping)) {
    range(one.child)
    range(table)
  }
  return requests
}
