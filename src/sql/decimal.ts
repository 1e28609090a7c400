// Promises: PostgreSQL's numeric, exactly: value and display scale, with its scale rules for every operation
// (src/backend/utils/adt/numeric.c). No float ever touches one.
import { SqlError } from '../model/plan.ts'

export interface Decimal {
  readonly unscaled: bigint
  /** Digits after the point that it shows (dscale). */
  readonly scale: number
  readonly special: null | 'NaN' | 'Infinity' | '-Infinity'
}

const NUMBER = /^\s*([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,5}))?\s*$/
const MAX_DISPLAY_SCALE = 1000
const MIN_SIGNIFICANT_DIGITS = 16
const BASE_DIGITS = 4
/** Digits before the point that numeric holds. */
const MAX_WHOLE_DIGITS = 131072
const MAX_SCALE = 16383

export const NAN: Decimal = { unscaled: 0n, scale: 0, special: 'NaN' }
export const INFINITY: Decimal = { unscaled: 0n, scale: 0, special: 'Infinity' }
export const NEGATIVE_INFINITY: Decimal = { unscaled: 0n, scale: 0, special: '-Infinity' }

const POWERS: bigint[] = [1n]
export function tenTo(n: number): bigint {
  if (n < 64) {
    while (POWERS.length <= n) POWERS.push(POWERS[POWERS.length - 1]! * 10n)
    return POWERS[n]!
  }
  return 10n ** BigInt(n)
}

export function decimal(unscaled: bigint, scale = 0): Decimal {
  return { unscaled, scale, special: null }
}

/** null where the text is no number. */
export function parseDecimal(text: string): Decimal | null {
  const match = NUMBER.exec(text)
  if (match === null) return parseSpecial(text)
  const [, sign, whole = '', fraction = '', exponentText] = match
  if (whole === '' && fraction === '') return null
  const exponent = exponentText === undefined ? 0 : Number(exponentText)
  let unscaled = BigInt(whole + fraction)
  let scale = fraction.length - exponent
  if (scale > MAX_SCALE || whole.length + exponent > MAX_WHOLE_DIGITS) throw new SqlError('22003', 'value overflows numeric format')
  if (scale < 0) {
    unscaled *= tenTo(-scale)
    scale = 0
  }
  return decimal(sign === '-' ? -unscaled : unscaled, scale)
}

function parseSpecial(text: string): Decimal | null {
  switch (text.trim().toLowerCase()) {
    case 'nan':
      return NAN
    case 'inf':
    case '+inf':
    case 'infinity':
    case '+infinity':
      return INFINITY
    case '-inf':
    case '-infinity':
      return NEGATIVE_INFINITY
    default:
      return null
  }
}

export function decimalText(value: Decimal): string {
  if (value.special !== null) return value.special
  const { unscaled, scale } = value
  if (scale === 0) return unscaled.toString()
  const negative = unscaled < 0n
  const digits = (negative ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
  const point = digits.length - scale
  return `${negative ? '-' : ''}${digits.slice(0, point)}.${digits.slice(point)}`
}

function aligned(a: Decimal, b: Decimal): [bigint, bigint, number] {
  if (a.scale === b.scale) return [a.unscaled, b.unscaled, a.scale]
  if (a.scale < b.scale) return [a.unscaled * tenTo(b.scale - a.scale), b.unscaled, b.scale]
  return [a.unscaled, b.unscaled * tenTo(a.scale - b.scale), a.scale]
}

function checked(value: Decimal): Decimal {
  const digits = value.unscaled.toString().length - (value.unscaled < 0n ? 1 : 0)
  if (digits - value.scale > MAX_WHOLE_DIGITS) throw new SqlError('22003', 'value overflows numeric format')
  return value
}

function signOf(value: Decimal): number {
  if (value.special === 'Infinity') return 1
  if (value.special === '-Infinity') return -1
  return value.unscaled > 0n ? 1 : value.unscaled < 0n ? -1 : 0
}

/** PostgreSQL's order: -Infinity, numbers, Infinity, NaN; NaN equals NaN. */
export function compareDecimal(a: Decimal, b: Decimal): number {
  if (a.special !== null || b.special !== null) return specialRank(a) - specialRank(b)
  const [x, y] = aligned(a, b)
  return x < y ? -1 : x > y ? 1 : 0
}

function specialRank(value: Decimal): number {
  return value.special === 'NaN' ? 3 : value.special === 'Infinity' ? 2 : value.special === null ? 1 : 0
}

export function negate(a: Decimal): Decimal {
  if (a.special === 'Infinity') return NEGATIVE_INFINITY
  if (a.special === '-Infinity') return INFINITY
  return a.special === null ? decimal(-a.unscaled, a.scale) : a
}

export function add(a: Decimal, b: Decimal): Decimal {
  if (a.special !== null || b.special !== null) {
    if (a.special === 'NaN' || b.special === 'NaN') return NAN
    if (a.special !== null && b.special !== null) return a.special === b.special ? a : NAN
    return a.special === null ? b : a
  }
  const [x, y, scale] = aligned(a, b)
  return checked(decimal(x + y, scale))
}

export function subtract(a: Decimal, b: Decimal): Decimal {
  return add(a, negate(b))
}

export function multiply(a: Decimal, b: Decimal): Decimal {
  if (a.special !== null || b.special !== null) {
    if (a.special === 'NaN' || b.special === 'NaN') return NAN
    const sign = signOf(a) * signOf(b)
    return sign === 0 ? NAN : sign > 0 ? INFINITY : NEGATIVE_INFINITY
  }
  const product = decimal(a.unscaled * b.unscaled, a.scale + b.scale)
  return checked(product.scale > MAX_SCALE ? roundTo(product, MAX_SCALE) : product)
}

const divisionByZero = () => new SqlError('22012', 'division by zero')

export function divide(a: Decimal, b: Decimal): Decimal {
  if (a.special !== null || b.special !== null) return divideSpecial(a, b)
  if (b.unscaled === 0n) throw divisionByZero()
  const scale = divisionScale(a, b)
  // One more step of scaling than asked is not needed: half away from zero is decided by the remainder.
  const shift = scale - a.scale + b.scale
  const numerator = shift >= 0 ? a.unscaled * tenTo(shift) : a.unscaled
  const denominator = shift >= 0 ? b.unscaled : b.unscaled * tenTo(-shift)
  return checked(decimal(divideHalfAway(numerator, denominator), scale))
}

function divideSpecial(a: Decimal, b: Decimal): Decimal {
  if (a.special === 'NaN' || b.special === 'NaN') return NAN
  if (a.special !== null) {
    if (b.special !== null) return NAN
    if (b.unscaled === 0n) throw divisionByZero()
    return signOf(a) * signOf(b) > 0 ? INFINITY : NEGATIVE_INFINITY
  }
  return decimal(0n)
}

function divideHalfAway(numerator: bigint, denominator: bigint): bigint {
  const negative = numerator < 0n !== denominator < 0n
  const n = numerator < 0n ? -numerator : numerator
  const d = denominator < 0n ? -denominator : denominator
  const quotient = (n * 2n + d) / (d * 2n)
  return negative ? -quotient : quotient
}

/** select_div_scale: at least 16 significant digits, counted in PostgreSQL's base-10000 digits. */
function divisionScale(a: Decimal, b: Decimal): number {
  const [weightA, firstA] = leadingDigit(a)
  const [weightB, firstB] = leadingDigit(b)
  const weight = weightA - weightB - (firstA <= firstB ? 1 : 0)
  const scale = Math.max(MIN_SIGNIFICANT_DIGITS - weight * BASE_DIGITS, a.scale, b.scale, 0)
  return Math.min(scale, MAX_DISPLAY_SCALE)
}

/** Weight and value of the first base-10000 digit that is not zero; zero has weight 0 and digit 0. */
function leadingDigit(value: Decimal): [number, number] {
  if (value.unscaled === 0n) return [0, 0]
  const text = (value.unscaled < 0n ? -value.unscaled : value.unscaled).toString()
  const whole = text.length - value.scale
  const weight = Math.ceil(whole / BASE_DIGITS) - 1
  const digits = whole - weight * BASE_DIGITS
  return [weight, Number(text.slice(0, digits).padEnd(digits, '0'))]
}

export function remainder(a: Decimal, b: Decimal): Decimal {
  if (a.special !== null || b.special !== null) {
    if (a.special === 'NaN' || b.special === 'NaN') return NAN
    if (a.special !== null) {
      if (b.special === null && b.unscaled === 0n) throw divisionByZero()
      return NAN
    }
    return a
  }
  if (b.unscaled === 0n) throw divisionByZero()
  const [x, y, scale] = aligned(a, b)
  return decimal(x % y, scale)
}

/** round(x, scale), half away from zero; a negative scale rounds before the point. */
export function roundTo(value: Decimal, scale: number): Decimal {
  if (value.special !== null) return value
  if (scale >= value.scale) return decimal(value.unscaled * tenTo(scale - value.scale), scale)
  const rounded = divideHalfAway(value.unscaled, tenTo(value.scale - scale))
  return scale >= 0 ? decimal(rounded, scale) : decimal(rounded * tenTo(-scale), 0)
}

export function truncateTo(value: Decimal, scale: number): Decimal {
  if (value.special !== null) return value
  if (scale >= value.scale) return decimal(value.unscaled * tenTo(scale - value.scale), scale)
  const cut = value.unscaled / tenTo(value.scale - scale)
  return scale >= 0 ? decimal(cut, scale) : decimal(cut * tenTo(-scale), 0)
}

export function floor(value: Decimal): Decimal {
  const cut = truncateTo(value, 0)
  return value.special === null && compareDecimal(cut, value) > 0 ? decimal(cut.unscaled - 1n) : cut
}

export function ceil(value: Decimal): Decimal {
  return negate(floor(negate(value)))
}

export function absolute(value: Decimal): Decimal {
  if (value.special === '-Infinity') return INFINITY
  return value.special === null && value.unscaled < 0n ? decimal(-value.unscaled, value.scale) : value
}

export function sign(value: Decimal): Decimal {
  return value.special === 'NaN' ? NAN : decimal(BigInt(signOf(value)))
}

/** numeric(p, s): rounds to s, refuses what does not fit. */
export function applyTypmod(value: Decimal, typmod: number): Decimal {
  if (typmod < 4 || value.special === 'NaN') return value
  const precision = ((typmod - 4) >> 16) & 0xffff
  const rawScale = (typmod - 4) & 0x7ff
  const scale = (rawScale ^ 1024) - 1024
  const where = `A field with precision ${precision}, scale ${scale}`
  if (value.special !== null) throw new SqlError('22003', 'numeric field overflow', { detail: `${where} cannot hold an infinite value.` })
  const rounded = roundTo(value, scale)
  const magnitude = rounded.unscaled < 0n ? -rounded.unscaled : rounded.unscaled
  const whole = precision - scale
  const limitAtScale = whole + rounded.scale
  if (limitAtScale < 0 ? magnitude !== 0n : magnitude >= tenTo(limitAtScale)) {
    const bound = whole === 0 ? '1' : `10^${whole}`
    throw new SqlError('22003', 'numeric field overflow', { detail: `${where} must round to an absolute value less than ${bound}.` })
  }
  return rounded
}
