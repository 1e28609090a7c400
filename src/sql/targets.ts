// Promises: a select list or RETURNING as output columns: names, expressions and texts, `*` spread in column order.

import type { Cell, Row } from '../model/row.ts'
import { type Node, NotDerivable } from './ast.ts'
import { coerce } from './coerce.ts'
import { compile } from './expression.ts'
import { type Expression, type Frame, textOf } from './expression-types.ts'
import { columnOf, type Scope } from './scope.ts'

export interface Target {
  readonly name: string | null
  readonly value: Expression
}

export function compileTargets(list: readonly Node[] | undefined, scope: Scope): Target[] {
  const targets: Target[] = []
  for (const node of list ?? []) {
    if (!('ResTarget' in node)) throw new NotDerivable('an output that is no expression')
    const { name, val } = node.ResTarget
    if (val === undefined || node.ResTarget.indirection !== undefined) throw new NotDerivable('an output with a subscript')
    const star = starOf(val)
    if (star !== null) {
      targets.push(...spread(star.alias, scope))
      continue
    }
    const compiled = compile(val, scope)
    // What nothing gave a type is text.
    const value = compiled.type === 'unknown' ? coerce(scope, compiled, 'text', 'implicit') : compiled
    targets.push({ name: name ?? implicitName(val), value })
  }
  return targets
}

function starOf(node: Node): { alias: string | null } | null {
  if (!('ColumnRef' in node)) return null
  const fields = node.ColumnRef.fields ?? []
  const last = fields.at(-1)
  if (last === undefined || !('A_Star' in last)) return null
  if (fields.length === 1) return { alias: null }
  const first = fields[0]!
  if (fields.length > 2 || !('String' in first)) throw new NotDerivable('a qualified * of a schema')
  return { alias: first.String.sval ?? '' }
}

function spread(alias: string | null, scope: Scope): Target[] {
  if (alias === null && scope.merged.size > 0) throw new NotDerivable('* over a join with using', 'name the columns')
  if (scope.aggregates !== null) throw new NotDerivable('* in a grouped statement', 'name the columns')
  const targets: Target[] = []
  for (const [entry, range] of scope.entries.entries()) {
    if (alias === null ? range.alias === 'excluded' : range.alias !== alias) continue
    for (const [index, column] of range.table.columns.entries())
      targets.push({ name: column.name, value: columnOf(scope.entries, entry, index) })
  }
  if (targets.length === 0) throw new NotDerivable(`${alias}.* names no table of the statement`)
  return targets
}

/** The name that ORDER BY can call an output by: only a plain column's matters here. */
function implicitName(node: Node): string | null {
  if (!('ColumnRef' in node)) return null
  const last = node.ColumnRef.fields?.at(-1)
  return last !== undefined && 'String' in last ? (last.String.sval ?? null) : null
}

export function printerFor(targets: readonly Target[]): (frame: Frame) => Row {
  const texts = targets.map((target) => textOf(target.value))
  return (frame) => {
    const row: Cell[] = new Array(texts.length)
    for (let i = 0; i < texts.length; i++) row[i] = texts[i]!(frame)
    return row
  }
}
