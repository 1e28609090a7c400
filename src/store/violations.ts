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

export async function countViolations(session: Session): Promise<number> {
  const [row] = await session.query('select count(*) as n from switchback.violation')
  return Number(row!['n'])
}
