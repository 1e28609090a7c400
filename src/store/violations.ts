// Promises: changes that reached PostgreSQL in a tenure of the target are kept, durably, before the stream passes them (INV-1's alarm).
import { formatLsn, type Lsn, type SlotId } from '../model/ids.ts'
import type { Session } from './session.ts'

export interface Violation {
  readonly slot: SlotId
  readonly commitLsn: Lsn
  readonly detail: Readonly<Record<string, unknown>>
}

/** Idempotent: the stream may send the change again. */
export async function recordViolation(session: Session, violation: Violation): Promise<void> {
  await session.query('insert into switchback.violation (slot, lsn, detail) values ($1, $2, $3) on conflict do nothing', [
    violation.slot,
    formatLsn(violation.commitLsn),
    JSON.stringify(violation.detail, (_, value) => (typeof value === 'bigint' ? value.toString() : value)),
  ])
}

export interface FrozenSlot {
  readonly slot: SlotId
  /** Of the first of its changes. */
  readonly lsn: string
}

/** Slots with a violation that nobody has settled: they do not go to the target. */
export async function frozenSlots(session: Session): Promise<readonly FrozenSlot[]> {
  const rows = await session.query(
    'select slot, min(lsn) as lsn from switchback.violation where settled_at is null group by slot order by slot',
  )
  return rows.map((row) => ({ slot: Number(row['slot']), lsn: row['lsn']! }))
}

/** The newest violation, to be settled when both stores have been compared after it. */
export async function newestViolation(session: Session): Promise<number> {
  const [row] = await session.query('select coalesce(max(id), 0) as id from switchback.violation')
  return Number(row!['id'])
}

export async function settleViolations(session: Session, upTo: number): Promise<number> {
  const rows = await session.query(
    'update switchback.violation set settled_at = clock_timestamp() where id <= $1 and settled_at is null returning id',
    [upTo],
  )
  return rows.length
}

export async function countViolations(session: Session): Promise<number> {
  const [row] = await session.query('select count(*) as n from switchback.violation')
  return Number(row!['n'])
}
