// Promises: the listener of a gateway process. One server connection behind each client, a lease that every mapped statement runs
// under once INV-8 binds, and fences acked when nothing of this gateway is left. TLS is not terminated here: clients that ask are
// told 'N'.
import { randomUUID } from 'node:crypto'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { GatewayControl, Renewal } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { FlightCounter, LeaseHandle, TargetExecutor } from '../model/executor.ts'
import type { SlotId } from '../model/ids.ts'
import type { Mapping } from '../model/mapping.ts'
import type { GatewayLimits } from '../model/migration.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { StatementPlanner } from '../model/plan.ts'
import { encodeStartup, type StartupPacket } from '../wire/frontend.ts'
import { type Excuse, runAckLoop } from './ack-loop.ts'
import type { GatewayContext, GatewayLog, GatewayMetrics } from './context.ts'
import { Descriptions } from './descriptions.ts'
import { FenceGate, type UnroutableReads, type Work } from './fence-gate.ts'
import { type LeaseHolder, type LeaseTimes, startLeaseHolder } from './lease-holder.ts'
import { runParkReports } from './park-reports.ts'
import { runPartialAcks } from './partial-acks.ts'
import { Permissions } from './permissions.ts'
import { Session } from './session.ts'
import { Zones } from './zones.ts'

export interface GatewayOptions {
  /** Names the process for people. */
  readonly name: string
  readonly listen: { readonly host: string; readonly port: number }
  readonly upstream: { readonly host: string; readonly port: number }
  readonly mapping: Mapping
  readonly planner: StatementPlanner
  /** Made with the counter that a fence waits for. */
  readonly executor: (flights: FlightCounter) => TargetExecutor
  readonly control: GatewayControl
  readonly limits: GatewayLimits
  readonly lease: LeaseTimes
  readonly unroutableReads: UnroutableReads
  readonly clock: Clock
  readonly random: Random
  readonly log: GatewayLog
  readonly metrics?: GatewayMetrics
  /** Gives up a start that waits for its first lease. */
  readonly signal?: AbortSignal
  /** Each renewal: whoever keeps plans or a catalog looks at its digests. */
  readonly onRenewal?: (renewal: Renewal) => void
}

export interface GatewayStatus {
  readonly sessions: { readonly startup: number; readonly signIn: number; readonly passing: number; readonly active: number }
  readonly epoch: number | null
  readonly ackedEpoch: number
  readonly bound: boolean
  readonly lease: string | null
  readonly parked: { readonly statements: number; readonly bytes: number }
  /** What a fence waits for. */
  readonly waitsFor: readonly { readonly slot: SlotId; readonly works: number; readonly flights: number }[]
}

export interface Gateway {
  readonly port: number
  readonly executor: TargetExecutor
  status(): GatewayStatus
  /** Ends all sessions and gives the lease up. */
  close(): Promise<void>
}

/** Sockets that have not named a database yet: each is held no longer than the login timeout. */
const UNNAMED_SOCKETS_MAX = 20_000
const PERMISSIONS_MAX = 10_000
const LISTEN_BACKLOG = 4_096

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { clock, limits, unroutableReads, metrics = {} } = options
  const gate = new FenceGate({ clock, limits, unroutableReads, onParked: (ms) => metrics.parked?.(ms) })
  const executor = options.executor(gate.flights)
  const context: GatewayContext = {
    mapping: options.mapping,
    gate,
    planner: options.planner,
    executor,
    limits: options.limits,
    clock: options.clock,
    random: options.random,
    uuid: randomUUID,
    log: options.log,
    metrics,
    descriptions: new Descriptions({ bytesMax: options.limits.planCacheBytes }),
    permissions: new Permissions({ entriesMax: PERMISSIONS_MAX }),
    zones: new Zones(),
    upstream: options.upstream,
  }
  const sessions = new Sessions(context)
  const stop = new AbortController()
  options.signal?.addEventListener('abort', () => stop.abort(), { once: true })
  if (options.signal?.aborted) stop.abort()
  const holder = holdLease(options, context, sessions, executor)
  const telling = tellLeader(options, context, sessions, stop.signal)
  // INV-8 may bind already: nobody is let in before the first view says so or not.
  while (gate.view === null && !stop.signal.aborted) await gate.changed.next(stop.signal)
  if (stop.signal.aborted) {
    await holder.close()
    throw new SwitchbackError('GATEWAY_CLOSING')
  }
  const server = createServer({ noDelay: true }, (socket) => sessions.open(socket))
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: options.listen.host, port: options.listen.port, backlog: LISTEN_BACKLOG }, resolve)
    })
  } catch (error) {
    // A lease that nobody serves under would hold up every flip.
    stop.abort()
    await telling
    await holder.close()
    throw error
  }
  server.on('error', (error) => options.log.error({ error: String(error) }, 'the listener failed'))
  return {
    port: (server.address() as AddressInfo).port,
    executor,
    status: () => ({
      sessions: sessions.counts(),
      epoch: gate.view?.epoch ?? null,
      ackedEpoch: gate.sealed,
      bound: gate.bound,
      lease: gate.lease?.id ?? null,
      parked: gate.parked,
      waitsFor: gate.waitsFor(),
    }),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      sessions.endAll(new SwitchbackError('GATEWAY_CLOSING'))
      stop.abort()
      await telling
      await holder.close()
      await closed
    },
  }
}

/** Acks and figures, until the signal aborts. */
async function tellLeader(options: GatewayOptions, context: GatewayContext, sessions: Sessions, signal: AbortSignal): Promise<void> {
  const { gate, executor, clock, random, log } = context
  const { control } = options
  const failed = (what: string) => (error: unknown) => log.warn({ error: String(error) }, `${what}; tried again`)
  await Promise.all([
    runAckLoop({
      gate,
      control,
      executor,
      excuses: (known) => sessions.excuses(known),
      clock,
      random,
      failed: failed('a fence could not be acked'),
      signal,
    }),
    runPartialAcks({ gate, control, executor, clock, random, failed: failed('what holds a fence up could not be told'), signal }),
    runParkReports({ gate, control, clock, random, failed: failed('parked times could not be told'), signal }),
  ])
}

function holdLease(options: GatewayOptions, context: GatewayContext, sessions: Sessions, executor: TargetExecutor): LeaseHolder {
  const { gate, log } = context
  const viewed = (view: RoutingView, lease: LeaseHandle) => {
    const wasBound = gate.bound
    gate.install(view, lease)
    if (!wasBound && gate.bound) sessions.bind()
    executor.abortWaiters(gate.parking)
  }
  return startLeaseHolder({
    control: options.control,
    gateway: options.name,
    clock: options.clock,
    random: options.random,
    times: options.lease,
    events: {
      renewed(renewal: Renewal, lease: LeaseHandle) {
        const digest = `${renewal.rightsDigest}\0${renewal.catalogDigest}`
        if (digest !== context.permissions.digest) context.descriptions.clear()
        context.permissions.renewed(digest)
        options.onRenewal?.(renewal)
        viewed(renewal.view, lease)
      },
      viewed,
      lapsed(lease) {
        log.warn({ lease: lease.id }, 'the lease has ended: mapped work ends with it')
        // INV-8 may come to bind now without this gateway's ack: nothing passes unlooked at any more.
        if (!gate.bound) sessions.bind()
        gate.lapse()
        sessions.lapsed()
      },
      failed: (error) => log.warn({ error: String(error) }, 'the lease could not be renewed; tried again'),
    },
  })
}

class Sessions {
  readonly #context: GatewayContext
  readonly #all = new Set<Session>()
  readonly #named = new Set<Session>()

  constructor(context: GatewayContext) {
    this.#context = context
  }

  open(socket: Socket): void {
    if (this.#all.size - this.#named.size >= UNNAMED_SOCKETS_MAX) {
      socket.destroy()
      return
    }
    const session = new Session({
      client: socket,
      context: this.#context,
      events: {
        admit: (admitted) => this.#admit(admitted),
        cancel: (request) => this.#cancel(request),
        ended: (ended) => {
          this.#all.delete(ended)
          this.#named.delete(ended)
          this.#context.metrics.sessions?.(this.#named.size)
        },
      },
    })
    this.#all.add(session)
    if (this.#context.gate.bound) session.bind()
  }

  #admit(session: Session): void {
    const { connectionsMax } = this.#context.limits
    if (this.#named.size >= connectionsMax) {
      throw new SwitchbackError('CONNECTIONS_MAX', { limit: connectionsMax, limitName: 'connectionsMax' })
    }
    this.#named.add(session)
    this.#context.metrics.sessions?.(this.#named.size)
  }

  /** faults.md 38: only the session that holds this very key; the rest is for PostgreSQL to compare with its own keys. */
  #cancel(request: Extract<StartupPacket, { kind: 'cancelRequest' }>): void {
    for (const session of this.#named) {
      const key = session.key
      if (key === null || key.processId !== request.processId || !key.secretKey.equals(request.secretKey)) continue
      if (session.active?.cancel() === true) return
      break
    }
    const socket = connect(this.#context.upstream)
    socket.on('error', () => undefined)
    socket.setTimeout(this.#context.limits.loginTimeoutMs, () => socket.destroy())
    socket.end(encodeStartup(request))
  }

  bind(): void {
    for (const session of this.#all) session.bind()
  }

  lapsed(): void {
    for (const session of [...this.#all]) session.lapsed()
  }

  async excuses(known: ReadonlySet<Work>): Promise<readonly Excuse[]> {
    const asked = await Promise.all([...this.#named].map((session) => session.active?.excuse(known) ?? null))
    return asked.filter((excuse) => excuse !== null)
  }

  endAll(error: SwitchbackError): void {
    for (const session of [...this.#all]) session.end(error)
  }

  counts(): GatewayStatus['sessions'] {
    const counts = { startup: 0, signIn: 0, passing: 0, active: 0 }
    for (const { state } of this.#all) {
      if (state === 'sign-in') counts.signIn++
      else if (state !== 'ended') counts[state]++
    }
    return counts
  }
}
