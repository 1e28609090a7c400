// Promises: a service's writes through several gateways by the plain `pg` driver, open loop: none waits for another's reply, and each
// counts from when it was meant to be sent. Prints a line a write: [account, intended, replied, failed as sqlstate or null], by the wall
// clock; ends when its standard input does. 40001 is tried again, as services do, and counts as one write.
import pg from 'pg'
import { taskOf } from './child.ts'

export interface FlipLoadTask {
  readonly urls: readonly string[]
  readonly perSecond: number
  /** Every other write goes to one of these. */
  readonly moving: readonly number[]
  readonly staying: readonly number[]
  readonly connectionsPerUrl: number
}

export type FlipWrite = readonly [account: number, intendedMs: number, repliedMs: number, failed: string | null]

const TRIES_MAX = 20
const WRITE = 'update public.accounts set balance = balance + 1, entry_count = entry_count + 1 where id = $1'

const task = taskOf<FlipLoadTask>()
const pools = task.urls.map((url) => {
  const pool = new pg.Pool({ connectionString: url, max: task.connectionsPerUrl, query_timeout: 60_000 })
  pool.on('error', () => undefined)
  return pool
})
let stopped = false
let open = 0
let sent = 0
let nextMs = performance.now()

process.stdin.resume()
process.stdin.on('end', () => {
  stopped = true
})
while (!stopped) {
  for (; nextMs <= performance.now(); nextMs += 1_000 / task.perSecond) void write(sent++, nextMs)
  await new Promise((resolve) => setTimeout(resolve, 1))
}
while (open > 0) await new Promise((resolve) => setTimeout(resolve, 5))
await Promise.all(pools.map((pool) => pool.end()))

async function write(n: number, intendedMs: number): Promise<void> {
  const accounts = n % 2 === 0 ? task.moving : task.staying
  const account = accounts[(n >> 1) % accounts.length]!
  const pool = pools[(n >> 1) % pools.length]!
  open++
  const failed = await tried(pool, account)
  open--
  const line: FlipWrite = [account, performance.timeOrigin + intendedMs, performance.timeOrigin + performance.now(), failed]
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

async function tried(pool: pg.Pool, account: number): Promise<string | null> {
  for (let tries = 1; ; tries++) {
    try {
      const done = await pool.query({ name: 'write', text: WRITE, values: [account] })
      return done.rowCount === 1 ? null : 'no row'
    } catch (error) {
      const code = (error as { code?: string }).code ?? String(error)
      if (code !== '40001' || tries >= TRIES_MAX) return code
    }
  }
}
