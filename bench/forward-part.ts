// Promises: the forward sync over a real slot: its lag under a load, or how fast it works off a backlog.
import { systemClock } from '../src/lib/clock.ts'
import { systemRandom } from '../src/lib/prng.ts'
import { lsnOf } from '../src/model/ids.ts'
import { HASH_SLOTS, hashSlotOf } from '../src/model/key.ts'
import type { ChangeStream, SlotPoint } from '../src/model/source.ts'
import type { Target } from '../src/model/target.ts'
import { Tenures } from '../src/model/tenures.ts'
import { createSource } from '../src/source/postgres-source.ts'
import { runForward } from '../src/sync/forward.ts'
import { tenureHistory } from '../src/sync/stamps.ts'
import { runChild } from './child.ts'
import type { BenchDatabase } from './database.ts'
import type { Lags } from './lags.ts'
import type { BenchOptions } from './measure.ts'
import type { WriteAnswer, WriteTask } from './write-child.ts'

export interface ForwardLoad {
  readonly accounts: number
  readonly seconds: number
  readonly rowsPerSecond: number
}

/** Rows a transaction of the load. */
const TRANSACTION_ROWS = 10
const MARKER_MAX_MS = 60_000
/** Start of the process, connections. */
const CHILD_MAX_MS = 60_000

/** Of every transaction, from its commit in PostgreSQL to the acknowledgement that everything up to it is durable on the target. */
export async function forwardLags(database: BenchDatabase, target: Target, load: ForwardLoad, options: BenchOptions): Promise<Lags> {
  return withForward(database, target, options, async ({ start, marker }) => {
    const lagsMs: number[] = []
    start((committedAtMs) => lagsMs.push(performance.timeOrigin + performance.now() - committedAtMs))
    const task: WriteTask = { url: database.url, rowsPerTransaction: TRANSACTION_ROWS, ...load }
    const { rows, seconds } = await runChild<WriteAnswer>('write-child', task, {
      maxMs: CHILD_MAX_MS + load.seconds * 10_000,
      signal: options.signal,
    })
    await marker()
    return { lagsMs, perSecond: rows / seconds }
  })
}

/** Rows a second: every account was updated once before the sync began. */
export async function forwardBacklog(database: BenchDatabase, target: Target, rows: number, options: BenchOptions): Promise<number> {
  return withForward(database, target, options, async ({ start, marker }) => {
    const client = await database.connect()
    for (let from = 1; from <= rows; from += TRANSACTION_ROWS)
      await client.query('update public.accounts set balance = balance + 1 where id between $1 and $2', [from, from + TRANSACTION_ROWS - 1])
    await client.end()
    const fromMs = performance.now()
    start(() => undefined)
    await marker()
    return (rows / (performance.now() - fromMs)) * 1_000
  })
}

interface Running {
  /** `durable` is told when each transaction was committed, once it is acknowledged. */
  start(durable: (committedAtMs: number) => void): void
  /** Resolves when everything committed so far is durable on the target. */
  marker(): Promise<void>
}

async function withForward<T>(
  database: BenchDatabase,
  target: Target,
  options: BenchOptions,
  work: (running: Running) => Promise<T>,
): Promise<T> {
  const source = createSource({ url: database.url, mapping: database.mapping, migration: database.name, clock: systemClock })
  const point = await source.createSlot()
  await point.release()
  const stop = new AbortController()
  const signal = AbortSignal.any([stop.signal, options.signal])
  const passed = new Map<string, () => void>()
  let running: Promise<void> = Promise.resolve()
  try {
    return await work({
      start(durable) {
        running = run(source.stream(), point, durable)
        running.catch(() => stop.abort())
      },
      async marker() {
        const name = `end ${performance.now()}`
        const seen = new Promise<void>((resolve) => passed.set(name, resolve))
        const client = await database.connect()
        await client.query(`select pg_logical_emit_message(true, 'switchback', $1)`, [name])
        await client.end()
        await Promise.race([seen, running, systemClock.sleep(MARKER_MAX_MS, signal)])
        if (passed.has(name)) throw new Error(`the forward sync did not pass the marker within ${MARKER_MAX_MS} ms`)
      },
    })
  } finally {
    stop.abort()
    await running.catch(() => undefined)
    await source.dropSlot()
  }

  async function run(
    opening: Promise<ChangeStream>,
    { consistentPoint }: SlotPoint,
    durable: (committedAtMs: number) => void,
  ): Promise<void> {
    const stream = observed(await opening, durable)
    const records = Array.from({ length: HASH_SLOTS }, (_, slot) => ({
      slot,
      tenure: 1,
      owner: 'source' as const,
      base: 1_000n,
      firstLsn: consistentPoint,
    }))
    const history = tenureHistory({ tenures: new Tenures(records), slotOf: hashSlotOf, completeBelow: lsnOf(1n << 62n) })
    try {
      await runForward(
        {
          stream,
          target,
          mapping: database.mapping,
          tenures: { current: () => history, refresh: async () => history },
          ownOrigins: new Set(),
          onMarker: (content) => {
            passed.get(content)?.()
            passed.delete(content)
          },
          onViolation: async ({ slot }) => {
            throw new Error(`a violation in slot ${slot}`)
          },
          clock: systemClock,
          random: systemRandom,
        },
        signal,
      )
    } finally {
      await stream.close()
    }
  }
}

function observed(stream: ChangeStream, durable: (committedAtMs: number) => void): ChangeStream {
  const open: { readonly endLsn: bigint; readonly committedAtMs: number }[] = []
  let from = 0
  return {
    async *transactions(signal) {
      for await (const transaction of stream.transactions(signal)) {
        if (transaction.changes.some((change) => change.kind === 'update')) open.push(transaction)
        yield transaction
      }
    },
    acknowledge(lsn) {
      for (; from < open.length && open[from]!.endLsn <= lsn; from++) durable(open[from]!.committedAtMs)
      stream.acknowledge(lsn)
    },
    serverLsn: () => stream.serverLsn(),
    close: () => stream.close(),
  }
}
