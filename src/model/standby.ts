// Promises: what is known of a standby, and who holds up what waits for standbys. Pure: the clock's reading is passed in.
import type { Lsn } from './ids.ts'

export interface StandbyRow {
  /** Its application_name; empty: this role may not read it. */
  readonly name: string
  readonly flushLsn: Lsn
  /** Differs after each of its replies. */
  readonly sign: string
}

/** When a named standby gave its last sign of life, by the watcher's own monotonic clock. */
export type StandbySightings = ReadonlyMap<string, { readonly sign: string; readonly sinceMs: number }>

export interface StandbyLook {
  readonly sightings: StandbySightings
  /** Silent for too long: to be struck off. */
  readonly lost: readonly { readonly name: string; readonly silentMs: number }[]
  /** Struck off, and all that is flushed here is flushed there again. */
  readonly back: readonly string[]
}

export interface NamedStandbys {
  readonly names: readonly string[]
  readonly struck: ReadonlySet<string>
}

/** Silence counts from the first look of this watcher: what an older one saw says nothing by this clock. */
export function lookAtStandbys(
  named: NamedStandbys,
  seen: { readonly flushedHere: Lsn; readonly rows: readonly StandbyRow[] },
  before: StandbySightings,
  now: { readonly nowMs: number; readonly lostMs: number },
): StandbyLook {
  const sightings = new Map<string, { sign: string; sinceMs: number }>()
  const lost: { name: string; silentMs: number }[] = []
  const back: string[] = []
  for (const name of named.names) {
    const rows = seen.rows.filter((row) => row.name === name)
    const known = before.get(name)
    // Absent: the last sign stands.
    const sign = rows.length === 0 ? (known?.sign ?? '') : rows.map((row) => row.sign).join(' ')
    const sinceMs = known !== undefined && known.sign === sign ? known.sinceMs : now.nowMs
    sightings.set(name, { sign, sinceMs })
    if (named.struck.has(name)) {
      if (rows.length > 0 && holdsAll(rows, seen.flushedHere)) back.push(name)
    } else if (now.nowMs - sinceMs >= now.lostMs) lost.push({ name, silentMs: now.nowMs - sinceMs })
  }
  return { sightings, lost, back }
}

/** Named standbys, those struck off left out, that do not hold everything up to the LSN (INV-10: absent is not there). */
export function standbysBehind(named: NamedStandbys, rows: readonly StandbyRow[], lsn: Lsn): readonly string[] {
  return named.names.filter((name) => {
    if (named.struck.has(name)) return false
    const own = rows.filter((row) => row.name === name)
    return own.length === 0 || !holdsAll(own, lsn)
  })
}

/** Standbys that stream from here and that the configuration does not name. */
export function standbysNotNamed(names: readonly string[], rows: readonly StandbyRow[]): readonly string[] {
  const found = rows.filter((row) => !names.includes(row.name))
  return [...new Set(found.map((row) => (row.name === '' ? '(a name that this role may not read: grant it pg_monitor)' : row.name)))]
}

/** Two may go by one name: whichever is promoted must hold it. */
function holdsAll(rows: readonly StandbyRow[], lsn: Lsn): boolean {
  return rows.every((row) => row.flushLsn >= lsn)
}
