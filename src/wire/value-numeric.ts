// Promises: numeric between its text and its base-10000 wire form, exact to the last digit and zero (INV-12; faults.md 22).
import { SqlError } from '../model/plan.ts'
import { ByteReader } from './bytes.ts'
import { ASK, badBinary, invalidText, type ScalarCodec } from './value-types.ts'

const CANONICAL = /^(-?)(\d+)(?:\.(\d+))?$/
const INPUT = /^[ \t\n\r\v\f]*([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?[ \t\n\r\v\f]*$/
/** From PostgreSQL 16 on; not before. */
const HUGE_EXPONENT = /[eE][+-]?[\d_]{4}/
const MODERN = /^[ \t\n\r\v\f]*[+-]?(0[xXoObB][0-9a-fA-F_]+|[\d_.]+([eE][+-]?[\d_]+)?)[ \t\n\r\v\f]*$/
const SPECIAL: ReadonlyMap<string, string> = new Map([
  ['nan', 'NaN'],
  ['infinity', 'Infinity'],
  ['+infinity', 'Infinity'],
  ['inf', 'Infinity'],
  ['+inf', 'Infinity'],
  ['-infinity', '-Infinity'],
  ['-inf', '-Infinity'],
])

const NEGATIVE = 0x4000
const NAN = 0xc000
const INFINITY = 0xd000
const MINUS_INFINITY = 0xf000
/** What numeric_send sends as the scale of an infinity. */
const INFINITY_SCALE = 32
const SCALE_MAX = 0x3fff
/** Beyond this PostgreSQL's own limits come near: it is asked. */
const EXPONENT_MAX = 1000
const DIGITS_MAX = 100_000

export const numericCodec: ScalarCodec = { encode, decode, canonical }

function encode(text: string): Buffer {
  if (text === 'NaN') return special(NAN, 0)
  if (text === 'Infinity') return special(INFINITY, INFINITY_SCALE)
  if (text === '-Infinity') return special(MINUS_INFINITY, INFINITY_SCALE)
  const match = CANONICAL.exec(text)
  if (match === null) throw invalidText('numeric', text)
  const fraction = match[3] ?? ''
  if (text.length > DIGITS_MAX * 2 || fraction.length > SCALE_MAX) throw new SqlError('22003', 'value overflows numeric format')
  const whole = match[2]!
  const padded = '0'.repeat((4 - (whole.length % 4)) % 4) + whole + fraction + '0'.repeat((4 - (fraction.length % 4)) % 4)
  const wholeGroups = Math.ceil(whole.length / 4)
  let first = 0
  let last = padded.length / 4
  while (first < last && padded.startsWith('0000', first * 4)) first++
  while (last > first && padded.startsWith('0000', (last - 1) * 4)) last--
  const bytes = Buffer.allocUnsafe(8 + (last - first) * 2)
  bytes.writeInt16BE(last - first, 0)
  bytes.writeInt16BE(last === first ? 0 : wholeGroups - 1 - first, 2)
  bytes.writeUInt16BE(match[1] === '-' && last > first ? NEGATIVE : 0, 4)
  bytes.writeUInt16BE(fraction.length, 6)
  for (let group = first; group < last; group++) {
    bytes.writeUInt16BE(Number(padded.slice(group * 4, group * 4 + 4)), 8 + (group - first) * 2)
  }
  return bytes
}

function special(sign: number, scale: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16BE(sign, 4)
  bytes.writeUInt16BE(scale, 6)
  return bytes
}

function decode(bytes: Buffer): string {
  const reader = new ByteReader(bytes, () => badBinary('numeric'))
  const count = reader.int16()
  const weight = reader.int16()
  const sign = reader.uint16()
  const scale = reader.uint16()
  if (count < 0 || reader.remaining !== count * 2 || scale > SCALE_MAX) throw badBinary('numeric')
  if (sign === NAN) return 'NaN'
  if (sign === INFINITY) return 'Infinity'
  if (sign === MINUS_INFINITY) return '-Infinity'
  if (sign !== 0 && sign !== NEGATIVE) throw badBinary('numeric')
  const groups: number[] = []
  for (let i = 0; i < count; i++) {
    const group = reader.uint16()
    if (group > 9999) throw badBinary('numeric')
    groups.push(group)
  }
  let whole = ''
  for (let i = 0; i <= weight; i++) whole += four(groups[i] ?? 0)
  let fraction = ''
  for (let i = weight + 1; fraction.length < scale; i++) fraction += i < 0 ? '0000' : four(groups[i] ?? 0)
  return signed(sign === NEGATIVE, whole, fraction.slice(0, scale))
}

function canonical(text: string): string | typeof ASK {
  const match = INPUT.exec(text)
  if (match !== null && (match[2] !== '' || (match[3] ?? '') !== '')) {
    const exponent = Number(match[4] ?? 0)
    if (Math.abs(exponent) > EXPONENT_MAX || text.length > DIGITS_MAX) return ASK
    const [whole, fraction] = shifted(match[2]!, match[3] ?? '', exponent)
    return fraction.length > EXPONENT_MAX ? ASK : signed(match[1] === '-', whole, fraction)
  }
  const known = SPECIAL.get(text.replace(/^[ \t\n\r\v\f]+|[ \t\n\r\v\f]+$/g, '').toLowerCase())
  if (known !== undefined) return known
  // PostgreSQL calls a huge exponent an overflow before it sees what is wrong behind it.
  if (MODERN.test(text) || HUGE_EXPONENT.test(text)) return ASK
  throw invalidText('numeric', text)
}

/** Moves the decimal point: 1.5e-2 has three digits behind it, 1e3 has none. */
function shifted(whole: string, fraction: string, exponent: number): [whole: string, fraction: string] {
  const digits = whole + fraction
  const point = whole.length + exponent
  const scale = Math.max(0, fraction.length - exponent)
  const before = point <= 0 ? '' : digits.slice(0, point).padEnd(point, '0')
  const after = point <= 0 ? '0'.repeat(-point) + digits : digits.slice(point)
  return [before, after.slice(0, scale)]
}

function signed(negative: boolean, whole: string, fraction: string): string {
  const trimmed = whole.replace(/^0+/, '')
  const text = (trimmed === '' ? '0' : trimmed) + (fraction === '' ? '' : `.${fraction}`)
  return negative && /[1-9]/.test(text) ? `-${text}` : text
}

function four(group: number): string {
  return String(group).padStart(4, '0')
}

/** numeric(p,s): rounds half away from zero, refuses what is then too large, as PostgreSQL's apply_typmod. */
export function applyNumericTypmod(typmod: number, text: string): string {
  if (typmod < 4 || text === 'NaN') return text
  const precision = ((typmod - 4) >> 16) & 0xffff
  const scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024
  if (text === 'Infinity' || text === '-Infinity') {
    throw numericOverflow(`A field with precision ${precision}, scale ${scale} cannot hold an infinite value.`)
  }
  const match = CANONICAL.exec(text)
  if (match === null) throw invalidText('numeric', text)
  const rounded = roundTo(match[2]!, match[3] ?? '', scale)
  if (rounded !== 0n && rounded.toString().length > precision) {
    const digits = precision - scale
    const bound = digits === 0 ? '1' : `10^${digits}`
    throw numericOverflow(`A field with precision ${precision}, scale ${scale} must round to an absolute value less than ${bound}.`)
  }
  const unscaled = rounded.toString()
  if (scale <= 0) return signed(match[1] === '-', unscaled + '0'.repeat(-scale), '')
  const padded = unscaled.padStart(scale + 1, '0')
  return signed(match[1] === '-', padded.slice(0, -scale), padded.slice(-scale))
}

/** The absolute value in units of 10^-scale, rounded half away from zero. */
function roundTo(whole: string, fraction: string, scale: number): bigint {
  const digits = whole + fraction
  const kept = whole.length + scale
  if (kept < 0) return 0n
  const up = (digits.charCodeAt(kept) || 48) >= 53 ? 1n : 0n
  return BigInt(digits.slice(0, kept).padEnd(kept, '0') || '0') + up
}

function numericOverflow(detail: string): SqlError {
  return new SqlError('22003', 'numeric field overflow', { detail })
}
