// Promises: who keeps a short act on the mapped tables waiting, for people: sessions and prepared transactions that hold a lock there with
// which no trigger can be made, or a row of the control state, the oldest first. Only those from before the try: the others came after it.
import type pg from 'pg'

const HOLDERS_MAX = 5
const QUERY_MAX = 120

/** `triedMs`: how long ago the act that was refused began. Empty: whoever it was has ended. */
export async function lockHolders(client: pg.ClientBase, triedMs: number): Promise<readonly string[]> {
  const { rows } = await client.query<Record<'pid' | 'usename' | 'age' | 'query' | 'gid', string | null>>(HOLDERS, [triedMs, HOLDERS_MAX])
  return rows.map(({ pid, usename, age, query, gid }) =>
    gid === null
      ? `pid ${pid} (${usename ?? 'unknown'}), ${age} ms in: ${(query ?? '').replace(/\s+/g, ' ').slice(0, QUERY_MAX)}`
      : `prepared transaction ${gid} of ${usename ?? 'unknown'}, ${age} ms old`,
  )
}

/** What conflicts with the SHARE ROW EXCLUSIVE of `create trigger`. */
const HOLDERS = `
select h.pid::text, h.usename, round(h.age)::text as age, h.query, h.gid
  from (select distinct l.pid, coalesce(a.usename, p.owner) as usename, a.query, p.gid,
               extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000 as age
          from pg_catalog.pg_locks l
          left join pg_catalog.pg_stat_activity a on a.pid = l.pid
          -- A prepared transaction has no pid, and keeps the virtual transaction of who prepared it; its own lock names its xid.
          left join pg_catalog.pg_locks x on l.pid is null and x.pid is null and x.locktype = 'transactionid' and x.granted
               and x.virtualtransaction = l.virtualtransaction
          left join pg_catalog.pg_prepared_xacts p on p.transaction = x.transactionid
         where l.locktype = 'relation' and l.granted and l.pid is distinct from pg_backend_pid()
           and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
           and (l.relation in (select r.relation from switchback.relations() as r(relation))
                  and l.mode in ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                                 'AccessExclusiveLock')
                or l.relation = 'switchback.state'::regclass and l.mode in ('RowShareLock', 'RowExclusiveLock'))) h
 where h.age >= $1 order by h.age desc limit $2`
