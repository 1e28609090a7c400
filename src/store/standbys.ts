// Promises: standbys as the primary sees them, and which of the named ones the journal has struck off (protocols.md, Durable control).
import { type Lsn, NO_LSN, parseLsn } from '../model/ids.ts'
import type { StandbyRow } from '../model/standby.ts'
import type { Session, TextRow } from './session.ts'

export interface StandbysSeen {
  /** Everything that was answered before this look is at or below it: commits here are synchronous. */
  readonly flushedHere: Lsn
  readonly rows: readonly StandbyRow[]
}

export interface Struck {
  readonly name: string
  readonly at: string
  readonly silentMs: number
}

export const STRUCK_OFF = 'standby struck off'
export const TAKEN_BACK = 'standby taken back'

export async function readStandbys(session: Session): Promise<StandbysSeen> {
  const rows = await session.query(STANDBYS)
  return { flushedHere: parseLsn(rows[0]!.lsn!), rows: rows.filter((row) => row.pid != null).map(standbyOf) }
}

export async function struckStandbys(session: Session): Promise<readonly Struck[]> {
  const rows = await session.query(STRUCK, [[STRUCK_OFF, TAKEN_BACK], STRUCK_OFF])
  return rows.map((row) => ({ name: row.name!, at: row['at']!, silentMs: Number(row['silent_ms']) }))
}

/** A logical subscriber has a logical slot; a copy being taken, or a session that only asks, streams nothing. */
const STANDBYS = `
select pg_current_wal_flush_lsn()::text as lsn, r.pid, r.application_name as name, r.flush_lsn::text as flush_lsn,
       concat_ws(' ', r.pid, r.flush_lsn, r.reply_time) as sign
  from (select) as one
  left join pg_stat_replication r
    on (r.state in ('streaming', 'catchup') or r.state is null) and r.application_name is distinct from 'pg_basebackup'
   and not exists (select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')
 order by r.application_name`

const STRUCK = `
select last.name, last.at, last.silent_ms
  from (select distinct on (j.detail ->> 'name') j.detail ->> 'name' as name, j.kind, j.at, j.detail ->> 'silentMs' as silent_ms
          from switchback.journal j where j.kind = any ($1) order by j.detail ->> 'name', j.id desc) last
 where last.kind = $2 order by last.name`

function standbyOf(row: TextRow): StandbyRow {
  return {
    name: row.name ?? '',
    flushLsn: row.flush_lsn == null ? NO_LSN : parseLsn(row.flush_lsn),
    sign: row['sign'] ?? '',
  }
}
