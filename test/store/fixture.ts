// Promises: a database with two mapped tables (one partitioned), the control schema, and leaders, gateways and a guard over it.
import pg from 'pg'
import type { ColumnMapping, ColumnType, KeyType, Mapping, TableMapping } from '../../src/model/mapping.ts'
import { createGatewayControl, type PostgresGatewayControl } from '../../src/store/gateway-control.ts'
import { type LeaderOptions, type PostgresLeaderControl, takeLead } from '../../src/store/leader-control.ts'
import { installControl } from '../../src/store/schema.ts'
import { controlConnector } from '../../src/store/session.ts'
import { mappedColumn, mappedTable } from '../support/mapped-table.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'

export const TABLES = `
create table accounts (id int8 primary key, balance numeric not null default 0);
create table entries (account int8 not null, n int not null, amount numeric not null, primary key (account, n)) partition by hash (account);
create table entries_0 partition of entries for values with (modulus 2, remainder 0);
create table entries_1 partition of entries for values with (modulus 2, remainder 1);
`

export interface ControlWorld extends AsyncDisposable {
  readonly db: TestDatabase
  readonly mapping: Mapping
  /** As the superuser. */
  readonly admin: pg.Client
  readonly applierRole: string
  /** Logged in as a role. */
  connectAs(role: string, password: string): Promise<pg.Client>
  leader(options?: Partial<LeaderOptions>): Promise<PostgresLeaderControl>
  gateway(): PostgresGatewayControl
}

export async function controlWorld(options: { readonly sql?: string; readonly tables?: readonly string[] } = {}): Promise<ControlWorld> {
  const db = await testDatabase(options.sql ?? TABLES)
  const admin = await db.connect()
  const mapping = await mappingOf(admin, options.tables ?? ['accounts', 'entries'])
  await installControl(admin, { mapping })
  const applierRole = `${db.name}_applier`
  await admin.query(`create role ${applierRole} login superuser password 'applier'`)
  const connect = controlConnector({ connectionString: db.url })
  const opened: { close(): Promise<void> }[] = []
  return {
    db,
    mapping,
    admin,
    applierRole,
    connectAs(role, password) {
      const url = new URL(db.url)
      url.username = role
      url.password = password
      return db.connect({ connectionString: url.href })
    },
    async leader(more = {}) {
      const leader = await takeLead({ connect, onLost: () => undefined, ...more })
      if (leader === null) throw new Error('another one leads')
      opened.push(leader)
      const { rows } = await admin.query('select 1 from switchback.tenure where first_lsn is null limit 1')
      if (rows.length > 0)
        await admin.query(`select switchback.begin_backfill($1, '0/1000', s.epoch, 'system', 1, null) from switchback.state s`, [
          leader.token,
        ])
      return leader
    },
    gateway() {
      const gateway = createGatewayControl({ connect })
      opened.push(gateway)
      return gateway
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map((each) => each.close()))
      await admin.query(`drop owned by ${applierRole}`)
      await admin.query(`drop role ${applierRole}`)
      await db[Symbol.asyncDispose]()
    },
  }
}

/** The mapping as the guard and the control schema use it; the first key column partitions. */
export async function mappingOf(client: pg.Client, tables: readonly string[]): Promise<Mapping> {
  const mapped: TableMapping[] = []
  let keyType: KeyType = 'text'
  for (const table of tables) {
    const { rows } = await client.query<{ oid: number; name: string; type: string; generated: string }>(
      `select c.oid, a.attname as name, t.typname as type, a.attgenerated as generated
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 join pg_type t on t.oid = a.atttypid
        where c.oid = $1::regclass order by a.attnum`,
      [table],
    )
    keyType = rows[0]!.type as KeyType
    mapped.push(mappedTable(table, rows.map(columnOf), { relationOid: rows[0]!.oid }))
  }
  return { migration: 'test', keyType, tables: mapped }
}

function columnOf(row: { name: string; type: string; generated: string }): ColumnMapping {
  return mappedColumn(row.name, row.type as ColumnType, { generatedExpr: row.generated === '' ? null : 'generated' })
}

/** The SQLSTATE of a refusal, or 'ok'. */
export async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'ok'
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error.code ?? 'none'
    throw error
  }
}
