// Promises: the history of leases is bounded. One that is over goes, with its positions, once every one of its outboxes was read to its
// end and settled; the newest of them stay a while, for people and for what a gateway may still tell of them.
import { SLOT_GROUPS } from '../model/key.ts'
import type { Session } from './session.ts'

const OVER_KEPT = 64

/** Nothing, where another controller leads. Returns how many went. */
export async function trimLeases(session: Session, token: number): Promise<number> {
  const rows = await session.query(
    `with gone as (
       delete from switchback.lease l
        where l.over and exists (select from switchback.leader where token = $1)
          and l.id not in (select k.id from switchback.lease k where k.over order by k.opened_at desc, k.id limit $2)
          and (select count(*) from switchback.position p where p.lease = l.id and p.final) >= $3
        returning l.id
     ), positions as (
       delete from switchback.position p using gone where p.lease = gone.id
     )
     select id from gone`,
    [token, OVER_KEPT, SLOT_GROUPS],
  )
  return rows.length
}
