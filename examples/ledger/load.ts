// Promises: an open-loop load of the ledger by the plain `pg` driver, which knows nothing of what is behind its host and port.
// Arrivals do not wait for replies (latency counts from the intended time), every write is journaled before it is sent, and each
// read is held against what was acknowledged or shown before it began.
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { Journal, type Outcome } from './journal.ts'
import { type Steering, steeredPicker } from './steering.ts'
import { zipfPicker } from './zipf.ts'

export interface LoadOptions {
  /** Where the service connects: several gateways, tried in turn. */
  readonly urls: readonly string[]
  readonly ratePerSecond: number
  readonly zipf: number
  readonly accounts: number
  readonly seed: number
  readonly journalPath: string
  readonly connectionsPerUrl: number
  /** An operation that finds no connection for so long is refused without having been sent. */
  readonly giveUpMs: number
}

export interface LoadSample {
  readonly kind: 'read' | 'write'
  readonly outcome: Outcome
  readonly sqlstate: string | null
  /** From the intended time of sending to the reply, milliseconds. */
  readonly latencyMs: number
  readonly intendedMs: number
  readonly account: number
  /** Sent about mapped tables, of the try that was its last. */
  readonly statements: number
  /** Of the connection that it was last sent on, and when that was made; null: none was found. */
  readonly port: number | null
  readonly connectedMs: number | null
}

export interface LoadCounts {
  acknowledgedWrites: number
  refusedWrites: number
  unknownWrites: number
  reads: number
  failedReads: number
  staleReads: number
  halfReads: number
  retries: number
  inFlight: number
}

export const NOTHING_COUNTED: Readonly<LoadCounts> = {
  acknowledgedWrites: 0,
  refusedWrites: 0,
  unknownWrites: 0,
  reads: 0,
  failedReads: 0,
  staleReads: 0,
  halfReads: 0,
  retries: 0,
  inFlight: 0,
}

export interface Load {
  readonly counts: Readonly<LoadCounts>
  /** From the next arrival on. */
  steer(steering: Steering): void
  /** Stops new arrivals and waits until each operation in flight has its outcome. */
  stop(): Promise<void>
}

/** PostgreSQL's codes have a digit; EPIPE, which is as long, is the socket's and says nothing of the outcome. */
function isSqlstate(code: string): boolean {
  return /^(?=.*\d)[0-9A-Z]{5}$/.test(code)
}

/** Errors after which the same transaction may be sent again: nothing of it was written. */
const RETRY = new Set(['40001', '40P01', '55P03', '57P01', '57P03', '53300', '08001', '08006', '53400'])

export function startLoad(options: LoadOptions, onSample: (sample: LoadSample) => void): Load {
  const random = mulberry32(options.seed)
  const plain = zipfPicker(options.accounts, options.zipf, random)
  let pick = plain
  let ratePerSecond = options.ratePerSecond
  const pool = new Connections(options)
  const journal = new Journal(options.journalPath)
  const counts: LoadCounts = { ...NOTHING_COUNTED }
  const world: World = { options, pool, journal, counts, floors: new Map(), acknowledged: new Map(), onSample }
  const idle: (() => void)[] = []
  let stopped = false
  let nextMs = performance.now()
  const arrive = () => {
    if (stopped) return
    const nowMs = performance.now()
    while (nextMs <= nowMs) {
      const intendedMs = nextMs
      nextMs += (-Math.log(1 - random()) / ratePerSecond) * 1000
      counts.inFlight++
      void operate(world, pick(), random(), random(), intendedMs).finally(() => {
        counts.inFlight--
        if (counts.inFlight === 0) for (const wake of idle.splice(0)) wake()
      })
    }
    setTimeout(arrive, Math.max(1, nextMs - performance.now()))
  }
  arrive()
  return {
    counts,
    steer(steering) {
      pick = steeredPicker(plain, steering, random)
      ratePerSecond = options.ratePerSecond * (steering.times ?? 1)
    },
    async stop() {
      stopped = true
      if (counts.inFlight > 0) await new Promise<void>((resolve) => idle.push(resolve))
      await pool.end()
      journal.close()
    },
  }
}

interface World {
  readonly options: LoadOptions
  readonly pool: Connections
  readonly journal: Journal
  readonly counts: LoadCounts
  /** How many deposits of an account were acknowledged, or shown by a read: no later read may show fewer. */
  readonly floors: Map<number, number>
  readonly acknowledged: Map<number, number>
  readonly onSample: (sample: LoadSample) => void
}

async function operate(world: World, account: number, choice: number, detail: number, intendedMs: number): Promise<void> {
  if (choice < 0.5) await read(world, account, intendedMs)
  else if (choice < 0.85) await deposit(world, account, amountOf(detail), intendedMs)
  else await editProfile(world, account, detail < 0.5 ? 'home' : 'work', intendedMs)
}

async function read(world: World, account: number, intendedMs: number): Promise<void> {
  const { counts, floors } = world
  const done = await attempt(world, async ({ ask }) => {
    const floor = floors.get(account) ?? 0
    const shown = await ask('select balance, entry_count, last_op from accounts where id = $1', [account])
    const row = shown.rows[0] as { entry_count: number; last_op: string | null } | undefined
    if (row === undefined || row.entry_count < floor) counts.staleReads++
    if (row?.last_op != null) {
      // last_op and its entry are of one transaction: who has seen the one must see the other.
      const entry = await ask('select amount from entries where account_id = $1 and op = $2', [account, row.last_op])
      if (entry.rows.length !== 1) counts.halfReads++
    }
    if (row !== undefined) floors.set(account, Math.max(floors.get(account) ?? 0, row.entry_count))
    return 'acknowledged'
  })
  counts.reads++
  if (done.outcome !== 'acknowledged') counts.failedReads++
  world.onSample({ kind: 'read', ...done, latencyMs: performance.now() - intendedMs, intendedMs, account })
}

async function deposit(world: World, account: number, amount: string, intendedMs: number): Promise<void> {
  const op = randomUUID()
  world.journal.intend({ op, kind: 'deposit', account, value: amount, atMs: Date.now() })
  const done = await attempt(world, async ({ client, ask, committing }) => {
    await client.query('begin')
    await ask('insert into entries (account_id, op, amount, note) values ($1, $2, $3, $4)', [account, op, amount, `deposit — ${amount} €`])
    await ask('update accounts set balance = balance + $2, entry_count = entry_count + 1, last_op = $3 where id = $1', [
      account,
      amount,
      op,
    ])
    committing()
    const committed = await client.query('commit')
    return committed.command === 'COMMIT' ? 'acknowledged' : 'refused'
  })
  if (done.outcome === 'acknowledged') {
    const acknowledged = (world.acknowledged.get(account) ?? 0) + 1
    world.acknowledged.set(account, acknowledged)
    world.floors.set(account, Math.max(world.floors.get(account) ?? 0, acknowledged))
  }
  finishWrite(world, op, account, done, intendedMs)
}

async function editProfile(world: World, account: number, kind: string, intendedMs: number): Promise<void> {
  const op = randomUUID()
  world.journal.intend({ op, kind: 'profile', account, value: kind, atMs: Date.now() })
  const done = await attempt(world, async ({ ask, committing }) => {
    committing()
    const { rowCount } = await ask(
      'update profiles set revision = revision + 1, token = $3, seen_at = $4, data = $5 where account_id = $1 and kind = $2',
      [account, kind, op, new Date(), JSON.stringify({ op, price: 1.1, name: 'Ærøskøbing' })],
    )
    return rowCount === 1 ? 'acknowledged' : 'refused'
  })
  finishWrite(world, op, account, done, intendedMs)
}

interface Done extends Connected {
  readonly outcome: Outcome
  readonly sqlstate: string | null
  readonly statements: number
}

interface Try {
  readonly client: pg.Client
  /** One statement about mapped tables. */
  readonly ask: (text: string, values: unknown[]) => Promise<pg.QueryResult>
  /** From here on it may have taken effect. */
  readonly committing: () => void
}

interface Connected {
  readonly port: number | null
  readonly connectedMs: number | null
}

const NOWHERE: Connected = { port: null, connectedMs: null }

function finishWrite(world: World, op: string, account: number, done: Done, intendedMs: number): void {
  const { counts, journal } = world
  if (done.outcome === 'acknowledged') counts.acknowledgedWrites++
  if (done.outcome === 'refused') counts.refusedWrites++
  if (done.outcome === 'unknown') counts.unknownWrites++
  journal.settle(op, done.outcome, Date.now(), done.sqlstate)
  world.onSample({ kind: 'write', ...done, latencyMs: performance.now() - intendedMs, intendedMs, account })
}

/** Sends an operation until it has an outcome. Only what surely was not written is sent again. */
async function attempt(world: World, work: (one: Try) => Promise<Outcome>): Promise<Done> {
  const deadlineMs = performance.now() + world.options.giveUpMs
  for (let tries = 0; ; tries++) {
    const client = await world.pool.take(deadlineMs)
    if (client === null) return { outcome: 'refused', sqlstate: '08001', statements: 0, ...NOWHERE }
    const connected = world.pool.connected(client)
    let sent = false
    let statements = 0
    const ask: Try['ask'] = (text, values) => {
      statements++
      return client.query(text, values)
    }
    const committing = () => {
      sent = true
    }
    try {
      const outcome = await work({ client, ask, committing })
      world.pool.give(client)
      return { outcome, sqlstate: null, statements, ...connected }
    } catch (error) {
      const sqlstate = (error as { code?: string }).code ?? '08006'
      const broken = !isSqlstate(sqlstate) || sqlstate.startsWith('08') || sqlstate.startsWith('57P')
      if (broken) world.pool.drop(client)
      else world.pool.give(client, 'rollback')
      if (sent && (sqlstate === '08007' || !isSqlstate(sqlstate) || sqlstate === '08006'))
        return { outcome: 'unknown', sqlstate, statements, ...connected }
      if ((!RETRY.has(sqlstate) && isSqlstate(sqlstate)) || performance.now() > deadlineMs)
        return { outcome: 'refused', sqlstate, statements, ...connected }
      world.counts.retries++
      await new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(200, 2 ** tries)))
    }
  }
}

/** A plain pool over several hosts: whoever answers is used. */
class Connections {
  readonly #options: LoadOptions
  readonly #free: pg.Client[] = []
  readonly #waiting: { give: (client: pg.Client | null) => void; deadlineMs: number }[] = []
  readonly #connectedMs = new WeakMap<pg.Client, number>()
  #open = 0
  #next = 0
  #ended = false

  constructor(options: LoadOptions) {
    this.#options = options
  }

  async take(deadlineMs: number): Promise<pg.Client | null> {
    const free = this.#free.pop()
    if (free !== undefined) return free
    if (this.#open < this.#options.connectionsPerUrl * this.#options.urls.length) void this.#connect()
    return new Promise((resolve) => {
      const waiter = { give: resolve, deadlineMs }
      this.#waiting.push(waiter)
      setTimeout(
        () => {
          const at = this.#waiting.indexOf(waiter)
          if (at < 0) return
          this.#waiting.splice(at, 1)
          resolve(null)
        },
        Math.max(0, deadlineMs - performance.now()),
      ).unref()
    })
  }

  connected(client: pg.Client): Connected {
    return { port: client.port, connectedMs: this.#connectedMs.get(client) ?? null }
  }

  give(client: pg.Client, after?: 'rollback'): void {
    if (after !== undefined) {
      client.query('rollback').then(
        () => this.#hand(client),
        () => this.drop(client),
      )
    } else this.#hand(client)
  }

  drop(client: pg.Client): void {
    this.#open--
    void client.end().catch(() => undefined)
    if (this.#waiting.length > 0 && !this.#ended) void this.#connect()
  }

  async end(): Promise<void> {
    this.#ended = true
    await Promise.all(this.#free.splice(0).map((client) => client.end().catch(() => undefined)))
  }

  #hand(client: pg.Client): void {
    const waiter = this.#waiting.shift()
    if (waiter !== undefined) waiter.give(client)
    else if (this.#ended) void client.end().catch(() => undefined)
    else this.#free.push(client)
  }

  async #connect(): Promise<void> {
    this.#open++
    while (this.#waiting.length > 0 && !this.#ended) {
      const url = this.#options.urls[this.#next++ % this.#options.urls.length]!
      const client = new pg.Client({
        connectionString: url,
        connectionTimeoutMillis: 2_000,
        query_timeout: 60_000,
        application_name: 'ledger',
      })
      client.on('error', () => this.#lost(client))
      try {
        await client.connect()
        this.#connectedMs.set(client, performance.now())
        this.#hand(client)
        return
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    this.#open--
  }

  #lost(client: pg.Client): void {
    const at = this.#free.indexOf(client)
    if (at < 0) return
    this.#free.splice(at, 1)
    this.#open--
  }
}

function amountOf(detail: number): string {
  const cents = Math.floor(detail * 20_000) - 10_000
  return (cents === 0 ? 0.01 : cents / 100).toFixed(2)
}

function mulberry32(seed: number): () => number {
  let a = seed | 0
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
