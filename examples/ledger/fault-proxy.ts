// Promises: a line of TCP between two processes that can be broken while it carries connections: reset and refused, silent (what was sent
// meanwhile arrives late, as TCP would have it), slow, or in slices of one byte. Bytes are never changed, dropped or reordered on a
// connection that lives. Of a line that carries HTTP, a share of the requests can be answered by the line itself; the server never sees those.
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'

export const LINE_FAULTS = ['reset', 'black hole', 'delay', 'slices'] as const
export type LineFault = (typeof LINE_FAULTS)[number]

/** Of each chunk, in either direction. */
const DELAY_MS = 100
/** Of each chunk, this much goes byte by byte: what a message begins with, and the cut between two. */
const SLICED_BYTES = 64

export interface OwnAnswer {
  /** Of the requests, each with this chance. */
  readonly share: number
  readonly random: () => number
  /** A whole HTTP reply; the connection ends behind it. */
  readonly reply: string
}

/** One connection. */
interface Carried {
  readonly near: Socket
  /** Nothing was asked since the last answer: what comes next begins a request. */
  quiet: boolean
  answered: boolean
}

export class FaultProxy implements AsyncDisposable {
  readonly port: number
  readonly #server: Server
  readonly #to: number
  readonly #sockets = new Set<Socket>()
  #fault: LineFault | null = null
  #delayMs = DELAY_MS
  #own: OwnAnswer | null = null
  #lifted: Promise<void> = Promise.resolve()
  #lift: () => void = () => undefined

  private constructor(server: Server, port: number, to: number) {
    this.#server = server
    this.port = port
    this.#to = to
  }

  static async open(to: number): Promise<FaultProxy> {
    const server = createServer({ allowHalfOpen: true })
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
    const proxy = new FaultProxy(server, (server.address() as { port: number }).port, to)
    server.on('connection', (socket) => proxy.#carry(socket))
    return proxy
  }

  /** One fault at a time. */
  break(fault: LineFault, { delayMs = DELAY_MS }: { readonly delayMs?: number } = {}): void {
    this.#fault = fault
    this.#delayMs = delayMs
    this.#lifted = new Promise((resolve) => {
      this.#lift = resolve
    })
    if (fault === 'reset') for (const socket of this.#sockets) reset(socket)
  }

  answer(own: OwnAnswer): void {
    this.#own = own
  }

  mend(): void {
    this.#fault = null
    this.#own = null
    this.#lift()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.mend()
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #carry(near: Socket): void {
    near.on('error', () => undefined)
    if (this.#fault === 'reset') return reset(near)
    const far = connect({ port: this.#to, host: '127.0.0.1', allowHalfOpen: true })
    const carried: Carried = { near, quiet: true, answered: false }
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay(true)
      this.#sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => this.#sockets.delete(from))
      void this.#pump(carried, from, to)
    }
  }

  async #pump(carried: Carried, from: Socket, to: Socket): Promise<void> {
    try {
      // The end of one half leaves the other open.
      for await (const chunk of from.iterator({ destroyOnReturn: false }))
        if (!this.#answered(carried, from)) await this.#send(to, chunk as Buffer)
      await this.#silence()
      to.end()
    } catch {
      to.destroy()
    }
  }

  /** What follows in a request that was answered here goes nowhere. */
  #answered(carried: Carried, from: Socket): boolean {
    const { near } = carried
    const begins = from === near && carried.quiet
    carried.quiet = from !== near
    if (begins && this.#own !== null && this.#own.random() < this.#own.share) {
      carried.answered = true
      near.end(this.#own.reply)
    }
    return carried.answered
  }

  async #send(to: Socket, chunk: Buffer): Promise<void> {
    await this.#silence()
    if (this.#fault === 'delay') await sleep(this.#delayMs)
    let sent = 0
    if (this.#fault === 'slices') {
      for (; sent < Math.min(chunk.length, SLICED_BYTES); sent++) {
        to.write(chunk.subarray(sent, sent + 1))
        await nextTurn()
      }
    }
    if (sent < chunk.length && !to.write(chunk.subarray(sent)))
      await new Promise<void>((resolve) => {
        const over = () => {
          to.off('drain', over)
          to.off('close', over)
          resolve()
        }
        to.on('drain', over)
        to.on('close', over)
      })
  }

  async #silence(): Promise<void> {
    while (this.#fault === 'black hole') await this.#lifted
  }
}

/** A reset of a socket whose end is under way would leave Node's loop unable to end. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}
