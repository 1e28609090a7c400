// Promises: a value of each type in memory, from PostgreSQL's own text and back to it byte for byte, and how two compare.
// Integers are bigint, numerics Decimal, floats number, booleans boolean; everything else stays its canonical text.
import { SqlError } from '../model/plan.ts'
import { clockMicros, intervalMicros, stampMicros } from './datetime.ts'
import { compareDecimal, type Decimal, decimalText, parseDecimal } from './decimal.ts'
import { parseJson, sameJson } from './jsonb.ts'
import { isArray, type SqlType, typeLabel } from './types.ts'

export type Value = null | boolean | bigint | number | string | Decimal

const INTEGER = /^\s*[+-]?\d+\s*$/
const BOUNDS: Readonly<Record<string, bigint>> = { int2: 1n << 15n, int4: 1n << 31n, int8: 1n << 63n }
const RANGE_MESSAGES: Readonly<Record<string, string>> = { int2: 'smallint', int4: 'integer', int8: 'bigint' }

export function checkInteger(value: bigint, type: SqlType): bigint {
  const bound = BOUNDS[type]!
  if (value >= bound || value < -bound) throw new SqlError('22003', `${RANGE_MESSAGES[type]} out of range`)
  return value
}

export function invalidInput(type: SqlType, text: string): SqlError {
  return new SqlError('22P02', `invalid input syntax for type ${typeLabel(type)}: "${text}"`)
}

function parseInteger(text: string, type: SqlType): bigint {
  if (!INTEGER.test(text)) throw invalidInput(type, text)
  const value = BigInt(text.trim())
  const bound = BOUNDS[type]!
  if (value >= bound || value < -bound) throw new SqlError('22003', `value "${text}" is out of range for type ${typeLabel(type)}`)
  return value
}

function parseNumeric(text: string): Decimal {
  const value = parseDecimal(text)
  if (value === null) throw invalidInput('numeric', text)
  return value
}

const FLOAT = /^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$/

function parseFloatText(text: string, type: SqlType): number {
  const special = text.trim().toLowerCase()
  if (special === 'nan') return Number.NaN
  if (/^\+?inf(inity)?$/.test(special)) return Number.POSITIVE_INFINITY
  if (/^-inf(inity)?$/.test(special)) return Number.NEGATIVE_INFINITY
  if (!FLOAT.test(text)) throw invalidInput(type, text)
  const wide = Number(text)
  const value = type === 'float4' ? Math.fround(wide) : wide
  if (!Number.isFinite(value) || (value === 0 && /[1-9]/.test(special.split('e')[0]!))) {
    throw new SqlError('22003', `"${text}" is out of range for type ${typeLabel(type)}`)
  }
  return value
}

const BOOLEANS: ReadonlyMap<string, boolean> = (() => {
  const texts = new Map([
    ['1', true],
    ['0', false],
    ['on', true],
    ['off', false],
    ['of', false],
  ])
  for (const word of ['true', 'yes']) for (let n = 1; n <= word.length; n++) texts.set(word.slice(0, n), true)
  for (const word of ['false', 'no']) for (let n = 1; n <= word.length; n++) texts.set(word.slice(0, n), false)
  return texts
})()

function parseBool(text: string): boolean {
  const value = BOOLEANS.get(text.trim().toLowerCase())
  if (value === undefined) throw invalidInput('bool', text)
  return value
}

/** Reads PostgreSQL's own text of a value. */
export function parserOf(type: SqlType): (text: string) => Value {
  switch (type) {
    case 'int2':
    case 'int4':
    case 'int8':
      return (text) => parseInteger(text, type)
    case 'numeric':
      return parseNumeric
    case 'float4':
    case 'float8':
      return (text) => parseFloatText(text, type)
    case 'bool':
      return parseBool
    default:
      return (text) => text
  }
}

/** Prints a value as PostgreSQL does. */
export function printerOf(type: SqlType): (value: Exclude<Value, null>) => string {
  switch (type) {
    case 'int2':
    case 'int4':
    case 'int8':
      return (value) => (value as bigint).toString()
    case 'numeric':
      return (value) => decimalText(value as Decimal)
    case 'float8':
      return (value) => floatText(value as number, shortest(value as number), 15)
    case 'float4':
      return (value) => floatText(value as number, shortestSingle(value as number), 6)
    case 'bool':
      return (value) => (value ? 't' : 'f')
    default:
      return (value) => value as string
  }
}

function shortest(value: number): string {
  const magnitude = Math.abs(value)
  const text = magnitude.toExponential()
  if (!(magnitude >= 2 ** 53) || magnitude === Number.POSITIVE_INFINITY) return text
  const digits = text.indexOf('e') - (text.includes('.') ? 2 : 1)
  for (let more = digits; more <= 17; more++) {
    const longer = evenDigits(magnitude, more)
    if (isInside(longer, magnitude, 53)) return longer
  }
  return text
}

function shortestSingle(value: number): string {
  const magnitude = Math.abs(value)
  const exact = magnitude >= 2 ** 24 && magnitude !== Number.POSITIVE_INFINITY
  for (let digits = 0; digits < 8; digits++) {
    const text = evenDigits(magnitude, digits)
    if (Math.fround(Number(text)) === magnitude && (!exact || isInside(text, magnitude, 24))) return text
  }
  return magnitude.toExponential(8)
}

/** toExponential, but a tie goes to the even digit, as PostgreSQL has it, instead of to the larger. */
function evenDigits(magnitude: number, fraction: number): string {
  const text = magnitude.toExponential(fraction)
  const end = text.indexOf('e')
  if (Number(text[end - 1]) % 2 === 0) return text
  const exact = magnitude.toExponential(60)
  const rest = exact.slice(fraction === 0 ? 2 : 2 + fraction, exact.indexOf('e'))
  return /^50*$/.test(rest) ? `${text.slice(0, end - 1)}${Number(text[end - 1]) - 1}${text.slice(end)}` : text
}

/**
 * Strictly between the halfway points to a float's neighbours. JavaScript's shortest digits may lie on one, where reading rounds to
 * even; PostgreSQL's may not. Below 2^bits no shortest text lies on one.
 */
function isInside(text: string, magnitude: number, bits: number): boolean {
  const [mantissa, exponent] = text.split('e') as [string, string]
  const fraction = mantissa.split('.')[1]?.length ?? 0
  const shift = Number(exponent) - fraction
  const digits = BigInt(mantissa.replace('.', ''))
  // Everything four times as large, so that quarters of a unit are whole.
  const decimal = shift >= 0 ? 4n * digits * 10n ** BigInt(shift) : null
  if (decimal === null) return true
  const exact = 4n * BigInt(magnitude)
  const whole = BigInt(magnitude)
  const ulp = 1n << BigInt(whole.toString(2).length - bits)
  const isPower = (whole & (whole - 1n)) === 0n
  return decimal < exact + 2n * ulp && decimal > exact - (isPower ? 1n : 2n) * ulp
}

/** Shortest digits in PostgreSQL's shape: an exponent below -4 and from `fixedDigits` on. */
function floatText(value: number, exponential: string, fixedDigits: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  const sign = value < 0 || Object.is(value, -0) ? '-' : ''
  if (value === 0) return `${sign}0`
  const [mantissa, exponentText] = exponential.split('e') as [string, string]
  const exponent = Number(exponentText)
  const digits = mantissa.replace('.', '').replace(/0+$/, '') || '0'
  if (exponent < -4 || exponent >= fixedDigits) {
    const two = String(Math.abs(exponent)).padStart(2, '0')
    return `${sign}${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ''}e${exponent < 0 ? '-' : '+'}${two}`
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  const fraction = digits.slice(exponent + 1)
  return `${sign}${whole}${fraction === '' ? '' : `.${fraction}`}`
}

type Comparison = (a: Exclude<Value, null>, b: Exclude<Value, null>) => number

const byCodePoint: Comparison = (a, b) => (a === b ? 0 : Buffer.compare(Buffer.from(a as string), Buffer.from(b as string)))
const byNatural: Comparison = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

function compareFloats(a: number, b: number): number {
  if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1
  if (Number.isNaN(b)) return -1
  return a < b ? -1 : a > b ? 1 : 0
}

/** The order of a type; null where it has none here. Text is ordered by bytes: only for collation "C". */
export function comparerOf(type: SqlType): Comparison | null {
  switch (type) {
    case 'int2':
    case 'int4':
    case 'int8':
    case 'bool':
      return byNatural
    case 'numeric':
      return (a, b) => compareDecimal(a as Decimal, b as Decimal)
    case 'float4':
    case 'float8':
      return (a, b) => compareFloats(a as number, b as number)
    case 'text':
    case 'varchar':
      return byCodePoint
    case 'bpchar':
      return (a, b) => byCodePoint(unpadded(a as string), unpadded(b as string))
    case 'uuid':
    case 'bytea':
      return byNatural
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      return (a, b) => (a === b ? 0 : stampMicros(a as string) < stampMicros(b as string) ? -1 : 1)
    case 'time':
      return (a, b) => byNatural(clockMicros(a as string)!, clockMicros(b as string)!)
    case 'interval':
      return (a, b) => byNatural(intervalMicros(a as string), intervalMicros(b as string))
    default:
      return null
  }
}

export type Equality = (a: Exclude<Value, null>, b: Exclude<Value, null>) => boolean

/** Types of which equal values have one text, and so have equal arrays of them. */
export const ONE_TEXT: ReadonlySet<string> = new Set([
  'int2',
  'int4',
  'int8',
  'bool',
  'text',
  'varchar',
  'uuid',
  'date',
  'timestamp',
  'timestamptz',
  'time',
  'bytea',
])

/** Whether two values of a type are equal; null where that is not defined (json) or not exact here. */
export function equalityOf(type: SqlType): Equality | null {
  if (isArray(type)) return ONE_TEXT.has(type.slice(0, -2)) ? (a, b) => a === b : null
  if (ONE_TEXT.has(type)) return (a, b) => a === b
  switch (type) {
    case 'json':
    case 'unknown':
      return null
    case 'jsonb':
      return (a, b) => a === b || sameJson(parseJson(a as string)!, parseJson(b as string)!)
    default: {
      const compare = comparerOf(type)
      return compare === null ? null : (a, b) => compare(a, b) === 0
    }
  }
}

/** A text that is equal exactly where values are: for grouping and distinct. null where there is none. */
export function identityOf(type: SqlType): ((value: Exclude<Value, null>) => string) | null {
  if (isArray(type)) return ONE_TEXT.has(type.slice(0, -2)) ? (value) => value as string : null
  switch (type) {
    case 'json':
    case 'jsonb':
    case 'interval':
    case 'unknown':
      return null
    case 'numeric':
      return (value) => {
        const text = decimalText(value as Decimal)
        return text.includes('.') ? text.replace(/\.?0+$/, '') : text
      }
    case 'float4':
    case 'float8':
      return (value) => String(value === 0 ? 0 : value)
    case 'bpchar':
      return (value) => unpadded(value as string)
    default:
      return printerOf(type)
  }
}

/** bpchar ignores trailing spaces wherever it is compared or cast. */
export function unpadded(text: string): string {
  return text.replace(/ +$/, '')
}
