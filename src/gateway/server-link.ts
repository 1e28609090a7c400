// Promises: the one server connection behind a client. Before INV-8 binds every byte is relayed; later each exchange says what is
// relayed to the client and what is kept for the gateway, and both forward the original buffers, cut between messages.
// INV-8: while an exchange has a lease, nothing of it is shown once the lease is over.
import type { Socket } from 'node:net'
import type { LeaseHandle } from '../model/executor.ts'
import { BACKEND, decodeBackend, decodeReadyForQuery, ERROR_FIELD, type TransactionStatus } from '../wire/backend.ts'
import { violation } from '../wire/bytes.ts'
import { MessageWalker } from '../wire/framing.ts'

/** Replies that end the answer to one extended-protocol message. */
const REPLY_ENDS = new Set<number>([
  BACKEND.parseComplete,
  BACKEND.bindComplete,
  BACKEND.closeComplete,
  BACKEND.rowDescription,
  BACKEND.noData,
  BACKEND.commandComplete,
  BACKEND.emptyQueryResponse,
  BACKEND.portalSuspended,
])
const KEPT_TYPES = 'KZSAEtTRvGW123nsIC'
const KEPT_BYTES_MAX = 16 * 1024 * 1024
/** Rows the gateway asks for itself: settings, sequences, plans of EXPLAIN. */
const OWN_ROWS_BYTES_MAX = 4 * 1024 * 1024

export interface Kept {
  readonly type: number
  readonly body: Buffer
}

export interface ExchangeOptions {
  /** Replies go to the client; false: they are the gateway's own. */
  readonly relay: boolean
  /** 'ready': to ReadyForQuery; a number: so many messages of the extended protocol, or an error, which ends them all. */
  readonly until: 'ready' | number
  /** ReadyForQuery itself goes to the client. */
  readonly ready?: 'relay' | 'hide'
  /** Which replies, counted from 0, answer messages put in by the gateway: hidden. */
  readonly hide?: ReadonlySet<number>
  /** INV-8. */
  readonly lease?: LeaseHandle | null
  /** Called when PostgreSQL asks for COPY data. */
  readonly onCopyIn?: () => void
}

export interface ExchangeResult {
  /** SQLSTATE of the error that ended it, '' where the error named none; null: no error. */
  readonly failed: string | null
  /** Bodies of what was kept: all replies of an own exchange, descriptions and command tags of a relayed one. */
  readonly kept: readonly Kept[]
  /** Messages of the extended protocol that were answered before the error, or all. */
  readonly replies: number
}

interface Exchange extends ExchangeOptions {
  left: number
  replies: number
  failed: string | null
  readonly kept: Kept[]
  readonly resolve: (result: ExchangeResult) => void
  readonly reject: (error: Error) => void
}

export interface ServerLinkEvents {
  toClient(bytes: Buffer): void
  parameter(name: string, value: string): void
  /** Each ReadyForQuery. */
  ready(status: TransactionStatus): void
  /** The lease of an exchange has ended before its reply was shown. */
  leaseOver(): void
  copyIn(): void
  key(processId: number, secretKey: Buffer): void
  /** Errors that answer no exchange are looked at before they are shown: INV-8 binds, so that a FATAL is more than bytes. */
  looksAtErrors(): boolean
  /** PostgreSQL ends the connection, and this is how it says so. The session is over with it (INV-9). */
  fatal(sqlstate: string, message: Buffer): void
}

export class ServerLink {
  readonly #socket: Socket
  readonly #events: ServerLinkEvents
  readonly #walker = new MessageWalker({
    direction: 'backend',
    collect: [{ types: KEPT_TYPES, bytesMax: KEPT_BYTES_MAX, limitName: 'KEPT_BYTES_MAX' }],
  })
  readonly #exchanges: Exchange[] = []
  #tail: Buffer | null = null
  /** What becomes of the message under way. */
  #showing = true
  #row: Buffer[] | null = null
  #ownBytes = 0
  #lost: Error | null = null
  status: TransactionStatus = 'idle'

  constructor(socket: Socket, events: ServerLinkEvents) {
    this.#socket = socket
    this.#events = events
  }

  get busy(): boolean {
    return this.#exchanges.length > 0
  }

  get lost(): Error | null {
    return this.#lost
  }

  write(bytes: Buffer): void {
    if (this.#lost === null) this.#socket.write(bytes)
  }

  /** Sends and waits for the replies. Rejects only when the connection is lost. */
  exchange(messages: readonly Buffer[], options: ExchangeOptions): Promise<ExchangeResult> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== null) return reject(this.#lost)
      const left = options.until === 'ready' ? -1 : options.until
      this.#exchanges.push({ ...options, left, replies: 0, failed: null, kept: [], resolve, reject })
      this.#socket.cork()
      for (const message of messages) this.#socket.write(message)
      this.#socket.uncork()
    })
  }

  lose(error: Error): void {
    if (this.#lost !== null) return
    this.#lost = error
    for (const exchange of this.#exchanges.splice(0)) exchange.reject(error)
  }

  /** Bytes from PostgreSQL. Throws PROTOCOL_VIOLATION; then the session ends. */
  feed(chunk: Buffer): void {
    const walker = this.#walker
    walker.feed(chunk)
    let from = -1
    let to = 0
    const tail = this.#tail
    this.#tail = null
    while (walker.next()) {
      if (walker.first) {
        this.#showing = this.#decide(walker.type)
        if (tail !== null && walker.start < 0 && this.#showing) this.#events.toClient(tail)
      }
      const begin = Math.max(0, walker.start)
      const end = Math.min(walker.end, chunk.length)
      if (this.#showing) {
        if (from === -1) from = begin
        else if (to !== begin) throw violation('messages that do not follow one another')
        to = end
      } else if (from !== -1) {
        this.#show(chunk, from, to)
        from = -1
      }
      if (walker.type === BACKEND.dataRow && !this.#showing) this.#keepRow(chunk.subarray(Math.max(0, walker.start + 5), end), walker.last)
      if (!walker.last) continue
      // What the client sees comes before what follows from it.
      if (walker.type === BACKEND.readyForQuery && from !== -1) {
        this.#show(chunk, from, to)
        from = -1
      }
      this.#arrived(walker.type)
    }
    if (from !== -1) this.#show(chunk, from, to)
    if (walker.undecided < chunk.length) {
      const cut = chunk.subarray(walker.undecided)
      this.#tail = tail !== null && walker.undecided === 0 ? Buffer.concat([tail, cut]) : cut
    }
  }

  #show(chunk: Buffer, from = 0, to = chunk.length): void {
    const lease = this.#exchanges[0]?.lease
    if (lease !== undefined && lease !== null && !lease.holds()) this.#events.leaseOver()
    else this.#events.toClient(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to))
  }

  #decide(type: number): boolean {
    if (type === BACKEND.parameterStatus || type === BACKEND.notificationResponse) return true
    const exchange = this.#exchanges[0]
    // PostgreSQL owes nothing, and may go away, while a statement waits here or is under way on the target.
    if (exchange === undefined) return !(type === BACKEND.errorResponse && this.#events.looksAtErrors())
    if (type === BACKEND.noticeResponse) return exchange.relay
    if (type === BACKEND.readyForQuery) return exchange.relay && exchange.ready !== 'hide'
    // Looked at before it is shown: a FATAL may leave the outcome open.
    if (type === BACKEND.errorResponse) return false
    return exchange.relay && exchange.hide?.has(exchange.replies) !== true
  }

  /** The last byte of a message is there. */
  #arrived(type: number): void {
    switch (type) {
      case BACKEND.readyForQuery:
        this.status = decodeReadyForQuery(this.#walker.body())
        break
      case BACKEND.parameterStatus: {
        const message = decodeBackend(type, this.#walker.body())
        if (message.kind === 'parameterStatus') this.#events.parameter(message.name, message.value)
        return
      }
      case BACKEND.backendKeyData: {
        const message = decodeBackend(type, this.#walker.body())
        if (message.kind === 'backendKeyData') this.#events.key(message.processId, message.secretKey)
        return
      }
      case BACKEND.notificationResponse:
      case BACKEND.noticeResponse:
        return
    }
    const exchange = this.#exchanges[0]
    if (exchange === undefined) {
      if (type === BACKEND.readyForQuery) this.#events.ready(this.status)
      if (type === BACKEND.copyInResponse) this.#events.copyIn()
      if (type === BACKEND.errorResponse && !this.#showing) this.#toldUnasked()
      return
    }
    this.#advance(exchange, type)
  }

  #toldUnasked(): void {
    const body = Buffer.from(this.#walker.body())
    const { sqlstate, fatal } = errorOf(body)
    if (fatal) this.#events.fatal(sqlstate, messageOf(BACKEND.errorResponse, body))
    else this.#show(messageOf(BACKEND.errorResponse, body))
  }

  #advance(exchange: Exchange, type: number): void {
    if (type === BACKEND.readyForQuery) {
      this.#events.ready(this.status)
      if (exchange.until === 'ready') this.#finish(exchange)
      return
    }
    if (type === BACKEND.errorResponse) {
      const body = Buffer.from(this.#walker.body())
      const { sqlstate, fatal } = errorOf(body)
      exchange.failed = sqlstate
      if (fatal) {
        this.#events.fatal(sqlstate, messageOf(type, body))
        return
      }
      if (exchange.relay) this.#show(messageOf(type, body))
      else exchange.kept.push({ type, body })
      if (exchange.until !== 'ready') this.#finish(exchange)
      return
    }
    if (type === BACKEND.copyInResponse || type === BACKEND.copyBothResponse) {
      this.#events.copyIn()
      exchange.onCopyIn?.()
      return
    }
    if (!exchange.relay || KEEP_OF_RELAYED.has(type)) this.#keep(exchange, type)
    if (!REPLY_ENDS.has(type)) return
    exchange.replies++
    if (exchange.until !== 'ready' && --exchange.left === 0) this.#finish(exchange)
  }

  #keep(exchange: Exchange, type: number): void {
    if (type === BACKEND.copyData || type === BACKEND.copyDone) return
    if (type === BACKEND.dataRow) {
      exchange.kept.push({ type, body: Buffer.concat(this.#row ?? []) })
      this.#row = null
      return
    }
    exchange.kept.push({ type, body: Buffer.from(this.#walker.body()) })
  }

  #keepRow(piece: Buffer, last: boolean): void {
    this.#row ??= []
    this.#row.push(piece)
    this.#ownBytes += piece.length
    if (this.#ownBytes > OWN_ROWS_BYTES_MAX) throw violation(`more than ${OWN_ROWS_BYTES_MAX} bytes in answer to a question of the gateway`)
    if (last && !this.busy) this.#row = null
  }

  #finish(exchange: Exchange): void {
    this.#exchanges.shift()
    this.#row = null
    this.#ownBytes = 0
    exchange.resolve({ failed: exchange.failed, kept: exchange.kept, replies: exchange.replies })
  }
}

const KEEP_OF_RELAYED = new Set<number>([BACKEND.parameterDescription, BACKEND.rowDescription, BACKEND.noData, BACKEND.commandComplete])

function messageOf(type: number, body: Buffer): Buffer {
  const message = Buffer.allocUnsafe(body.length + 5)
  message[0] = type
  message.writeInt32BE(body.length + 4, 1)
  body.copy(message, 5)
  return message
}

/** SQLSTATE '' where the error names none (faults.md 33). */
function errorOf(body: Buffer): { sqlstate: string; fatal: boolean } {
  const message = decodeBackend(BACKEND.errorResponse, body)
  if (message.kind !== 'errorResponse') return { sqlstate: '', fatal: false }
  const severity = message.fields[ERROR_FIELD.severityNonLocalised] ?? message.fields[ERROR_FIELD.severity]
  return { sqlstate: message.fields[ERROR_FIELD.sqlstate] ?? '', fatal: severity === 'FATAL' || severity === 'PANIC' }
}
