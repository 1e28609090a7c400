// Promises: interval between the text of IntervalStyle postgres and (microseconds, days, months), exact.

import { fractionText, rounded } from './value-time.ts'
import { ASK, expectLength, invalidText, type ScalarCodec } from './value-types.ts'

interface Interval {
  readonly months: number
  readonly days: number
  readonly us: bigint
}

const INT32_MAX = 0x7fffffff
const INT64_MAX = 0x7fffffffffffffffn
const POSTGRES =
  /^(?:([+-]?\d{1,10}) years?)?(?:(?:^| )([+-]?\d{1,10}) mons?)?(?:(?:^| )([+-]?\d{1,10}) days?)?(?:(?:^| )([+-]?)(\d{1,10}):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?$/
/** PostgreSQL 17 and later. */
const INFINITE: Interval = { months: INT32_MAX, days: INT32_MAX, us: INT64_MAX }
const MINUS_INFINITE: Interval = { months: -INT32_MAX - 1, days: -INT32_MAX - 1, us: -INT64_MAX - 1n }

export const intervalCodec: ScalarCodec = {
  encode(text) {
    const interval = parsed(text)
    if (interval === null) throw invalidText('interval', text)
    const bytes = Buffer.allocUnsafe(16)
    bytes.writeBigInt64BE(interval.us, 0)
    bytes.writeInt32BE(interval.days, 8)
    bytes.writeInt32BE(interval.months, 12)
    return bytes
  },
  decode(bytes) {
    expectLength('interval', bytes, 16)
    return printed({ us: bytes.readBigInt64BE(0), days: bytes.readInt32BE(8), months: bytes.readInt32BE(12) })
  },
  // What is not in PostgreSQL's own form is asked for: units, ISO 8601 and signs depend on IntervalStyle too.
  canonical(text) {
    const interval = parsed(text)
    return interval === null || signsDependOnStyle(text) ? ASK : printed(interval)
  },
}

function parsed(text: string): Interval | null {
  if (text === 'infinity') return INFINITE
  if (text === '-infinity') return MINUS_INFINITE
  const match = POSTGRES.exec(text)
  if (match === null || text === '') return null
  const [, years, months, days, sign, hours, minutes, seconds, fraction] = match
  const allMonths = Number(years ?? 0) * 12 + Number(months ?? 0)
  const allDays = Number(days ?? 0)
  if (!int32(allMonths) || !int32(allDays) || Number(minutes ?? 0) > 59 || Number(seconds ?? 0) > 59) return null
  const wholeSeconds = (BigInt(hours ?? 0) * 60n + BigInt(minutes ?? 0)) * 60n + BigInt(seconds ?? 0)
  const size = wholeSeconds * 1_000_000n + BigInt((fraction ?? '').padEnd(6, '0'))
  const us = sign === '-' ? -size : size
  return us > INT64_MAX || us < -INT64_MAX - 1n ? null : { months: allMonths, days: allDays, us }
}

/** Under IntervalStyle sql_standard a leading minus holds for every field without a sign of its own. */
function signsDependOnStyle(text: string): boolean {
  return text.startsWith('-') && / [\d]/.test(text)
}

/** As EncodeInterval for IntervalStyle postgres: a field after a negative one has a plus. */
function printed(interval: Interval): string {
  if (interval.months === INT32_MAX && interval.days === INT32_MAX && interval.us === INT64_MAX) return 'infinity'
  if (interval.months === -INT32_MAX - 1 && interval.days === -INT32_MAX - 1 && interval.us === -INT64_MAX - 1n) return '-infinity'
  const parts: string[] = []
  let before = false
  const add = (value: number, unit: string) => {
    if (value === 0) return
    parts.push(`${before && value > 0 ? '+' : ''}${value} ${unit}${value === 1 ? '' : 's'}`)
    before = value < 0
  }
  add(Math.trunc(interval.months / 12), 'year')
  add(interval.months % 12, 'mon')
  add(interval.days, 'day')
  if (interval.us !== 0n || parts.length === 0) parts.push(clock(interval.us, before))
  return parts.join(' ')
}

function clock(us: bigint, before: boolean): string {
  const size = us < 0n ? -us : us
  const seconds = size / 1_000_000n
  const two = (value: bigint) => String(value).padStart(2, '0')
  const text = `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}${fractionText(Number(size % 1_000_000n))}`
  return `${us < 0n ? '-' : before ? '+' : ''}${text}`
}

/** Bits of the fields in an interval's type modifier (datetime.h). */
const [MONTH, YEAR, DAY, HOUR, MINUTE] = [1 << 1, 1 << 2, 1 << 3, 1 << 10, 1 << 11]
const SECOND = 1 << 12
const FULL_RANGE = 0x7fff

/** interval(p) and interval with a range of fields: what is finer than the last field is cut, seconds are rounded. */
export function applyIntervalTypmod(typmod: number, text: string): string {
  const interval = parsed(text)
  if (interval === null) throw invalidText('interval', text)
  if (typmod < 0 || interval === INFINITE || interval === MINUS_INFINITE) return text
  const range = (typmod >> 16) & FULL_RANGE
  const precision = typmod & 0xffff
  let { months, days, us } = interval
  if (range !== FULL_RANGE && (range & SECOND) === 0) {
    if ((range & MINUTE) !== 0) us -= us % 60_000_000n
    else if ((range & HOUR) !== 0) us -= us % 3_600_000_000n
    else {
      us = 0n
      if ((range & DAY) === 0) days = 0
      if ((range & (DAY | MONTH)) === 0 && (range & YEAR) !== 0) months -= months % 12
    }
  }
  if (precision < 6) us = rounded(us, 10n ** BigInt(6 - precision))
  return printed({ months, days, us })
}

function int32(value: number): boolean {
  return value >= -INT32_MAX - 1 && value <= INT32_MAX
}
