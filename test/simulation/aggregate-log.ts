// Promises: what clients heard of each key, and at the end whether some order explains all of it: each pot alone by its zones
// (Gibbons, Korach), and all rows of the key together, with what each write was told of its rows, by a search (Wing, Gong, Lowe). It
// knows nothing of what either store holds. What nobody heard the end of may take effect late, or never.
import type { Row } from '../../src/model/row.ts'
import { type Acts, actOn, toldOf } from './acts.ts'
import { linearize, type Operation } from './linearizability/search.ts'
import { checkRegister, type ValueInterval } from './linearizability/zones.ts'

type Rows = ReadonlyMap<string, Row>

export interface Entry extends Operation<Rows> {
  readonly what: string
  /** Pots that it surely, or perhaps, wrote. */
  readonly wrote: readonly string[]
  readonly shown: readonly Row[]
  readonly by: number
}

/**
 * Of rows that a write did not find: on the target they were not there when it took effect. PostgreSQL's READ COMMITTED holds no row that is
 * not there: they were not in the statement's snapshot. Past the gateways they need not even be PostgreSQL's.
 */
export type Missed = 'with it' | 'before it' | 'unsaid'

const STEPS_MAX = 200_000

export class AggregateLog {
  readonly #initial: ReadonlyMap<string, Rows>
  readonly #entries = new Map<string, Entry[]>()

  constructor(rows: readonly Row[]) {
    const initial = new Map<string, Map<string, Row>>()
    for (const row of rows) {
      const key = row[0]!
      const of = initial.get(key) ?? new Map<string, Row>()
      initial.set(key, of.set(row[1]!, row))
      this.#entries.set(key, [])
    }
    this.#initial = initial
  }

  /** Until it is heard of, it may take effect at any time, or never. */
  begun(key: string, acts: Acts, by: number, began: number): Entry {
    const apply = (rows: Rows) => applied(rows, key, acts, by)?.rows ?? null
    const ended = Number.POSITIVE_INFINITY
    const entry = { began, ended, apply, what: `write ${by}, of which nobody heard`, wrote: Object.keys(acts), shown: [], by }
    this.#entries.get(key)!.push(entry)
    return entry
  }

  /** It succeeded, and said this of the rows it touched. */
  wrote(entry: Entry, key: string, acts: Acts, told: readonly string[], ended: number, missed: Missed = 'with it'): void {
    const wrote = told.map((text) => text.split(' ')[0]!)
    const done = missed === 'with it' ? acts : Object.fromEntries(Object.entries(acts).filter(([pot]) => wrote.includes(pot)))
    const apply = (rows: Rows) => {
      const after = applied(rows, key, done, entry.by)
      return after !== null && String(after.told) === String(told) ? after.rows : null
    }
    this.#replace(key, entry, { ...entry, ended, apply, what: `write ${entry.by} was told ${told.join(', ') || 'of no row'}`, wrote })
    const pots = Object.keys(acts).filter((pot) => !(pot in done))
    if (pots.length > 0 && missed === 'before it') this.read(key, pots, [], entry.began, ended)
  }

  /** Nobody heard of it, and its snapshot may have lacked this row: PostgreSQL has written the others alone then. */
  perhapsWithout(entry: Entry, key: string, acts: Acts, missed: string): void {
    const { [missed]: _, ...others } = acts
    const apply = (rows: Rows) => applied(rows, key, others, entry.by)?.rows ?? null
    // Whose the values of its pots are, the whole write says already.
    if (missed in acts) this.#entries.get(key)!.push({ ...entry, apply, what: `${entry.what}, without ${missed}`, wrote: [] })
  }

  /** A unique violation is an answer too: one of the rows that it would have put was there. */
  wasThere(entry: Entry, key: string, acts: Acts, ended: number): void {
    const apply = (rows: Rows) => (applied(rows, key, acts, entry.by) === null ? rows : null)
    this.#replace(key, entry, { ...entry, ended, apply, what: `write ${entry.by} was told of a duplicate`, wrote: [] })
  }

  refused(entry: Entry, key: string): void {
    this.#replace(key, entry, null)
  }

  #replace(key: string, entry: Entry, by: Entry | null): void {
    const entries = this.#entries.get(key)!
    entries.splice(entries.indexOf(entry), 1, ...(by === null ? [] : [by]))
  }

  /** Of these pots, asked for at once, these were there. */
  read(key: string, pots: readonly string[], shown: readonly Row[], began: number, ended: number): void {
    const apply = (rows: Rows) => {
      if (pots.filter((pot) => rows.has(pot)).length !== shown.length) return null
      return shown.every((row) => String(rows.get(row[1]!)) === String(row)) ? rows : null
    }
    const what = `a read of ${pots} showed ${shown.map(toldOf).join(', ') || 'no row'}`
    this.#entries.get(key)!.push({ began, ended, apply, what, wrote: [], shown, by: 0 })
  }

  /** A sentence for each key and pot that no order explains. `undecided`: searches that were given up. */
  check(): { readonly violations: readonly string[]; readonly undecided: number } {
    const violations: string[] = []
    let undecided = 0
    for (const [key, entries] of this.#entries) {
      for (const pot of new Set(entries.flatMap(({ wrote }) => wrote))) {
        const because = checkPot(pot, entries)
        if (because !== null) violations.push(`no order explains ${key}${pot}: ${because}`)
      }
      const verdict = linearize(this.#initial.get(key)!, entries, { nameOf, stepsMax: STEPS_MAX })
      if (verdict.kind === 'undecided') undecided++
      if (verdict.kind !== 'not') continue
      const stuck = verdict.stuck.map((i) => sentence(entries[i]!))
      violations.push(
        `no order explains what clients heard of ${key}; after the longest that was found, none of these could come: ${stuck.join('; ')}`,
      )
    }
    return { violations, undecided }
  }
}

/** One register: its value is who wrote it. Of a row that is not there nobody knows who took it away: the search alone looks at that. */
function checkPot(pot: string, entries: readonly Entry[]): string | null {
  const writes = entries.filter(({ wrote }) => wrote.includes(pot)).map(({ began, ended, by }) => ({ began, ended, value: by }))
  const reads = entries.flatMap(({ began, ended, shown }): ValueInterval[] => {
    const row = shown.find((one) => one[1] === pot)
    return row === undefined ? [] : [{ began, ended, value: Number(row[3]) }]
  })
  return checkRegister(0, writes, reads)
}

/** Null: it would have been refused. */
function applied(rows: Rows, key: string, acts: Acts, by: number): { readonly rows: Rows; readonly told: readonly string[] } | null {
  const after = new Map(rows)
  const told: string[] = []
  for (const pot of Object.keys(acts).sort()) {
    const acted = actOn(rows.get(pot) ?? null, acts[pot]!, { key, pot, by })
    if (acted === 'there') return null
    if (acted === null) continue
    told.push(acted.told)
    if (acted.row === null) after.delete(pot)
    else after.set(pot, acted.row)
  }
  return { rows: after, told }
}

function nameOf(rows: Rows): string {
  return [...rows.values()].map(toldOf).sort().join()
}

function sentence({ began, ended, what }: Entry): string {
  return `${began.toFixed(0)}-${ended === Number.POSITIVE_INFINITY ? '' : ended.toFixed(0)} ${what}`
}
