// Promises: a database of its own for a test, on one real PostgreSQL a test process.
import { after } from 'node:test'
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'
import { eventually } from './eventually.ts'

let shared: Promise<EmbeddedPostgres> | null = null
let databases = 0

// At the top of the module: a hook registered inside a test would end with that test.
after(async () => (await shared)?.stop())

/** The test process's PostgreSQL, started at the first call, stopped when the file's tests are over. */
export function sharedPostgres(): Promise<EmbeddedPostgres> {
  shared ??= startEmbeddedPostgres()
  return shared
}

export interface TestDatabase extends AsyncDisposable {
  readonly url: string
  readonly name: string
  readonly server: EmbeddedPostgres
  /** One more connection as the superuser; ended with the database. */
  connect(config?: pg.ClientConfig): Promise<pg.Client>
  /** Runs on a connection of its own. */
  query(sql: string, values?: unknown[]): Promise<pg.QueryResult>
}

export async function testDatabase(sql?: string): Promise<TestDatabase> {
  const server = await sharedPostgres()
  const name = `test_${process.pid}_${++databases}`
  const administer = async () => {
    const admin = new pg.Client({ connectionString: server.url(), query_timeout: 30_000 })
    await admin.connect()
    return admin
  }
  const creator = await administer()
  await creator.query(`create database ${name}`)
  await creator.end()
  const clients: pg.Client[] = []
  const database: TestDatabase = {
    url: server.url(name),
    name,
    server,
    async connect(config = {}) {
      const client = new pg.Client({ connectionString: server.url(name), query_timeout: 30_000, ...config })
      client.on('error', () => undefined)
      await client.connect()
      clients.push(client)
      return client
    },
    async query(text, values) {
      const client = new pg.Client({ connectionString: server.url(name), query_timeout: 30_000 })
      await client.connect()
      try {
        return await client.query(text, values)
      } finally {
        await client.end()
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(clients.map((client) => client.end().catch(() => undefined)))
      const admin = await administer() // the server may have been killed and started since
      // A process that was killed a moment ago may hold its slot still.
      await eventually(async () => {
        await admin.query('select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1 and active', [name])
        await admin.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1 and not active', [name])
        await admin.query(`drop database if exists ${name} with (force)`)
        return true
      }, `database ${name} is dropped`)
      await admin.end()
    },
  }
  if (sql !== undefined) await database.query(sql)
  return database
}
