// Promises: a gateway's end of the feed: tells the leader of each settled entry within a few milliseconds, and everything it still
// holds to each new leader; and once a second of what its gateway measured. Losing the connection costs time only: the leader then reads the outboxes.
import { connect, type Socket } from 'node:net'
import { backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { SettledEntry, SettledSink } from '../model/executor.ts'
import type { LeaseId } from '../model/ids.ts'
import type { MeasuredReport } from '../model/measured.ts'
import type { FeedEndpoint } from '../store/endpoint.ts'
import { createFeedDecoder, encodeFeedMessage, encodeSettled, FEED_PROTOCOL } from '../sync/feed.ts'
import { SettledBacklog } from '../sync/settled-backlog.ts'

export interface FeedClient extends SettledSink {
  /** The lease that new entries are written under; null: none now. */
  lease(lease: LeaseId | null): void
  counts(): ReturnType<SettledBacklog['counts']>
  close(): Promise<void>
}

export interface FeedClientOptions {
  readonly gateway: string
  /** Where the leader is now; null: there is none. */
  readonly endpoint: () => Promise<FeedEndpoint | null>
  /** What is told of measurements, once a second. */
  readonly meter?: { take(): MeasuredReport; keep(): void }
  readonly clock: Clock
  readonly random: Random
}

/** Entries are told together that settle within it. */
const GATHER_MS = 2
const CONNECT_MS = 2_000
const MEASURED_EVERY_MS = 1_000
/** A leader that is so far behind is told later. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024
const BACKOFF = { firstMs: 50, capMs: 1_000 }

export function startFeedClient(options: FeedClientOptions): FeedClient {
  return new Client(options)
}

class Client implements FeedClient {
  readonly #options: FeedClientOptions
  readonly #backlog: SettledBacklog
  readonly #stop = new AbortController()
  readonly #done: Promise<void>
  #lease: LeaseId | null = null
  /** Connected, welcomed, everything held told again. */
  #socket: Socket | null = null
  /** Who it is connected to takes measurements. */
  #measures = false
  #fresh: SettledEntry[] = []
  #gathering = false

  constructor(options: FeedClientOptions) {
    this.#options = options
    this.#backlog = new SettledBacklog({ onSettled: (told) => this.#tell(told) })
    this.#done = Promise.all([this.#run(), this.#measure()]).then(() => undefined)
  }

  settled(entry: SettledEntry): void {
    this.#backlog.settled(entry)
  }

  lease(lease: LeaseId | null): void {
    if (this.#lease === lease) return
    this.#lease = lease
    // A connection speaks for one lease: a new lease is a new hello.
    this.#socket?.destroy()
  }

  counts() {
    return this.#backlog.counts()
  }

  async close(): Promise<void> {
    this.#flush()
    this.#stop.abort()
    this.#socket?.end()
    await this.#done
  }

  #tell(told: SettledEntry): void {
    if (this.#socket === null) return
    this.#fresh.push(told)
    if (this.#gathering) return
    this.#gathering = true
    this.#options.clock.after(GATHER_MS, () => this.#flush())
  }

  #flush(): void {
    this.#gathering = false
    const entries = this.#fresh
    this.#fresh = []
    if (this.#socket !== null) for (const frame of encodeSettled(entries)) this.#socket.write(frame)
  }

  async #measure(): Promise<void> {
    const { meter, clock } = this.#options
    if (meter === undefined) return
    for (;;) {
      await clock.sleep(MEASURED_EVERY_MS, this.#stop.signal)
      if (this.#stop.signal.aborted) return
      const socket = this.#measures ? this.#socket : null
      if (socket === null || socket.writableLength > UNSENT_BYTES_MAX) meter.keep()
      else socket.write(encodeFeedMessage({ type: 'measured', report: meter.take() }))
    }
  }

  async #run(): Promise<void> {
    const { clock, random, endpoint } = this.#options
    for (let tries = 0; !this.#stop.signal.aborted; tries++) {
      const at = this.#lease === null ? null : await endpoint().catch(() => null)
      if (at !== null && (await this.#speak(at, this.#lease!))) tries = 0
      await clock.sleep(backoffMs(tries, BACKOFF, random), this.#stop.signal)
    }
  }

  /** One connection, to its end. True if it was welcomed. */
  #speak(at: FeedEndpoint, lease: LeaseId): Promise<boolean> {
    return new Promise((resolve) => {
      let welcomed = false
      const decoder = createFeedDecoder()
      const socket = connect({
        host: at.host,
        port: at.port,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: 1_000,
        timeout: CONNECT_MS,
      })
      const stop = () => socket.destroy()
      this.#stop.signal.addEventListener('abort', stop, { once: true })
      socket.once('connect', () => {
        socket.setTimeout(0)
        socket.write(
          encodeFeedMessage({ type: 'hello', protocol: FEED_PROTOCOL, gateway: this.#options.gateway, lease, secret: at.secret }),
        )
      })
      socket.once('timeout', stop)
      socket.on('error', stop)
      socket.on('data', (chunk: Buffer) => {
        try {
          for (const message of decoder.push(chunk)) {
            if (message.type === 'positions') this.#backlog.passed(message.positions)
            if (message.type === 'welcome' && lease === this.#lease) {
              welcomed = true
              this.#measures = message.measures
              this.#tellAll(socket, lease)
            }
          }
        } catch {
          socket.destroy()
        }
      })
      socket.once('close', () => {
        this.#stop.signal.removeEventListener('abort', stop)
        if (this.#socket === socket) this.#socket = null
        resolve(welcomed)
      })
    })
  }

  #tellAll(socket: Socket, lease: LeaseId): void {
    this.#socket = socket
    this.#fresh = []
    for (const frame of encodeSettled(this.#backlog.all())) socket.write(frame)
    const { committedDropped, voidsDropped } = this.#backlog.counts()
    socket.write(encodeFeedMessage({ type: 'toldAll', lease, copiesDropped: committedDropped + voidsDropped }))
  }
}
