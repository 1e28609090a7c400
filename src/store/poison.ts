// Promises: aggregates whose next transaction PostgreSQL refused, as people see and release them. An order to try again stands in the
// row itself, so that it outlives the command and the leader; the row goes with the commit that applies it, and not before (INV-11).
import type { PoisonRecord } from '../model/control.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Session } from './session.ts'
import { poisonOf } from './view-rows.ts'

export interface PoisonEntry extends PoisonRecord {
  /** When PostgreSQL last refused it. */
  readonly at: string
}

export interface PoisonList {
  readonly total: number
  /** The longest halted first, at most so many as asked for. */
  readonly entries: readonly PoisonEntry[]
}

export async function listPoison(session: Session, max: number): Promise<PoisonList> {
  const rows = await session.query(
    `select p.key, p.slot, p.tenure, p.version, p.sqlstate, p.message, p.retrying, count(*) over () as total,
            to_char(p.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
       from switchback.poison p order by p.at, p.key limit $1`,
    [max],
  )
  return { total: Number(rows[0]?.['total'] ?? 0), entries: rows.map((row) => ({ ...poisonOf(row), at: row['at']! })) }
}

/** Of these keys, or all. Idempotent. Returns the keys that are tried again. */
export async function retryPoison(session: Session, keys: readonly AggregateKey[] | null): Promise<readonly AggregateKey[]> {
  const rows = await session.query(
    `with asked as (
       update switchback.poison p set retrying = true where $1::text[] is null or p.key = any ($1) returning p.key
     )
     select a.key, switchback.write_journal(l.token, 'poison retry', null, jsonb_build_object('key', a.key, 'by', session_user)) as id
       from asked a cross join switchback.leader l order by a.key`,
    [keys === null ? null : [...keys]],
  )
  return rows.map((row) => row['key']!)
}

/** What has become of keys that are tried again: absent ones are applied. */
export async function readPoison(session: Session, keys: readonly AggregateKey[]): Promise<readonly PoisonRecord[]> {
  const rows = await session.query(
    'select p.key, p.slot, p.tenure, p.version, p.sqlstate, p.message, p.retrying from switchback.poison p where p.key = any ($1)',
    [[...keys]],
  )
  return rows.map(poisonOf)
}
