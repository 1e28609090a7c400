// Promises: how fast the real command copies, beside the fastest conditional insert that Node.js gets out of the same store, and the
// memory it takes, from few rows to many. Every round begins with an empty store and a control schema of its own.
import type { EmbeddedPostgres } from '../src/app/embedded/postgres.ts'
import type { RowPut } from '../src/model/row.ts'
import type { Target } from '../src/model/target.ts'
import { accountPuts, accountsMapping } from './accounts.ts'
import { type Ran, workplace } from './command.ts'
import { benchDatabase, benchPostgres } from './database.ts'
import { DynamoPeer } from './dynamo-peer.ts'
import { type BenchOptions, type Figure, figure, inFlight, interleaved, type Measured, median, medianRatio, peer, rate } from './measure.ts'
import { dynaliteStore, memoryStore, type Store, withEnds } from './stores.ts'

/** As many rows a call and calls in flight as the memory target takes best from one process. */
const MEMORY_BATCH = 500
const MEMORY_IN_FLIGHT = 8
const RATIO = { atLeast: 0.8 }

export async function benchBackfill(options: BenchOptions): Promise<Measured> {
  const sizes = options.quick
    ? { memory: 5_000, dynalite: 1_000, few: 2_000, many: 20_000 }
    : { memory: 500_000, dynalite: 50_000, few: 100_000, many: 1_000_000 }
  return withEnds(async (defer) => {
    const postgres = await benchPostgres()
    defer(() => postgres.stop())
    const memory = await onMemory(options, postgres, sizes.memory)
    const dynalite = await onDynalite(options, postgres, sizes.dynalite)
    const { few, many } = await interleaved(options, {
      few: () => memoryOf(postgres, sizes.few, options),
      many: () => memoryOf(postgres, sizes.many, options),
    })
    const figures: Record<string, Figure> = {
      ratioToConditionalInsert: figure(Math.min(memory.ratio, dynalite.ratio), 'x', RATIO),
      memoryRatioToConditionalInsert: figure(memory.ratio, 'x', RATIO),
      dynaliteRatioToConditionalInsert: figure(dynalite.ratio, 'x', RATIO),
      memoryRowsPerSecond: figure(memory.rowsPerSecond, 'rows/s'),
      dynaliteRowsPerSecond: figure(dynalite.rowsPerSecond, 'rows/s'),
      ...memoryFigures(median(few), median(many)),
    }
    return { figures, peers: { ...memory.peers, ...dynalite.peers } }
  })
}

/** Flat: ten times the rows, and at most a quarter more memory. */
function memoryFigures(few: number, many: number): Record<string, Figure> {
  if (few === 0 || many === 0) return {}
  return {
    rssMiB: figure(Math.max(few, many), 'MiB', { atMost: 300 }),
    rssGrowth: figure(many / few, 'x', { atMost: 1.25 }),
  }
}

interface Side {
  readonly ratio: number
  readonly rowsPerSecond: number
  readonly peers: Measured['peers']
}

async function onMemory(options: BenchOptions, postgres: EmbeddedPostgres, rows: number): Promise<Side> {
  options.say(`${rows} rows into the memory target`)
  const puts = accountPuts(rows)
  const { backfill, insert } = await interleaved(options, {
    backfill: async () => {
      await using store = await memoryStore()
      return (await backfillInto(postgres, 'memory', store, rows, options)).rowsPerSecond
    },
    insert: async () => {
      await using store = await memoryStore()
      const target = await store.open(accountsMapping('peer'))
      return await rate(() => insertAll(target, puts))
    },
  })
  return {
    ratio: medianRatio(backfill, insert),
    rowsPerSecond: median(backfill),
    peers: { memoryConditionalInsertRowsPerSecond: peer(median(insert), 'rows/s') },
  }
}

/** MiB; 0 where the kernel tells none. */
async function memoryOf(postgres: EmbeddedPostgres, rows: number, options: BenchOptions): Promise<number> {
  options.say(`${rows} rows into the memory target, for the memory they take`)
  await using store = await memoryStore()
  return (await backfillInto(postgres, 'memory', store, rows, options)).ran.rssMiB ?? 0
}

async function onDynalite(options: BenchOptions, postgres: EmbeddedPostgres, rows: number): Promise<Side> {
  options.say(`${rows} rows into dynalite`)
  const ids = Array.from({ length: rows }, (_, i) => i + 1)
  const asPeer = async (work: (client: DynamoPeer) => Promise<void>) => {
    await using store = await dynaliteStore()
    const client = new DynamoPeer(store.port)
    await client.makeTable()
    return await rate(async () => {
      await work(client)
      return rows
    }).finally(() => client.close())
  }
  const { backfill, insert, batch } = await interleaved(options, {
    backfill: async () => {
      await using store = await dynaliteStore()
      return (await backfillInto(postgres, 'dynamodb', store, rows, options)).rowsPerSecond
    },
    insert: () => asPeer((client) => client.insertConditionally(ids)),
    batch: () => asPeer((client) => client.insertInBatches(ids)),
  })
  return {
    ratio: medianRatio(backfill, insert),
    rowsPerSecond: median(backfill),
    peers: {
      dynaliteConditionalInsertRowsPerSecond: peer(median(insert), 'rows/s'),
      dynaliteUnconditionalBatchRowsPerSecond: peer(median(batch), 'rows/s'),
    },
  }
}

let databases = 0

/** `switchback init` and `switchback backfill`, in a database of their own. */
async function backfillInto(
  postgres: EmbeddedPostgres,
  kind: 'memory' | 'dynamodb',
  store: Store,
  rows: number,
  { signal }: BenchOptions,
): Promise<{ readonly rowsPerSecond: number; readonly ran: Ran }> {
  return withEnds(async (defer) => {
    const database = await benchDatabase(postgres, `backfill_${++databases}`, rows)
    defer(() => database.drop())
    const target = kind === 'memory' ? ({ kind, port: store.port } as const) : dynamoConfig(store)
    const place = workplace(database.name, database.url, target)
    defer(() => place.remove())
    await place.run(['init'], signal)
    const ran = await place.run(['backfill'], signal)
    const copied = Number(ran.result['rows'])
    if (copied !== rows) throw new Error(`${copied} of ${rows} rows were copied`)
    return { rowsPerSecond: (rows / Number(ran.result['durationMs'])) * 1_000, ran }
  })
}

function dynamoConfig(store: Store) {
  return { kind: 'dynamodb', endpoint: `http://127.0.0.1:${store.port}`, region: 'local' } as const
}

async function insertAll(target: Target, puts: readonly RowPut[]): Promise<number> {
  const batches = Array.from({ length: Math.ceil(puts.length / MEMORY_BATCH) }, (_, i) =>
    puts.slice(i * MEMORY_BATCH, (i + 1) * MEMORY_BATCH),
  )
  await inFlight(batches, MEMORY_IN_FLIGHT, (batch) => target.putRows(batch))
  return puts.length
}
