// Promises: three-valued logic and the predicates over it, as SQL has them.
import type { BoolTestType } from 'libpg-query'
import type { ColumnType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { parseArray } from './array.ts'
import { NotDerivable } from './ast.ts'
import { coerce } from './coerce.ts'
import { constant, constantOf, type Expression, expression } from './expression-types.ts'
import { COMPARISONS, comparable, compare, comparison, strict } from './operators.ts'
import type { Scope } from './scope.ts'
import { elementOf, isArray, isNumber, isText, typeLabel, widerNumber } from './types.ts'
import { parserOf, type Value } from './value.ts'

export function conjunction(args: readonly Expression[]): Expression {
  if (args.some((one) => constantOf(one) === false)) return constant('bool', false)
  const tests = args.map((one) => one.evaluate)
  return expression(
    'bool',
    (frame) => {
      let result: Value = true
      for (const test of tests) {
        const value = test(frame)
        if (value === false) return false
        if (value === null) result = null
      }
      return result
    },
    args,
  )
}

export function disjunction(args: readonly Expression[]): Expression {
  if (args.some((one) => constantOf(one) === true)) return constant('bool', true)
  const tests = args.map((one) => one.evaluate)
  return expression(
    'bool',
    (frame) => {
      let result: Value = false
      for (const test of tests) {
        const value = test(frame)
        if (value === true) return true
        if (value === null) result = null
      }
      return result
    },
    args,
  )
}

export function inverse(one: Expression): Expression {
  const { evaluate } = one
  return expression(
    'bool',
    (frame) => {
      const value = evaluate(frame)
      return value === null ? null : !value
    },
    [one],
  )
}

export function nullTest(one: Expression, isNull: boolean): Expression {
  if (one.type === 'unknown' && one.parameter !== undefined)
    throw new NotDerivable('a parameter whose type nothing decides', 'cast the parameter')
  const look = one.text ?? one.evaluate
  return expression('bool', (frame) => (look(frame) === null) === isNull, [one])
}

export function booleanTest(one: Expression, test: BoolTestType): Expression {
  const { evaluate } = one
  const wanted: Value = test.endsWith('UNKNOWN') ? null : test.endsWith('TRUE')
  const negative = test.startsWith('IS_NOT')
  return expression('bool', (frame) => (evaluate(frame) === wanted) !== negative, [one])
}

export function sameness(scope: Scope, left: Expression, right: Expression, same: boolean): Expression {
  const [a, b] = comparable(scope, left, right)
  const equal = comparison('=', a, b)
  const [x, y] = [a.evaluate, b.evaluate]
  return expression(
    'bool',
    (frame) => {
      const [p, q] = [x(frame), y(frame)]
      const alike = p === null || q === null ? p === q : equal(p, q) === true
      return alike === same
    },
    [a, b],
  )
}

export function nullIf(scope: Scope, left: Expression, right: Expression): Expression {
  const [a, b] = comparable(scope, left, right)
  const equal = comparison('=', a, b)
  const [x, y] = [a.evaluate, b.evaluate]
  // The result has the left side's own type, not the one compared in.
  const own = left.type === 'unknown' ? a : left
  // They cannot be equal where one is a null in the statement itself: PostgreSQL computes nothing of the other.
  if (constantOf(a) === null || constantOf(b) === null) return own
  return expression(
    own.type,
    (frame) => {
      const [value, other] = [x(frame), y(frame)] // both, even beside a null: one that fails does so
      return value !== null && other !== null && equal(value, other) === true ? null : own.evaluate(frame)
    },
    [a, b],
  )
}

export function between(scope: Scope, one: Expression, bounds: readonly Expression[], negative: boolean): Expression {
  const [low, high] = bounds
  const from = compare(scope, negative ? '<' : '>=', one, low!)
  const to = compare(scope, negative ? '>' : '<=', one, high!)
  return negative ? disjunction([from, to]) : conjunction([from, to])
}

/** `in (a, b)`: all are brought to the one type that PostgreSQL compares in. */
export function inList(scope: Scope, one: Expression, items: readonly Expression[], negative: boolean): Expression {
  const known = [one, ...items].filter((item) => item.type !== 'unknown')
  const numbers = known.length > 0 && known.every((item) => isNumber(item.type))
  const wide = numbers ? known.map((item) => item.type).reduce(widerNumber) : null
  const bring = (item: Expression) => (wide === null || items.length === 1 ? item : coerce(scope, item, wide as ColumnType, 'implicit'))
  const left = bring(one)
  const tests = items.map((item) => compare(scope, negative ? '<>' : '=', left, bring(item)))
  return negative ? conjunction(tests) : disjunction(tests)
}

/** `x op any (array)` and `all`. */
export function quantified(scope: Scope, operator: string, left: Expression, right: Expression, any: boolean): Expression {
  if (!COMPARISONS.has(operator)) throw new NotDerivable(`${operator} ${any ? 'any' : 'all'}`)
  const array = right.type === 'unknown' ? coerce(scope, right, arrayTypeFor(left), 'implicit') : right
  if (!isArray(array.type)) throw new NotDerivable(`any or all over ${typeLabel(array.type)}`)
  const element = { ...constant(elementOf(array.type), null), constant: false, collation: array.collation }
  const [a, b] = comparable(scope, left, element)
  const test = comparison(operator, a, b)
  const parse = parserOf(elementOf(array.type))
  const convert = b === element ? null : b
  if (convert !== null)
    throw new NotDerivable(`comparing ${typeLabel(left.type)} with elements of ${typeLabel(array.type)}`, 'cast the array')
  let seenText: string | undefined
  let seen: readonly (Value | null)[] = []
  const elementsOf = (text: string) => {
    if (text !== seenText) {
      seen = (parseArray(text) ?? badArray(text)).map((one) => (one === null ? null : parse(one)))
      seenText = text
    }
    return seen
  }
  const [x, y] = [a.evaluate, array.evaluate]
  return expression(
    'bool',
    (frame) => {
      const [value, text] = [x(frame), y(frame)]
      if (text === null) return null
      const elements = elementsOf(text as string)
      if (elements.length === 0) return !any
      if (value === null) return null
      let result: Value = !any
      for (const one of elements) {
        const verdict = one === null ? null : test(value, one)
        if (verdict === any) return any
        if (verdict === null) result = null
      }
      return result
    },
    [a, array],
  )
}

function badArray(text: string): never {
  throw new SqlError('0A000', `an array with bounds of its own cannot be compared here: ${text.slice(0, 80)}`)
}

function arrayTypeFor(left: Expression): ColumnType {
  if (left.type === 'unknown') throw new NotDerivable('any or all of values without a type', 'cast them')
  if (isArray(left.type)) throw new NotDerivable('any or all of arrays')
  return `${left.type === 'varchar' ? 'text' : left.type}[]` as ColumnType
}

export function like(scope: Scope, left: Expression, right: Expression, negative: boolean): Expression {
  const [a, b] = [textual(scope, left), textual(scope, right)]
  let seenPattern: string | undefined
  let seen: readonly Step[] = []
  return strict('bool', a, b, (text, pattern) => {
    if (pattern !== seenPattern) {
      seen = likePattern(pattern as string)
      seenPattern = pattern as string
    }
    return likeMatches(text as string, seen) !== negative
  })
}

function textual(scope: Scope, one: Expression): Expression {
  if (one.type === 'unknown') return coerce(scope, one, 'text', 'implicit')
  if (isText(one.type) && one.type !== 'bpchar') return one
  throw new NotDerivable(`like over ${typeLabel(one.type)}`)
}

const ANY_ONE = 1
const ANY_MANY = 2
type Step = string | typeof ANY_ONE | typeof ANY_MANY

function likePattern(pattern: string): readonly Step[] {
  const steps: Step[] = []
  const characters = [...pattern]
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i]!
    if (character === '%') steps.push(ANY_MANY)
    else if (character === '_') steps.push(ANY_ONE)
    else if (character !== '\\') steps.push(character)
    else {
      i++
      if (i >= characters.length) throw new SqlError('22025', 'LIKE pattern must not end with escape character')
      steps.push(characters[i]!)
    }
  }
  return steps
}

/** Goes back only to the last `%`: at worst text times pattern, where a regular expression may take forever. */
function likeMatches(text: string, steps: readonly Step[]): boolean {
  const characters = [...text]
  let [at, step, mark, resume] = [0, 0, -1, 0]
  while (at < characters.length) {
    const wanted = steps[step]
    if (wanted === ANY_MANY) {
      mark = step++
      resume = at
    } else if (wanted === ANY_ONE || wanted === characters[at]) {
      at++
      step++
    } else if (mark >= 0) {
      step = mark + 1
      at = ++resume
    } else return false
  }
  while (steps[step] === ANY_MANY) step++
  return step === steps.length
}
