// Promises: the built-in functions that are computed here, exactly as PostgreSQL computes them for the mapped types.
import type { ColumnType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { parseArray } from './array.ts'
import { NotDerivable } from './ast.ts'
import { coerce, fold, withStableText } from './coerce.ts'
import { absolute, ceil, type Decimal, floor, roundTo, sign, truncateTo } from './decimal.ts'
import { type Expression, expression, type Frame, textOf } from './expression-types.ts'
import { type Json, parseJson } from './jsonb.ts'
import { strict, strictOne } from './operators.ts'
import type { Scope } from './scope.ts'
import { isArray, isInteger, isText, typeLabel } from './types.ts'
import { checkInteger, type Value } from './value.ts'

type Build = (scope: Scope, args: readonly Expression[], name: string) => Expression

const MAX_ROUND = 2000n

const TABLE: Readonly<Record<string, Build>> = {
  abs: numberFunction((value) => (value < 0n ? -value : value), absolute, Math.abs),
  ceil: decimalFunction(ceil, Math.ceil),
  ceiling: decimalFunction(ceil, Math.ceil),
  floor: decimalFunction(floor, Math.floor),
  sign: decimalFunction(sign, (value) => (Number.isNaN(value) ? value : value > 0 ? 1 : value < 0 ? -1 : 0)),
  round: rounding(roundTo),
  trunc: rounding(truncateTo),
  mod: (scope, args) => modulo(scope, args),
  length: characters,
  char_length: characters,
  character_length: characters,
  octet_length: (scope, args) => textFunction(scope, args, 'int4', (text) => BigInt(Buffer.byteLength(text))),
  lower: (scope, args, name) => caseFunction(scope, args, name, (text) => text.toLowerCase()),
  upper: (scope, args, name) => caseFunction(scope, args, name, (text) => text.toUpperCase()),
  concat: (_scope, args) => concat(args),
  left: (scope, args) => cut(scope, args, (all, n) => (n >= 0 ? all.slice(0, n) : all.slice(0, Math.max(0, all.length + n)))),
  right: (scope, args) =>
    cut(scope, args, (all, n) => (n >= 0 ? all.slice(Math.max(0, all.length - n)) : all.slice(Math.min(all.length, -n)))),
  now,
  transaction_timestamp: now,
  gen_random_uuid: uuid,
  nextval,
  cardinality: (_scope, args) => {
    const [one] = exactly(args, 1)
    if (!isArray(one!.type)) throw new NotDerivable('cardinality of what is no array')
    return strictOne('int4', one!, (value) => BigInt(arrayOf(value).length))
  },
  jsonb_typeof: (_scope, args) => {
    const [one] = exactly(args, 1)
    if (one!.type !== 'jsonb') throw new NotDerivable('jsonb_typeof of what is not jsonb')
    return strictOne('text', one!, (value) => typeOfJson(parseJson(value as string)!))
  },
  jsonb_array_length: (_scope, args) => {
    const [one] = exactly(args, 1)
    if (one!.type !== 'jsonb') throw new NotDerivable('jsonb_array_length of what is not jsonb')
    return strictOne('int4', one!, (value) => {
      const document = parseJson(value as string)!
      if (document.kind === 'array') return BigInt(document.items.length)
      throw new SqlError('22023', `cannot get array length of a ${document.kind === 'object' ? 'non-array' : 'scalar'}`)
    })
  },
}

export function callFunction(scope: Scope, name: string, args: readonly Expression[]): Expression {
  const build = Object.hasOwn(TABLE, name) ? TABLE[name]! : null
  if (build === null) throw new NotDerivable(`the function ${name}()`)
  return build(scope, args, name)
}

function exactly(args: readonly Expression[], count: number): readonly Expression[] {
  if (args.length !== count) throw new NotDerivable(`a function call with ${args.length} arguments`)
  return args
}

function numberFunction(
  whole: (value: bigint) => bigint,
  exact: (value: Decimal) => Decimal,
  approximate: (value: number) => number,
): Build {
  return (_scope, args, name) => {
    const one = exactly(args, 1)[0]!
    const type = one.type
    if (isInteger(type)) return strictOne(type as ColumnType, one, (value) => checkInteger(whole(value as bigint), type))
    if (type === 'numeric') return strictOne('numeric', one, (value) => exact(value as Decimal))
    if (type === 'float8' || type === 'float4') return strictOne(type, one, (value) => approximate(value as number))
    throw new NotDerivable(`${name}() of ${typeLabel(type)}`)
  }
}

/** Of integers PostgreSQL computes these in double precision. */
function decimalFunction(exact: (value: Decimal) => Decimal, approximate: (value: number) => number): Build {
  return (scope, args, name) => {
    const one = exactly(args, 1)[0]!
    if (one.type === 'numeric') return strictOne('numeric', one, (value) => exact(value as Decimal))
    if (!isInteger(one.type) && one.type !== 'float8' && one.type !== 'float4')
      throw new NotDerivable(`${name}() of ${typeLabel(one.type)}`)
    return strictOne('float8', coerce(scope, one, 'float8', 'implicit'), (value) => approximate(value as number))
  }
}

function rounding(compute: (value: Decimal, scale: number) => Decimal): Build {
  return (scope, args, name) => {
    if (args.length === 1) {
      if (args[0]!.type !== 'numeric') throw new NotDerivable(`${name}() of ${typeLabel(args[0]!.type)}`, 'cast it to numeric')
      return strictOne('numeric', args[0]!, (value) => compute(value as Decimal, 0))
    }
    const [value, scale] = exactly(args, 2)
    if (value!.type !== 'numeric' && !isInteger(value!.type)) throw new NotDerivable(`${name}() of ${typeLabel(value!.type)}`)
    return strict('numeric', coerce(scope, value!, 'numeric', 'implicit'), coerce(scope, scale!, 'int4', 'implicit'), (x, n) => {
      const digits = (n as bigint) > MAX_ROUND ? MAX_ROUND : (n as bigint) < -MAX_ROUND ? -MAX_ROUND : (n as bigint)
      return compute(x as Decimal, Number(digits))
    })
  }
}

function modulo(scope: Scope, args: readonly Expression[]): Expression {
  const [a, b] = exactly(args, 2)
  if (a!.type !== b!.type || !isInteger(a!.type)) throw new NotDerivable('mod() of different types', 'use the operator %')
  return strict(a!.type, coerce(scope, a!, a!.type as ColumnType, 'implicit'), b!, (x, y) => {
    if (y === 0n) throw new SqlError('22012', 'division by zero')
    return (x as bigint) % (y as bigint)
  })
}

function textFunction(scope: Scope, args: readonly Expression[], type: ColumnType, compute: (text: string) => Value): Expression {
  const one = exactly(args, 1)[0]!
  if (one.type !== 'unknown' && (!isText(one.type) || one.type === 'bpchar'))
    throw new NotDerivable(`a text function of ${typeLabel(one.type)}`)
  return strictOne(type, coerce(scope, one, 'text', 'implicit'), (value) => compute(value as string))
}

function characters(scope: Scope, args: readonly Expression[]): Expression {
  return textFunction(scope, args, 'int4', (text) => BigInt([...text].length))
}

/** Beyond ASCII, and for the Turkish i within it, the case of a letter is the database's locale; collation "C" is ASCII alone. */
function caseFunction(scope: Scope, args: readonly Expression[], name: string, compute: (text: string) => string): Expression {
  if (args[0]?.collation === 'C') return textFunction(scope, args, 'text', (text) => text.replace(/[A-Za-z]+/g, compute))
  throw new NotDerivable(`${name}() is the database's locale`, `change the case in the application, or add collate "C" to the argument`)
}

function concat(args: readonly Expression[]): Expression {
  const texts = args.map((one) => (one.type === 'unknown' ? literalText(one) : textOf(withStableText(one))))
  return fold(expression('text', (frame) => texts.map((text) => text(frame) ?? '').join(''), args))
}

function literalText(one: Expression): (frame: Frame) => string | null {
  if (one.parameter !== undefined) throw new NotDerivable('concat() of a parameter without a type', 'cast the parameter to text')
  return () => one.literal ?? null
}

function cut(scope: Scope, args: readonly Expression[], compute: (all: readonly string[], n: number) => readonly string[]): Expression {
  const [text, count] = exactly(args, 2)
  if (!isText(text!.type) || text!.type === 'bpchar') throw new NotDerivable('left() or right() of what is not text')
  return strict('text', text!, coerce(scope, count!, 'int4', 'implicit'), (x, n) => compute([...(x as string)], Number(n)).join(''))
}

function now(_scope: Scope, args: readonly Expression[]): Expression {
  exactly(args, 0)
  return {
    type: 'timestamptz',
    typmod: -1,
    evaluate: (frame) => frame.env.nowText,
    text: (frame) => frame.env.nowText,
    constant: false,
    fixed: false,
    collation: null,
  }
}

function uuid(scope: Scope, args: readonly Expression[]): Expression {
  exactly(args, 0)
  scope.volatile = true
  return { type: 'uuid', typmod: -1, evaluate: (frame) => frame.env.uuid(), constant: false, fixed: false, collation: null }
}

/** Sequences stay PostgreSQL's: it is asked, once a row, also for keys that have moved. */
function nextval(scope: Scope, args: readonly Expression[]): Expression {
  const name = exactly(args, 1)[0]!.literal
  if (name === undefined) throw new NotDerivable('nextval() of a name that is computed')
  return askFor(scope, `nextval('${name.replaceAll("'", "''")}')`, 'int8')
}

export function askFor(scope: Scope, sql: string, type: ColumnType): Expression {
  const { asks } = scope
  if (asks === null) throw new NotDerivable('a value that only PostgreSQL gives, outside of the rows of an insert')
  const at = asks.length
  asks.push(sql)
  return answerExpression(at, type)
}

export function answerExpression(at: number, type: ColumnType): Expression {
  const parse = isInteger(type) ? (text: string): Value => BigInt(text) : (text: string): Value => text
  return {
    type,
    typmod: -1,
    evaluate: (frame) => {
      const cell = frame.env.answers[frame.inserted]?.[at]
      if (cell === undefined) throw new TypeError(`row ${frame.inserted} of an insert was not answered question ${at}`)
      return cell === null ? null : parse(cell)
    },
    constant: false,
    fixed: false,
    collation: null,
  }
}

function typeOfJson(document: Json): string {
  return document.kind === 'bool' ? 'boolean' : document.kind
}

function arrayOf(value: Value): (string | null)[] {
  return parseArray(value as string) ?? []
}
