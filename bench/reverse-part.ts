// Promises: the reverse sync's lag under a load of real commits on the target, told over the real feed, applied by the real applier.
import { startFeedServer } from '../src/app/feed-server.ts'
import { systemClock } from '../src/lib/clock.ts'
import { systemRandom } from '../src/lib/prng.ts'
import type { LeaseRow, ReverseApplier } from '../src/model/control.ts'
import { HASH_SLOTS } from '../src/model/key.ts'
import { RoutingView } from '../src/model/ownership.ts'
import type { Target } from '../src/model/target.ts'
import { createApplierRole, dropApplierRole } from '../src/source/applier-role.ts'
import { createReverseApplier } from '../src/source/reverse-applier.ts'
import { installControl } from '../src/store/schema.ts'
import { createReverseSync, type ReverseSync } from '../src/sync/reverse.ts'
import { runChild } from './child.ts'
import type { CommitAnswer, CommitTask } from './commit-child.ts'
import type { BenchDatabase } from './database.ts'
import type { Lags } from './lags.ts'
import type { BenchOptions } from './measure.ts'
import { withEnds } from './stores.ts'

export interface ReverseLoad {
  readonly accounts: number
  readonly seconds: number
  readonly perSecond: number
  readonly targetPort: number
}

const TENURE = 2
const BASE = 1_000_000n
const TOKEN = 7
const LEASE = 'bench'
const SECRET = 'bench'
const APPLIED_MAX_MS = 60_000
const CHILD_MAX_MS = 60_000

/** Of every transaction, from the moment its gateway knew it to be committed to its commit in PostgreSQL. */
export async function reverseLags(database: BenchDatabase, target: Target, load: ReverseLoad, options: BenchOptions): Promise<Lags> {
  return withEnds(async (defer) => {
    const appliedAtMs = new Map<string, number>()
    const applier = observed(await openApplier(database, defer), appliedAtMs)
    const reverse = reverseSync(target, applier)
    const feed = await startFeedServer({
      host: '127.0.0.1',
      port: 0,
      secret: SECRET,
      token: TOKEN,
      reverse,
      measured: () => undefined,
      warn: () => undefined,
    })
    defer(() => feed.close())
    const stop = new AbortController()
    const running = reverse.run(AbortSignal.any([stop.signal, options.signal]))
    defer(async () => {
      stop.abort()
      await running
    })
    const task: CommitTask = {
      ...load,
      mapping: database.mapping,
      endpoint: { token: TOKEN, host: '127.0.0.1', port: feed.port, secret: SECRET },
      lease: LEASE,
      tenure: TENURE,
      base: String(BASE),
    }
    const { committed, seconds } = await runChild<CommitAnswer>('commit-child', task, {
      maxMs: CHILD_MAX_MS + load.seconds * 10_000,
      signal: options.signal,
    })
    await untilApplied(appliedAtMs, committed.length, running)
    return { lagsMs: committed.map(([txnId, atMs]) => appliedAtMs.get(txnId)! - atMs), perSecond: committed.length / seconds }
  })
}

async function untilApplied(applied: ReadonlyMap<string, number>, wanted: number, running: Promise<void>): Promise<void> {
  let failed = false
  running.catch(() => {
    failed = true
  })
  const deadlineMs = systemClock.monotonicMs() + APPLIED_MAX_MS
  while (applied.size < wanted && !failed) {
    if (systemClock.monotonicMs() > deadlineMs)
      throw new Error(`${applied.size} of ${wanted} transactions were applied within ${APPLIED_MAX_MS} ms`)
    await systemClock.sleep(10)
  }
}

function reverseSync(target: Target, applier: ReverseApplier): ReverseSync {
  const row = { owner: 'target', phase: 'steady', readOnly: false, epoch: TENURE, tenure: TENURE, base: BASE } as const
  const rows = Array.from({ length: HASH_SLOTS }, (_, slot) => ({ slot, ...row }))
  const view = new RoutingView({ epoch: TENURE, bindingEpoch: TENURE, rows, pins: [] })
  const lease: LeaseRow = {
    lease: LEASE,
    gateway: 'bench',
    renewals: 1,
    ackedEpoch: TENURE,
    over: false,
    nextSequences: new Map(),
    excused: [],
  }
  return createReverseSync({ target, applier, leases: () => [lease], view: () => view, clock: systemClock, random: systemRandom })
}

/** All slots are the target's: what this bench needs of the control schema. */
async function openApplier(database: BenchDatabase, defer: (end: () => unknown) => void): Promise<ReverseApplier> {
  const admin = await database.connect()
  defer(() => admin.end())
  await installControl(admin, { mapping: database.mapping })
  await admin.query('update switchback.leader set token = $1', [TOKEN])
  await admin.query(`update switchback.ownership set owner = 'target', tenure = $1, epoch = $1, base = $2`, [TENURE, String(BASE)])
  const role = `applier_${database.name}`
  const originName = `origin_${database.name}`
  await createApplierRole(admin, { role, password: 'bench', mapping: database.mapping })
  defer(() => dropApplierRole(admin, { role, originName }))
  const url = new URL(database.url)
  url.username = role
  url.password = 'bench'
  const applier = await createReverseApplier({
    url: url.href,
    mapping: database.mapping,
    leaderToken: TOKEN,
    originName,
    clock: systemClock,
  })
  defer(() => applier.close())
  return applier
}

function observed(applier: ReverseApplier, appliedAtMs: Map<string, number>): ReverseApplier {
  return {
    async apply(batch) {
      const outcomes = await applier.apply(batch)
      const atMs = performance.timeOrigin + performance.now()
      for (const [i, { txnId }] of batch.entries()) if (outcomes[i] === 'applied') appliedAtMs.set(txnId, atMs)
      return outcomes
    },
    applied: (keys) => applier.applied(keys),
    positions: () => applier.positions(),
    savePositions: (positions) => applier.savePositions(positions),
  }
}
