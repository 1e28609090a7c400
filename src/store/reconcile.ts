// Promises: what `reconcile` asks of the control schema, and its one act there: the epoch goes above everything that the target has seen.
import { type Epoch, type LeaseId, type Lsn, parseLsn, type SlotId, type Tenure } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Session } from './session.ts'

export interface OutboxesKnown {
  readonly leases: readonly LeaseId[]
  readonly positions: readonly { readonly group: number; readonly lease: LeaseId; readonly sequence: number; readonly final: boolean }[]
}

export async function readOutboxesKnown(session: Session): Promise<OutboxesKnown> {
  const leases = await session.query('select l.id from switchback.lease l order by l.id')
  const positions = await session.query('select p.slot_group, p.lease, p.sequence, p.final from switchback.position p')
  return {
    leases: leases.map((row) => row.id!),
    positions: positions.map((row) => ({
      group: Number(row['slot_group']),
      lease: row['lease']!,
      sequence: Number(row['sequence']),
      final: row['final'] === 't',
    })),
  }
}

export async function readApplied(
  session: Session,
  keys: readonly AggregateKey[],
): Promise<ReadonlyMap<AggregateKey, { readonly tenure: Tenure; readonly version: number }>> {
  const rows = await session.query('select a.key, a.tenure, a.version from switchback.applied a where a.key = any ($1)', [[...keys]])
  return new Map(rows.map((row) => [row['key']!, { tenure: Number(row['tenure']), version: Number(row['version']) }]))
}

/** Where this PostgreSQL left the timeline: the last line of its history. Null: there is none, or this role may not read it. */
export async function readSwitchPoint(session: Session, timeline: number): Promise<Lsn | null> {
  const file = `pg_wal/${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
  try {
    const [row] = await session.query(
      `select m[1] as lsn
         from regexp_matches(pg_read_file($1, true), '^[0-9]+\\s+([0-9A-F]+/[0-9A-F]+)', 'gn') with ordinality as x(m, n)
        order by n desc limit 1`,
      [file],
    )
    return row?.lsn == null ? null : parseLsn(row.lsn)
  } catch (error) {
    if ((error as { code?: unknown }).code === '42501') return null
    throw error
  }
}

/**
 * Gateways of before have seen epochs of the other PostgreSQL beyond the item's (flips that were cancelled, read-only): nobody can say how
 * many, and nobody makes so many.
 */
const EPOCHS_LEAPT = 1_000_000

/**
 * One transaction: an epoch above all that anybody has seen, in every ownership row, so that a gateway that goes on from its view of before
 * reads them all anew; the journal says why. @throws TOKEN_STALE, or a refusal because somebody holds a row (isLockRefusal).
 */
export async function raiseEpoch(
  session: Session,
  above: { readonly token: number; readonly epoch: number; readonly detail: Readonly<Record<string, unknown>> },
): Promise<number> {
  const [row] = await session.query(
    `with leader as materialized (select switchback.assert_leader($1)),
          raised as (update switchback.state s set epoch = greatest(s.epoch, $2::bigint) + $4::bigint from leader returning s.epoch),
          locked as materialized (
            select switchback.lock_slots(array(select o.slot from switchback.ownership o)), r.epoch from raised r),
          changed as (update switchback.ownership o set epoch = l.epoch from locked l)
     insert into switchback.journal (token, epoch, kind, detail)
       select $1, l.epoch, 'adopted', $3::jsonb from locked l returning epoch`,
    [above.token, above.epoch, JSON.stringify(above.detail), EPOCHS_LEAPT],
  )
  return Number(row!['epoch'])
}

/** Where each slot's present tenure begins in the WAL; slots that no backfill has reached are left out. */
export async function readFirstLsns(session: Session): Promise<ReadonlyMap<SlotId, Lsn>> {
  const rows = await session.query(
    `select o.slot, t.first_lsn::text as lsn from switchback.ownership o
       join switchback.tenure t on t.slot = o.slot and t.tenure = o.tenure where t.first_lsn is not null`,
  )
  return new Map(rows.map((row) => [Number(row['slot']), parseLsn(row.lsn!)]))
}

/** Slots that are owed to the target. */
export async function countDebts(session: Session): Promise<number> {
  return Number((await session.query('select count(*) as n from switchback.debt'))[0]!['n'])
}

/**
 * Whether the act whose epoch the item has is in this PostgreSQL's journal. The epoch alone does not say so: an adoption that was broken
 * off has raised it, and so may a leader that began while the target was silent.
 */
export async function hasActOf(session: Session, epoch: Epoch, itemPaid: string): Promise<boolean> {
  const rows = await session.query(
    `select from switchback.journal j
      where j.kind in ('commit', 'adopted') and j.epoch = $1::bigint or j.kind = $2 and (j.detail ->> 'epoch')::bigint = $1::bigint limit 1`,
    [epoch, itemPaid],
  )
  return rows.length > 0
}
