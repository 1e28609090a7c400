// Promises: a real PostgreSQL with the accounts table, filled; databases of their own for rounds that leave something behind.
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../src/app/embedded/postgres.ts'
import type { Mapping } from '../src/model/mapping.ts'
import type { MigrationConfig } from '../src/model/migration.ts'
import { readMapping } from '../src/source/catalog.ts'
import { connectSource } from '../src/source/connect.ts'
import { ACCOUNTS, ACCOUNTS_SQL, fillSql } from './accounts.ts'

const QUERY_TIMEOUT_MS = 300_000

export interface BenchDatabase {
  readonly name: string
  readonly url: string
  readonly mapping: Mapping
  connect(): Promise<pg.Client>
  /** With pinned settings, every value as text. */
  connectRaw(): Promise<pg.Client>
  /** Drops it, with the slots that are left in it. */
  drop(): Promise<void>
}

export async function benchPostgres(): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({
    settings: { shared_buffers: '512MB', max_wal_size: '4GB', max_connections: '200', max_replication_slots: '20', max_wal_senders: '20' },
  })
}

export async function benchDatabase(server: EmbeddedPostgres, name: string, rows: number): Promise<BenchDatabase> {
  await once(server.url(), `create database ${name}`)
  const url = server.url(name)
  await once(url, ACCOUNTS_SQL, fillSql(rows), 'vacuum analyze public.accounts')
  const raw = () => connectSource({ url, applicationName: 'bench', queryTimeoutMs: QUERY_TIMEOUT_MS })
  const client = await raw()
  const mapping = await readMapping(client, configOf(name)).finally(() => client.end())
  return {
    name,
    url,
    mapping,
    connect: () => connect(url),
    connectRaw: raw,
    async drop() {
      await once(
        server.url(),
        `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '${name}' and not active`,
        `drop database ${name} with (force)`,
      )
    },
  }
}

function configOf(migration: string): MigrationConfig {
  return {
    migration,
    source: { urlEnv: 'BENCH_DATABASE_URL' },
    target: { kind: 'memory', port: 1 },
    tables: { [ACCOUNTS]: { partitionKey: 'id' } },
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, query_timeout: QUERY_TIMEOUT_MS, application_name: 'bench' })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

async function once(url: string, ...statements: readonly string[]): Promise<void> {
  const client = await connect(url)
  try {
    for (const statement of statements) await client.query(statement)
  } finally {
    await client.end()
  }
}
