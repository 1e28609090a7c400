// Promises: float4 and float8 as PostgreSQL prints them with extra_float_digits 1 or more: the shortest decimal that reads back
// as the same value and is not exactly halfway to a neighbour (its Ryu leaves those out, ryu_common.h).
import { ASK, badBinary, invalidText, outOfRange, type ScalarCodec } from './value-types.ts'

const DECIMAL = /^[ \t\n\r\v\f]*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)[ \t\n\r\v\f]*$/
const SPECIAL = /^[ \t\n\r\v\f]*([+-]?)(nan|inf|infinity)[ \t\n\r\v\f]*$/i
/** PostgreSQL reads hexadecimal floats, and a number before it looks at what follows: that number's range counts first. */
const STARTS_AS_NUMBER = /^[ \t\n\r\v\f]*[+-]?(?:0x|[\d.]{20}|[\d.]+e)/i

/** Halfway points between neighbours have 17 digits or fewer only in this range. */
const HALFWAY_FROM = 2 ** 53
const HALFWAY_TO = 1e41

export const float8Codec: ScalarCodec = {
  encode(text) {
    const bytes = Buffer.allocUnsafe(8)
    bytes.writeDoubleBE(parsed('float8', text))
    return bytes
  },
  decode(bytes) {
    if (bytes.length !== 8) throw badBinary('float8')
    return float8Text(bytes.readDoubleBE(0))
  },
  canonical(text) {
    const value = input('float8', text)
    return value === ASK ? ASK : float8Text(value)
  },
}

export const float4Codec: ScalarCodec = {
  encode(text) {
    const bytes = Buffer.allocUnsafe(4)
    const value = parsed('float4', text)
    bytes.writeFloatBE(nearestFloat4(text, value))
    return bytes
  },
  decode(bytes) {
    if (bytes.length !== 4) throw badBinary('float4')
    return float4Text(bytes.readFloatBE(0))
  },
  canonical(text) {
    const value = input('float4', text)
    if (value === ASK) return ASK
    const nearest = nearestFloat4(text, value)
    if ((nearest === 0 && value !== 0) || (Number.isFinite(value) && !Number.isFinite(nearest))) throw outOfRange('float4', text)
    return float4Text(nearest)
  },
}

export function float8Text(value: number): string {
  const plain = specialText(value)
  if (plain !== null) return plain
  const size = Math.abs(value)
  const sign = value < 0 ? '-' : ''
  if (size >= HALFWAY_FROM && size < HALFWAY_TO && isHalfway(size)) {
    const { mantissa, exponent } = takenApart8(size)
    return sign + printed(shortest(mantissa, exponent, mantissa === 1n << 52n), 15)
  }
  const text = size.toExponential()
  const e = text.indexOf('e')
  return sign + printed({ digits: text.slice(0, e).replace('.', ''), exponent: Number(text.slice(e + 1)) }, 15)
}

export function float4Text(value: number): string {
  const plain = specialText(value)
  if (plain !== null) return plain
  const size = Math.abs(value)
  const view = Buffer.allocUnsafe(4)
  view.writeFloatBE(size)
  const bits = view.readUInt32BE(0)
  const biased = bits >>> 23
  const fraction = bits & 0x7fffff
  const mantissa = BigInt(biased === 0 ? fraction : fraction | 0x800000)
  const found = shortest(mantissa, Math.max(biased, 1) - 150, fraction === 0 && biased > 1)
  return (value < 0 ? '-' : '') + printed(found, 6)
}

interface Decimal {
  readonly digits: string
  /** Of the first digit. */
  readonly exponent: number
}

/** As double_to_shortest_decimal_buf: positional from 1e-4 up to 1e`positionalDigits`, else with an exponent of two digits. */
function printed({ digits, exponent }: Decimal, positionalDigits: number): string {
  if (exponent < -4 || exponent >= positionalDigits) {
    const size = String(Math.abs(exponent)).padStart(2, '0')
    return `${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ''}e${exponent < 0 ? '-' : '+'}${size}`
  }
  if (exponent < 0) return `0.${'0'.repeat(-exponent - 1)}${digits}`
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  return digits.length > exponent + 1 ? `${whole}.${digits.slice(exponent + 1)}` : whole
}

/**
 * The shortest decimal strictly between the halfway points around mantissa * 2^exponent, the nearest of the shortest.
 * `closeBelow`: the neighbour below is only half as far.
 */
function shortest(mantissa: bigint, exponent: number, closeBelow: boolean): Decimal {
  const shift = exponent - 2
  const up = shift > 0 ? BigInt(shift) : 0n
  const scale = shift < 0 ? 1n << BigInt(-shift) : 1n
  const value = (4n * mantissa) << up
  const low = (4n * mantissa - (closeBelow ? 1n : 2n)) << up
  const high = (4n * mantissa + 2n) << up
  for (let power = Math.ceil(Math.log10(Number(mantissa)) + exponent * Math.LOG10E * Math.LN2) + 1; ; power--) {
    // In units of 10^power.
    const unit = power > 0 ? scale * 10n ** BigInt(power) : scale
    const raise = power < 0 ? 10n ** BigInt(-power) : 1n
    const below = (value * raise) / unit
    const rest = value * raise - below * unit
    const belowFits = below * unit > low * raise && below > 0n
    const aboveFits = (below + 1n) * unit < high * raise
    if (!belowFits && !aboveFits) continue
    const nearerAbove = rest * 2n > unit || (rest * 2n === unit && below % 2n === 1n)
    const chosen = (aboveFits && nearerAbove) || !belowFits ? below + 1n : below
    const digits = chosen.toString()
    const kept = digits.replace(/0+$/, '')
    return { digits: kept, exponent: power + digits.length - 1 }
  }
}

function specialText(value: number): string | null {
  if (Number.isNaN(value)) return 'NaN'
  if (value === Number.POSITIVE_INFINITY) return 'Infinity'
  if (value === Number.NEGATIVE_INFINITY) return '-Infinity'
  if (value === 0) return Object.is(value, -0) ? '-0' : '0'
  return null
}

/** The runtime's shortest decimal of this value lies exactly between two values. */
function isHalfway(size: number): boolean {
  const text = size.toExponential()
  const e = text.indexOf('e')
  const digits = text.slice(0, e).replace('.', '')
  const power = Number(text.slice(e + 1)) - digits.length + 1
  if (power < 0) return false
  const { mantissa, exponent } = takenApart8(size)
  const twice = BigInt(digits) * 10n ** BigInt(power) * 2n
  const unit = 1n << BigInt(exponent)
  const exact = mantissa * unit * 2n
  const away = twice > exact ? twice - exact : exact - twice
  return away === unit || (mantissa === 1n << 52n && exact > twice && away * 2n === unit)
}

/** For values of 2^53 and more: normal, with an exponent of 1 or more. */
function takenApart8(size: number): { mantissa: bigint; exponent: number } {
  const view = Buffer.allocUnsafe(8)
  view.writeDoubleBE(size)
  const bits = view.readBigUInt64BE(0)
  return { mantissa: (bits & ((1n << 52n) - 1n)) | (1n << 52n), exponent: Number(bits >> 52n) - 1075 }
}

function parsed(type: 'float4' | 'float8', text: string): number {
  if (text === 'NaN' || text === 'Infinity' || text === '-Infinity') return Number(text)
  if (!DECIMAL.test(text)) throw invalidText(type, text)
  return Number(text)
}

function input(type: 'float4' | 'float8', text: string): number | typeof ASK {
  const match = DECIMAL.exec(text)
  if (match !== null) {
    const value = Number(match[1])
    if (!Number.isFinite(value) || (value === 0 && /[1-9]/.test(match[1]!.replace(/e.*/i, '')))) throw outOfRange(type, text.trim())
    return value
  }
  const special = SPECIAL.exec(text)
  if (special !== null) {
    if (special[2]!.toLowerCase() === 'nan') return special[1] === '' ? Number.NaN : ASK
    return special[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
  }
  if (STARTS_AS_NUMBER.test(text)) return ASK
  throw invalidText(type, text)
}

/** Rounds the decimal itself to float4: rounding the double that is nearest to it would round twice. */
function nearestFloat4(text: string, value: number): number {
  const near = Math.fround(value)
  if (near === value || !Number.isFinite(value)) return near
  const view = Buffer.allocUnsafe(4)
  const other = (step: number) => {
    view.writeFloatBE(near)
    view.writeInt32BE(view.readInt32BE(0) + step)
    return view.readFloatBE(0)
  }
  if (near === 0 || !Number.isFinite(near)) return near
  const neighbour = Math.abs(value) > Math.abs(near) ? other(1) : other(-1)
  if (!Number.isFinite(neighbour) || (near + neighbour) / 2 !== value) return near
  const side = compareDecimal(text, Math.abs(value))
  if (side === 0) return near
  const [smaller, larger] = Math.abs(near) < Math.abs(neighbour) ? [near, neighbour] : [neighbour, near]
  return side > 0 ? larger : smaller
}

/** Compares the absolute value of a decimal text with a double, exactly. */
function compareDecimal(text: string, size: number): number {
  const match = /(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\s*$/.exec(text.trim().replace(/^[+-]/, ''))!
  const fraction = match[2] ?? ''
  const power = Number(match[3] ?? 0) - fraction.length
  let left = BigInt(match[1] + fraction)
  let [right, rightPower] = [0n, 0]
  const exact = exactDecimal(size)
  ;[right, rightPower] = [exact.digits, exact.power]
  if (power > rightPower) left *= 10n ** BigInt(power - rightPower)
  else right *= 10n ** BigInt(rightPower - power)
  return left > right ? 1 : left < right ? -1 : 0
}

/** A double is a whole number of 2^-k, and 2^-k is 5^k * 10^-k. */
function exactDecimal(size: number): { digits: bigint; power: number } {
  let places = 0
  let scaled = size
  while (!Number.isInteger(scaled)) {
    scaled *= 2
    places++
  }
  return { digits: BigInt(scaled) * 5n ** BigInt(places), power: -places }
}
