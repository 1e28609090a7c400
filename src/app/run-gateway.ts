// Promises: a gateway process put together: its own control session and lease, plans from the live catalog, the commit engine over the
// target, the feed to the leader.
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { createExecutor } from '../commit/executor.ts'
import { type Gateway, startGateway } from '../gateway/gateway.ts'
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/prng.ts'
import type { Catalog } from '../model/catalog.ts'
import type { GatewayControl } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import { readCatalog } from '../source/catalog-closure.ts'
import { connectSource } from '../source/connect.ts'
import { startParser } from '../sql/parse.ts'
import { createPlanner } from '../sql/planner.ts'
import { readEndpoint } from '../store/endpoint.ts'
import { createGatewayControl, GATEWAY_APPLICATION } from '../store/gateway-control.ts'
import { controlConnector } from '../store/session.ts'
import { ArmMeter } from './arm-meter.ts'
import { type FeedClient, startFeedClient } from './feed-client.ts'
import { GATEWAY_LIMITS, leaseSettings } from './load-config.ts'
import { openWorkspaceTarget } from './open-parts.ts'
import { ownedConnector } from './owner-guard.ts'
import type { Workspace } from './workspace.ts'

export interface GatewayRunOptions {
  readonly workspace: Workspace
  readonly env: NodeJS.ProcessEnv
  readonly name: string
  readonly host?: string
  readonly port?: number
  readonly log: Logger
}

export interface RunningGateway {
  readonly port: number
  readonly gateway: Gateway
  close(): Promise<void>
}

const DEFAULT_PORT = 6432

/** @throws PORT_UNAVAILABLE, TARGET_UNREACHABLE, POSTGRES_CHANGED, POSTGRES_UNCOMPARED. */
export async function runGateway(options: GatewayRunOptions): Promise<RunningGateway> {
  const { workspace, env, name, log } = options
  const { config, mapping, url } = workspace
  const target = await openWorkspaceTarget(workspace, env)
  const connect = ownedConnector(controlConnector({ connectionString: url }), target, systemClock)
  try {
    // Said at the start, and not only by a lease that never comes.
    await (await connect(GATEWAY_APPLICATION)).end()
  } catch (error) {
    await target.close()
    throw error
  }
  const limits = { ...GATEWAY_LIMITS, ...config.gateway?.limits }
  const catalog = await liveCatalog(workspace, log)
  const parser = await startParser()
  const planner = createPlanner({
    mapping,
    catalog: catalog.current,
    parser,
    limits: { cacheBytes: limits.planCacheBytes, sqlBytesMax: limits.sqlBytesMax },
  })
  const control = createGatewayControl({ connect })
  const meter = new ArmMeter(systemClock)
  const feed = startFeedClient({
    gateway: name,
    endpoint: () => readEndpoint(workspace.session),
    meter,
    clock: systemClock,
    random: systemRandom,
  })
  const listen = { host: options.host ?? config.gateway?.host ?? '127.0.0.1', port: options.port ?? config.gateway?.port ?? DEFAULT_PORT }
  const closeParts = async () => {
    await feed.close()
    await control.close()
    await planner.close()
    await parser.close()
    await target.close()
  }
  try {
    const gateway = await startGateway({
      name,
      listen,
      upstream: upstreamOf(url),
      mapping,
      planner,
      executor: (flights) =>
        createExecutor({
          target,
          mapping,
          clock: systemClock,
          random: systemRandom,
          flights,
          settled: feed,
          sendsEntries: () => !control.ending(),
          txnIds: randomUUID,
          limits: {
            commitDeadlineMs: limits.commitDeadlineMs,
            aggregateRowsMax: limits.aggregateRowsMax,
            transactionRowsMax: limits.transactionRowsMax,
          },
          fifo: config.gateway?.fifo ?? true,
          contention: meter,
        }),
      control: feedingControl(control, feed),
      limits,
      lease: leaseSettings(config),
      unroutableReads: config.gateway?.unroutableReads ?? 'refuse',
      clock: systemClock,
      random: systemRandom,
      log,
      metrics: { statement: (answered) => meter.statement(answered) },
      onRenewal: (renewal) => catalog.seen(renewal.catalogDigest),
    })
    return {
      port: gateway.port,
      gateway,
      async close() {
        await gateway.close()
        await closeParts()
      },
    }
  } catch (error) {
    await closeParts()
    throw portError(error, listen)
  }
}

/** The feed speaks for the lease that was renewed last. */
function feedingControl(control: GatewayControl, feed: Pick<FeedClient, 'lease'>): GatewayControl {
  return {
    openLease: (gatewayName) => control.openLease(gatewayName),
    async renew(lease, seen) {
      const renewal = await control.renew(lease, seen)
      if (renewal !== 'over') feed.lease(lease)
      return renewal
    },
    look: (seen) => control.look(seen),
    ack: (ack) => control.ack(ack),
    ackPartly: (lease, partial) => control.ackPartly(lease, partial),
    parked: (report) => control.parked(report),
    release: (lease) => control.release(lease),
    onWake: (call) => control.onWake(call),
  }
}

/** The catalog that plans are made from; read again, over a new connection, when a renewal says that it has changed. */
async function liveCatalog(workspace: Workspace, log: Logger) {
  const read = async () => {
    const client = await connectSource({ url: workspace.url, applicationName: 'switchback catalog' })
    try {
      return await readCatalog(client, workspace.mapping)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  let current: Catalog = await read()
  let reading = false
  const readAgain = async () => {
    reading = true
    try {
      current = await read()
    } catch (error) {
      log.warn({ error: String(error) }, 'the catalog could not be read; tried again at the next renewal')
    } finally {
      reading = false
    }
  }
  return {
    current: () => current,
    seen(digest: string) {
      if (digest !== current.digest && !reading) void readAgain()
    },
  }
}

function upstreamOf(url: string): { host: string; port: number } {
  const parsed = new URL(url)
  return { host: parsed.hostname, port: Number(parsed.port || 5432) }
}

function portError(error: unknown, { host, port }: { host: string; port: number }): unknown {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'EADDRINUSE' || code === 'EACCES' ? new SwitchbackError('PORT_UNAVAILABLE', { host, port, reason: code }, error) : error
}
