// Promises: how far behind the syncs are under a steady load, from commit to durable on the other side, over the memory target; and how
// fast the forward sync fills dynalite, beside the store's own rate of conditional puts. Real PostgreSQL, real streams, real feed.
import type { Target } from '../src/model/target.ts'
import { accountPuts } from './accounts.ts'
import { benchDatabase, benchPostgres } from './database.ts'
import { DynamoPeer } from './dynamo-peer.ts'
import { forwardBacklog, forwardLags } from './forward-part.ts'
import type { Lags } from './lags.ts'
import { type BenchOptions, figure, inFlight, interleaved, type Measured, median, medianRatio, peer, quantile, rate } from './measure.ts'
import { reverseLags } from './reverse-part.ts'
import { dynaliteStore, memoryStore, withEnds } from './stores.ts'

const LAG = { atMost: 100 }
const LOADS = { forwardRowsPerSecond: 5_000, reversePerSecond: 1_000 }

export async function benchSync(options: BenchOptions): Promise<Measured> {
  const sizes = options.quick ? { accounts: 5_000, seconds: 2, backlog: 500 } : { accounts: 100_000, seconds: 15, backlog: 10_000 }
  return withEnds(async (defer) => {
    const postgres = await benchPostgres()
    defer(() => postgres.stop())
    const forward: LagRounds = { p50: [], p99: [], perSecond: [] }
    const reverse: LagRounds = { p50: [], p99: [], perSecond: [] }
    await interleaved(options, {
      forward: (round) => lagRound(forward, () => forwardRound(`forward_${round}`)),
      reverse: (round) => lagRound(reverse, () => reverseRound(`reverse_${round}`)),
    })
    const { sync, puts } = await interleaved(options, {
      sync: async (round) => {
        await using store = await dynaliteStore()
        const database = await benchDatabase(postgres, `dynalite_${round}`, sizes.backlog)
        return await forwardBacklog(database, await store.open(database.mapping), sizes.backlog, options).finally(() => database.drop())
      },
      puts: async () => {
        await using store = await dynaliteStore()
        const client = new DynamoPeer(store.port)
        await client.makeTable()
        const ids = Array.from({ length: sizes.backlog }, (_, i) => i + 1)
        return await rate(async () => {
          await client.insertConditionally(ids)
          return ids.length
        }).finally(() => client.close())
      },
    })
    return {
      figures: {
        forwardLagP99Ms: figure(median(forward.p99), 'ms', LAG),
        forwardLagP50Ms: figure(median(forward.p50), 'ms'),
        forwardRowsPerSecond: figure(median(forward.perSecond), 'rows/s'),
        reverseLagP99Ms: figure(median(reverse.p99), 'ms', LAG),
        reverseLagP50Ms: figure(median(reverse.p50), 'ms'),
        reverseTransactionsPerSecond: figure(median(reverse.perSecond), 'tx/s'),
        ratioToStore: figure(medianRatio(sync, puts), 'x', { atLeast: 0.6 }),
        dynaliteForwardRowsPerSecond: figure(median(sync), 'rows/s'),
      },
      peers: { dynaliteConditionalPutsPerSecond: peer(median(puts), 'rows/s') },
    }

    async function forwardRound(name: string): Promise<Lags> {
      await using store = await memoryStore()
      const database = await benchDatabase(postgres, name, sizes.accounts)
      const load = { ...sizes, rowsPerSecond: LOADS.forwardRowsPerSecond }
      return await forwardLags(database, await filled(store.open(database.mapping), sizes.accounts), load, options).finally(() =>
        database.drop(),
      )
    }

    async function reverseRound(name: string): Promise<Lags> {
      await using store = await memoryStore()
      const database = await benchDatabase(postgres, name, sizes.accounts)
      const target = await filled(store.open(database.mapping), sizes.accounts)
      const load = { ...sizes, perSecond: LOADS.reversePerSecond, targetPort: store.port }
      return await reverseLags(database, target, load, options).finally(() => database.drop())
    }
  })
}

interface LagRounds {
  readonly p50: number[]
  readonly p99: number[]
  readonly perSecond: number[]
}

async function lagRound(into: LagRounds, work: () => Promise<Lags>): Promise<number> {
  const { lagsMs, perSecond } = await work()
  into.p50.push(median(lagsMs))
  into.p99.push(quantile(lagsMs, 0.99))
  into.perSecond.push(perSecond)
  return into.p99.at(-1)!
}

/** As a backfill leaves it. */
async function filled(opening: Promise<Target>, accounts: number): Promise<Target> {
  const target = await opening
  const puts = accountPuts(accounts)
  const batches = Array.from({ length: Math.ceil(accounts / 500) }, (_, i) => puts.slice(i * 500, (i + 1) * 500))
  await inFlight(batches, 8, (batch) => target.putRows(batch))
  return target
}
