// Promises: the offset from UTC of a session's TimeZone at an instant, or that it cannot be told here. The runtime's zone data and
// the server's may be of different years: `zoneDiffers` compares them, once for each zone a client asks for.
import { UNSUPPORTED } from './value-types.ts'

/** Of what a Date holds, with room. */
const LAST_US = 86_400_000_000n * 400_000n
/** 2000-01-01 in seconds of the Unix epoch. */
const EPOCH_SECONDS = 946_684_800
/** Since 1970 zones change their offset on quarters of an hour only. */
const BUCKET_SECONDS = 900
const CACHE_MAX = 4096
/** 1900-01-01 and 2100-01-01: what `zoneDiffers` compares. Before, offsets are local mean times; after, rules may still change. */
const FROM_SECONDS = -2_208_988_800
const TO_SECONDS = 4_102_444_800
const SAMPLE_SECONDS = 604_800

/** Offsets of a zone at each week from 1900 to 2100, as one PostgreSQL knows them; $1 is the TimeZone. For `zoneDiffers`. */
export const ZONE_SAMPLES_SQL = `
  select array_agg(extract(epoch from timezone($1, to_timestamp(t)) - timezone('UTC', to_timestamp(t)))::int order by t) as offsets
  from generate_series(${FROM_SECONDS}::int8, ${TO_SECONDS - 1}::int8, ${SAMPLE_SECONDS}) as t`

/** Names that are zones to the one and abbreviations to the other. */
const AMBIGUOUS = /^(?:cet|wet|met|eet|est|mst|hst)$/i
const ALWAYS_UTC = new Set(['utc', 'gmt', 'etc/utc', 'etc/gmt', 'z', 'zulu', 'etc/zulu', 'universal', 'etc/universal', 'uct', 'etc/uct'])
/** `<+02>-02`: what SET TIME ZONE 2 shows. The sign behind the name is POSIX's, west of UTC. */
const POSIX = /^(?:<[+-]?\w+(?::\w+)*>|[A-Za-z]{3,})([+-]?)(\d{1,2})(?::(\d\d)(?::(\d\d))?)?$/
const OFFSET = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/

interface Zone {
  readonly format: Intl.DateTimeFormat
  readonly offsets: Map<number, number>
}

const zones = new Map<string, Zone | typeof UNSUPPORTED>()

/** Seconds east of UTC. `us`: microseconds since 2000-01-01 UTC. */
export function offsetAt(timeZone: string, us: bigint): number | typeof UNSUPPORTED {
  if (ALWAYS_UTC.has(timeZone.toLowerCase())) return 0
  const posix = POSIX.exec(timeZone)
  if (posix !== null) {
    const size = Number(posix[2]) * 3600 + Number(posix[3] ?? 0) * 60 + Number(posix[4] ?? 0)
    return posix[1] === '-' ? size : -size
  }
  const zone = zoneOf(timeZone)
  if (zone === UNSUPPORTED || us > LAST_US) return UNSUPPORTED
  const seconds = Number(us / 1_000_000n - (us % 1_000_000n < 0n ? 1n : 0n)) + EPOCH_SECONDS
  if (seconds < FROM_SECONDS || seconds >= TO_SECONDS) return UNSUPPORTED
  if (seconds < 0) return looked(zone.format, seconds * 1000) ?? UNSUPPORTED
  const bucket = Math.floor(seconds / BUCKET_SECONDS)
  // A bounded cache, emptied when full: most sessions show recent times.
  const known = zone.offsets.get(bucket)
  if (known !== undefined) return known
  const offset = looked(zone.format, seconds * 1000)
  if (offset === null) return UNSUPPORTED
  if (zone.offsets.size >= CACHE_MAX) zone.offsets.clear()
  zone.offsets.set(bucket, offset)
  return offset
}

/** Whether this runtime and the server whose answer to ZONE_SAMPLES_SQL is given disagree on a zone, or the runtime lacks it. */
export function zoneDiffers(timeZone: string, offsets: readonly number[]): boolean {
  return offsets.some((offset, week) => {
    const us = BigInt(FROM_SECONDS + week * SAMPLE_SECONDS - EPOCH_SECONDS) * 1_000_000n
    return offsetAt(timeZone, us) !== offset
  })
}

function zoneOf(timeZone: string): Zone | typeof UNSUPPORTED {
  const known = zones.get(timeZone)
  if (known !== undefined) return known
  let zone: Zone | typeof UNSUPPORTED = UNSUPPORTED
  try {
    const options = { timeZone, timeZoneName: 'longOffset' } as const
    if (!AMBIGUOUS.test(timeZone)) zone = { format: new Intl.DateTimeFormat('en-US', options), offsets: new Map() }
  } catch {
    // Not a zone of the IANA database: an abbreviation or a file of the server's own.
  }
  if (zones.size >= CACHE_MAX) zones.clear()
  zones.set(timeZone, zone)
  return zone
}

function looked(format: Intl.DateTimeFormat, ms: number): number | null {
  const match = OFFSET.exec(format.format(ms))
  if (match === null) return null
  const size = Number(match[2] ?? 0) * 3600 + Number(match[3] ?? 0) * 60 + Number(match[4] ?? 0)
  return match[1] === '-' ? -size : size
}
