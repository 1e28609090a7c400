// Promises: what names and parameters mean inside one statement: its range table, the types of parameters as PostgreSQL's own
// analysis decides them (the first use that knows one), and what the statement asks of PostgreSQL.
import type { ColumnType, TableMapping } from '../model/mapping.ts'
import { NotDerivable } from './ast.ts'
import { columnExpression, type Expression, type Frame } from './expression-types.ts'
import { isArray, isNumber } from './types.ts'
import { parserOf, type Value } from './value.ts'

export interface RangeEntry {
  /** What the statement calls it. */
  readonly alias: string
  /** Schema by which a column may be qualified too; null where an alias hides it. */
  readonly schema: string | null
  readonly table: TableMapping
}

export interface Aggregate {
  readonly start: () => unknown
  readonly step: (state: unknown, value: Value) => unknown
  readonly finish: (state: unknown) => Value
  /** null counts rows. */
  readonly argument: Expression | null
  readonly distinct: ((value: Exclude<Value, null>) => string) | null
  readonly filter: Expression | null
}

export interface Scope {
  readonly entries: readonly RangeEntry[]
  /** Columns of JOIN ... USING by name: the left side's. */
  readonly merged: ReadonlyMap<string, Expression>
  readonly parameters: Map<number, ColumnType>
  /** A function of this name in the search path that is not PostgreSQL's own. */
  readonly foreignFunction: (name: string) => boolean
  /** Where aggregate functions are collected; null where they may not stand. */
  aggregates: Aggregate[] | null
  /** Inside an aggregate's argument: no other may stand there. */
  inAggregate: boolean
  /** Columns outside of an aggregate that a grouped statement shows. */
  readonly loose: { entry: number; index: number }[]
  /** Where values that only PostgreSQL gives are collected; null where they may not be asked. */
  asks: string[] | null
  /** Set where an expression calls what differs from call to call. */
  volatile: boolean
}

export function scopeOver(
  entries: readonly RangeEntry[],
  options: {
    parameters: Map<number, ColumnType>
    foreignFunction: (name: string) => boolean
    merged?: ReadonlyMap<string, Expression>
  },
): Scope {
  return {
    entries,
    merged: options.merged ?? new Map(),
    parameters: options.parameters,
    foreignFunction: options.foreignFunction,
    aggregates: null,
    inAggregate: false,
    loose: [],
    asks: null,
    volatile: false,
  }
}

export function columnOf(entries: readonly RangeEntry[], entry: number, index: number): Expression {
  const column = entries[entry]!.table.columns[index]!
  return columnExpression(column.type, column.typmod, entry, index)
}

/** Resolves `column`, `alias.column` or `schema.table.column`. */
export function resolveColumn(scope: Scope, path: readonly string[]): Expression {
  const name = path[path.length - 1]!
  if (path.length === 1) {
    const merged = scope.merged.get(name)
    if (merged !== undefined) return noted(scope, merged)
  }
  let found: Expression | null = null
  for (const [entry, range] of scope.entries.entries()) {
    if (path.length === 2 && range.alias !== path[0]) continue
    if (path.length === 3 && (range.schema !== path[0] || range.alias !== path[1])) continue
    // `excluded` is only ever named.
    if (path.length === 1 && range.alias === 'excluded') continue
    const index = range.table.columns.findIndex((column) => column.name === name)
    if (index < 0) continue
    if (found !== null) throw new NotDerivable(`the column ${name} is ambiguous`)
    found = columnOf(scope.entries, entry, index)
  }
  if (found === null || path.length > 3) throw new NotDerivable(`${path.join('.')} is no column of the mapped tables named`)
  return noted(scope, found)
}

function noted(scope: Scope, column: Expression): Expression {
  if (scope.aggregates !== null && !scope.inAggregate && column.column !== undefined) scope.loose.push(column.column)
  return column
}

const PARSED = new Set(['bool'])

export function parameterExpression(number: number, type: ColumnType): Expression {
  const parse = parserOf(type)
  const at = number - 1
  const evaluate = (frame: Frame) => {
    const cell = frame.params[at] ?? null
    return cell === null ? null : parse(cell)
  }
  const base = { type, typmod: -1, parameter: number, constant: false, fixed: true, collation: null, evaluate } as const
  // Numbers and booleans are read, so that what is shown or stored is canonical whatever came.
  if (isNumber(type) || PARSED.has(type) || isArray(type)) return base
  return { ...base, text: (frame) => frame.params[at] ?? null }
}

export function parameter(scope: Scope, number: number): Expression {
  const type = scope.parameters.get(number)
  if (type !== undefined) return parameterExpression(number, type)
  return {
    type: 'unknown',
    typmod: -1,
    parameter: number,
    constant: false,
    fixed: true,
    collation: null,
    evaluate: (frame) => frame.params[number - 1] ?? null,
  }
}
