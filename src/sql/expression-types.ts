// Promises: what a compiled expression is. Compiled once at plan time; at run time only closures are called.

import type { ColumnType } from '../model/mapping.ts'
import { type Params, SqlError, type StatementEnv } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import type { SqlType } from './types.ts'
import { parserOf, printerOf, type Value } from './value.ts'

/** What an expression sees while it runs. One object a run, its fields reset a row. */
export interface Frame {
  readonly params: Params
  readonly env: StatementEnv
  /** One row for each entry of the statement's range table; null on the empty side of an outer join. */
  readonly rows: (Row | null)[]
  /** Which of `env.answers` is the present row's. */
  inserted: number
  /** Results of the statement's aggregate functions for the present group. */
  aggregates: readonly Value[]
}

export interface Expression {
  readonly type: SqlType
  readonly typmod: number
  readonly evaluate: (frame: Frame) => Value
  /** The value's text, where it is at hand without computing (a column, a parameter). */
  readonly text?: (frame: Frame) => Cell
  /** A quoted literal whose type is still open: its text. */
  readonly literal?: string
  /** A parameter, by number from 1. */
  readonly parameter?: number
  /** A plain column, seen through casts that change nothing. */
  readonly column?: { readonly entry: number; readonly index: number }
  /** The same for every row and run. */
  readonly constant: boolean
  /** The same for every row of a run: constants and parameters. */
  readonly fixed: boolean
  /** Collation stated with COLLATE; null is the default of the column or database. */
  readonly collation: 'C' | null
}

export function expression(type: SqlType, evaluate: (frame: Frame) => Value, of: readonly Expression[], typmod = -1): Expression {
  return {
    type,
    typmod,
    evaluate,
    constant: of.every((one) => one.constant),
    fixed: of.every((one) => one.fixed),
    collation: of.some((one) => one.collation === 'C') ? 'C' : null,
  }
}

export function constant(type: SqlType, value: Value, typmod = -1): Expression {
  return { type, typmod, evaluate: () => value, constant: true, fixed: true, collation: null }
}

/** The value of a constant that PostgreSQL does not refuse; undefined: it is none. */
export function constantOf(one: Expression): Value | undefined {
  return one.constant && refusalOf(one) === null ? one.evaluate(NO_FRAME) : undefined
}

/** For what a folded call needs no row for. */
export const NO_FRAME: Frame = {
  params: [],
  env: { nowText: '', answers: [], uuid: () => '' },
  rows: [],
  inserted: 0,
  aggregates: [],
}

/** The error of a constant that PostgreSQL refuses whatever the rows: it folds constants before it looks at any. */
export function refusalOf(one: Expression): SqlError | null {
  if (!one.constant) return null
  try {
    one.evaluate(NO_FRAME)
    return null
  } catch (error) {
    if (error instanceof SqlError) return error
    throw error
  }
}

/** Output text of an expression. */
export function textOf(one: Expression): (frame: Frame) => Cell {
  if (one.text !== undefined) return one.text
  const print = printerOf(one.type)
  const { evaluate } = one
  if (one.constant && refusalOf(one) === null) {
    const value = evaluate(NO_FRAME)
    const text = value === null ? null : print(value)
    return () => text
  }
  return (frame) => {
    const value = evaluate(frame)
    return value === null ? null : print(value)
  }
}

export function columnExpression(type: ColumnType, typmod: number, entry: number, index: number): Expression {
  const parse = parserOf(type)
  return {
    type,
    typmod,
    column: { entry, index },
    constant: false,
    fixed: false,
    collation: null,
    text: (frame) => frame.rows[entry]?.[index] ?? null,
    evaluate: (frame) => {
      const cell = frame.rows[entry]?.[index] ?? null
      return cell === null ? null : parse(cell)
    },
  }
}
