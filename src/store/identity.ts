// Promises: which PostgreSQL this is: its system identifier, the timeline that it writes now, and the migration's epoch in it.
import type { ControlItem } from '../model/target.ts'
import type { Session } from './session.ts'

/** The timeline as pg_walfile_name tells it is the present one from the first moment after a promotion on (faults.md 15). */
export const IDENTITY = `
select c.system_identifier::text as system_identifier,
       (('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int)::text as timeline,
       s.epoch::text as epoch
  from pg_control_system() c, switchback.state s`

export async function readIdentity(session: Session): Promise<ControlItem> {
  return identityOf((await session.query(IDENTITY))[0]!)
}

export function identityOf(row: Readonly<Record<string, string | null>>): ControlItem {
  return { systemIdentifier: row['system_identifier']!, timeline: Number(row['timeline']), epoch: Number(row['epoch']) }
}
