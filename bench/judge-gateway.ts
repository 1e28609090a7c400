// Promises: what the judge costs a gateway that serves: requests that it answers in a second of its processor's time, measuring and telling
// the leader, beside the same gateway that measures nothing. Two processes that take turns, in short slices, half of the requests on each
// store, half of them writes.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { startFeedServer } from '../src/app/feed-server.ts'
import { hashSlotOf } from '../src/model/key.ts'
import { installControl } from '../src/store/schema.ts'
import type { ReverseSync } from '../src/sync/reverse.ts'
import { benchDatabase, benchPostgres } from './database.ts'
import type { GatewayTask } from './judge-gateway-child.ts'
import { type BenchOptions, figure, type Measured, median, medianRatio, peer } from './measure.ts'
import { memoryStore, withEnds } from './stores.ts'

const ACCOUNTS = 2_000
const CONNECTIONS = 8
/** A slice has several reports in it, which go once a second. */
const FULL = { slices: 20, sliceMs: 3_000, warmUpMs: 3_000 }
const QUICK = { slices: 2, sliceMs: 300, warmUpMs: 100 }
const SECRET = 'bench'
const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const READ = 'select balance from public.accounts where id = $1'
const WRITE = 'update public.accounts set balance = balance + 1 where id = $1'
/** The reports are what is measured here, not what is settled. */
const NO_REVERSE = { feedAlive() {}, positionsOf: () => [], settled() {}, room: async () => undefined } as unknown as ReverseSync

export async function judgeGateway(options: Pick<BenchOptions, 'quick' | 'say' | 'signal'>): Promise<Measured> {
  return withEnds(async (defer) => {
    const postgres = await benchPostgres()
    defer(() => postgres.stop())
    const store = await memoryStore()
    defer(() => store[Symbol.asyncDispose]())
    const database = await benchDatabase(postgres, 'judge', ACCOUNTS)
    // The catalog that plans are made by names the control schema.
    const admin = await database.connect()
    await installControl(admin, { mapping: database.mapping }).finally(() => admin.end())
    let reports = 0
    const measured = () => {
      reports++
    }
    const feed = await startFeedServer({
      host: '127.0.0.1',
      port: 0,
      secret: SECRET,
      token: 1,
      reverse: NO_REVERSE,
      measured,
      warn: () => undefined,
    })
    defer(() => feed.close())
    await store.open(database.mapping)
    const task = { url: database.url, mapping: database.mapping, targetPort: store.port }
    const sides = {
      judged: await openSide({ ...task, feed: { token: 1, host: '127.0.0.1', port: feed.port, secret: SECRET } }, defer, options.signal),
      plain: await openSide({ ...task, feed: null }, defer, options.signal),
    }
    await sides.plain.fill()
    const { slices, sliceMs, warmUpMs } = options.quick ? QUICK : FULL
    for (const side of Object.values(sides)) await side.slice(warmUpMs)
    const values: Record<keyof typeof sides, number[]> = { judged: [], plain: [] }
    for (let slice = 0; slice < slices; slice++) {
      for (const name of slice % 2 === 0 ? (['judged', 'plain'] as const) : (['plain', 'judged'] as const)) {
        options.signal.throwIfAborted()
        values[name].push(await sides[name].slice(sliceMs))
      }
      options.say(`slice ${slice + 1} of ${slices}: a gateway with and without the judge`)
    }
    if (reports === 0) throw new Error('the gateway told nothing')
    return {
      figures: {
        throughputWithJudge: figure(medianRatio(values.judged, values.plain), 'x', { atLeast: 0.97 }),
        gatewayWithJudgePerCpuSecond: figure(median(values.judged), 'requests/s'),
      },
      peers: { gatewayWithoutJudgePerCpuSecond: peer(median(values.plain), 'requests/s') },
    }
  })
}

interface Side {
  /** Rows of moved keys. */
  fill(): Promise<void>
  /** Requests that the gateway answers in a second of its processor's time. */
  slice(forMs: number): Promise<number>
}

async function openSide(task: GatewayTask, defer: (end: () => unknown) => void, signal: AbortSignal): Promise<Side> {
  const child = gatewayProcess(task, defer, signal)
  const port = await child.line()
  const url = new URL(task.url)
  url.port = port
  const clients = await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const client = new pg.Client({ connectionString: url.href, query_timeout: 60_000 })
      client.on('error', () => undefined)
      await client.connect()
      defer(() => client.end().catch(() => undefined))
      return client
    }),
  )
  let sent = 0
  const request = (client: pg.Client) => {
    const id = (sent++ % ACCOUNTS) + 1
    return sent % 2 === 0
      ? client.query({ name: 'read', text: READ, values: [id] })
      : client.query({ name: 'write', text: WRITE, values: [id] })
  }
  return {
    async fill() {
      for (let id = 1; id <= ACCOUNTS; id++) {
        if (hashSlotOf(String(id)) % 2 === 0) await clients[0]!.query(`insert into public.accounts (id, owner) values ($1, 'bench')`, [id])
      }
    },
    async slice(forMs) {
      const before = Number(await child.ask())
      const untilMs = performance.now() + forMs
      let requests = 0
      await Promise.all(
        clients.map(async (client) => {
          for (; performance.now() < untilMs; requests++) await request(client)
        }),
      )
      return (requests / (Number(await child.ask()) - before)) * 1e6
    },
  }
}

function gatewayProcess(task: GatewayTask, defer: (end: () => unknown) => void, signal: AbortSignal) {
  const file = fileURLToPath(new URL(`./judge-gateway-child${EXTENSION}`, import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [...process.execArgv, file, JSON.stringify(task)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  const stop = () => child.kill('SIGKILL')
  signal.addEventListener('abort', stop, { once: true })
  defer(async () => {
    child.stdin!.end()
    await closed
    signal.removeEventListener('abort', stop)
  })
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  const line = async () => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error('the gateway of the bench has ended')
    return value as string
  }
  return {
    line,
    ask() {
      child.stdin!.write('\n')
      return line()
    },
  }
}
