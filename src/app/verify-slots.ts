// Promises: a flip's verification: what changed last in the slots, both sides, when both are at rest (drained, fenced).

import type { VerifyReport } from '../flip/parts.ts'
import { recordText } from '../lib/digest.ts'
import type { SlotId } from '../model/ids.ts'
import { type Mapping, tableOf } from '../model/mapping.ts'
import type { ParityReader } from '../model/parity.ts'
import type { RowKey } from '../model/row.ts'
import type { RecentRows } from './recent-rows.ts'

/** Rows compared inside a flip: checking goes on all the time, so that little is left for the pause. */
const VERIFY_ROWS_MAX = 100

export async function verifySlots(
  parts: { readonly mapping: Mapping; readonly source: ParityReader; readonly target: ParityReader; readonly recent: RecentRows },
  slots: readonly SlotId[],
): Promise<VerifyReport> {
  const chosen = new Set(slots)
  const { rows, left } = parts.recent.of(chosen, VERIFY_ROWS_MAX)
  const byTable = new Map<string, RowKey[]>()
  for (const row of rows) byTable.set(row.table, [...(byTable.get(row.table) ?? []), row])
  let differences = 0
  let firstDifference: string | null = null
  await Promise.all(
    [...byTable].map(async ([name, keys]) => {
      const table = tableOf(parts.mapping, name)!
      const [source, target] = await Promise.all([parts.source.readRows(table, keys), parts.target.readRows(table, keys)])
      keys.forEach((key, i) => {
        const [here, there] = [source[i], target[i]].map((row) => (row === undefined ? null : recordText(row)))
        if (here === there) return
        differences++
        firstDifference ??= `${key.table} ${[key.key, ...key.clustering].join('/')}: PostgreSQL ${here ?? 'has no such row'}, the target ${there ?? 'has no such row'}`
      })
    }),
  )
  if (differences === 0) parts.recent.settled(chosen)
  return { rowsCompared: rows.length, differences, notChecked: left, firstDifference }
}
