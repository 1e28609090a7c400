// Promises: how much WAL PostgreSQL keeps for a replication slot, and the slot's end while it keeps more than it may: looked at and done in
// one statement, so that a slot of the same name that was made anew in between stays.
import type { Session } from './session.ts'

/** Of pg_replication_slots, bytes: from where the slot would read again to the end of the WAL. Null: none of it is kept any more. */
export const RETAINED_BYTES = `case when wal_status <> 'lost' then pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) end`
/** object_in_use. */
const IN_USE = '55006'

/** 0: there is no such slot, or nothing is kept for it. */
export async function readRetainedBytes(session: Session, slotName: string): Promise<number> {
  const [row] = await session.query(`select ${RETAINED_BYTES} as retained from pg_replication_slots where slot_name = $1`, [slotName])
  return Number(row?.['retained'] ?? 0)
}

/**
 * Ends whoever reads from it, then the slot, while it keeps more than so many bytes. False: it is still in use, or keeps less, or is gone.
 * Idempotent; its position is lost for good.
 */
export async function dropSlotAbove(session: Session, slotName: string, bytes: number): Promise<boolean> {
  const above = `slot_name = $1 and ${RETAINED_BYTES} > $2::bigint`
  await session.query(`select pg_terminate_backend(active_pid) as ended from pg_replication_slots where active and ${above}`, [
    slotName,
    bytes,
  ])
  try {
    const dropped = await session.query(
      `select pg_drop_replication_slot(slot_name) as dropped from pg_replication_slots where not active and ${above}`,
      [slotName, bytes],
    )
    return dropped.length > 0
  } catch (error) {
    // Taken up again in between: the next look tries again.
    if ((error as { code?: string }).code === IN_USE) return false
    throw error
  }
}
