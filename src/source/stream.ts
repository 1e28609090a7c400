// Promises: committed transactions from the logical slot, in order, with bounded memory, and acknowledgements that never go beyond what
// was acknowledged here (INV-3). Keepalives are answered inside; while nothing is owed, they move an idle slot on.
import type pg from 'pg'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { SourceTransaction } from '../model/change.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type Lsn, NO_LSN, parseLsn } from '../model/ids.ts'
import type { Mapping } from '../model/mapping.ts'
import type { ChangeStream } from '../model/source.ts'
import { decodePgoutput, decodeReplication, encodeStandbyStatus, TransactionAssembler } from '../wire/pgoutput.ts'
import { connectSource } from './connect.ts'
import { ident, literal } from './ident.ts'

export interface StreamOptions {
  readonly url: string
  readonly slot: string
  readonly publication: string
  readonly mapping: Mapping
  readonly clock: Clock
  readonly applicationName: string
}

/** The server is told where we are at least so often, and soon after each acknowledgement. */
const STATUS_EVERY_MS = 1_000
const STATUS_SOON_MS = 5
/** Bytes of decoded transactions that nobody has taken yet: above it the socket is paused. */
const BUFFERED_BYTES_MAX = 32 * 1024 * 1024

/** @throws SLOT_MISSING, SLOT_LOST (a new backfill is needed), SLOT_IN_USE. */
export async function openStream(options: StreamOptions): Promise<ChangeStream> {
  const confirmed = await checkSlot(options)
  const client = await connectSource({
    url: options.url,
    applicationName: options.applicationName,
    replication: 'database',
    queryTimeoutMs: 0,
  })
  const stream = new SlotStream(client, options, confirmed)
  try {
    await stream.start()
    return stream
  } catch (error) {
    await stream.close()
    throw error
  }
}

async function checkSlot({ url, slot }: StreamOptions): Promise<Lsn> {
  const client = await connectSource({ url, applicationName: 'switchback source' })
  try {
    const { rows } = await client.query<{ confirmed: string | null; status: string | null }>(
      'select confirmed_flush_lsn as confirmed, wal_status as status from pg_replication_slots where slot_name = $1',
      [slot],
    )
    if (rows[0] === undefined) throw new SwitchbackError('SLOT_MISSING', { slot })
    if (rows[0].status === 'lost' || rows[0].confirmed === null) throw new SwitchbackError('SLOT_LOST', { slot, reason: 'its WAL is gone' })
    return parseLsn(rows[0].confirmed)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** What `pg` has of a copy-both connection and does not type. */
interface CopyConnection {
  once(event: 'replicationStart', listener: () => void): void
  on(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void
  sendCopyFromChunk(chunk: Buffer): void
  readonly stream: { pause(): void; resume(): void; destroy(): void }
}

class SlotStream implements ChangeStream {
  readonly #client: pg.Client
  readonly #connection: CopyConnection
  readonly #options: StreamOptions
  readonly #assembler: TransactionAssembler
  readonly #came = new Signal()
  readonly #buffered: { readonly transaction: SourceTransaction; readonly bytes: number }[] = []
  #bufferedBytes = 0
  /** Stream bytes of the transaction under way, as they came. */
  #openBytes = 0
  #paused = false
  #failure: Error | null = null
  #closed = false
  #serverLsn: Lsn = NO_LSN
  /** End of the last transaction handed out or held, which the consumer has not acknowledged. */
  #owedLsn: Lsn = NO_LSN
  #acknowledged: Lsn
  #statusDue: (() => void) | null = null

  constructor(client: pg.Client, options: StreamOptions, confirmed: Lsn) {
    this.#client = client
    this.#connection = (client as unknown as { connection: CopyConnection }).connection
    this.#options = options
    this.#assembler = new TransactionAssembler({ mapping: options.mapping })
    this.#acknowledged = confirmed
    this.#owedLsn = confirmed
  }

  async start(): Promise<void> {
    const { slot, publication } = this.#options
    this.#connection.on('copyData', ({ chunk }) => this.#data(chunk))
    this.#client.on('error', (error) => this.#fail(this.#named(error)))
    this.#client.on('end', () => this.#fail(new Error('the connection was closed')))
    const started = new Promise<void>((resolve) => this.#connection.once('replicationStart', () => resolve()))
    const ended = this.#client.query(
      `START_REPLICATION SLOT ${ident(slot)} LOGICAL 0/0 (proto_version '1', publication_names ${literal(ident(publication))}, messages 'true')`,
    )
    ended.catch((error: Error) => this.#fail(this.#named(error)))
    await Promise.race([started, ended.then(() => undefined, this.#startFailed)])
    this.#statusEvery()
  }

  readonly #startFailed = (error: Error & { code?: string }): never => {
    throw this.#named(error)
  }

  /** Only what says that WAL or slot are gone asks for a new backfill; a broken connection may be made again. */
  #named(error: Error & { code?: string }): Error {
    const details = { slot: this.#options.slot, reason: error.message }
    switch (error.code) {
      case '55006':
        return new SwitchbackError('SLOT_IN_USE', details, error)
      case '42704':
        return new SwitchbackError('SLOT_MISSING', details, error)
      case '55000':
      case '58P01':
        return new SwitchbackError('SLOT_LOST', details, error)
      default:
        return error
    }
  }

  async *transactions(signal: AbortSignal): AsyncIterable<SourceTransaction> {
    while (!signal.aborted) {
      const held = this.#buffered.shift()
      if (held !== undefined) {
        this.#bufferedBytes -= held.bytes
        this.#resumeIfRoom()
        yield held.transaction
        continue
      }
      if (this.#failure !== null) throw this.#failure
      if (this.#closed) return
      // Nothing ran between the look and this: no wake-up is lost.
      await this.#came.next(signal)
    }
  }

  acknowledge(lsn: Lsn): void {
    if (lsn <= this.#acknowledged) return
    this.#acknowledged = lsn
    this.#statusDue ??= this.#options.clock.after(STATUS_SOON_MS, () => {
      this.#statusDue = null
      this.#sendStatus()
    })
  }

  serverLsn(): Lsn {
    return this.#serverLsn
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#sendStatus()
    this.#closed = true
    this.#statusDue?.()
    this.#came.notify()
    // end() would wait behind START_REPLICATION, which never answers.
    this.#connection.stream.destroy()
    await this.#client.end().catch(() => undefined)
  }

  #data(chunk: Buffer): void {
    if (this.#closed) return
    try {
      const message = decodeReplication(chunk)
      if (message.serverLsn > this.#serverLsn) this.#serverLsn = message.serverLsn
      if (message.kind === 'keepalive') {
        this.#keepalive(message)
        return
      }
      const transaction = this.#assembler.push(decodePgoutput(message.payload))
      this.#openBytes += message.payload.length
      if (transaction === null) return
      this.#hold(transaction, this.#openBytes)
      this.#openBytes = 0
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  /** While nothing is owed, what the server has told of is behind us as well: an idle slot moves on. */
  #keepalive(message: { readonly serverLsn: Lsn; readonly replyRequested: boolean }): void {
    if (
      this.#acknowledged >= this.#owedLsn &&
      this.#assembler.heldBytes === 0 &&
      this.#buffered.length === 0 &&
      message.serverLsn > this.#acknowledged
    ) {
      this.#acknowledged = message.serverLsn
    }
    if (message.replyRequested) this.#sendStatus()
  }

  #hold(transaction: SourceTransaction, bytes: number): void {
    const size = bytes + transaction.changes.length * 200
    this.#owedLsn = transaction.endLsn
    this.#buffered.push({ transaction, bytes: size })
    this.#bufferedBytes += size
    if (this.#bufferedBytes > BUFFERED_BYTES_MAX && !this.#paused) {
      this.#paused = true
      this.#connection.stream.pause()
    }
    this.#came.notify()
  }

  #resumeIfRoom(): void {
    if (!this.#paused || this.#bufferedBytes > BUFFERED_BYTES_MAX / 2) return
    this.#paused = false
    this.#connection.stream.resume()
  }

  #statusEvery(): void {
    if (this.#closed || this.#failure !== null) return
    this.#sendStatus()
    this.#options.clock.after(STATUS_EVERY_MS, () => this.#statusEvery())
  }

  #sendStatus(): void {
    if (this.#closed || this.#failure !== null) return
    const flushed = this.#acknowledged
    // INV-3: PostgreSQL forgets what lies before the flushed position.
    this.#connection.sendCopyFromChunk(
      encodeStandbyStatus({
        // biome-ignore lint/complexity/useMathMinMax: an LSN is a bigint, and Math.max takes none
        writtenLsn: this.#serverLsn > flushed ? this.#serverLsn : flushed,
        flushedLsn: flushed,
        appliedLsn: flushed,
        nowMs: this.#options.clock.nowMs(),
      }),
    )
  }

  #fail(error: Error): void {
    if (this.#closed) return
    this.#failure ??= error
    this.#came.notify()
  }
}
