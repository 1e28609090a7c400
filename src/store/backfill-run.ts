// Promises: one `backfill` a move at a time, unless others are asked to share its work. A lock of PostgreSQL says so, held by a
// connection that ends with its process, so that after a kill the next run begins at once. A connection that breaks is made again;
// who finds then that another run has taken its place is told.
import { backoffMs } from '../lib/backoff.ts'
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type Connect, openSession, type Session } from './session.ts'

export interface BackfillRunLock {
  /** The run that begins and ends the backfill; else one that shares its work. */
  readonly isMain: boolean
  /** Names of runs that share the work of this one. */
  helpers(): Promise<readonly string[]>
  close(): Promise<void>
}

export interface BackfillRunOptions {
  readonly connect: Connect
  /** For people, in pg_stat_activity too. */
  readonly name: string
  /** Share the work of a run that is under way instead of being refused. */
  readonly join: boolean
  /** Told once, when another run has taken the place of this one. */
  readonly onLost: (error: Error) => void
}

const MAIN_LOCK = 0x5377_626d
const HELPER_LOCK = 0x5377_6268
const RECONNECT = { firstMs: 50, capMs: 2_000 }
/** A machine that lost its power holds the lock until PostgreSQL notices: about so long. */
const KEEPALIVES = `set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3`

/** @throws BACKFILL_RUNNING */
export async function lockBackfillRun(options: BackfillRunOptions): Promise<BackfillRunLock> {
  const run = new RunLock(options)
  await run.open()
  return run
}

class RunLock implements BackfillRunLock {
  readonly #options: BackfillRunOptions
  readonly #stop = new AbortController()
  #session: Session | null = null
  #mending: Promise<void> = Promise.resolve()
  isMain = true

  readonly #applicationName: string

  constructor(options: BackfillRunOptions) {
    this.#options = options
    this.#applicationName = `switchback backfill ${options.name}`.slice(0, 63)
  }

  async open(): Promise<void> {
    const session = await this.#connect()
    try {
      this.isMain = await this.#take(session)
    } catch (error) {
      await session.close()
      throw error
    }
    this.#session = session
  }

  async helpers(): Promise<readonly string[]> {
    if (this.#session === null) throw new SwitchbackError('CONTROL_UNREACHABLE', { reason: 'the connection of this backfill is broken' })
    return (await holders(this.#session, HELPER_LOCK)).map(describe)
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#mending
    await this.#session?.close()
  }

  async #connect(): Promise<Session> {
    const session = await openSession({
      connect: async (applicationName) => {
        const client = await this.#options.connect(applicationName)
        await client.query(KEEPALIVES)
        return client
      },
      applicationName: this.#applicationName,
      onLost: () => {
        if (session === this.#session) this.#mending = this.#mend()
      },
    })
    return session
  }

  /** True: this run is the main one. */
  async #take(session: Session): Promise<boolean> {
    const [main] = await session.query('select pg_try_advisory_lock($1) as same', [MAIN_LOCK])
    if (main!['same'] === 't') return true
    if (!this.#options.join) throw running(await holders(session, MAIN_LOCK))
    await session.query('select pg_advisory_lock_shared($1)', [HELPER_LOCK])
    return false
  }

  async #mend(): Promise<void> {
    this.#session = null
    for (let attempt = 0; !this.#stop.signal.aborted; attempt++) {
      await systemClock.sleep(backoffMs(attempt, RECONNECT, systemRandom), this.#stop.signal)
      const session = await this.#connect().catch(() => null)
      if (session === null) continue
      const others = await this.#takeAgain(session).catch(() => 'weather' as const)
      if (others === null) {
        this.#session = session
        return
      }
      await session.close()
      if (others !== 'weather' && others.length > 0) return this.#options.onLost(running(others))
    }
  }

  /** Null: the lock is ours again; else the others who have it. Our own broken connection, which PostgreSQL may still hold, is ended. */
  async #takeAgain(session: Session): Promise<readonly Holder[] | null> {
    if (!this.isMain) {
      await session.query('select pg_advisory_lock_shared($1)', [HELPER_LOCK])
      return null
    }
    await session.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()', [
      this.#applicationName,
    ])
    const [main] = await session.query('select pg_try_advisory_lock($1) as same', [MAIN_LOCK])
    if (main!['same'] === 't') return null
    return (await holders(session, MAIN_LOCK)).filter(({ name }) => name !== this.#applicationName)
  }
}

interface Holder {
  readonly name: string
  readonly pid: string
  readonly since: string
}

function running(holders: readonly Holder[]): SwitchbackError {
  return new SwitchbackError('BACKFILL_RUNNING', { who: holders.map(describe).join(', ') })
}

function describe({ name, pid, since }: Holder): string {
  return `${name.replace(/^switchback backfill /, '')}, since ${since} UTC (backend ${pid})`
}

async function holders(session: Session, lock: number): Promise<Holder[]> {
  const rows = await session.query(
    `select a.application_name as name, a.pid, to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') as started_at
       from pg_locks l join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.database = (select d.oid from pg_database d where d.datname = current_database())
        and l.classid = 0 and l.objid = $1 and l.objsubid = 1`,
    [lock],
  )
  return rows.map((row) => ({ name: row['name']!, pid: row['pid']!, since: row['started_at']! }))
}
