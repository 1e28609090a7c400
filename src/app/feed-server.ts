// Promises: the leader's end of the feed: gateways tell of settled entries and of what they measured, the leader tells durable positions back. A connection that
// says anything else, or brings no secret, ends; the outboxes on the target have every entry, so nothing is lost with it.
import { timingSafeEqual } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import { SwitchbackError } from '../model/errors.ts'
import type { LeaseId } from '../model/ids.ts'
import type { MeasuredReport } from '../model/measured.ts'
import { createFeedDecoder, encodeFeedMessage, FEED_PROTOCOL, type FeedMessage } from '../sync/feed.ts'
import type { ReverseSync } from '../sync/reverse.ts'
import type { OutboxPosition } from '../sync/reverse-parts.ts'

export interface FeedServer {
  readonly port: number
  /** Positions that are durable now: told to the gateways whose leases they are. */
  positions(positions: readonly OutboxPosition[]): void
  close(): Promise<void>
}

export interface FeedServerOptions {
  readonly host: string
  readonly port: number
  readonly secret: string
  readonly token: number
  readonly reverse: ReverseSync
  readonly measured: (lease: LeaseId, report: MeasuredReport) => void
  readonly warn: (details: object, message: string) => void
}

const CONNECTIONS_MAX = 1_000
const HELLO_WITHIN_MS = 5_000

export async function startFeedServer(options: FeedServerOptions): Promise<FeedServer> {
  const connections = new Set<Connection>()
  const server = createServer((socket) => {
    if (connections.size >= CONNECTIONS_MAX) return socket.destroy()
    const connection = new Connection(socket, options, () => connections.delete(connection))
    connections.add(connection)
  })
  await listen(server, options)
  return {
    port: (server.address() as { port: number }).port,
    positions(positions) {
      for (const connection of connections) connection.positions(positions)
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const connection of connections) connection.end()
      await closed
    },
  }
}

async function listen(server: Server, { host, port }: FeedServerOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE' || error.code === 'EACCES'
          ? new SwitchbackError('PORT_UNAVAILABLE', { host, port, reason: error.code }, error)
          : error,
      ),
    )
    server.listen(port, host, resolve)
  })
}

class Connection {
  readonly #socket: Socket
  readonly #options: FeedServerOptions
  readonly #decoder = createFeedDecoder()
  readonly #ended = new AbortController()
  readonly #queue: FeedMessage[] = []
  readonly #gone: () => void
  #working = false
  #lease: string | null = null

  constructor(socket: Socket, options: FeedServerOptions, gone: () => void) {
    this.#socket = socket
    this.#options = options
    this.#gone = gone
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 1_000)
    const hello = setTimeout(() => {
      if (this.#lease === null) this.end()
    }, HELLO_WITHIN_MS)
    socket.on('data', (chunk: Buffer) => this.#data(chunk))
    socket.on('error', () => this.end())
    socket.on('close', () => {
      clearTimeout(hello)
      this.end()
    })
  }

  positions(positions: readonly OutboxPosition[]): void {
    if (this.#lease === null) return
    const mine = positions
      .filter((position) => position.lease === this.#lease)
      .map(({ group, lease, sequence }) => ({ group, lease, sequence }))
    if (mine.length > 0) this.#socket.write(encodeFeedMessage({ type: 'positions', positions: mine }))
  }

  end(): void {
    if (this.#ended.signal.aborted) return
    this.#ended.abort()
    if (this.#lease !== null) this.#options.reverse.feedAlive(this.#lease, false)
    this.#socket.destroy()
    this.#gone()
  }

  #data(chunk: Buffer): void {
    try {
      this.#queue.push(...this.#decoder.push(chunk))
    } catch (error) {
      this.#options.warn({ error: String(error) }, 'a feed connection spoke out of turn and was ended')
      return this.end()
    }
    if (!this.#working) void this.#work()
  }

  /** In order, and no faster than the reverse sync has room: a fast gateway fills no memory. */
  async #work(): Promise<void> {
    this.#working = true
    this.#socket.pause()
    for (let message = this.#queue.shift(); message !== undefined && !this.#ended.signal.aborted; message = this.#queue.shift()) {
      if (message.type === 'settled') await this.#options.reverse.room(this.#ended.signal)
      this.#handle(message)
    }
    this.#working = false
    this.#socket.resume()
  }

  #handle(message: FeedMessage): void {
    const { reverse } = this.#options
    if (message.type === 'hello') return this.#hello(message)
    if (this.#lease === null) return this.end()
    if (message.type === 'settled') for (const entry of message.entries) reverse.settled(entry)
    else if (message.type === 'measured') this.#options.measured(this.#lease, message.report)
    else if (message.type === 'toldAll') reverse.feedAlive(message.lease, true)
    else this.end()
  }

  #hello(message: Extract<FeedMessage, { type: 'hello' }>): void {
    const { secret, token, reverse } = this.#options
    const [given, wanted] = [Buffer.from(message.secret), Buffer.from(secret)]
    if (message.protocol !== FEED_PROTOCOL || given.length !== wanted.length || !timingSafeEqual(given, wanted)) return this.end()
    if (this.#lease !== null && this.#lease !== message.lease) reverse.feedAlive(this.#lease, false)
    this.#lease = message.lease
    this.#socket.write(encodeFeedMessage({ type: 'welcome', protocol: FEED_PROTOCOL, token, measures: true }))
    this.positions(reverse.positionsOf(message.lease))
  }
}
