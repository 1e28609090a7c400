// Promises: dates and times as PostgreSQL prints them (ISO, UTC), in order and back, to the microsecond, BC and infinity included.
// Values stay text; only what must be compared or computed is taken apart.

const MICROS_A_DAY = 86_400_000_000n
const STAMP = /^(\d{4,6})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?(?:(Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?))?( BC)?$/
const CLOCK = /^(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?$/
/** Above and below every timestamp that PostgreSQL has. */
const INFINITE = 1n << 70n

export interface Stamped {
  readonly micros: bigint
  /** Offset from UTC was written. */
  readonly zoned: boolean
  readonly clocked: boolean
}

/** null where it is not plain ISO. Micros are counted from 1970-01-01 in UTC, the offset taken off. */
export function parseStamp(text: string): Stamped | null {
  if (text === 'infinity') return { micros: INFINITE, zoned: true, clocked: true }
  if (text === '-infinity') return { micros: -INFINITE, zoned: true, clocked: true }
  const match = STAMP.exec(text)
  if (match === null) return null
  const [, yearText, month, day, hour = '00', minute = '00', second = '00', fraction = '', zone, bc] = match
  const year = bc === undefined ? Number(yearText) : 1 - Number(yearText)
  if (Number(yearText) === 0 || !isDate(year, Number(month), Number(day))) return null
  const seconds = Number(hour) * 3600 + Number(minute) * 60 + Number(second)
  if (Number(minute) > 59 || Number(second) > 59 || seconds > 86_400 || (seconds === 86_400 && Number(fraction) > 0)) return null
  const days = daysFromCivil(year, Number(month), Number(day))
  const micros = BigInt(days) * MICROS_A_DAY + BigInt(seconds) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
  return { micros: micros - BigInt(offsetSeconds(zone)) * 1_000_000n, zoned: zone !== undefined, clocked: match[4] !== undefined }
}

/** For values already known to be PostgreSQL's own text. */
export function stampMicros(text: string): bigint {
  const stamp = parseStamp(text)
  if (stamp === null) throw new RangeError(`not a timestamp as PostgreSQL prints it: ${text}`)
  return stamp.micros
}

export function stampText(micros: bigint, zoned: boolean): string {
  if (micros >= INFINITE) return 'infinity'
  if (micros <= -INFINITE) return '-infinity'
  const { days, rest } = splitDay(micros)
  const { date, bc } = dateParts(days)
  return `${date} ${clockText(rest)}${zoned ? '+00' : ''}${bc ? ' BC' : ''}`
}

export function dateText(micros: bigint): string {
  if (micros >= INFINITE) return 'infinity'
  if (micros <= -INFINITE) return '-infinity'
  const { date, bc } = dateParts(splitDay(micros).days)
  return `${date}${bc ? ' BC' : ''}`
}

export function addDays(text: string, days: bigint): string {
  const micros = stampMicros(text)
  return micros >= INFINITE || micros <= -INFINITE ? text : dateText(micros + days * MICROS_A_DAY)
}

/** null where one of them is infinite. */
export function daysBetween(a: string, b: string): bigint | null {
  const [x, y] = [stampMicros(a), stampMicros(b)]
  if (x >= INFINITE || x <= -INFINITE || y >= INFINITE || y <= -INFINITE) return null
  return (x - y) / MICROS_A_DAY
}

/** timestamp(n): half away from zero, counted from 2000-01-01 as PostgreSQL does. */
export function roundStamp(text: string, digits: number, zoned: boolean): string {
  if (digits < 0 || digits >= 6) return text
  const micros = stampMicros(text)
  if (micros >= INFINITE || micros <= -INFINITE) return text
  const origin = 946_684_800_000_000n
  return stampText(roundMicros(micros - origin, digits) + origin, zoned)
}

export function roundClock(text: string, digits: number): string {
  if (digits < 0 || digits >= 6) return text
  return clockText(roundMicros(clockMicros(text)!, digits))
}

function roundMicros(micros: bigint, digits: number): bigint {
  const unit = 10n ** BigInt(6 - digits)
  const half = unit / 2n
  return micros >= 0n ? ((micros + half) / unit) * unit : -(((-micros + half) / unit) * unit)
}

/** Microseconds of a time of day, or null. */
export function clockMicros(text: string): bigint | null {
  const match = CLOCK.exec(text)
  if (match === null) return null
  const [, hour, minute, second = '00', fraction = ''] = match
  const seconds = Number(hour) * 3600 + Number(minute) * 60 + Number(second)
  if (Number(minute) > 59 || Number(second) > 59 || seconds > 86_400 || (seconds === 86_400 && Number(fraction) > 0)) return null
  return BigInt(seconds) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
}

export function clockText(micros: bigint): string {
  const seconds = Number(micros / 1_000_000n)
  const fraction = (micros % 1_000_000n).toString().padStart(6, '0').replace(/0+$/, '')
  const two = (n: number) => String(n).padStart(2, '0')
  const clock = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
  return fraction === '' ? clock : `${clock}.${fraction}`
}

const INTERVAL_PART = /(-?\d+) (years?|mons?|days?)|([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d+))?/g

/** Length of an interval as PostgreSQL compares it: a month is 30 days, a day 24 hours. Its own output style only. */
export function intervalMicros(text: string): bigint {
  if (text === 'infinity') return INFINITE
  if (text === '-infinity') return -INFINITE
  let micros = 0n
  for (const [, count, unit, sign, hours, minutes, seconds, fraction = ''] of text.matchAll(INTERVAL_PART)) {
    if (unit !== undefined) micros += BigInt(count!) * (unit.startsWith('year') ? 360n : unit.startsWith('mon') ? 30n : 1n) * MICROS_A_DAY
    else {
      const clock = (BigInt(hours!) * 3600n + BigInt(minutes!) * 60n + BigInt(seconds!)) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
      micros += sign === '-' ? -clock : clock
    }
  }
  return micros
}

function offsetSeconds(zone: string | undefined): number {
  if (zone === undefined || zone === 'Z') return 0
  const digits = zone.slice(1).replaceAll(':', '').padEnd(6, '0')
  const seconds = Number(digits.slice(0, 2)) * 3600 + Number(digits.slice(2, 4)) * 60 + Number(digits.slice(4, 6))
  return zone.startsWith('-') ? -seconds : seconds
}

function isDate(year: number, month: number, day: number): boolean {
  if (month < 1 || month > 12 || day < 1) return false
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  return day <= [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]!
}

/** Howard Hinnant, chrono-compatible low-level date algorithms. */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
}

function dateParts(days: number): { date: string; bc: boolean } {
  const z = days + 719_468
  const era = Math.floor(z / 146_097)
  const dayOfEra = z - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shifted = Math.floor((5 * dayOfYear + 2) / 153)
  const month = shifted + (shifted < 10 ? 3 : -9)
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  const day = dayOfYear - Math.floor((153 * shifted + 2) / 5) + 1
  const bc = year <= 0
  const two = (n: number) => String(n).padStart(2, '0')
  return { date: `${String(bc ? 1 - year : year).padStart(4, '0')}-${two(month)}-${two(day)}`, bc }
}

function splitDay(micros: bigint): { days: number; rest: bigint } {
  let days = micros / MICROS_A_DAY
  if (days * MICROS_A_DAY > micros) days -= 1n
  return { days: Number(days), rest: micros - days * MICROS_A_DAY }
}
