// Promises: PostgreSQL's casts between the mapped types, implicit, on assignment and explicit, with their errors. What depends on
// a session's settings (DateStyle, TimeZone) or is not exact here is refused at plan time.
import type { ColumnType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { arrayText, parseArray } from './array.ts'
import { NotDerivable } from './ast.ts'
import { clockMicros, clockText, dateText, parseStamp, roundClock, roundStamp, stampText } from './datetime.ts'
import { applyTypmod, type Decimal, decimal, decimalText, parseDecimal, roundTo } from './decimal.ts'
import { constant, type Expression, NO_FRAME } from './expression-types.ts'
import { jsonText, parseJson } from './jsonb.ts'
import { parameterExpression, type Scope } from './scope.ts'
import { strictUnary } from './strict.ts'
import { elementOf, isArray, isInteger, isNumber, isText, type SqlType, typeLabel, widerNumber } from './types.ts'
import { checkInteger, invalidInput, parserOf, printerOf, unpadded, type Value } from './value.ts'

export type CastContext = 'implicit' | 'assignment' | 'explicit'
type Cast = (value: Exclude<Value, null>) => Value

/** The expression as `type`, typmod not applied. */
export function coerce(scope: Scope, from: Expression, type: ColumnType, context: CastContext): Expression {
  if (from.type === 'unknown') return coerceUnknown(scope, from, type)
  if (from.type === type) return from
  const cast = castBetween(from.type, type, context)
  if (cast === null) throw new NotDerivable(`a cast from ${typeLabel(from.type)} to ${typeLabel(type)}`)
  return applied(from, type, cast)
}

function applied(from: Expression, type: ColumnType, cast: Cast): Expression {
  // A relabelling: still the same column, the same text.
  if (cast === same) return { ...from, type, typmod: -1 }
  return fold(strictUnary(type, from, cast))
}

/** Computes what is constant once; a constant that fails is PostgreSQL's to report. */
export function fold(one: Expression): Expression {
  if (!one.constant) return one
  try {
    return { ...constant(one.type, one.evaluate(NO_FRAME), one.typmod), collation: one.collation }
  } catch (error) {
    if (error instanceof SqlError) throw new NotDerivable(`a constant that PostgreSQL refuses: ${error.message}`)
    throw error
  }
}

function coerceUnknown(scope: Scope, from: Expression, type: ColumnType): Expression {
  if (from.parameter !== undefined) {
    const known = scope.parameters.get(from.parameter)
    if (known !== undefined && known !== type) {
      throw new NotDerivable(`parameter $${from.parameter} is used as ${typeLabel(known)} and as ${typeLabel(type)}`, 'cast the parameter')
    }
    scope.parameters.set(from.parameter, type)
    return parameterExpression(from.parameter, type)
  }
  if (from.literal === undefined) return constant(type, null)
  return constant(type, literalValue(type, from.literal))
}

/** A quoted literal read as `type`: only where its text means the same under every setting. */
export function literalValue(type: ColumnType, text: string): Value {
  try {
    const value = isArray(type) ? arrayLiteral(type, text) : scalarLiteral(type, text)
    if (value !== undefined) return value
  } catch (error) {
    if (!(error instanceof SqlError)) throw error
    throw new NotDerivable(`a literal that PostgreSQL refuses: ${error.message}`)
  }
  throw new NotDerivable(
    `the ${typeLabel(type)} literal '${text}' is not in a form that is read exactly`,
    'write it as PostgreSQL prints it, or as a parameter',
  )
}

const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i

function uuidText(text: string): string | undefined {
  const bare = text.replace(/^\{(.*)\}$/, '$1')
  if (!UUID.test(bare)) return undefined
  const hex = bare.replaceAll('-', '').toLowerCase()
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** undefined: not read exactly here. */
function scalarLiteral(type: ColumnType, text: string): Value | undefined {
  switch (type) {
    case 'text':
    case 'varchar':
    case 'bpchar':
      return text
    case 'uuid':
      return uuidText(text)
    case 'jsonb': {
      const json = parseJson(text)
      return json === null ? undefined : jsonText(json)
    }
    case 'json':
      return parseJson(text) === null ? undefined : text
    case 'bytea':
      return /^\\x([0-9a-f]{2})*$/i.test(text) ? text.toLowerCase() : undefined
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      return stampLiteral(type, text)
    case 'time': {
      const micros = clockMicros(text)
      return micros === null ? undefined : clockText(micros)
    }
    case 'interval':
      return undefined
    default:
      return parserOf(type)(text)
  }
}

function stampLiteral(type: 'date' | 'timestamp' | 'timestamptz', text: string): string | undefined {
  const stamp = parseStamp(text)
  if (stamp === null) return undefined
  if (type === 'date') return stamp.clocked && !text.endsWith('infinity') ? undefined : dateText(stamp.micros)
  if (type === 'timestamp') return stamp.zoned && !text.endsWith('infinity') ? undefined : stampText(stamp.micros, false)
  // Without an offset it means the session's time zone.
  return stamp.zoned ? stampText(stamp.micros, true) : undefined
}

function arrayLiteral(type: ColumnType, text: string): Value | undefined {
  const elements = parseArray(text)
  if (elements === null || /^\s*\{\s*[{"]*\s*\{/.test(text)) return undefined
  const element = elementOf(type)
  const print = printerOf(element)
  const printed: (string | null)[] = []
  for (const one of elements) {
    const value = one === null ? null : scalarLiteral(element, one)
    if (value === undefined) return undefined
    printed.push(value === null ? null : print(value))
  }
  return arrayText(printed)
}

const same: Cast = (value) => value
const RANK: Readonly<Record<CastContext, number>> = { implicit: 0, assignment: 1, explicit: 2 }

function castBetween(from: SqlType, to: ColumnType, context: CastContext): Cast | null {
  const rank = RANK[context]
  if (isNumber(from) && isNumber(to)) return rank > 0 || widerNumber(from, to) === to ? numberCast(from, to) : null
  if (isText(from) && isText(to)) return from === 'bpchar' ? (value) => unpadded(value as string) : same
  if (isText(to) && rank > 0 && !isArray(from)) return SETTINGS_PRINT.has(from) ? null : textCast(from)
  if (isArray(from) && isArray(to)) return isText(elementOf(from)) && isText(elementOf(to)) && elementOf(from) !== 'bpchar' ? same : null
  if (from === 'date' && to === 'timestamp')
    return (value) => (String(value).endsWith('infinity') ? value : stampText(parseStamp(value as string)!.micros, false))
  if (from === 'timestamp' && to === 'date' && rank > 0) return (value) => dateText(parseStamp(value as string)!.micros)
  if (from === 'json' && to === 'jsonb' && rank > 0) return jsonbFromText
  if (from === 'jsonb' && to === 'json' && rank > 0) return same
  if (rank < 2) return null
  if (isText(from)) return fromText(to)
  if (from === 'bool' && to === 'int4') return (value) => (value ? 1n : 0n)
  if (from === 'int4' && to === 'bool') return (value) => value !== 0n
  return null
}

/** Types whose printed form hangs on a session's settings (TimeZone, DateStyle, bytea_output, extra_float_digits, IntervalStyle). */
const SETTINGS_PRINT = new Set(['timestamptz', 'timestamp', 'date', 'bytea', 'float4', 'float8', 'interval'])

/** Refuses to make text of what a session's settings print differently. */
export function withStableText(one: Expression): Expression {
  if (SETTINGS_PRINT.has(isArray(one.type) ? elementOf(one.type) : one.type)) {
    throw new NotDerivable(
      `text made of ${typeLabel(one.type)} hangs on the session's settings`,
      'select the value itself and format it in the application',
    )
  }
  return one
}

/** What `::text` gives. */
export function textCast(from: SqlType): Cast {
  if (from === 'bool') return (value) => (value ? 'true' : 'false')
  if (from === 'bpchar') return (value) => unpadded(value as string)
  return printerOf(from)
}

const jsonbFromText: Cast = (value) => {
  const json = parseJson(value as string)
  if (json === null) throw new SqlError('22P02', 'invalid input syntax for type json')
  return jsonText(json)
}

function fromText(to: ColumnType): Cast | null {
  if (isNumber(to) || to === 'bool') return parserOf(to) as Cast
  if (to === 'jsonb') return jsonbFromText
  if (to !== 'uuid') return null
  return (value) => {
    const text = uuidText(value as string)
    if (text === undefined) throw invalidInput('uuid', value as string)
    return text
  }
}

function numberCast(from: SqlType, to: ColumnType): Cast {
  if (isInteger(to)) {
    if (isInteger(from)) return widerNumber(from, to) === to ? same : (value) => checkInteger(value as bigint, to)
    return from === 'numeric' ? (value) => integerOfDecimal(value as Decimal, to) : (value) => integerOfFloat(value as number, to)
  }
  if (to === 'numeric') {
    if (isInteger(from)) return (value) => decimal(value as bigint)
    const digits = from === 'float8' ? 15 : 6
    return (value) => decimalOfFloat(value as number, digits)
  }
  const single = to === 'float4'
  // Not `same`: the text differs.
  if (from === 'float4') return (value) => value
  return (value) => floatOf(value, single)
}

function integerOfDecimal(value: Decimal, to: ColumnType): bigint {
  if (value.special !== null) {
    throw new SqlError('0A000', `cannot convert ${value.special === 'NaN' ? 'NaN' : 'infinity'} to ${typeLabel(to)}`)
  }
  return checkInteger(roundTo(value, 0).unscaled, to)
}

/** rint(): half to even. */
function integerOfFloat(value: number, to: ColumnType): bigint {
  if (!Number.isFinite(value)) return checkInteger(1n << 64n, to)
  const floor = Math.floor(value)
  const rest = value - floor
  const rounded = rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1
  return checkInteger(BigInt(rounded), to)
}

/** float8 to numeric goes through "%.15g". */
function decimalOfFloat(value: number, digits: number): Decimal {
  if (!Number.isFinite(value)) return parseDecimal(String(value))!
  const text = value.toPrecision(digits)
  const [mantissa, exponent = ''] = text.split('e') as [string, string?]
  const trimmed = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa
  return parseDecimal(exponent === '' ? trimmed : `${trimmed}e${exponent}`)!
}

function floatOf(value: Exclude<Value, null>, single: boolean): number {
  const text = typeof value === 'object' ? decimalText(value) : value.toString()
  const wide = Number(text)
  const result = single ? Math.fround(wide) : wide
  if (!Number.isFinite(result) && /\d/.test(text)) {
    throw new SqlError(
      '22003',
      typeof value === 'number'
        ? 'value out of range: overflow'
        : `"${text}" is out of range for type ${single ? 'real' : 'double precision'}`,
    )
  }
  return result
}

/** Applies a length or precision. Explicit casts cut text; assignments refuse what is more than spaces. */
export function applyModifier(from: Expression, typmod: number, explicit: boolean): Expression {
  if (typmod < 0 || from.typmod === typmod) return from
  const cast = modifierCast(from.type, typmod, explicit)
  if (cast === null) return from
  const result = strictUnary(from.type, from, cast, typmod)
  return from.constant && explicit ? fold(result) : result
}

function modifierCast(type: SqlType, typmod: number, explicit: boolean): Cast | null {
  switch (type) {
    case 'numeric':
      return (value) => applyTypmod(value as Decimal, typmod)
    case 'varchar':
    case 'bpchar':
      return (value) => fitText(value as string, typmod - 4, { type, explicit })
    case 'timestamp':
    case 'timestamptz':
      return (value) => roundStamp(value as string, typmod, type === 'timestamptz')
    case 'time':
      return (value) => roundClock(value as string, typmod)
    default:
      if (isArray(type) || type === 'interval') throw new NotDerivable(`a value for ${typeLabel(type)} with a length or precision`)
      return null
  }
}

function fitText(text: string, length: number, how: { type: 'varchar' | 'bpchar'; explicit: boolean }): string {
  const characters = text.length <= length ? null : [...text]
  if (characters === null || characters.length <= length) {
    return how.type === 'bpchar' ? text + ' '.repeat(length - (characters?.length ?? [...text].length)) : text
  }
  const excess = characters.slice(length)
  if (!how.explicit && excess.some((character) => character !== ' ')) {
    throw new SqlError('22001', `value too long for type ${typeLabel(how.type)}(${length})`)
  }
  return characters.slice(0, length).join('')
}
