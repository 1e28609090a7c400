// Promises: the record of each backfill in PostgreSQL, read together with what it stands on: its replication slot and the identity of
// the server, in one statement, so that they belong together.
import { formatLsn, type Lsn, parseLsn, type SlotId, type Stamp, type Tenure } from '../model/ids.ts'
import type { Session, TextRow } from './session.ts'

export interface BackfillState {
  readonly id: number
  readonly consistentPoint: Lsn
  readonly done: boolean
  /** It opened a tenure of its own: what lies below its base is swept. */
  readonly again: boolean
  /** Slots that have this tenure in their history are the ones it copies, each row with this base as its stamp. */
  readonly tenure: Tenure
  readonly base: Stamp
  /** Since it began, by PostgreSQL's clock. */
  readonly ageMs: number
  /** Why the forward sync stands still; `lost`: for good. */
  readonly stopped: { readonly because: string; readonly lost: boolean } | null
  /** The PostgreSQL it was made from; null: made before that was recorded. */
  readonly madeFrom: ServerIdentity | null
}

export interface ServerIdentity {
  readonly systemIdentifier: string
  readonly timeline: number
}

export interface BackfillFacts {
  readonly backfill: BackfillState | null
  readonly slotName: string
  /** Null: there is no such slot. */
  readonly walStatus: string | null
  readonly server: ServerIdentity
  /** `finalize` has begun: it drops the slot. */
  readonly ending: boolean
}

/** The newest backfill, and what it stands on. */
export async function readBackfillFacts(session: Session, slotName: string): Promise<BackfillFacts> {
  const [row] = await session.query(
    `select b.id, b.consistent_point, b.done, b.again, b.tenure, b.base, b.age_ms, b.stopped_because, b.lost, b.system_identifier, b.timeline,
            s.wal_status, here.system_identifier as here_system, here.timeline as here_timeline,
            (select t.ending from switchback.state t) as ending
       from (select c.system_identifier::text as system_identifier,
                    -- The present one from the first moment after a promotion on; a checkpoint tells it late (faults.md 15).
                    ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int as timeline
               from pg_control_system() c) as here
       left join lateral (
         select x.id, x.consistent_point, x.ended_at is not null as done, x.again, x.tenure, x.base, x.stopped_because, x.lost,
                x.system_identifier, x.timeline, round(extract(epoch from clock_timestamp() - x.started_at) * 1000) as age_ms
           from switchback.backfill x order by x.id desc limit 1) as b on true
       left join (select coalesce(r.wal_status, 'unknown') as wal_status from pg_replication_slots r
                   where r.slot_name = $1 and r.confirmed_flush_lsn is not null) as s on true`,
    [slotName],
  )
  return {
    backfill: row!['id'] == null ? null : backfillOf(row!),
    slotName,
    walStatus: row!['wal_status'] ?? null,
    server: { systemIdentifier: row!['here_system']!, timeline: Number(row!['here_timeline']) },
    ending: row!['ending'] === 't',
  }
}

/** @throws TOKEN_STALE, FLIP_OVERLAPS. Null: a slot has changed its owner since the epoch; make another replication slot. */
export async function beginBackfill(
  session: Session,
  begin: {
    readonly token: number
    readonly consistentPoint: Lsn
    /** Read before the slot was made. */
    readonly epoch: number
    readonly server: ServerIdentity
    /** A stamp that is known to have been issued, where the WAL of today may not lie above it: after a failover. */
    readonly highestStamp?: Stamp
  },
): Promise<number | null> {
  const [row] = await session.query('select switchback.begin_backfill($1, $2, $3, $4, $5, $6) as id', [
    begin.token,
    formatLsn(begin.consistentPoint),
    begin.epoch,
    begin.server.systemIdentifier,
    begin.server.timeline,
    begin.highestStamp?.toString() ?? null,
  ])
  return row!['id'] == null ? null : Number(row!['id'])
}

export async function endBackfill(session: Session, id: number): Promise<void> {
  await session.query('update switchback.backfill set ended_at = coalesce(ended_at, clock_timestamp()) where id = $1 and not lost', [id])
  await session.query('select pg_notify($1, $2)', ['switchback_lease', 'backfill'])
}

/** Idempotent. `because` null: the forward sync goes on. What is lost stays so. @throws TOKEN_STALE */
export async function stopForward(
  session: Session,
  token: number,
  stop: { readonly backfill: number; readonly because: string | null; readonly lost: boolean },
): Promise<void> {
  await session.query('select switchback.stop_forward($1, $2, $3, $4)', [token, stop.backfill, stop.because, stop.lost])
}

/** The token that acts of a command compare: of the leader, or of nobody yet. */
export async function presentToken(session: Session): Promise<number> {
  const [row] = await session.query('select token from switchback.leader')
  return Number(row?.['token'] ?? 0)
}

/** Slots that have, or had, this tenure. */
export async function slotsOfTenure(session: Session, tenure: Tenure): Promise<ReadonlySet<SlotId>> {
  const rows = await session.query('select slot from switchback.tenure where tenure = $1', [tenure])
  return new Set(rows.map((row) => Number(row['slot'])))
}

/** Parts of the target that have been swept for a backfill, so that a killed run goes on with the others. */
export function sweptParts(session: Session, backfill: number, segments: number) {
  return {
    async isSwept(table: string, segment: number): Promise<boolean> {
      const rows = await session.query(
        'select 1 from switchback.backfill_swept where backfill = $1 and table_name = $2 and segment = $3 and segments = $4',
        [backfill, table, segment, segments],
      )
      return rows.length > 0
    },
    async swept(table: string, segment: number, tombstones: number): Promise<void> {
      await session.query(
        `insert into switchback.backfill_swept (backfill, table_name, segment, segments, tombstones) values ($1, $2, $3, $4, $5)
         on conflict do nothing`,
        [backfill, table, segment, segments, tombstones],
      )
    },
  }
}

/** Over all runs of it. */
export async function tombstonesOf(session: Session, backfill: number): Promise<number> {
  const [row] = await session.query('select coalesce(sum(tombstones), 0) as n from switchback.backfill_swept where backfill = $1', [
    backfill,
  ])
  return Number(row!['n'])
}

function backfillOf(row: TextRow): BackfillState {
  const because = row['stopped_because']
  const system = row['system_identifier']
  return {
    id: Number(row['id']),
    consistentPoint: parseLsn(row['consistent_point']!),
    done: row['done'] === 't',
    again: row['again'] === 't',
    tenure: Number(row['tenure']),
    base: BigInt(row['base']!),
    ageMs: Number(row['age_ms']),
    stopped: because == null ? null : { because, lost: row['lost'] === 't' },
    madeFrom: system == null ? null : { systemIdentifier: system, timeline: Number(row['timeline']) },
  }
}
