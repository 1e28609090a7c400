// Promises: one client and the one server connection behind it (session mode). Until INV-8 binds, bytes pass unchanged in both
// directions and only headers are walked; what is noted on the way is what active mode will need. From then on, at the first
// message boundary, the client's messages go through active mode (active.ts). When either side ends, so does the other.
import { connect, type Socket } from 'node:net'
import { SwitchbackError } from '../model/errors.ts'
import type { TransactionStatus } from '../wire/backend.ts'
import { violation } from '../wire/bytes.ts'
import { MessageWalker, STARTUP } from '../wire/framing.ts'
import { decodeParse, decodeStartup, encodeStartup, FRONTEND, type StartupPacket } from '../wire/frontend.ts'
import { ActiveMode } from './active.ts'
import type { GatewayContext } from './context.ts'
import type { Work } from './fence-gate.ts'
import { errorMessage } from './messages.ts'
import { ServerLink } from './server-link.ts'
import { checkStartup } from './startup.ts'
import { PreparedStatements } from './statements.ts'

export interface SessionEvents {
  /** The client has named a database and counts as a connection; throws CONNECTIONS_MAX. */
  admit(session: Session): void
  cancel(request: Extract<StartupPacket, { kind: 'cancelRequest' }>): void
  ended(session: Session): void
}

type State = 'startup' | 'sign-in' | 'passing' | 'active' | 'ended'

const CLOSE_GRACE_MS = 1_000
const NO_ENCRYPTION = Buffer.from('N')
/** One SSLRequest and one GSSENCRequest, as libpq sends them. */
const ENCRYPTION_REQUESTS_MAX = 2

export class Session {
  readonly #context: GatewayContext
  readonly #client: Socket
  readonly #events: SessionEvents
  readonly #walker = new MessageWalker({ direction: 'frontend' })
  readonly #statements: PreparedStatements
  #state: State = 'startup'
  #server: Socket | null = null
  #link: ServerLink | null = null
  #active: ActiveMode | null = null
  #bound = false
  #encryptionRequests = 0
  #cancelLoginTimeout: () => void
  /** ReadyForQuery replies owed to messages that were passed on. */
  #owed = 0
  /** Extended-protocol messages have been passed on, and no Sync behind them yet. */
  #unsynced = false
  #copyIn = false
  #parse: { pieces: Buffer[]; bytes: number } | null = null
  /** What was open when INV-8 came to bind: counts as touching all slots. */
  #boundWork: Work | null = null
  #key: { readonly processId: number; readonly secretKey: Buffer } | null = null
  readonly parameters = new Map<string, string>()

  constructor(options: { client: Socket; context: GatewayContext; events: SessionEvents }) {
    this.#context = options.context
    this.#client = options.client
    this.#events = options.events
    this.#statements = new PreparedStatements({ bytesMax: options.context.limits.planCacheBytes })
    const { loginTimeoutMs } = this.#context.limits
    this.#cancelLoginTimeout = this.#context.clock.after(loginTimeoutMs, () =>
      this.end(new SwitchbackError('LOGIN_TIMEOUT', { limit: loginTimeoutMs, limitName: 'loginTimeoutMs' })),
    )
    this.#client.setNoDelay(true)
    this.#client.on('data', (chunk: Buffer) => this.#guarded(() => this.#fromClient(chunk)))
    this.#client.on('drain', () => this.#server?.resume())
    this.#client.on('error', () => this.end(null))
    this.#client.on('close', () => this.end(null))
  }

  get state(): State {
    return this.#state
  }

  get key(): { readonly processId: number; readonly secretKey: Buffer } | null {
    return this.#key
  }

  get active(): ActiveMode | null {
    return this.#active
  }

  /** INV-8 binds from now on. */
  bind(): void {
    if (this.#bound) return
    this.#bound = true
    if (this.#state !== 'passing') return
    if (this.#owed > 0 || this.#unsynced || this.#link!.status !== 'idle') {
      this.#boundWork = this.#context.gate.beginSource({ explicit: true, began: -1 })
      this.#context.gate.touch(this.#boundWork, { touch: 'all', writes: true })
    }
  }

  /** INV-8: the lease is over, so whatever mapped is under way ends, with an honest word (INV-9). */
  lapsed(): void {
    if (this.#boundWork !== null) this.end(new SwitchbackError('OUTCOME_UNKNOWN', { reason: 'the lease of the gateway ended' }))
    else this.#active?.lapsed()
  }

  /** Ends both sides; the error, or an honest word in its place (INV-9), is the last thing the client hears. */
  end(error: unknown): void {
    if (this.#state === 'ended') return
    const before = this.#state
    const word = error === null ? null : (this.#active?.honest(error) ?? error)
    this.#state = 'ended'
    this.#cancelLoginTimeout()
    this.#boundWork?.end()
    this.#link?.lose(error instanceof Error ? error : new SwitchbackError('UPSTREAM_LOST', { reason: 'the client has gone' }))
    this.#active?.ended()
    const { clock } = this.#context
    if (word !== null && !this.#client.destroyed) this.#client.write(errorMessage(word, 'FATAL'))
    // What was written still goes out; whoever does not take it in time is cut off.
    for (const socket of [this.#client, this.#server]) {
      socket?.end()
      if (socket && !socket.destroyed) clock.after(CLOSE_GRACE_MS, () => socket.destroy())
    }
    if (before !== 'startup' && before !== 'sign-in') this.#client.resume()
    this.#events.ended(this)
  }

  // ---- from the client

  #fromClient(chunk: Buffer): void {
    switch (this.#state) {
      case 'startup':
        this.#startup(chunk)
        break
      case 'sign-in':
        this.#signIn(chunk)
        break
      case 'passing':
        this.#pass(chunk)
        break
      case 'active':
        this.#active!.feed(chunk)
        break
      case 'ended':
    }
  }

  #startup(chunk: Buffer): void {
    const walker = this.#walker
    walker.feed(chunk)
    while (walker.next()) {
      if (walker.type !== STARTUP) throw violation('a message before the startup packet')
      if (!walker.last) continue
      const packet = decodeStartup(walker.body())
      if (packet.kind === 'sslRequest' || packet.kind === 'gssencRequest') {
        // faults.md 34: whatever lies behind the request was sent in the clear, by whomever.
        if (walker.end < chunk.length || ++this.#encryptionRequests > ENCRYPTION_REQUESTS_MAX) {
          this.end(null)
          return
        }
        this.#client.write(NO_ENCRYPTION)
        continue
      }
      if (walker.end < chunk.length) throw violation('bytes behind the startup packet')
      if (packet.kind === 'cancelRequest') {
        this.#events.cancel(packet)
        this.end(null)
        return
      }
      checkStartup(packet)
      this.#events.admit(this)
      this.#connect(packet)
      return
    }
  }

  #connect(packet: StartupPacket): void {
    this.#state = 'sign-in'
    const server = connect(this.#context.upstream)
    server.setNoDelay(true)
    this.#server = server
    this.#link = new ServerLink(server, {
      toClient: (bytes) => this.toClient(bytes),
      parameter: (name, value) => {
        this.parameters.set(name, value)
        this.#active?.parameterChanged()
      },
      ready: (status) => this.#ready(status),
      leaseOver: () => this.lapsed(),
      copyIn: () => {
        this.#copyIn = true
        this.#active?.copyIn()
      },
      key: (processId, secretKey) => {
        this.#key = { processId, secretKey: Buffer.from(secretKey) }
      },
      looksAtErrors: () => this.#active !== null,
      fatal: (sqlstate, message) => this.#ending(sqlstate, message),
    })
    server.on('data', (chunk: Buffer) => this.#guarded(() => this.#link!.feed(chunk)))
    server.on('drain', () => this.#client.resume())
    server.on('error', (error) => this.#serverLost(error.message))
    server.on('close', () => this.#serverLost('it closed the connection'))
    server.write(encodeStartup(packet))
  }

  /** Only answers to the server's questions; lengths are the walker's to check, and nothing is kept. */
  #signIn(chunk: Buffer): void {
    const walker = this.#walker
    walker.feed(chunk)
    while (walker.next()) {
      if (walker.first && walker.type !== FRONTEND.password && walker.type !== FRONTEND.terminate) {
        throw violation('a message that does not belong to sign-in')
      }
    }
    this.#toServer(chunk)
  }

  #pass(chunk: Buffer): void {
    // After a suspension the lease is over before its timer has fired.
    if (!this.#bound && this.#context.gate.lease === null) this.bind()
    const walker = this.#walker
    walker.feed(chunk)
    while (walker.next()) {
      if (walker.first) {
        if (this.#bound && walker.start >= 0 && this.#atRest()) {
          this.#activate(chunk, walker.start)
          return
        }
        this.#note(walker.type)
      }
      if (walker.type === FRONTEND.parse) this.#noteParse(chunk)
    }
    this.#toServer(chunk)
  }

  #note(type: number): void {
    switch (type) {
      case FRONTEND.query:
      case FRONTEND.functionCall:
        this.#owed++
        return
      case FRONTEND.sync:
        // PostgreSQL ignores Sync while it reads COPY data.
        if (!this.#copyIn) this.#owed++
        this.#unsynced = false
        return
      case FRONTEND.copyDone:
      case FRONTEND.copyFail:
        this.#copyIn = false
        return
      case FRONTEND.copyData:
      case FRONTEND.terminate:
        return
      case FRONTEND.flush:
        return
      default:
        this.#unsynced = true
    }
  }

  /** Keeps what named statements say, since active mode has to route their executions. */
  #noteParse(chunk: Buffer): void {
    const walker = this.#walker
    if (walker.first) this.#parse = { pieces: [], bytes: 0 }
    const parse = this.#parse
    if (parse === null) return
    const piece = chunk.subarray(Math.max(0, walker.start + 5), Math.min(walker.end, chunk.length))
    parse.pieces.push(piece)
    parse.bytes += piece.length
    if (parse.bytes > this.#context.limits.sqlBytesMax) {
      this.#statements.forgetAll()
      this.#parse = null
      return
    }
    if (!walker.last) return
    this.#parse = null
    const { name, sql, parameterTypes } = decodeParse(parse.pieces.length === 1 ? piece : Buffer.concat(parse.pieces))
    this.#statements.set(name, { sql, declaredOids: [...parameterTypes], onServer: true })
  }

  #atRest(): boolean {
    return !this.#unsynced && !this.#copyIn
  }

  /** From this message on the client's messages are gathered, planned and routed. */
  #activate(chunk: Buffer, from: number): void {
    if (from > 0) this.#toServer(chunk.subarray(0, from))
    this.#state = 'active'
    this.#active = new ActiveMode({
      context: this.#context,
      link: this.#link!,
      statements: this.#statements,
      backendPid: this.#key?.processId ?? null,
      owed: this.#owed,
      toClient: (bytes) => this.toClient(bytes),
      end: (error) => this.end(error),
      pause: () => this.#client.pause(),
      resume: () => this.#client.resume(),
      adopted: this.#boundWork,
    })
    this.#active.feed(chunk.subarray(from))
  }

  // ---- from PostgreSQL

  #ready(status: TransactionStatus): void {
    this.#copyIn = false
    if (this.#state === 'sign-in') {
      this.#cancelLoginTimeout()
      this.#state = 'passing'
      return
    }
    if (this.#state === 'passing') this.#owed--
    this.#active?.ready(status)
    if (this.#boundWork !== null && status === 'idle' && this.#owed <= 0 && this.#active?.owes !== true) {
      this.#boundWork.end()
      this.#boundWork = null
    }
  }

  /**
   * INV-9: PostgreSQL's FATAL says that the connection ends, not whether what was under way took effect. Where nothing was, the client
   * may take it as leave to send its statement again, so nothing that it has sent is begun any more.
   */
  #ending(sqlstate: string, message: Buffer): void {
    if (this.#active?.atRisk === true) {
      this.end(new SwitchbackError('UPSTREAM_LOST', { reason: `it ended the connection with ${sqlstate}` }))
      return
    }
    this.toClient(message)
    if (this.#state === 'active') this.end(null)
  }

  #serverLost(reason: string): void {
    if (this.#state === 'ended') return
    const error = new SwitchbackError('UPSTREAM_LOST', { reason })
    if (this.#state === 'active') {
      this.end(error)
      return
    }
    // As without a gateway: the client sees its connection go. Before sign-in it is told that nobody is there.
    this.end(this.#state === 'sign-in' && this.parameters.size === 0 && !this.#server!.bytesRead ? error : null)
  }

  #toServer(chunk: Buffer): void {
    if (!this.#server!.write(chunk)) this.#client.pause()
  }

  toClient(bytes: Buffer): void {
    if (this.#state === 'ended') return
    if (!this.#client.write(bytes)) this.#server?.pause()
  }

  #guarded(act: () => void): void {
    try {
      act()
    } catch (error) {
      this.#context.log.warn({ error: String(error) }, 'session ended by an error')
      this.end(error)
    }
  }
}
