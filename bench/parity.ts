// Promises: how fast both stores are compared when they are equal, the usual case: against the memory target in rows a second, against
// dynalite beside a plain scan of the same table by a plain client.
import { systemClock } from '../src/lib/clock.ts'
import type { Target } from '../src/model/target.ts'
import { compareStores } from '../src/parity/compare.ts'
import { targetReader } from '../src/parity/target-reader.ts'
import { estimatedRows } from '../src/source/key-ranges.ts'
import { checkDigestFunction, sourceParityReader } from '../src/source/parity-reader.ts'
import { ACCOUNTS } from './accounts.ts'
import { type BenchDatabase, benchDatabase, benchPostgres } from './database.ts'
import { DynamoPeer } from './dynamo-peer.ts'
import { type BenchOptions, figure, inFlight, interleaved, type Measured, median, medianRatio, peer, rate } from './measure.ts'
import { dynaliteStore, memoryStore, withEnds } from './stores.ts'

/** As the parity command has it (app/run-parity.ts). */
const SEGMENTS = 4
const FILL_BATCH = 500
const FILL_IN_FLIGHT = 8

export async function benchParity(options: BenchOptions): Promise<Measured> {
  const sizes = options.quick ? { memory: 20_000, dynalite: 1_000 } : { memory: 500_000, dynalite: 20_000 }
  return withEnds(async (defer) => {
    const postgres = await benchPostgres()
    defer(() => postgres.stop())
    options.say(`${sizes.memory} rows in PostgreSQL and in the memory target`)
    const memory = await compareOnMemory(options, await benchDatabase(postgres, 'parity_memory', sizes.memory), sizes.memory)
    options.say(`${sizes.dynalite} rows in PostgreSQL and in dynalite`)
    const dynalite = await compareOnDynalite(options, await benchDatabase(postgres, 'parity_dynalite', sizes.dynalite), sizes.dynalite)
    return { figures: { ...memory.figures, ...dynalite.figures }, peers: { ...memory.peers, ...dynalite.peers } }
  })
}

async function compareOnMemory(options: BenchOptions, database: BenchDatabase, rows: number): Promise<Measured> {
  await using store = await memoryStore()
  const target = await store.open(database.mapping)
  await fill(database, target)
  const { parity, scan } = await interleaved(options, {
    parity: () => rate(() => compared(database, target, rows)),
    scan: () => rate(() => scanned(target)),
  })
  return {
    figures: { rowsPerSecond: figure(median(parity), 'rows/s', { atLeast: 200_000 }) },
    peers: { memoryScanRowsPerSecond: peer(median(scan), 'rows/s') },
  }
}

async function compareOnDynalite(options: BenchOptions, database: BenchDatabase, rows: number): Promise<Measured> {
  await using store = await dynaliteStore()
  const target = await store.open(database.mapping)
  await fill(database, target)
  const client = new DynamoPeer(store.port)
  const { parity, scan } = await interleaved(options, {
    parity: () => rate(() => compared(database, target, rows)),
    scan: () => rate(() => client.scan('accounts', SEGMENTS)),
  }).finally(() => client.close())
  return {
    figures: {
      ratioToScan: figure(medianRatio(parity, scan), 'x', { atLeast: 0.7 }),
      dynaliteRowsPerSecond: figure(median(parity), 'rows/s'),
    },
    peers: { dynaliteScanRowsPerSecond: peer(median(scan), 'rows/s') },
  }
}

/** Rows compared; throws where any differs. */
async function compared(database: BenchDatabase, target: Target, rows: number): Promise<number> {
  const client = await database.connectRaw()
  try {
    const query = async (sql: string, values: readonly unknown[] = []) =>
      (await client.query<(string | null)[]>({ text: sql, values: [...values], rowMode: 'array' })).rows
    await checkDigestFunction(query)
    const report = await compareStores(
      {
        mapping: database.mapping,
        source: sourceParityReader(query),
        target: targetReader(target, SEGMENTS),
        settling: { sourceOnTarget: async () => undefined, targetOnSource: async () => undefined },
        ownerOf: () => 'source',
        estimatedRows: (table) => estimatedRows(client, table),
        onProgress: () => undefined,
      },
      { share: 1, offset: 0 },
      new AbortController().signal,
    )
    if (report.differences > 0 || report.rowsCompared !== rows) throw new Error(`not equal: ${JSON.stringify(report)}`)
    return report.rowsCompared
  } finally {
    await client.end()
  }
}

async function scanned(target: Target): Promise<number> {
  let rows = 0
  const parts = Array.from({ length: SEGMENTS }, (_, segment) => segment)
  await inFlight(parts, SEGMENTS, async (segment) => {
    for await (const batch of target.scanRows({ table: ACCOUNTS, segment, segments: SEGMENTS })) rows += batch.length
  })
  return rows
}

/** Copies PostgreSQL's own texts. */
async function fill(database: BenchDatabase, target: Target): Promise<void> {
  const fromMs = systemClock.monotonicMs()
  const client = await database.connectRaw()
  try {
    const { columns } = database.mapping.tables[0]!
    await client.query(
      `declare all_rows cursor with hold for select ${columns.map((column) => `"${column.name}"`).join(', ')} from public.accounts`,
    )
    for (;;) {
      const { rows } = await client.query<string[]>({ text: `fetch ${FILL_BATCH * FILL_IN_FLIGHT} from all_rows`, rowMode: 'array' })
      if (rows.length === 0) return
      const batches = Array.from({ length: Math.ceil(rows.length / FILL_BATCH) }, (_, i) =>
        rows.slice(i * FILL_BATCH, (i + 1) * FILL_BATCH),
      )
      await inFlight(batches, FILL_IN_FLIGHT, (batch) =>
        target.putRows(batch.map((values) => ({ table: ACCOUNTS, key: values[0]!, clustering: [], values, stamp: 1n, mark: false }))),
      )
      if (systemClock.monotonicMs() - fromMs > FILL_MAX_MS) throw new Error(`the store was not filled within ${FILL_MAX_MS} ms`)
    }
  } finally {
    await client.end()
  }
}

const FILL_MAX_MS = 300_000
