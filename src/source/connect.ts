// Promises: connections to PostgreSQL whose values are its own text under pinned settings, whatever the role or database is set to
// (faults.md 21), and that no black hole can hang. One clear error where it cannot be reached.
import pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'

export interface ConnectOptions {
  readonly url: string
  readonly applicationName: string
  readonly queryTimeoutMs?: number
  readonly replication?: 'database'
}

const CONNECT_TIMEOUT_MS = 5_000
const QUERY_TIMEOUT_MS = 60_000
const KEEPALIVE_MS = 1_000

/** Every value as PostgreSQL's own text. */
export const RAW_TYPES = { getTypeParser: () => (text: string | Buffer) => text } as unknown as pg.CustomTypesConfig

/** INV-12: what text PostgreSQL prints depends on these and on nothing else. */
const PINNED = {
  datestyle: 'ISO, YMD',
  timezone: 'UTC',
  intervalstyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  lc_monetary: 'C',
  lc_numeric: 'C',
  xmloption: 'content',
  search_path: 'pg_catalog',
  // A policy would leave rows out silently: with it off such a read fails.
  row_security: 'off',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
}

/** Throws SOURCE_UNREACHABLE. The client's errors after that end its queries; it is the caller's to end. */
export async function connectSource(options: ConnectOptions): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: options.url,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: options.queryTimeoutMs ?? QUERY_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_MS,
    types: RAW_TYPES,
    // A walsender takes no SET: the settings come with the startup packet, which goes over role and database settings.
    options: Object.entries(PINNED)
      .map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
      .join(' '),
    ...(options.replication === undefined ? {} : ({ replication: options.replication } as object)),
  })
  client.on('error', () => undefined) // each query rejects by itself
  try {
    await client.connect()
  } catch (error) {
    throw unreachable(options.url, error)
  }
  return client
}

function unreachable(url: string, error: unknown): SwitchbackError {
  const at = placeOf(url)
  const code = (error as { code?: string }).code
  const message = error instanceof Error ? error.message : String(error)
  if (code === '28P01' || code === '28000') return new SwitchbackError('SOURCE_REFUSED', { at, reason: message }, error)
  return new SwitchbackError('SOURCE_UNREACHABLE', { at, reason: message || code || 'no answer' }, error)
}

/** Host, port and database: never the password. */
function placeOf(url: string): string {
  try {
    const parsed = new URL(url)
    return `${parsed.hostname}:${parsed.port || '5432'}${parsed.pathname}`
  } catch {
    return 'the address in the connection string'
  }
}
