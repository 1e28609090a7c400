// Promises: count, sum, min, max, avg, bool_and, bool_or over the rows of one aggregate, in the types and scales PostgreSQL gives.
import { NotDerivable } from './ast.ts'
import { coerce } from './coerce.ts'
import { add, type Decimal, decimal, divide } from './decimal.ts'
import type { Expression, Frame } from './expression-types.ts'
import { orderOf } from './operators.ts'
import type { Aggregate, Scope } from './scope.ts'
import { isInteger, type SqlType, typeLabel } from './types.ts'
import { checkInteger, identityOf, type Value } from './value.ts'

export const AGGREGATES: ReadonlySet<string> = new Set(['count', 'sum', 'min', 'max', 'avg', 'bool_and', 'bool_or', 'every'])

type Fold = Pick<Aggregate, 'start' | 'step' | 'finish'>

/** Registers the call with the scope and gives the expression that reads its result. */
export function aggregate(
  scope: Scope,
  name: string,
  call: { argument: Expression | null; distinct: boolean; filter: Expression | null },
): Expression {
  const list = scope.aggregates
  if (list === null) throw new NotDerivable(`the aggregate ${name}() here`)
  const argument = call.argument?.type === 'unknown' ? coerce(scope, call.argument, 'text', 'implicit') : call.argument
  const { type, fold } = resolve(name, argument)
  const identity = call.distinct && argument !== null ? identityOf(argument.type) : null
  if (call.distinct && identity === null) throw new NotDerivable(`distinct over ${argument === null ? 'rows' : typeLabel(argument.type)}`)
  const at = list.length
  list.push({ ...fold, argument, distinct: identity, filter: call.filter })
  return { type, typmod: -1, evaluate: (frame) => frame.aggregates[at] ?? null, constant: false, fixed: false, collation: null }
}

/** Results of all aggregate calls over the rows of a group. */
export function runAggregates(list: readonly Aggregate[], groups: readonly unknown[], visit: (row: never) => void, frame: Frame): Value[] {
  const states = list.map((one) => one.start())
  const seen = list.map((one) => (one.distinct === null ? null : new Set<string>()))
  for (const row of groups) {
    visit(row as never)
    for (const [i, one] of list.entries()) {
      if (one.filter !== null && one.filter.evaluate(frame) !== true) continue
      const value = one.argument === null ? true : one.argument.evaluate(frame)
      if (value === null) continue
      const identity = one.distinct?.(value)
      if (identity !== undefined) {
        if (seen[i]!.has(identity)) continue
        seen[i]!.add(identity)
      }
      states[i] = one.step(states[i], value)
    }
  }
  return list.map((one, i) => one.finish(states[i]))
}

function resolve(name: string, argument: Expression | null): { type: SqlType; fold: Fold } {
  if (name === 'count') return { type: 'int8', fold: { start: () => 0n, step: (n) => (n as bigint) + 1n, finish: (n) => n as bigint } }
  if (argument === null) throw new NotDerivable(`${name}(*)`)
  const { type } = argument
  if (name === 'min' || name === 'max') {
    if (type === 'bool' || type === 'uuid' || type === 'bytea') throw new NotDerivable(`${name}() of ${typeLabel(type)}`)
    const order = orderOf(argument)
    const wins = name === 'min' ? -1 : 1
    return { type: type === 'varchar' ? 'text' : type, fold: reduce((a, b) => (order(b, a) * wins > 0 ? b : a)) }
  }
  if (name === 'bool_and' || name === 'every' || name === 'bool_or') {
    if (type !== 'bool') throw new NotDerivable(`${name}() of ${typeLabel(type)}`)
    return { type: 'bool', fold: reduce((a, b) => (name === 'bool_or' ? a === true || b === true : a === true && b === true)) }
  }
  return name === 'sum' ? sum(type) : average(type)
}

function reduce(combine: (a: Exclude<Value, null>, b: Exclude<Value, null>) => Value): Fold {
  return {
    start: () => null,
    step: (state, value) => (state === null ? value : combine(state as Exclude<Value, null>, value as Exclude<Value, null>)),
    finish: (state) => state as Value,
  }
}

function sum(type: SqlType): { type: SqlType; fold: Fold } {
  if (type === 'int2' || type === 'int4')
    return { type: 'int8', fold: reduce((a, b) => checkInteger((a as bigint) + (b as bigint), 'int8')) }
  if (type === 'int8') {
    const { start, step } = reduce((a, b) => (a as bigint) + (b as bigint))
    return { type: 'numeric', fold: { start, step, finish: (state) => (state === null ? null : decimal(state as bigint)) } }
  }
  if (type === 'numeric') return { type, fold: reduce((a, b) => add(a as Decimal, b as Decimal)) }
  throw new NotDerivable(`sum() of ${typeLabel(type)}, which hangs on the order of the rows`, 'sum a numeric')
}

function average(type: SqlType): { type: SqlType; fold: Fold } {
  if (!isInteger(type) && type !== 'numeric') throw new NotDerivable(`avg() of ${typeLabel(type)}, which hangs on the order of the rows`)
  const asDecimal = (value: Value) => (type === 'numeric' ? (value as Decimal) : decimal(value as bigint))
  return {
    type: 'numeric',
    fold: {
      start: () => null,
      step: (state, value) => {
        const before = state as { total: Decimal; count: bigint } | null
        return before === null
          ? { total: asDecimal(value), count: 1n }
          : { total: add(before.total, asDecimal(value)), count: before.count + 1n }
      },
      finish: (state) => {
        const all = state as { total: Decimal; count: bigint } | null
        return all === null ? null : divide(all.total, decimal(all.count))
      },
    },
  }
}
