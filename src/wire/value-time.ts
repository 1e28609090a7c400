// Promises: date, time, timestamp and timestamptz between ISO text in UTC and microseconds since 2000-01-01, exact over the
// whole range of PostgreSQL, BC dates and infinities included (INV-12; faults.md 22).
import type { ScalarType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { ASK, expectLength, invalidText, type ScalarCodec } from './value-types.ts'

export type TimestampType = 'timestamp' | 'timestamptz'

const DAY_US = 86_400_000_000
const DAY_US_BIG = 86_400_000_000n
/** 2000-01-01 in days since 1970-01-01. */
const EPOCH_DAYS = 10_957
export const TIMESTAMP_INFINITY = 0x7fffffffffffffffn
export const TIMESTAMP_MINUS_INFINITY = -0x8000000000000000n
const DATE_INFINITY = 0x7fffffff
const DATE_MINUS_INFINITY = -0x80000000
/** 4714-11-24 BC: Julian day 0. */
const DATE_MIN = -2_451_545
/** 5874898-01-01, exclusive. */
const DATE_END = 2_145_031_949
const TIMESTAMP_MIN = -211_813_488_000_000_000n
/** 294277-01-01, exclusive. */
const TIMESTAMP_END = 9_223_371_331_200_000_000n
const OFFSET_SECONDS_MAX = 15 * 3600 + 59 * 60 + 59

const NAME: Readonly<Record<TimestampType, string>> = { timestamp: 'timestamp', timestamptz: 'timestamp with time zone' }
const ISO =
  /^[ \t\n\r\v\f]*(\d{4,7})-(\d\d)-(\d\d)(?:(?: +|[Tt])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(?: ?([Zz]|[+-]\d\d(?::?\d\d(?::\d\d)?)?))?)?( BC)?[ \t\n\r\v\f]*$/
const ISO_TIME = /^[ \t\n\r\v\f]*(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?[ \t\n\r\v\f]*$/
const INFINITY = /^[ \t\n\r\v\f]*([+-]?)infinity[ \t\n\r\v\f]*$/i

interface Fields {
  /** Days since 2000-01-01. */
  readonly days: number
  readonly timeUs: number
  readonly hasTime: boolean
  /** Seconds east of UTC; null where none was given. */
  readonly offset: number | null
}

export const dateCodec: ScalarCodec = {
  encode(text) {
    const bytes = Buffer.allocUnsafe(4)
    bytes.writeInt32BE(dateDays(text))
    return bytes
  },
  decode(bytes) {
    expectLength('date', bytes, 4)
    const days = bytes.readInt32BE(0)
    if (days === DATE_INFINITY) return 'infinity'
    if (days === DATE_MINUS_INFINITY) return '-infinity'
    if (days < DATE_MIN || days >= DATE_END) throw new SqlError('22008', 'date out of range')
    return dateText(days)
  },
  canonical(text) {
    const infinite = infinity(text)
    if (infinite !== null) return infinite
    const fields = fieldsOf('date', text)
    return fields === ASK || fields.days < DATE_MIN || fields.days >= DATE_END ? ASK : dateText(fields.days)
  },
}

export const timeCodec: ScalarCodec = {
  encode(text) {
    const us = timeOf('time', text)
    if (us === ASK) throw invalidText('time', text)
    const bytes = Buffer.allocUnsafe(8)
    bytes.writeBigInt64BE(BigInt(us))
    return bytes
  },
  decode(bytes) {
    expectLength('time', bytes, 8)
    const us = bytes.readBigInt64BE(0)
    if (us < 0n || us > DAY_US_BIG) throw new SqlError('22008', 'time out of range')
    return timeText(Number(us))
  },
  canonical(text) {
    const us = timeOf('time', text)
    return us === ASK ? ASK : timeText(us)
  },
}

export const timestampCodec: ScalarCodec = timestampCodecOf('timestamp')
export const timestamptzCodec: ScalarCodec = timestampCodecOf('timestamptz')

function timestampCodecOf(type: TimestampType): ScalarCodec {
  return {
    encode(text) {
      const bytes = Buffer.allocUnsafe(8)
      bytes.writeBigInt64BE(timestampUs(type, text))
      return bytes
    },
    decode(bytes) {
      expectLength(type, bytes, 8)
      const us = bytes.readBigInt64BE(0)
      if (us === TIMESTAMP_INFINITY || us === TIMESTAMP_MINUS_INFINITY) return timestampText(type, us)
      if (us < TIMESTAMP_MIN || us >= TIMESTAMP_END) throw new SqlError('22008', `${NAME[type]} out of range`)
      return timestampText(type, us)
    },
    canonical(text) {
      const infinite = infinity(text)
      if (infinite !== null) return infinite
      const fields = fieldsOf(type, text)
      // A timestamptz without an offset is in the session's zone. Out of range: PostgreSQL says it in its own words.
      if (fields === ASK || (type === 'timestamptz' && fields.offset === null)) return ASK
      const us = microseconds(fields, type === 'timestamptz' ? fields.offset! : 0)
      return us < TIMESTAMP_MIN || us >= TIMESTAMP_END ? ASK : timestampText(type, us)
    },
  }
}

/** Microseconds since 2000-01-01 UTC of a canonical text. */
export function timestampUs(type: TimestampType, text: string): bigint {
  if (text === 'infinity') return TIMESTAMP_INFINITY
  if (text === '-infinity') return TIMESTAMP_MINUS_INFINITY
  const fields = fieldsOf(type, text)
  if (fields === ASK || (type === 'timestamptz' && fields.offset === null)) throw invalidText(type, text)
  const us = microseconds(fields, type === 'timestamptz' ? fields.offset! : 0)
  if (us < TIMESTAMP_MIN || us >= TIMESTAMP_END) throw new SqlError('22008', `${NAME[type]} out of range: "${text}"`)
  return us
}

/** `offset`: seconds east of UTC of the zone that a timestamptz is printed in. */
export function timestampText(type: TimestampType, us: bigint, offset = 0): string {
  if (us === TIMESTAMP_INFINITY) return 'infinity'
  if (us === TIMESTAMP_MINUS_INFINITY) return '-infinity'
  const local = us + BigInt(offset) * 1_000_000n
  let days = local / DAY_US_BIG
  let timeUs = local % DAY_US_BIG
  if (timeUs < 0n) {
    days -= 1n
    timeUs += DAY_US_BIG
  }
  const { year, month, day } = civil(Number(days))
  const zone = type === 'timestamptz' ? offsetText(offset) : ''
  return `${datePart(year, month, day)} ${timeText(Number(timeUs))}${zone}${year <= 0 ? ' BC' : ''}`
}

/** timestamp(p) and time(p): half away from 2000-01-01, as AdjustTimestampForTypmod does. */
export function applyTimeTypmod(type: TimestampType | 'time', typmod: number, text: string): string {
  if (typmod < 0 || typmod >= 6) return text
  const unit = 10n ** BigInt(6 - typmod)
  if (type === 'time') {
    const us = timeOf('time', text)
    if (us === ASK) throw invalidText('time', text)
    return timeText(Number(rounded(BigInt(us), unit)))
  }
  const us = timestampUs(type, text)
  return us === TIMESTAMP_INFINITY || us === TIMESTAMP_MINUS_INFINITY ? text : timestampText(type, rounded(us, unit))
}

export function rounded(us: bigint, unit: bigint): bigint {
  return us >= 0n ? ((us + unit / 2n) / unit) * unit : -((-us + unit / 2n) / unit) * unit
}

/** HH:MM:SS with as many digits behind the seconds as there are. */
export function timeText(us: number): string {
  const seconds = Math.floor(us / 1_000_000)
  const fraction = us - seconds * 1_000_000
  const hour = Math.floor(seconds / 3600)
  const minute = Math.floor(seconds / 60) % 60
  return `${two(hour)}:${two(minute)}:${two(seconds % 60)}${fractionText(fraction)}`
}

export function fractionText(us: number): string {
  if (us === 0) return ''
  let digits = String(us).padStart(6, '0')
  while (digits.endsWith('0')) digits = digits.slice(0, -1)
  return `.${digits}`
}

function dateDays(text: string): number {
  if (text === 'infinity') return DATE_INFINITY
  if (text === '-infinity') return DATE_MINUS_INFINITY
  const fields = fieldsOf('date', text)
  if (fields === ASK || fields.hasTime) throw invalidText('date', text)
  if (fields.days < DATE_MIN || fields.days >= DATE_END) throw new SqlError('22008', `date out of range: "${text}"`)
  return fields.days
}

function dateText(days: number): string {
  const { year, month, day } = civil(days)
  return `${datePart(year, month, day)}${year <= 0 ? ' BC' : ''}`
}

function datePart(year: number, month: number, day: number): string {
  return `${String(year > 0 ? year : 1 - year).padStart(4, '0')}-${two(month)}-${two(day)}`
}

function offsetText(offset: number): string {
  const size = Math.abs(offset)
  const [hour, minute, second] = [Math.floor(size / 3600), Math.floor(size / 60) % 60, size % 60]
  const tail = second !== 0 ? `:${two(minute)}:${two(second)}` : minute !== 0 ? `:${two(minute)}` : ''
  return `${offset < 0 ? '-' : '+'}${two(hour)}${tail}`
}

function fieldsOf(type: ScalarType, text: string): Fields | typeof ASK {
  const match = ISO.exec(text)
  if (match === null) return ASK
  const [, yearText, monthText, dayText, hour, minute, second, fraction, zone, bc] = match
  if (Number(yearText) === 0) return ASK
  const year = bc === undefined ? Number(yearText) : 1 - Number(yearText)
  const [month, day] = [Number(monthText), Number(dayText)]
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) throw fieldOutOfRange(text)
  const timeUs = hour === undefined ? 0 : timeFields(text, hour, minute!, second, fraction)
  if (timeUs === ASK || (type !== 'time' && timeUs === DAY_US)) return ASK
  const offset = zone === undefined ? null : offsetOf(zone)
  if (offset !== null && Math.abs(offset) > OFFSET_SECONDS_MAX) return ASK
  return { days: daysFromCivil(year, month, day), timeUs, hasTime: hour !== undefined, offset }
}

function timeOf(type: ScalarType, text: string): number | typeof ASK {
  const match = ISO_TIME.exec(text)
  if (match === null) {
    if (type === 'time' && text.trim() === '') throw invalidText(type, text)
    return ASK
  }
  return timeFields(text, match[1]!, match[2]!, match[3], match[4])
}

function timeFields(text: string, hour: string, minute: string, second = '0', fraction = ''): number | typeof ASK {
  const [h, m, s] = [Number(hour), Number(minute), Number(second)]
  if (h > 24 || m > 59 || s > 60) throw fieldOutOfRange(text)
  // A leap second is taken into the next minute, 24:00:00 into the next day: PostgreSQL's own business.
  if (s === 60 || (h === 24 && (m !== 0 || s !== 0 || Number(fraction) !== 0))) return ASK
  return ((h * 60 + m) * 60 + s) * 1_000_000 + Number(fraction.padEnd(6, '0'))
}

function fieldOutOfRange(text: string): SqlError {
  return new SqlError('22008', `date/time field value out of range: "${text}"`)
}

function offsetOf(zone: string): number {
  if (zone === 'Z' || zone === 'z') return 0
  const digits = zone.slice(1).replaceAll(':', '').padEnd(6, '0')
  const [hour, minute, second] = [Number(digits.slice(0, 2)), Number(digits.slice(2, 4)), Number(digits.slice(4, 6))]
  if (minute > 59 || second > 59) return Number.POSITIVE_INFINITY
  return (zone[0] === '-' ? -1 : 1) * (hour * 3600 + minute * 60 + second)
}

function microseconds(fields: Fields, offset: number): bigint {
  return BigInt(fields.days) * DAY_US_BIG + BigInt(fields.timeUs - offset * 1_000_000)
}

function infinity(text: string): string | null {
  const match = INFINITY.exec(text)
  return match === null ? null : match[1] === '-' ? '-infinity' : 'infinity'
}

function daysIn(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/** Days since 2000-01-01 of a proleptic Gregorian date; year 0 is 1 BC (Hinnant, chrono-compatible date algorithms). */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468 - EPOCH_DAYS
}

function civil(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468 + EPOCH_DAYS
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const m = Math.floor((5 * dayOfYear + 2) / 153)
  const month = m < 10 ? m + 3 : m - 9
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day: dayOfYear - Math.floor((153 * m + 2) / 5) + 1 }
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value)
}
