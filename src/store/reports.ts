// Promises: what the leader says of its syncs, for `status` and for whoever watches; with its age, since old evidence is none (INV-10).
import type { Session } from './session.ts'

export interface LeaderReport {
  readonly token: number
  readonly ageMs: number
  readonly content: Readonly<Record<string, unknown>>
}

export async function writeReport(session: Session, token: number, content: Readonly<Record<string, unknown>>): Promise<void> {
  await session.query(
    `insert into switchback.report (token, content) select token, $2 from switchback.leader where token = $1
     on conflict (one) do update set token = excluded.token, content = excluded.content, at = clock_timestamp()`,
    [token, JSON.stringify(content, (_, value) => (typeof value === 'bigint' ? value.toString() : value))],
  )
}

export async function readReport(session: Session): Promise<LeaderReport | null> {
  const [row] = await session.query(
    `select token, content, extract(epoch from clock_timestamp() - at) * 1000 as age_ms from switchback.report`,
  )
  if (row === undefined) return null
  return { token: Number(row['token']), ageMs: Number(row['age_ms']), content: JSON.parse(row['content']!) as Record<string, unknown> }
}
