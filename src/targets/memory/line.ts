// Promises: requests over one TCP connection, pipelined and batched, each answered, failed or timed out; connects again by itself.
// A request that was sent and not answered is TARGET_UNKNOWN; one that never left is TARGET_THROTTLED, known not to have taken
// effect. Nothing is sent twice.
import { connect, type Socket } from 'node:net'
import { backoffMs } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Random } from '../../lib/prng.ts'
import { type ErrorCode, type ErrorDetails, SwitchbackError } from '../../model/errors.ts'
import { FRAME_BYTES_MAX, FrameReader, frameOfPieces, type ReplyMessage } from './frames.ts'

export interface LineOptions {
  readonly host: string
  readonly port: number
  readonly requestTimeoutMs: number
  readonly clock: Clock
  readonly random: Random
  /** Requests waiting for a reply, sent or not; more are refused. */
  readonly requestsMax: number
  /** Bytes of requests not sent yet; more are refused. */
  readonly unsentBytesMax: number
}

/** Kept in two pieces, since to join them would copy the long one. */
interface Request {
  readonly head: string
  readonly args: string
  readonly units: number
}

interface Waiting {
  readonly operation: string
  readonly deadlineMs: number
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
  /** Null once it is sent. */
  request: Request | null
}

const RECONNECT = { firstMs: 10, capMs: 500 } as const
const FRAME_BYTES_AIM = 1024 * 1024

export class Line {
  readonly #options: LineOptions
  /** In order of deadline, since all wait equally long. */
  readonly #waiting = new Map<number, Waiting>()
  /** Ids not sent yet, in order. */
  #unsent: number[] = []
  #unsentBytes = 0
  #nextId = 1
  #socket: Socket | null = null
  #connected = false
  #flushing = false
  #blocked = false
  #failures = 0
  #cancelTimer: (() => void) | null = null
  #cancelReconnect: (() => void) | null = null
  #closed = false
  /** Why there is no connection. */
  #problem = 'not connected'

  constructor(options: LineOptions) {
    this.#options = options
  }

  /** `args` is the JSON text of the arguments, without brackets; may be empty. */
  request(operation: string, args: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      const head = args === '' ? `[${id},"${operation}"` : `[${id},"${operation}",`
      const units = head.length + args.length + 1
      const problem = this.#refusal(units)
      if (problem !== null) return reject(new SwitchbackError('TARGET_THROTTLED', { operation, reason: problem }))
      if (units * 3 > FRAME_BYTES_MAX && Buffer.byteLength(args, 'utf8') + units - args.length > FRAME_BYTES_MAX - 2)
        return reject(new SwitchbackError('TARGET_REFUSED', { operation, reason: `a request above ${FRAME_BYTES_MAX} bytes` }))
      const deadlineMs = this.#options.clock.monotonicMs() + this.#options.requestTimeoutMs
      this.#waiting.set(id, { operation, deadlineMs, resolve, reject, request: { head, args, units } })
      this.#unsent.push(id)
      this.#unsentBytes += units
      this.#watchDeadlines()
      if (this.#connected) this.#scheduleFlush()
      else this.#connect()
    })
  }

  close(): void {
    this.#closed = true
    this.#cancelTimer?.()
    this.#cancelReconnect?.()
    this.#socket?.destroy()
    this.#failAll('the connection was closed', () => true)
  }

  #refusal(units: number): string | null {
    if (this.#closed) return 'the connection is closed'
    if (this.#waiting.size >= this.#options.requestsMax) return `requestsMax ${this.#options.requestsMax} requests wait`
    if (this.#unsentBytes + units > this.#options.unsentBytesMax) return `unsentBytesMax ${this.#options.unsentBytesMax} bytes wait`
    return null
  }

  #connect(): void {
    if (this.#socket !== null || this.#cancelReconnect !== null || this.#closed) return
    const socket = connect({ host: this.#options.host, port: this.#options.port, noDelay: true, keepAlive: true })
    const reader = new FrameReader<ReplyMessage>()
    this.#socket = socket
    let problem = 'the connection ended'
    socket.on('connect', () => {
      this.#connected = true
      this.#failures = 0
      this.#scheduleFlush()
    })
    socket.on('data', (chunk) => {
      try {
        for (const reply of reader.push(chunk)) this.#onReply(reply)
      } catch (error) {
        problem = String(error)
        socket.destroy()
      }
    })
    socket.on('drain', () => {
      this.#blocked = false
      this.#scheduleFlush()
    })
    socket.on('error', (error) => {
      problem = error.message
    })
    socket.on('close', () => this.#onClose(problem))
  }

  #onClose(problem: string): void {
    this.#socket = null
    this.#connected = false
    this.#blocked = false
    this.#problem = problem
    this.#failAll(problem, (waiting) => waiting.request === null)
    if (this.#closed || this.#unsent.length === 0) return // the next request connects
    const waitMs = backoffMs(this.#failures++, RECONNECT, this.#options.random)
    this.#cancelReconnect = this.#options.clock.after(waitMs, () => {
      this.#cancelReconnect = null
      this.#connect()
    })
  }

  #scheduleFlush(): void {
    if (this.#flushing || this.#blocked || this.#unsent.length === 0) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      if (this.#connected) this.#flush()
    })
  }

  #flush(): void {
    let pieces: string[] = []
    let units = 0
    const unsent = this.#unsent
    let sent = 0
    for (; sent < unsent.length && !this.#blocked; sent++) {
      const waiting = this.#waiting.get(unsent[sent]!)
      const request = waiting?.request
      if (waiting === undefined || request == null) continue // it timed out
      // A frame never passes FRAME_BYTES_MAX: a unit is at most three bytes.
      if (pieces.length > 0 && units + request.units > FRAME_BYTES_AIM) {
        this.#write(pieces)
        pieces = []
        units = 0
      }
      if (pieces.length > 0) pieces.push(',')
      pieces.push(request.head, request.args, ']')
      units += request.units
      this.#unsentBytes -= request.units
      waiting.request = null
    }
    if (pieces.length > 0) this.#write(pieces)
    this.#unsent = sent === unsent.length ? [] : unsent.slice(sent)
  }

  #write(pieces: readonly string[]): void {
    if (!this.#socket!.write(frameOfPieces(pieces))) this.#blocked = true
  }

  #onReply(reply: ReplyMessage): void {
    const waiting = this.#waiting.get(reply[0])
    if (waiting === undefined) return // it came after its deadline: its caller has heard TARGET_UNKNOWN
    this.#waiting.delete(reply[0])
    if (reply[1] === 0) waiting.resolve(reply[2])
    else waiting.reject(new SwitchbackError(reply[2] as ErrorCode, reply[3] as ErrorDetails))
  }

  #watchDeadlines(): void {
    if (this.#cancelTimer !== null || this.#closed) return
    const first = this.#waiting.values().next()
    if (first.done) return
    const waitMs = Math.max(1, first.value.deadlineMs - this.#options.clock.monotonicMs())
    this.#cancelTimer = this.#options.clock.after(waitMs, () => {
      this.#cancelTimer = null
      const nowMs = this.#options.clock.monotonicMs()
      for (const [id, waiting] of this.#waiting) {
        if (waiting.deadlineMs > nowMs) break
        const timedOut = `no reply within ${this.#options.requestTimeoutMs} ms`
        this.#fail(id, waiting, this.#connected ? timedOut : `${timedOut}, ${this.#problem}`)
      }
      this.#unsent = this.#unsent.filter((id) => this.#waiting.has(id))
      this.#watchDeadlines()
    })
  }

  #failAll(reason: string, which: (waiting: Waiting) => boolean): void {
    for (const [id, waiting] of this.#waiting) if (which(waiting)) this.#fail(id, waiting, reason)
  }

  #fail(id: number, waiting: Waiting, reason: string): void {
    this.#waiting.delete(id)
    const { operation, request } = waiting
    if (request !== null) this.#unsentBytes -= request.units
    waiting.reject(
      request === null
        ? new SwitchbackError('TARGET_UNKNOWN', { operation, reason })
        : new SwitchbackError('TARGET_THROTTLED', { operation, reason: `not sent: ${reason}` }),
    )
  }
}
