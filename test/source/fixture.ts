// Promises: a database with mapped tables and the control schema, a source over it, and rows of what the stream says.
import type pg from 'pg'
import { systemClock } from '../../src/lib/clock.ts'
import type { SourceTransaction } from '../../src/model/change.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { MigrationConfig, TableConfig } from '../../src/model/migration.ts'
import type { ChangeStream, Source } from '../../src/model/source.ts'
import { readMapping } from '../../src/source/catalog.ts'
import { connectSource } from '../../src/source/connect.ts'
import { createSource } from '../../src/source/postgres-source.ts'
import { installControl } from '../../src/store/schema.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'

export function configOf(migration: string, tables: Readonly<Record<string, TableConfig>>): MigrationConfig {
  return { migration, source: { urlEnv: 'SOURCE_URL' }, target: { kind: 'memory', port: 1 }, tables }
}

export interface SourceWorld extends AsyncDisposable {
  readonly db: TestDatabase
  readonly config: MigrationConfig
  readonly mapping: Mapping
  readonly admin: pg.Client
  readonly source: Source
  /** Streams are ended with the world. */
  stream(): Promise<ChangeStream>
}

export async function sourceWorld(
  sql: string,
  tables: Readonly<Record<string, TableConfig>>,
  options: { readonly control?: boolean } = {},
): Promise<SourceWorld> {
  const db = await testDatabase(sql)
  const config = configOf(db.name, tables)
  const admin = await connectSource({ url: db.url, applicationName: 'test' })
  const mapping = await readMapping(admin, config)
  // The control schema's installer reads booleans as the client's own parsers give them.
  if (options.control === true) await installControl(await db.connect(), { mapping })
  const source = createSource({ url: db.url, mapping, migration: config.migration, clock: systemClock })
  const streams: ChangeStream[] = []
  return {
    db,
    config,
    mapping,
    admin,
    source,
    async stream() {
      const stream = await source.stream()
      streams.push(stream)
      return stream
    },
    async [Symbol.asyncDispose]() {
      for (const stream of streams) await stream.close()
      await source.dropSlot()
      await admin.end()
      await db[Symbol.asyncDispose]()
    },
  }
}

/** Takes transactions with changes until `enough`; fails after the deadline. */
export async function take(
  stream: ChangeStream,
  enough: (taken: readonly SourceTransaction[]) => boolean,
  acknowledge = false,
): Promise<SourceTransaction[]> {
  const deadline = AbortSignal.timeout(15_000)
  const taken: SourceTransaction[] = []
  for await (const transaction of stream.transactions(deadline)) {
    if (transaction.changes.length > 0) taken.push(transaction)
    if (acknowledge) stream.acknowledge(transaction.endLsn)
    if (enough(taken)) return taken
  }
  throw new Error(`only ${taken.length} transactions came`)
}
