// Promises: a gateway in active mode in a process of its own, over a real PostgreSQL and a memory target, with a view that never changes:
// every other slot has moved. With `feed`, it measures each statement and tells of it once a second, as a gateway does; without, it does not.
// Prints its port; then, a line each time it is asked, the microseconds of processor time that it has taken.
import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { ArmMeter } from '../src/app/arm-meter.ts'
import { startFeedClient } from '../src/app/feed-client.ts'
import { GATEWAY_LIMITS } from '../src/app/load-config.ts'
import { createExecutor } from '../src/commit/executor.ts'
import { startGateway } from '../src/gateway/gateway.ts'
import { systemClock } from '../src/lib/clock.ts'
import { systemRandom } from '../src/lib/prng.ts'
import type { GatewayControl } from '../src/model/control.ts'
import { HASH_SLOTS } from '../src/model/key.ts'
import type { Mapping } from '../src/model/mapping.ts'
import { RoutingView } from '../src/model/ownership.ts'
import { readCatalog } from '../src/source/catalog-closure.ts'
import { connectSource } from '../src/source/connect.ts'
import { startParser } from '../src/sql/parse.ts'
import { createPlanner } from '../src/sql/planner.ts'
import type { FeedEndpoint } from '../src/store/endpoint.ts'
import { connectMemoryTarget } from '../src/targets/memory/client.ts'
import { taskOf } from './child.ts'

export interface GatewayTask {
  readonly url: string
  readonly mapping: Mapping
  readonly targetPort: number
  readonly feed: FeedEndpoint | null
}

const TENURE = 2
const LEASE = 'bench'

const { url, mapping, targetPort, feed } = taskOf<GatewayTask>()
const target = connectMemoryTarget({ port: targetPort, clock: systemClock, random: systemRandom })
const meter = feed === null ? null : new ArmMeter(systemClock)
const client = startFeedClient({
  gateway: LEASE,
  endpoint: async () => feed,
  ...(meter === null ? {} : { meter }),
  clock: systemClock,
  random: systemRandom,
})
client.lease(LEASE)
const reading = await connectSource({ url, applicationName: 'bench catalog' })
const catalog = await readCatalog(reading, mapping)
await reading.end()
const limits = GATEWAY_LIMITS
const planner = createPlanner({
  mapping,
  catalog: () => catalog,
  parser: await startParser(),
  limits: { cacheBytes: limits.planCacheBytes, sqlBytesMax: limits.sqlBytesMax },
})
const { hostname, port } = new URL(url)
const gateway = await startGateway({
  name: LEASE,
  listen: { host: '127.0.0.1', port: 0 },
  upstream: { host: hostname, port: Number(port) },
  mapping,
  planner,
  executor: (flights) =>
    createExecutor({
      target,
      mapping,
      clock: systemClock,
      random: systemRandom,
      flights,
      settled: { settled() {} },
      txnIds: randomUUID,
      ...(meter === null ? {} : { contention: meter }),
    }),
  control: control(catalog.digest),
  limits,
  lease: { lengthMs: 3_000, renewMs: 1_000, marginRatio: 0.1 },
  unroutableReads: 'refuse',
  clock: systemClock,
  random: systemRandom,
  log: { info() {}, warn() {}, error: (details, message) => console.error(message, details) },
  ...(meter === null ? {} : { metrics: { statement: (answered) => meter.statement(answered) } }),
})
const lines = createInterface({ input: process.stdin })
lines.on('line', () => {
  const { user, system } = process.cpuUsage()
  process.stdout.write(`${user + system}\n`)
})
lines.on('close', () => process.exit(0))
process.stdout.write(`${gateway.port}\n`)

function control(catalogDigest: string): GatewayControl {
  const row = { phase: 'steady', readOnly: false, epoch: TENURE, tenure: TENURE, base: 0n } as const
  const rows = Array.from({ length: HASH_SLOTS }, (_, slot) => ({
    slot,
    owner: slot % 2 === 0 ? ('target' as const) : ('source' as const),
    ...row,
  }))
  const view = new RoutingView({ epoch: TENURE, bindingEpoch: TENURE, rows, pins: [] })
  return {
    openLease: async () => LEASE,
    renew: async () => ({ view, rightsDigest: 'rights', catalogDigest }),
    look: async () => view,
    async ack() {},
    async ackPartly() {},
    async parked() {},
    async release() {},
    onWake: () => () => undefined,
  }
}
