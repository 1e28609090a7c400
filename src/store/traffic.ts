// Promises: what the gateways saw of the traffic, as the leader last wrote it for commands; with its age, since an old profile plans nothing.
import type { SlotId } from '../model/ids.ts'
import type { Session } from './session.ts'

export interface PlainTraffic {
  readonly slots: readonly (readonly [slot: SlotId, requests: number])[]
  readonly keys: readonly (readonly [key: string, slot: SlotId, requests: number])[]
}

/** A figure, not an act: a leader that leads no more writes none. */
export async function writeTraffic(session: Session, token: number, profile: PlainTraffic): Promise<void> {
  await session.query(
    `insert into switchback.traffic (token, profile) select token, $2 from switchback.leader where token = $1
     on conflict (one) do update set token = excluded.token, profile = excluded.profile, at = clock_timestamp()`,
    [token, JSON.stringify(profile)],
  )
}

export async function readTraffic(session: Session): Promise<{ readonly ageMs: number; readonly profile: PlainTraffic } | null> {
  const [row] = await session.query('select profile, extract(epoch from clock_timestamp() - at) * 1000 as age_ms from switchback.traffic')
  return row === undefined ? null : { ageMs: Number(row['age_ms']), profile: JSON.parse(row['profile']!) as PlainTraffic }
}
