// Promises: where gateways find the leader's feed, and the secret that opens it; new with each leader.
import { SwitchbackError } from '../model/errors.ts'
import type { Session } from './session.ts'

export interface FeedEndpoint {
  readonly token: number
  readonly host: string
  readonly port: number
  readonly secret: string
}

/** Throws TOKEN_STALE. */
export async function publishEndpoint(session: Session, endpoint: FeedEndpoint): Promise<void> {
  const { token, host, port, secret } = endpoint
  const rows = await session.query(
    `insert into switchback.endpoint (token, host, port, secret)
     select $1, $2, $3, $4 from switchback.leader where token = $1
     on conflict (one) do update set token = excluded.token, host = excluded.host, port = excluded.port, secret = excluded.secret
     returning token`,
    [token, host, port, secret],
  )
  if (rows.length === 0) throw new SwitchbackError('TOKEN_STALE', { token })
}

export async function readEndpoint(session: Session): Promise<FeedEndpoint | null> {
  const [row] = await session.query('select token, host, port, secret from switchback.endpoint')
  if (row === undefined) return null
  return { token: Number(row['token']), host: row['host']!, port: Number(row['port']), secret: row['secret']! }
}
