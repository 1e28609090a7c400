// Promises: rows that changed last are compared on both sides: all the time in the background, so that little is left for a flip's
// pause, and what is left inside the flip, where both sides are at rest (protocols.md, The flip, 5).
import type { VerifyReport } from '../flip/parts.ts'
import type { Clock } from '../lib/clock.ts'
import { recordText } from '../lib/digest.ts'
import type { SlotId } from '../model/ids.ts'
import { type Mapping, tableOf } from '../model/mapping.ts'
import type { ParityReader } from '../model/parity.ts'
import type { RecentRow, RecentRows } from './recent-rows.ts'

export interface VerifyParts {
  readonly mapping: Mapping
  readonly source: ParityReader
  readonly target: ParityReader
  readonly recent: RecentRows
}

/** Rows compared inside a flip. */
const VERIFY_ROWS_MAX = 32
/** A request that the target refused or lost is made again: one of many is no reason to cancel a flip. */
const VERIFY_TRIES_MAX = 8
const VERIFY_AGAIN_MS = 10
const BACKGROUND_ROWS = 100
const BACKGROUND_MS = 500
/** A row that has stood still and differed for so many looks is no write on its way. */
const DRIFT_LOOKS = 10

export async function verifySlots(parts: VerifyParts, slots: readonly SlotId[], clock: Clock, signal: AbortSignal): Promise<VerifyReport> {
  const { rows, left } = parts.recent.of(new Set(slots), VERIFY_ROWS_MAX)
  const compared = await comparedInTries(parts, rows, clock, signal)
  const different = compared.filter(({ here, there }) => here !== there)
  const first = different[0]
  return {
    rowsCompared: rows.length,
    differences: different.length,
    notChecked: left,
    firstDifference: first === undefined ? null : describe(first),
    differing: [...new Set(different.map(({ row }) => row.slot))],
  }
}

async function comparedInTries(
  parts: VerifyParts,
  rows: readonly RecentRow[],
  clock: Clock,
  signal: AbortSignal,
): Promise<readonly Compared[]> {
  for (let tries = 1; ; tries++) {
    try {
      return await compareRows(parts, rows)
    } catch (error) {
      if (tries >= VERIFY_TRIES_MAX || signal.aborted) throw error
    }
    await clock.sleep(VERIFY_AGAIN_MS, signal)
  }
}

/** Until the signal aborts. `onDrift` is told once of each row that stands still and differs. */
export async function checkRecentRows(
  parts: VerifyParts,
  options: { readonly clock: Clock; readonly onDrift: (text: string, row: RecentRow) => void; readonly onFailed: (error: unknown) => void },
  signal: AbortSignal,
): Promise<void> {
  let suspects = new Map<number, { readonly text: string; readonly looks: number }>()
  while (!signal.aborted) {
    await options.clock.sleep(BACKGROUND_MS, signal)
    try {
      const next: typeof suspects = new Map()
      for (const row of await compareRows(parts, parts.recent.oldest(BACKGROUND_ROWS))) {
        if (row.here === row.there) continue
        const text = describe(row)
        const before = suspects.get(row.row.change)
        const looks = before?.text === text ? before.looks + 1 : 1
        if (looks === DRIFT_LOOKS) options.onDrift(text, row.row)
        next.set(row.row.change, { text, looks })
      }
      suspects = next
    } catch (error) {
      options.onFailed(error)
    }
  }
}

interface Compared {
  readonly row: RecentRow
  /** Null: no such row. */
  readonly here: string | null
  readonly there: string | null
}

async function compareRows(parts: VerifyParts, rows: readonly RecentRow[]): Promise<readonly Compared[]> {
  const byTable = new Map<string, RecentRow[]>()
  for (const row of rows) byTable.set(row.key.table, [...(byTable.get(row.key.table) ?? []), row])
  const compared = await Promise.all(
    [...byTable].map(async ([name, members]): Promise<Compared[]> => {
      const table = tableOf(parts.mapping, name)
      if (table === undefined) return []
      const keys = members.map((member) => member.key)
      const [source, target] = await Promise.all([parts.source.readRows(table, keys), parts.target.readRows(table, keys)])
      return members.map((row, i) => ({ row, here: textOf(source[i]), there: textOf(target[i]) }))
    }),
  )
  const all = compared.flat()
  for (const { row, here, there } of all) if (here === there) parts.recent.settled(row)
  return all
}

function textOf(row: readonly (string | null)[] | undefined): string | null {
  return row === undefined ? null : recordText(row)
}

function describe({ row: { key }, here, there }: Compared): string {
  return `${key.table} ${[key.key, ...key.clustering].join('/')}: PostgreSQL ${here ?? 'has no such row'}, the target ${there ?? 'has no such row'}`
}
