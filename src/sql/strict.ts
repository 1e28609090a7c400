// Promises: strict functions as PostgreSQL computes them: null of null. It folds a call away where a null stands in the statement itself;
// else it computes all arguments before it looks for nulls, so that one that fails does so beside a null too.
import { constant, constantOf, type Expression, expression, type Frame } from './expression-types.ts'
import type { SqlType } from './types.ts'
import type { Value } from './value.ts'

export type Strict = (a: Exclude<Value, null>, b: Exclude<Value, null>) => Value

export function strictUnary(type: SqlType, one: Expression, compute: (value: Exclude<Value, null>) => Value, typmod = -1): Expression {
  const { evaluate } = one
  const computed = (frame: Frame) => {
    const value = evaluate(frame)
    return value === null ? null : compute(value)
  }
  return expression(type, computed, [one], typmod)
}

export function strictBinary(type: SqlType, left: Expression, right: Expression, compute: Strict): Expression {
  if (constantOf(left) === null || constantOf(right) === null) return constant(type, null)
  const [a, b] = [left.evaluate, right.evaluate]
  const computed = (frame: Frame) => {
    const [x, y] = [a(frame), b(frame)]
    return x === null || y === null ? null : compute(x, y)
  }
  return expression(type, computed, [left, right])
}
