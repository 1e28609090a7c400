// Promises: a backfill's ranges in PostgreSQL, shared by many workers (`for update skip locked`), so that a crash loses none. It is
// the journal that src/sync's backfill asks for. Only the newest backfill has work to give: a later one has another tenure, and what
// the one before still copied could be a row that was deleted since (INV-4).
import { SwitchbackError } from '../model/errors.ts'
import { formatLsn, type Lsn, parseLsn } from '../model/ids.ts'
import type { KeyRange } from '../model/source.ts'
import type { Session, TextRow } from './session.ts'

/** A claim without progress for so long is open again: two workers on one range are harmless (INV-4). */
const CLAIM_EXPIRY_MS = 30_000

const NEWEST = '$1 = (select max(b.id) from switchback.backfill b)'
const NEWEST_OF_ROW = 'backfill = (select max(b.id) from switchback.backfill b)'

/** For when nobody else is at work: the claims of who has died are open at once. Returns how many. */
export async function reopenClaims(session: Session, backfill: number): Promise<number> {
  const rows = await session.query(
    `update switchback.backfill_range set state = 'open', worker = null where backfill = $1 and state = 'taken' returning id`,
    [backfill],
  )
  return rows.length
}

export function backfillRanges(session: Session, backfill: number) {
  const one = async (sql: string, values: readonly unknown[]): Promise<boolean> => (await session.query(sql, values)).length === 1
  return {
    async plan(table: string, ranges: readonly KeyRange[]): Promise<void> {
      await session.query(
        `with planned as (
           insert into switchback.backfill_planned (backfill, table_name) values ($1, $2) on conflict do nothing returning 1)
         insert into switchback.backfill_range (backfill, table_name, from_key, to_key)
         select $1, $2, (select array_agg(k) from jsonb_array_elements_text(nullif(r -> 'from', 'null')) as k),
                        (select array_agg(k) from jsonb_array_elements_text(nullif(r -> 'to', 'null')) as k)
           from jsonb_array_elements($3::jsonb) with ordinality as t(r, n)
          where exists (select 1 from planned)
          order by n`,
        [backfill, table, JSON.stringify(ranges.map(({ from, to }) => ({ from, to })))],
      )
    },
    isPlanned: (table: string) =>
      one('select 1 from switchback.backfill_planned where backfill = $1 and table_name = $2', [backfill, table]),
    async claim(worker: string) {
      const [row] = await session.query(
        `update switchback.backfill_range as r
            set state = 'taken', worker = $2, claimed_at = clock_timestamp(), claims = claims + 1
          where r.id = (
            select id from switchback.backfill_range
             where backfill = $1 and ${NEWEST}
               and (state = 'open' or state = 'taken' and claimed_at < clock_timestamp() - $3 * interval '1 millisecond')
             order by id limit 1 for update skip locked)
        returning id, table_name, to_json(from_key)::text as from_key, to_json(to_key)::text as to_key, rows, bytes, claims`,
        [backfill, worker, CLAIM_EXPIRY_MS],
      )
      if (row !== undefined) return rangeOf(row)
      if (!(await one(`select 1 where ${NEWEST}`, [backfill]))) throw new SwitchbackError('BACKFILL_SUPERSEDED', { backfill })
      return null
    },
    progress: (id: number, worker: string, at: { readonly after: readonly string[]; readonly rows: number; readonly bytes: number }) =>
      one(
        `update switchback.backfill_range set from_key = $3, rows = $4, bytes = $5, claimed_at = clock_timestamp()
          where id = $1 and worker = $2 and state = 'taken' and ${NEWEST_OF_ROW} returning 1`,
        [id, worker, [...at.after], at.rows, at.bytes],
      ),
    done: (id: number, worker: string, result: { readonly rows: number; readonly bytes: number; readonly snapshotLsn: Lsn | null }) =>
      one(
        `update switchback.backfill_range set state = 'done', rows = $3, bytes = $4, snapshot_lsn = $5
          where id = $1 and worker = $2 and state = 'taken' and ${NEWEST_OF_ROW} returning 1`,
        [id, worker, result.rows, result.bytes, result.snapshotLsn === null ? null : formatLsn(result.snapshotLsn)],
      ),
    async release(id: number, worker: string): Promise<void> {
      await session.query(
        `update switchback.backfill_range set state = 'open', worker = null where id = $1 and worker = $2 and state = 'taken'`,
        [id, worker],
      )
    },
    async totals() {
      const [row] = await session.query(
        `select count(*) as ranges, count(*) filter (where state = 'done') as done, coalesce(sum(rows), 0) as rows,
                coalesce(sum(bytes), 0) as bytes, max(snapshot_lsn) as snapshot_lsn
           from switchback.backfill_range where backfill = $1`,
        [backfill],
      )
      const lsn = row!['snapshot_lsn']
      return {
        ranges: Number(row!['ranges']),
        done: Number(row!['done']),
        rows: Number(row!['rows']),
        bytes: Number(row!['bytes']),
        laterSnapshotLsn: lsn == null ? null : parseLsn(lsn),
      }
    },
  }
}

function rangeOf(row: TextRow) {
  const texts = (json: string | null | undefined) => (json == null ? null : (JSON.parse(json) as string[]))
  return {
    id: Number(row['id']),
    range: { table: row['table_name']!, from: texts(row['from_key']), to: texts(row['to_key']) },
    rows: Number(row['rows']),
    bytes: Number(row['bytes']),
    resumed: Number(row['claims']) > 1,
  }
}
