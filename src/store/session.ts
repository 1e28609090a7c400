// Promises: a control session that mends itself. A call that failed on the wire throws CONTROL_UNREACHABLE and may have taken
// effect; before the next one is sent, the backend that may still run it is ended, so that no command runs late (protocols.md,
// One leader). Statements run one at a time, in the order they were asked for. Refusals of the control schema's functions come out as
// their codes.
import pg from 'pg'
import { backoffMs } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type Random, systemRandom } from '../lib/prng.ts'
import { Turns } from '../lib/turns.ts'
import { type ErrorCode, type ErrorDetails, SwitchbackError } from '../model/errors.ts'
import { STATE_OF } from './schema-functions.ts'

/** Makes a connected client; `controlConnector` makes one from a connection string. */
export type Connect = (applicationName: string) => Promise<pg.Client>

/** A column that a statement did not ask for is undefined. */
export type TextRow = Readonly<Record<string, string | null>> & Readonly<Partial<Record<Column, string | null>>>

type Column =
  | 'acked_epoch'
  | 'age_ms'
  | 'backend_start'
  | 'binding_epoch'
  | 'catalog'
  | 'deadline_ms'
  | 'epoch'
  | 'excused'
  | 'flush_lsn'
  | 'gateway'
  | 'gid'
  | 'id'
  | 'key'
  | 'lease'
  | 'lsn'
  | 'marker'
  | 'message'
  | 'name'
  | 'next_sequences'
  | 'over'
  | 'owned'
  | 'owner'
  | 'owner_to'
  | 'pid'
  | 'pins'
  | 'query'
  | 'renewals'
  | 'rights'
  | 'same'
  | 'slot'
  | 'slots'
  | 'sqlstate'
  | 'started_at'
  | 'state'
  | 'steps'
  | 'tenure'
  | 'tenures'
  | 'usename'
  | 'version'
  | 'virtualtransaction'

export interface Session {
  query(text: string, values?: readonly unknown[]): Promise<readonly TextRow[]>
  /** The backend that serves it now; null while there is none. */
  pid(): number | null
  close(): Promise<void>
}

export interface SessionOptions {
  readonly connect: Connect
  readonly applicationName: string
  readonly listen?: readonly string[]
  /** A notification, or a reconnect after which some may have been missed. */
  readonly onWake?: (channel: string | null, payload: string) => void
  /** Instead of mending itself: called once when the connection is lost. */
  readonly onLost?: (error: Error) => void
  readonly clock?: Clock
  readonly random?: Random
}

const CONNECT_TIMEOUT_MS = 3_000
const STATEMENTS_WAITING_MAX = 1_000
const QUERY_TIMEOUT_MS = 5_000
/** Of a row or table that a short act holds; refused, an act rolls back and tries again holding nothing. */
const LOCK_TIMEOUT_MS = 500
const KEEPALIVE_MS = 1_000
const END_OLD_BACKEND_MS = 3_000
const RECONNECT = { firstMs: 20, capMs: 1_000 }

/** All values come as PostgreSQL's own text, whatever parsers the client was made with. */
const RAW = { getTypeParser: () => (text: string | Buffer) => text } as unknown as pg.CustomTypesConfig

/** Whatever the role's or the database's own settings are. Generic plans: planning anew for each array of slots costs more than it gives. */
export const PINNED = `
set synchronous_commit = on;
set default_transaction_isolation = 'read committed';
set default_transaction_read_only = off;
set search_path = pg_catalog;
set timezone = 'UTC';
set datestyle = 'ISO';
set plan_cache_mode = force_generic_plan;
set statement_timeout = ${QUERY_TIMEOUT_MS};
set idle_in_transaction_session_timeout = ${QUERY_TIMEOUT_MS};
set lock_timeout = ${LOCK_TIMEOUT_MS}`

/** A black hole hangs a client for ever without both timeouts and keepalive. */
export function controlConnector(options: { readonly connectionString: string; readonly queryTimeoutMs?: number }): Connect {
  return async (applicationName) => {
    const client = new pg.Client({
      connectionString: options.connectionString,
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: options.queryTimeoutMs ?? QUERY_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEPALIVE_MS,
    })
    client.on('error', () => undefined) // each user of the client listens for itself
    await client.connect()
    return client
  }
}

export async function openSession(options: SessionOptions): Promise<Session> {
  const session = new ControlSession(options)
  await session.open()
  return session
}

/** Statements are prepared once a connection: planning them would cost more than running them. Texts are constants, so few. */
const NAMES = new Map<string, string>()

function nameOf(text: string): string {
  const known = NAMES.get(text)
  if (known !== undefined) return known
  const name = `switchback_${NAMES.size}`
  NAMES.set(text, name)
  return name
}

interface Backend {
  readonly pid: number
  readonly startedAt: string
}

class ControlSession implements Session {
  readonly #options: SessionOptions
  readonly #clock: Clock
  readonly #random: Random
  #client: pg.Client | null = null
  #backend: Backend | null = null
  #opening: Promise<pg.Client> | null = null
  #lostBackend: Backend | null = null
  #closed = false
  #lostFor = false
  /** Connections lost, and tries to connect that failed. */
  #losses = 0
  readonly #turns = new Turns({
    waitingMax: STATEMENTS_WAITING_MAX,
    full: () => unreachable(new Error(`more than ${STATEMENTS_WAITING_MAX} statements wait for the session (STATEMENTS_WAITING_MAX)`)),
  })

  constructor(options: SessionOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? systemRandom
  }

  async open(): Promise<void> {
    await this.#connected()
  }

  pid(): number | null {
    return this.#backend?.pid ?? null
  }

  query(text: string, values: readonly unknown[] = []): Promise<readonly TextRow[]> {
    const losses = this.#losses
    return this.#turns.take(() => {
      // Whoever waited behind the loss hears of it too: with PostgreSQL gone they would run into their timeouts one after the other.
      if (losses !== this.#losses) throw unreachable(new Error('the connection was lost before the statement was sent'))
      return this.#run(text, values)
    })
  }

  async #run(text: string, values: readonly unknown[]): Promise<readonly TextRow[]> {
    const client = await this.#connected()
    try {
      const result = await client.query<TextRow>({ name: nameOf(text), text, values: [...values], types: RAW })
      return result.rows
    } catch (error) {
      if (isServerError(error)) throw refusalOf(error)
      if (isTimeout(error)) throw unreachable(error) // PostgreSQL itself gave it up: it did nothing, and the connection is whole
      this.#lose(client, error as Error)
      throw unreachable(error)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    const client = this.#client ?? (await this.#opening?.catch(() => null)) ?? null
    this.#client = null
    await client?.end().catch(() => undefined)
  }

  async #connected(): Promise<pg.Client> {
    if (this.#closed || this.#lostFor) throw unreachable(new Error('the session is closed'))
    if (this.#client !== null) return this.#client
    this.#opening ??= this.#reopen().finally(() => {
      this.#opening = null
    })
    return this.#opening
  }

  async #reopen(): Promise<pg.Client> {
    let client: pg.Client | null = null
    try {
      client = await this.#options.connect(this.#options.applicationName)
      client.on('error', () => undefined)
      await client.query(PINNED)
      const { rows } = await client.query<{ pid: string; started: string }>({
        text: 'select pid, backend_start::text as started from pg_stat_activity where pid = pg_backend_pid()',
        types: RAW,
      })
      if (this.#lostBackend !== null) await endBackends(client, [this.#lostBackend], END_OLD_BACKEND_MS, this.#clock)
      this.#lostBackend = null
      await this.#listen(client)
      this.#backend = { pid: Number(rows[0]!.pid), startedAt: rows[0]!.started }
    } catch (error) {
      this.#losses++
      await client?.end().catch(() => undefined)
      throw error instanceof SwitchbackError ? error : unreachable(error)
    }
    const opened = client
    opened.on('error', (error) => this.#lose(opened, error))
    opened.on('end', () => this.#lose(opened, new Error('the connection was closed')))
    if (this.#closed) {
      await opened.end().catch(() => undefined)
      throw unreachable(new Error('the session is closed'))
    }
    this.#client = opened
    return opened
  }

  async #listen(client: pg.Client): Promise<void> {
    const channels = this.#options.listen ?? []
    if (channels.length === 0) return
    client.on('notification', (message) => this.#options.onWake?.(message.channel, message.payload ?? ''))
    for (const channel of channels) await client.query(`listen ${channel}`)
    this.#options.onWake?.(null, '')
  }

  #lose(client: pg.Client, error: Error): void {
    if (this.#client !== client) return
    this.#losses++
    this.#client = null
    this.#lostBackend = this.#backend
    this.#backend = null
    // end() alone would wait behind a query that never answers.
    ;(client as unknown as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy()
    if (this.#closed) return
    if (this.#options.onLost !== undefined) {
      this.#lostFor = true
      this.#options.onLost(error)
    } else if ((this.#options.listen ?? []).length > 0) {
      void this.#mend() // nobody awaits it: wakes are only hints, polling is the fallback
    }
  }

  async #mend(): Promise<void> {
    for (let attempt = 0; !this.#closed && this.#client === null; attempt++) {
      await this.#clock.sleep(backoffMs(attempt, RECONNECT, this.#random))
      if (!this.#closed) await this.#connected().catch(() => undefined)
    }
  }
}

/** Terminates backends and waits until they are gone. Throws CONTROL_UNREACHABLE when one stays. */
export async function endBackends(client: pg.Client, backends: readonly Backend[], deadlineMs: number, clock: Clock): Promise<void> {
  if (backends.length === 0) return
  const deadline = clock.monotonicMs() + deadlineMs
  const pids = backends.map((backend) => backend.pid)
  const starts = backends.map((backend) => backend.startedAt)
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 50)) {
    const { rowCount } = await client.query(
      `select pg_terminate_backend(a.pid)
         from pg_stat_activity a join unnest($1::int[], $2::timestamptz[]) as old(pid, started)
           on a.pid = old.pid and a.backend_start = old.started`,
      [pids, starts],
    )
    if (rowCount === 0) return
    if (clock.monotonicMs() > deadline) throw unreachable(new Error(`backends ${pids.join(', ')} do not end`))
    await clock.sleep(waitMs)
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '57014'
}

function isServerError(error: unknown): error is pg.DatabaseError {
  if (!(error instanceof pg.DatabaseError) || error.code === undefined) return false
  // 57P..: the backend itself is going away (terminated, crashed, starting up); 57014: the statement timeout.
  return !error.code.startsWith('57')
}

function refusalOf(error: pg.DatabaseError): Error {
  for (const [code, state] of Object.entries(STATE_OF)) {
    if (error.code === state) return new SwitchbackError(code as ErrorCode, detailsOf(error.detail), error)
  }
  return error
}

function detailsOf(detail: string | undefined): ErrorDetails {
  return detail === undefined ? {} : (JSON.parse(detail) as ErrorDetails)
}

function unreachable(error: unknown): SwitchbackError {
  return new SwitchbackError('CONTROL_UNREACHABLE', { reason: error instanceof Error ? error.message : String(error) }, error)
}

/** Refused at once or after the lock timeout, because somebody holds the lock. */
export function isLockRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '55P03'
}
