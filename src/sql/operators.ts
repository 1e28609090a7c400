// Promises: PostgreSQL's built-in binary operators over the mapped types, resolved as it resolves them, exact or refused.
import type { ColumnType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { parseArray } from './array.ts'
import { NotDerivable } from './ast.ts'
import { coerce, fold, textCast, withStableText } from './coerce.ts'
import { addDays, daysBetween } from './datetime.ts'
import { add, type Decimal, divide, multiply, negate, remainder, subtract } from './decimal.ts'
import { type Expression, expression } from './expression-types.ts'
import { bareText, concatenated, contains, fieldOf, hasKey, itemOf, type Json, jsonText, parseJson, pathOf } from './jsonb.ts'
import type { Scope } from './scope.ts'
import { type Strict, strictBinary, strictUnary } from './strict.ts'
import { elementOf, isArray, isInteger, isNumber, isText, operatorNumber, type SqlType, typeLabel } from './types.ts'
import { checkInteger, comparerOf, equalityOf, type Value } from './value.ts'

export const COMPARISONS: ReadonlySet<string> = new Set(['=', '<>', '!=', '<', '<=', '>', '>='])
const ARITHMETIC = new Set(['+', '-', '*', '/', '%'])

/** Operators that are all computed here; any other name may be a user's own. */
export function binary(scope: Scope, operator: string, left: Expression, right: Expression): Expression {
  if (COMPARISONS.has(operator)) return compare(scope, operator, left, right)
  if (operator === '||') return concatenate(scope, left, right)
  if (operator.startsWith('->') || operator.startsWith('#>') || operator === '@>' || operator === '<@' || operator === '?') {
    return jsonOperator(scope, operator, left, right)
  }
  if (ARITHMETIC.has(operator)) return arithmetic(scope, operator, left, right)
  throw new NotDerivable(`the operator ${operator}`)
}

export function strict(type: SqlType, left: Expression, right: Expression, compute: Strict): Expression {
  return fold(strictBinary(type, left, right, compute))
}

export function strictOne(type: SqlType, one: Expression, compute: (value: Exclude<Value, null>) => Value): Expression {
  return fold(strictUnary(type, one, compute))
}

/** Brings both sides of a comparison to the type it is computed in. */
export function comparable(scope: Scope, left: Expression, right: Expression): [Expression, Expression] {
  if (left.type === 'unknown' && right.type === 'unknown')
    return [coerce(scope, left, 'text', 'implicit'), coerce(scope, right, 'text', 'implicit')]
  if (left.type === 'unknown')
    return [coerce(scope, left, right.type === 'varchar' ? 'text' : (right.type as ColumnType), 'implicit'), right]
  if (right.type === 'unknown') return [left, coerce(scope, right, left.type === 'varchar' ? 'text' : left.type, 'implicit')]
  if (left.type === right.type) return [left, right]
  if (isNumber(left.type) && isNumber(right.type)) {
    if (isInteger(left.type) && isInteger(right.type)) return [left, right]
    const type = operatorNumber(left.type, right.type) as ColumnType
    return [coerce(scope, left, type, 'implicit'), coerce(scope, right, type, 'implicit')]
  }
  if (isText(left.type) && isText(right.type) && left.type !== 'bpchar' && right.type !== 'bpchar') return [left, right]
  if (isArray(left.type) && isArray(right.type) && isText(elementOf(left.type)) && isText(elementOf(right.type))) return [left, right]
  throw new NotDerivable(`comparing ${typeLabel(left.type)} with ${typeLabel(right.type)}`, 'compare values of one type')
}

export function compare(scope: Scope, operator: string, left: Expression, right: Expression): Expression {
  const [a, b] = comparable(scope, left, right)
  return strict('bool', a, b, comparison(operator, a, b))
}

export function comparison(operator: string, a: Expression, b: Expression): Strict {
  const type = a.type
  if (operator === '=' || operator === '<>' || operator === '!=') {
    const equal = equalityOf(type)
    if (equal === null) throw new NotDerivable(`equality of ${typeLabel(type)}`)
    return operator === '=' ? equal : (x, y) => !equal(x, y)
  }
  const order = orderOf(a, b)
  switch (operator) {
    case '<':
      return (x, y) => order(x, y) < 0
    case '<=':
      return (x, y) => order(x, y) <= 0
    case '>':
      return (x, y) => order(x, y) > 0
    default:
      return (x, y) => order(x, y) >= 0
  }
}

/** The order in which these are compared; text only under COLLATE "C". */
export function orderOf(...of: readonly Expression[]): (a: Exclude<Value, null>, b: Exclude<Value, null>) => number {
  const type = of[0]!.type
  const order = comparerOf(type)
  if (order === null) throw new NotDerivable(`the order of ${typeLabel(type)}`)
  if (isText(type) && !of.some((one) => one.collation === 'C')) {
    throw new NotDerivable('text is ordered by a collation that the target does not have', 'add collate "C"')
  }
  return order
}

function arithmetic(scope: Scope, operator: string, left: Expression, right: Expression): Expression {
  const dates = dateArithmetic(scope, operator, left, right)
  if (dates !== null) return dates
  if (left.type === 'jsonb' || right.type === 'jsonb') throw new NotDerivable(`the operator ${operator} of jsonb`)
  const known = left.type === 'unknown' ? right.type : left.type
  if (!isNumber(known)) throw new NotDerivable(`the operator ${operator} of ${typeLabel(known)}`)
  const type = (left.type === 'unknown' || right.type === 'unknown' ? known : operatorNumber(left.type, right.type)) as ColumnType
  const [a, b] = [coerce(scope, left, type, 'implicit'), coerce(scope, right, type, 'implicit')]
  if (isInteger(type)) return strict(type, a, b, integerArithmetic(operator, type))
  if (type === 'numeric') return strict(type, a, b, decimalArithmetic(operator))
  return strict(type, a, b, floatArithmetic(operator, type === 'float4'))
}

function dateArithmetic(scope: Scope, operator: string, left: Expression, right: Expression): Expression | null {
  if (left.type === 'date' && right.type === 'date' && operator === '-') {
    return strict('int4', left, right, (a, b) => {
      const days = daysBetween(a as string, b as string)
      if (days === null) throw new SqlError('22008', 'cannot subtract infinite dates')
      return days
    })
  }
  if (left.type !== 'date' || (operator !== '+' && operator !== '-') || !(right.type === 'int4' || right.type === 'int2')) return null
  const days = coerce(scope, right, 'int4', 'implicit')
  return strict('date', left, days, (a, b) => addDays(a as string, operator === '+' ? (b as bigint) : -(b as bigint)))
}

const divisionByZero = () => new SqlError('22012', 'division by zero')

function integerArithmetic(operator: string, type: ColumnType): Strict {
  const whole = (value: bigint) => checkInteger(value, type)
  switch (operator) {
    case '+':
      return (a, b) => whole((a as bigint) + (b as bigint))
    case '-':
      return (a, b) => whole((a as bigint) - (b as bigint))
    case '*':
      return (a, b) => whole((a as bigint) * (b as bigint))
    case '/':
      return (a, b) => {
        if (b === 0n) throw divisionByZero()
        return whole((a as bigint) / (b as bigint))
      }
    default:
      return (a, b) => {
        if (b === 0n) throw divisionByZero()
        return (a as bigint) % (b as bigint)
      }
  }
}

const DECIMAL: Readonly<Record<string, (a: Decimal, b: Decimal) => Decimal>> = {
  '+': add,
  '-': subtract,
  '*': multiply,
  '/': divide,
  '%': remainder,
}

function decimalArithmetic(operator: string): Strict {
  const compute = DECIMAL[operator]!
  return (a, b) => compute(a as Decimal, b as Decimal)
}

function floatArithmetic(operator: string, single: boolean): Strict {
  if (operator === '%') throw new NotDerivable('the operator % of double precision')
  const compute: (a: number, b: number) => number =
    operator === '+' ? (a, b) => a + b : operator === '-' ? (a, b) => a - b : operator === '*' ? (a, b) => a * b : (a, b) => a / b
  return (left, right) => {
    const [a, b] = [left as number, right as number]
    if (operator === '/' && b === 0 && !Number.isNaN(a)) throw divisionByZero()
    const wide = compute(a, b)
    const result = single ? Math.fround(wide) : wide
    if (!Number.isFinite(result) && Number.isFinite(a) && Number.isFinite(b)) throw new SqlError('22003', 'value out of range: overflow')
    const product = operator === '*' || operator === '/'
    if (product && result === 0 && a !== 0 && Number.isFinite(b) && (operator === '/' || b !== 0)) {
      throw new SqlError('22003', 'value out of range: underflow')
    }
    return result
  }
}

export function negated(operand: Expression): Expression {
  const { type } = operand
  if (!isNumber(type)) throw new NotDerivable(`the sign of ${typeLabel(type)}`)
  const compute = isInteger(type)
    ? (value: Value) => checkInteger(-(value as bigint), type)
    : type === 'numeric'
      ? (value: Value) => negate(value as Decimal)
      : (value: Value) => -(value as number)
  return strictOne(type, operand, compute)
}

function concatenate(scope: Scope, left: Expression, right: Expression): Expression {
  if (left.type === 'jsonb' || right.type === 'jsonb') {
    const [a, b] = [coerce(scope, left, 'jsonb', 'implicit'), coerce(scope, right, 'jsonb', 'implicit')]
    return strict('jsonb', a, b, (x, y) => jsonText(concatenated(json(x), json(y))))
  }
  if (isArray(left.type) || isArray(right.type)) throw new NotDerivable('|| of arrays')
  if (left.type === 'bytea' || right.type === 'bytea') throw new NotDerivable('|| of bytea')
  const known = isText(left.type) || isText(right.type)
  if (!known && left.type !== 'unknown' && right.type !== 'unknown') throw new NotDerivable('|| of values that are not text')
  const [a, b] = [asText(scope, left), asText(scope, right)]
  return strict('text', a, b, (x, y) => (x as string) + (y as string))
}

function asText(scope: Scope, one: Expression): Expression {
  if (one.type === 'unknown') return coerce(scope, one, 'text', 'implicit')
  if (isText(one.type) && one.type !== 'bpchar') return one
  const cast = textCast(withStableText(one).type)
  const { evaluate } = one
  return expression(
    'text',
    (frame) => {
      const value = evaluate(frame)
      return value === null ? null : cast(value)
    },
    [one],
  )
}

function json(value: Value): Json {
  const parsed = parseJson(value as string)
  if (parsed === null) throw new SqlError('22P02', 'invalid input syntax for type json')
  return parsed
}

function jsonOperator(scope: Scope, operator: string, left: Expression, right: Expression): Expression {
  if (left.type === 'json') throw new NotDerivable(`the operator ${operator} of json`, 'use jsonb')
  if (operator === '<@') return jsonOperator(scope, '@>', right, left)
  if (left.type !== 'jsonb') throw new NotDerivable(`the operator ${operator} of ${typeLabel(left.type)}`)
  switch (operator) {
    case '->':
    case '->>':
      return jsonStep(scope, operator, left, right)
    case '#>':
    case '#>>': {
      const path = coerce(scope, right, 'text[]', 'implicit')
      return jsonResult(operator === '#>>', left, path, (document, value) => pathOf(document, parseArray(value as string) ?? []))
    }
    case '@>': {
      const part = coerce(scope, right, 'jsonb', 'implicit')
      return strict('bool', left, part, (x, y) => contains(json(x), json(y)))
    }
    case '?':
      return strict('bool', left, coerce(scope, right, 'text', 'implicit'), (x, y) => hasKey(json(x), y as string))
    default:
      throw new NotDerivable(`the operator ${operator}`)
  }
}

function jsonStep(scope: Scope, operator: string, left: Expression, right: Expression): Expression {
  const bare = operator === '->>'
  if (right.type === 'int2' || right.type === 'int4')
    return jsonResult(bare, left, right, (document, value) => itemOf(document, value as bigint))
  const name = coerce(scope, right, 'text', 'implicit')
  return jsonResult(bare, left, name, (document, value) => fieldOf(document, value as string))
}

function jsonResult(bare: boolean, left: Expression, right: Expression, find: (document: Json, value: Value) => Json | null): Expression {
  return strict(bare ? 'text' : 'jsonb', left, right, (x, y) => {
    const found = find(json(x), y)
    if (bare) return bareText(found)
    return found === null ? null : jsonText(found)
  })
}
