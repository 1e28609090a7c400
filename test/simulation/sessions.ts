// Promises: connections to the model of PostgreSQL: in order, one command at a time, lost with whatever was under way; what was sent may
// still run. A control session mends itself and ends its old backend first, as store/session.ts does.
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Host, Kernel } from './kernel.ts'
import type { Postgres } from './postgres.ts'
import { type Backend, BackendGone, PgError } from './postgres-parts.ts'

const QUERY_TIMEOUT_MS = 300
const RESET_MS = 5

/** The connection is lost: what was sent may have taken effect. */
export class ConnectionLost extends Error {}

export class Connection {
  readonly backend: Backend
  lost = false
  readonly #kernel: Kernel
  readonly #postgres: Postgres
  readonly #host: Host

  private constructor(kernel: Kernel, postgres: Postgres, host: Host, backend: Backend) {
    this.#kernel = kernel
    this.#postgres = postgres
    this.#host = host
    this.backend = backend
  }

  /** @throws ConnectionLost */
  static async open(kernel: Kernel, postgres: Postgres, host: Host, applicationName: string): Promise<Connection> {
    const there = kernel.delay(host.name, 'postgres')
    const back = kernel.delay('postgres', host.name)
    await kernel.sleep(host, Math.min(QUERY_TIMEOUT_MS, there + back))
    if (there + back > QUERY_TIMEOUT_MS || postgres.down) throw new ConnectionLost('could not connect')
    return new Connection(kernel, postgres, host, postgres.connect(host, applicationName))
  }

  /** @throws PgError as the server answers, ConnectionLost. */
  async call<T>(work: (backend: Backend) => Promise<T>): Promise<T> {
    const kernel = this.#kernel
    if (this.lost) throw new ConnectionLost('the connection is lost')
    return new Promise<T>((resolve, reject) => {
      let settled = false
      const settle = (ms: number, end: () => void) =>
        kernel.on(this.#host, ms, () => {
          if (settled) return
          settled = true
          timeout()
          end()
        })
      const fail = () => {
        this.lost = true
        this.#postgres.left(this.backend)
        reject(new ConnectionLost('the connection was lost'))
      }
      const timeout = kernel.on(this.#host, QUERY_TIMEOUT_MS, () => {
        if (settled) return
        settled = true
        fail()
      })
      const requestMs = kernel.delay(this.#host.name, 'postgres')
      if (requestMs === Number.POSITIVE_INFINITY) {
        // A reset is heard of, a black hole is not.
        if (kernel.chance(0.5)) settle(RESET_MS, fail)
        return
      }
      kernel.time.after(requestMs, () => {
        if (this.backend.gone) return void settle(RESET_MS, fail)
        work(this.backend).then(
          (value) => this.#reply(settle, () => resolve(value), fail),
          (error: unknown) => {
            if (error instanceof BackendGone) return void settle(RESET_MS, fail)
            if (!(error instanceof PgError)) kernel.violated('bug', String(error instanceof Error ? error.stack : error))
            this.#reply(settle, () => reject(error), fail)
          },
        )
      })
    })
  }

  #reply(settle: (ms: number, end: () => void) => void, answer: () => void, fail: () => void): void {
    const replyMs = this.#kernel.delay('postgres', this.#host.name)
    if (replyMs !== Number.POSITIVE_INFINITY) settle(replyMs, answer)
    else if (this.#kernel.chance(0.5)) settle(RESET_MS, fail)
  }

  close(): void {
    if (!this.lost) this.#postgres.left(this.backend)
    this.lost = true
  }
}

export class ControlSession {
  readonly #kernel: Kernel
  readonly #postgres: Postgres
  readonly #host: Host
  readonly #applicationName: string
  readonly #mends: boolean
  #connection: Connection | null = null
  #last: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(kernel: Kernel, postgres: Postgres, host: Host, applicationName: string, options: { readonly mends: boolean }) {
    this.#kernel = kernel
    this.#postgres = postgres
    this.#host = host
    this.#applicationName = applicationName
    this.#mends = options.mends
  }

  get backend(): Backend | null {
    return this.#connection === null || this.#connection.lost ? null : this.#connection.backend
  }

  /** One after the other. @throws PgError, CONTROL_UNREACHABLE. */
  query<T>(work: (backend: Backend) => Promise<T>): Promise<T> {
    const done = this.#last.then(() => this.#run(work))
    this.#last = done.catch(() => undefined)
    return done
  }

  async #run<T>(work: (backend: Backend) => Promise<T>): Promise<T> {
    try {
      return await (await this.#connected()).call(work)
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error
      throw new SwitchbackError('CONTROL_UNREACHABLE', { reason: error.message }, error)
    }
  }

  async #connected(): Promise<Connection> {
    const before = this.#connection
    if (this.#closed) throw new ConnectionLost('closed')
    if (before !== null && !before.lost) return before
    if (before !== null && !this.#mends) throw new ConnectionLost('lost')
    const opened = await Connection.open(this.#kernel, this.#postgres, this.#host, this.#applicationName)
    // What was sent on the old one may still run: it is ended before anything else is asked.
    if (before !== null) this.#postgres.terminate(before.backend)
    this.#connection = opened
    return opened
  }

  close(): void {
    this.#closed = true
    this.#connection?.close()
  }
}
