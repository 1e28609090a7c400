// Promises: from the moment INV-8 binds, the client's messages are gathered to batches (Sync, Flush, Query) and run one after the
// other. COPY data goes straight on. At a lapse of the lease everything mapped ends; a lost server connection ends the session
// with an honest word (INV-9).
import { SwitchbackError } from '../model/errors.ts'
import type { TransactionStatus } from '../wire/backend.ts'
import { MessageWalker } from '../wire/framing.ts'
import { FRONTEND } from '../wire/frontend.ts'
import type { Excuse } from './ack-loop.ts'
import { backendStartText } from './backend-start.ts'
import { type Batch, runBatch } from './batch.ts'
import type { GatewayContext } from './context.ts'
import type { Work } from './fence-gate.ts'
import { type ClientMessage, endsBatch, FLUSH } from './messages.ts'
import type { ServerLink } from './server-link.ts'
import { SessionCore } from './session-core.ts'
import type { PreparedStatements } from './statements.ts'
import { interruptTarget } from './target-arm.ts'

export interface ActiveModeOptions {
  readonly context: GatewayContext
  readonly link: ServerLink
  readonly statements: PreparedStatements
  readonly backendPid: number | null
  /** ReadyForQuery replies that PostgreSQL still owes to what was passed on before. */
  readonly owed: number
  /** What was open when INV-8 came to bind; touches all slots. */
  readonly adopted: Work | null
  readonly toClient: (bytes: Buffer) => void
  /** Ends the session; null: the client has said goodbye. */
  readonly end: (error: unknown) => void
  readonly pause: () => void
  readonly resume: () => void
}

/** The client is read no further while this many batches wait. */
const BATCHES_WAITING_MAX = 32
const COLLECTED = 'BDECFSHXcfp'
const FLUSH_MESSAGE: ClientMessage = { type: FRONTEND.flush, bytes: FLUSH, body: Buffer.alloc(0) }
const EXCUSE = `select pg_catalog.pg_backend_pid(), (select extract(epoch from backend_start)::text from pg_catalog.pg_stat_activity
  where pid = pg_catalog.pg_backend_pid()), (select virtualtransaction from pg_catalog.pg_locks
  where pid = pg_catalog.pg_backend_pid() and locktype = 'virtualxid' limit 1)`

export class ActiveMode {
  readonly #options: ActiveModeOptions
  readonly #core: SessionCore
  readonly #walker: MessageWalker
  #gathered: ClientMessage[] = []
  #gatheredBytes = 0
  readonly #batches: Batch[] = []
  #queuedBytes = 0
  #running = false
  #paused = false
  #ended = false
  #tail: Buffer | null = null
  #copying = false
  #current: Batch | null = null
  /** PostgreSQL took COPY's Sync for COPY data: the next one is the batch's. */
  #syncEaten = false
  #forwardSync = false
  #owed: number
  #owedOver: (() => void) | null = null

  constructor(options: ActiveModeOptions) {
    this.#options = options
    this.#owed = options.owed
    this.#core = new SessionCore(options)
    if (options.adopted !== null) this.#core.transaction = { kind: 'source', work: options.adopted, snapshot: true }
    const { sqlBytesMax, messageBytesMax } = options.context.limits
    this.#walker = new MessageWalker({
      direction: 'frontend',
      startup: false,
      collect: [
        { types: 'QP', bytesMax: sqlBytesMax, limitName: 'sqlBytesMax' },
        { types: COLLECTED, bytesMax: messageBytesMax, limitName: 'messageBytesMax' },
      ],
    })
  }

  /** Bytes from the client. Throws PROTOCOL_VIOLATION or MESSAGE_TOO_LARGE: the session ends. */
  feed(chunk: Buffer): void {
    const walker = this.#walker
    walker.feed(chunk)
    const tail = this.#tail
    this.#tail = null
    while (walker.next()) {
      if (walker.type === FRONTEND.copyData) {
        if (walker.first && walker.start < 0 && tail !== null) this.#copyBytes(tail)
        this.#copyBytes(chunk.subarray(Math.max(0, walker.start), Math.min(walker.end, chunk.length)))
        continue
      }
      if (!walker.last) continue
      const body = walker.body()
      // The header lies before the body, in the chunk as in what was put together.
      this.#message({ type: walker.type, body, bytes: Buffer.from(body.buffer, body.byteOffset - 5, body.length + 5) })
    }
    if (walker.undecided < chunk.length) {
      const cut = chunk.subarray(walker.undecided)
      this.#tail = tail !== null && walker.undecided === 0 ? Buffer.concat([tail, cut]) : cut
    }
    this.#press()
  }

  get owes(): boolean {
    return this.#owed > 0
  }

  /** PostgreSQL reported a setting: plans and results may depend on it. */
  parameterChanged(): void {
    this.#core.settingsStale = true
    this.#core.settingsStaleAtEnd = true
  }

  copyIn(): void {
    this.#copying = true
    this.#sendCopyData()
    this.#release()
  }

  ready(status: TransactionStatus): void {
    this.#copying = false
    this.#syncEaten = false
    if (this.#owed === 0) return
    this.#owed--
    if (this.#owed === 0) {
      if (status === 'idle' && this.#options.adopted !== null) this.#core.transactionEnded()
      this.#owedOver?.()
    }
  }

  /** INV-8: the lease has ended. What is open on PostgreSQL and touched mapped tables ends with its connection. */
  lapsed(): void {
    const core = this.#core
    const over = new SwitchbackError('LEASE_OVER', { lease: this.#options.context.gate.lease?.id ?? 'before' })
    if (core.transaction.kind === 'target') interruptTarget(core.transaction, over)
    const work = core.transaction.kind === 'source' ? core.transaction.work : core.sourceWork
    if (work === null || work.lease.holds() || work.read.size + work.wrote.size === 0) return
    this.#options.end(over)
  }

  /** INV-9: what is under way may take effect, whatever becomes of the connection. */
  get atRisk(): boolean {
    return this.#core.atRisk
  }

  /** INV-9: what the client hears when the session ends, for whatever reason. */
  honest(error: unknown): unknown {
    return this.#core.atRisk ? unknown(error instanceof Error ? error.message : String(error)) : error
  }

  ended(): void {
    this.#ended = true
    const core = this.#core
    core.tally.gone = true
    core.cancel.abort(new SwitchbackError('STATEMENT_CANCELED'))
    this.#endWorks()
    this.#owedOver?.()
  }

  /** A batch that was waiting when the session ended may begin work once more before it notices: no fence waits for that. */
  #endWorks(): void {
    const { transaction, sourceWork } = this.#core
    if (transaction.kind === 'target') interruptTarget(transaction, new SwitchbackError('GATEWAY_CLOSING'))
    if (transaction.kind === 'source') transaction.work?.end()
    sourceWork?.end()
  }

  /** A cancel request of this very session. False: the statement is PostgreSQL's to cancel. */
  cancel(): boolean {
    if (!this.#running || this.#options.link.busy) return false
    this.#core.cancel.abort(new SwitchbackError('STATEMENT_CANCELED'))
    return true
  }

  /** Guard, No lock a row: its backend, if nothing runs, the transaction may be excused, and no pooler is in between. */
  async excuse(known: ReadonlySet<Work>): Promise<Excuse | null> {
    const core = this.#core
    const open = core.transaction
    if (this.#running || this.#batches.length > 0 || open.kind !== 'source' || open.work === null || known.has(open.work)) return null
    if (core.unsynced || core.link.status !== 'transaction' || this.#owed > 0) return null
    if (!this.#options.context.gate.excusable(open.work)) return null
    const work = open.work
    this.#running = true
    try {
      const [row] = await core.askRows(EXCUSE)
      const [pid, start, virtualTransaction] = row ?? []
      if (Number(pid) !== this.#options.backendPid || typeof start !== 'string' || typeof virtualTransaction !== 'string') return null
      return { work, backend: { pid: Number(pid), backendStart: backendStartText(start), virtualTransaction } }
    } catch (error) {
      this.#fail(error)
      return null
    } finally {
      this.#running = false
      this.#kick()
    }
  }

  #message(message: ClientMessage): void {
    switch (message.type) {
      case FRONTEND.copyDone:
      case FRONTEND.copyFail:
        this.#copyBytes(message.bytes, true)
        return
      case FRONTEND.sync:
        if (this.#forwardSync || (this.#copying && this.#batches.length === 0)) {
          this.#forwardSync = false
          this.#options.link.write(message.bytes)
          return
        }
        break
      case FRONTEND.terminate:
        this.#options.end(null)
        return
    }
    this.#gathered.push(message)
    this.#gatheredBytes += message.bytes.length
    if (endsBatch(message.type)) this.#close()
    // A pipeline without an end is decided by what has come so far.
    else if (this.#gatheredBytes > this.#options.context.limits.queueBytesMax) {
      this.#gathered.push(FLUSH_MESSAGE)
      this.#close()
    }
  }

  #close(): void {
    // From here on a statement is waited for, behind whatever it has to wait.
    const arrivedMs = this.#core.tally.measured ? this.#options.context.clock.monotonicMs() : 0
    this.#batches.push({ messages: this.#gathered, bytes: this.#gatheredBytes, arrivedMs, copyData: [], copyEnds: false })
    this.#queuedBytes += this.#gatheredBytes
    this.#gathered = []
    this.#gatheredBytes = 0
    this.#kick()
  }

  /** COPY data belongs to the batch before it, which may not have been sent yet. */
  #copyBytes(bytes: Buffer, ends = false): void {
    const batch = this.#batches.at(-1) ?? this.#current
    if (batch !== null) {
      batch.copyData.push(bytes)
      batch.copyEnds ||= ends
      if (batch === this.#current && this.#copying) this.#sendCopyData()
    } else this.#options.link.write(bytes)
  }

  #sendCopyData(): void {
    const batch = this.#current
    if (batch === null) return
    for (const bytes of batch.copyData.splice(0)) this.#options.link.write(bytes)
    if (!batch.copyEnds || !this.#copying) return
    this.#copying = false
    if (!this.#syncEaten) return
    // PostgreSQL took the batch's Sync for COPY data: the client's next one ends it.
    const next = this.#batches[0]
    if (next === undefined) this.#forwardSync = true
    else if (next.messages.length === 1 && next.messages[0]!.type === FRONTEND.sync) {
      this.#batches.shift()
      this.#queuedBytes -= next.bytes
      this.#options.link.write(next.messages[0]!.bytes)
    }
  }

  #kick(): void {
    if (this.#running || this.#ended || this.#batches.length === 0) return
    this.#running = true
    // Runs until no batch is left; its errors end the session in #fail.
    void this.#run()
  }

  async #run(): Promise<void> {
    const core = this.#core
    try {
      if (this.#owed > 0) {
        await new Promise<void>((resolve) => {
          this.#owedOver = resolve
        })
      }
      for (;;) {
        const batch = this.#batches.shift()
        if (batch === undefined || this.#ended) break
        this.#queuedBytes -= batch.bytes
        if (core.cancel.signal.aborted) core.cancel = new AbortController()
        this.#syncEaten = batch.messages.at(-1)!.type === FRONTEND.sync
        this.#current = batch
        await this.#timed(batch)
        // COPY data that nobody asked for: PostgreSQL ignores it, as it does after a failed COPY.
        this.#sendCopyData()
        this.#current = null
        this.#release()
      }
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#running = false
      this.#current = null
      if (this.#ended) this.#endWorks()
      // Whoever waits for open transactions to become quiet may ask this one now.
      if (core.transaction.kind === 'source') this.#options.context.gate.changed.notify()
    }
    this.#kick()
  }

  /** statement_timeout holds for what waits here and for the target; PostgreSQL keeps its own. */
  async #timed(batch: Batch): Promise<void> {
    const core = this.#core
    const { clock } = this.#options.context
    const timeoutMs = core.settings.statementTimeoutMs
    const cancelTimer =
      timeoutMs > 0
        ? clock.after(timeoutMs, () => {
            if (!core.link.busy) core.cancel.abort(new SwitchbackError('STATEMENT_TIMEOUT'))
          })
        : null
    try {
      await runBatch(core, batch)
    } finally {
      cancelTimer?.()
    }
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    const { log } = this.#options.context
    if (!(error instanceof SwitchbackError))
      log.error({ error: String(error), stack: error instanceof Error ? error.stack : null }, 'session failed')
    this.#options.end(error)
  }

  #press(): void {
    const { queueBytesMax } = this.#options.context.limits
    const pressed = this.#batches.length > BATCHES_WAITING_MAX || this.#queuedBytes > queueBytesMax
    if (pressed && !this.#paused && !this.#copying) {
      this.#paused = true
      this.#options.pause()
    }
  }

  #release(): void {
    if (!this.#paused) return
    if (
      !this.#copying &&
      (this.#batches.length > BATCHES_WAITING_MAX / 2 || this.#queuedBytes > this.#options.context.limits.queueBytesMax)
    )
      return
    this.#paused = false
    this.#options.resume()
  }
}

function unknown(reason: string): SwitchbackError {
  return new SwitchbackError('OUTCOME_UNKNOWN', { reason })
}
