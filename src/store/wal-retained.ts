// Promises: how much WAL PostgreSQL keeps for a replication slot, and the slot's end while it keeps more than it may: looked at and done in
// one statement, so that a slot of the same name that was made anew in between stays.
import type { Session } from './session.ts'

export interface RetainedWal {
  /** From where the slot would read again to the end of the WAL. */
  readonly bytes: number
}

/** Null: there is no such slot, or none of its WAL is kept any more. */
export async function readRetainedWal(session: Session, slotName: string): Promise<RetainedWal | null> {
  const [row] = await session.query(
    `select pg_wal_lsn_diff(pg_current_wal_lsn(), r.restart_lsn)::text as message
       from pg_replication_slots r where r.slot_name = $1 and r.restart_lsn is not null and r.wal_status <> 'lost'`,
    [slotName],
  )
  return row === undefined ? null : { bytes: Number(row['message']) }
}

/**
 * Ends whoever reads from it, then the slot, while it keeps more than so many bytes. False: it is still in use, or keeps less, or is gone.
 * Idempotent; its position is lost for good.
 */
export async function dropSlotAbove(session: Session, slotName: string, bytes: number): Promise<boolean> {
  const above = `r.slot_name = $1 and pg_wal_lsn_diff(pg_current_wal_lsn(), r.restart_lsn) > $2::bigint`
  await session.query(`select pg_terminate_backend(r.active_pid) as same from pg_replication_slots r where r.active and ${above}`, [
    slotName,
    bytes,
  ])
  const dropped = await session.query(
    `select pg_drop_replication_slot(r.slot_name) as same from pg_replication_slots r where not r.active and ${above}`,
    [slotName, bytes],
  )
  return dropped.length > 0
}
