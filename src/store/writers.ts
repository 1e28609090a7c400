// Promises: who may still write mapped tables under what came before a fence. Nobody takes a lock a row; instead the fence waits as
// CREATE INDEX CONCURRENTLY does: a writer takes its table lock before its snapshot, so whoever did not see the committed fence
// holds one of these locks (protocols.md, Guard, "No lock a row"; faults.md 47, 69).
import type { BackendId, WaitingWriter } from '../model/control.ts'
import type { Session, TextRow } from './session.ts'

/** The reverse applier writes under the guard's exemption, and the flip's drain has its own account of it. */
const WRITERS = `
with locks as materialized (
  select l.locktype, l.database, l.relation, l.mode, l.granted, l.pid, l.virtualtransaction, l.transactionid from pg_locks l
), held as (
  select distinct l.pid, l.virtualtransaction
    from locks l
   where l.locktype = 'relation' and l.granted
     and l.database = (select d.oid from pg_database d where d.datname = current_database())
     and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
     and l.relation in (select r.relation from switchback.relations() as r(relation))
)
select h.pid, h.virtualtransaction, a.backend_start::text as backend_start, p.gid,
       coalesce(a.usename, p.owner) as usename, coalesce(a.query, '') as query,
       round(extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000) as age_ms
  from held h
  left join pg_stat_activity a on a.pid = h.pid
  -- A prepared transaction keeps the virtual transaction of the backend that prepared it, and has no pid; its own lock names its xid.
  left join locks x on h.pid is null and x.pid is null and x.locktype = 'transactionid' and x.granted
       and x.virtualtransaction = h.virtualtransaction
  left join pg_prepared_xacts p on p.transaction = x.transactionid
 where coalesce(a.usename, p.owner, '') is distinct from (select s.applier_role from switchback.state s)
   -- By virtual transaction too: a backend that a pooler lends on runs another one by then (faults.md 69).
   and not exists (select from unnest($1::int[], $2::timestamptz[], $3::text[]) as e(pid, started, virtualtransaction)
                    where e.pid = h.pid and e.started = a.backend_start and e.virtualtransaction = h.virtualtransaction)`

/** Any lock will do, not only the virtual transaction's own, which goes when a transaction is prepared while it lives on. */
const STILL = `
select distinct l.virtualtransaction from pg_locks l where l.virtualtransaction = any ($1::text[])`

export async function writersNow(session: Session, excused: readonly BackendId[]): Promise<readonly WaitingWriter[]> {
  const values = [excused.map((e) => e.pid), excused.map((e) => e.backendStart), excused.map((e) => e.virtualTransaction)]
  return (await session.query(WRITERS, values)).map(writerOf)
}

export async function writersStillThere(session: Session, writers: readonly WaitingWriter[]): Promise<readonly WaitingWriter[]> {
  if (writers.length === 0) return []
  const rows = await session.query(STILL, [writers.map((w) => w.virtualTransaction)])
  const there = new Set(rows.map((row) => row.virtualtransaction))
  return writers.filter((writer) => there.has(writer.virtualTransaction))
}

function writerOf(row: TextRow): WaitingWriter {
  return {
    pid: Number(row.pid ?? 0),
    backendStart: row.backend_start ?? '',
    virtualTransaction: row.virtualtransaction!,
    ageMs: Number(row.age_ms ?? 0),
    query: row.query ?? '',
    user: row.usename ?? 'unknown',
    gid: row.gid ?? null,
  }
}
