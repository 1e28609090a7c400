// Promises: what a transaction of the service does to the rows of one key: the same on both stores, and in the order that has to explain
// what clients heard (aggregate-log.ts). Pots that hold money are there for good; a note comes and goes, and holds none.
import { type KeyedPlan, SqlError } from '../../src/model/plan.ts'
import type { Row } from '../../src/model/row.ts'
import { drop, POTS, plan, point, put } from '../commit/fake-plans.ts'

/** A number is added to what is there; where nothing is, nothing happens. */
export type RowAct = number | 'insert' | 'delete'
export type Acts = Readonly<Record<string, RowAct>>

/** The row after it, and what the client is told of it; null: no row was touched. 'there': a unique violation. */
export interface Acted {
  readonly row: Row | null
  readonly told: string
}

export function actOn(row: Row | null, what: RowAct, { key, pot, by }: { key: string; pot: string; by: number }): Acted | null | 'there' {
  if (what === 'insert') {
    if (row !== null) return 'there'
    const fresh = [key, pot, '0', String(by)]
    return { row: fresh, told: toldOf(fresh) }
  }
  if (row === null) return null
  if (what === 'delete') return { row: null, told: `${toldOf(row)} is gone` }
  const changed = [key, pot, String(Number(row[2]) + what), String(by)]
  return { row: changed, told: toldOf(changed) }
}

/** As a client sees a row. */
export function toldOf(row: Row): string {
  return `${row[1]} ${row[2]} by ${row[3]}`
}

/** As src/sql would derive it. */
export function actsPlan(key: string, acts: Acts, by: number): KeyedPlan {
  const pots = Object.keys(acts).sort()
  return plan({
    reads: pots.map(point),
    run: (rows) => {
      const done = pots.flatMap((pot) => {
        const acted = actOn(rows.point(POTS, [pot]) ?? null, acts[pot]!, { key, pot, by })
        if (acted === 'there') throw new SqlError('23505', 'duplicate key value violates unique constraint "pots_pkey"')
        return acted === null ? [] : [{ pot, ...acted }]
      })
      const changes = done.map(({ pot, row }) => (row === null ? drop(pot) : put(key, pot, Number(row[2]), by)))
      return { rows: done.map(({ told }) => [told]), commandTag: `MERGE ${done.length}`, changes }
    },
  })
}
