import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../src/lib/prng.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { createReverseSync, type ReverseSync } from '../../src/sync/reverse.ts'
import type { ReverseCounts, ReverseLimits } from '../../src/sync/reverse-parts.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { type FakeApplier, fakeApplier, fakeTarget, targetOwnsAll } from './fakes.ts'
import { BASE, FakeGateway, TENURE, untilItAnswers, type World } from './reverse-world.ts'

const VIEW = targetOwnsAll(TENURE, BASE)
const FIRST_SEED = Number(process.env['SYNC_SEED'] ?? 1)
const PARK_EPOCH = 5
const SEEDS = Number(process.env['SYNC_SEEDS'] ?? 40)

test('INV-2, INV-6: with holes, late entries, lost races, dead leases, doubles and new leaders, each committed transaction is applied once and in order, a void never (26, 52, 53, 56, 60, 70)', async (t) => {
  const sum: Record<string, number> = {}
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const counts = await oneSeed(seed).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error })
    })
    for (const [name, n] of Object.entries(counts)) if (typeof n === 'number') sum[name] = (sum[name] ?? 0) + n
  }
  t.diagnostic(JSON.stringify(sum))
  // The walk reached what it is for.
  for (const reached of ['went', 'stayed', 'applied', 'doubles', 'voids', 'holesClosed', 'rowsPut', 'headReads', 'retried'] as const) {
    assert.ok(SEEDS < 20 || (sum[reached] ?? 0) > 0, `no seed reached ${reached}`)
  }
})

interface Leader {
  readonly sync: ReverseSync
  readonly stop: AbortController
  readonly running: Promise<unknown>
}

async function oneSeed(seed: number): Promise<Record<string, number>> {
  const random = seededRandom(seed)
  const clock = new VirtualClock()
  const target = fakeTarget()
  const world: World = {
    clock,
    random,
    target,
    leases: new Map(),
    view: VIEW,
    chain: new Map(),
    acknowledged: new Set(),
    tell: () => undefined,
    delayMaxMs: 4 + random.int(20),
    silent: false,
  }
  target.weather = { random, clock, throttled: 0.05, lost: 0.03, unanswered: 0.03, late: 0, delayMaxMs: 6 }
  const applier = fakeApplier(() => VIEW)
  applier.pause = () => clock.sleep(random.next() * 8)
  applier.fault = () => {
    if (random.next() < 0.03) throw new SwitchbackError('UPSTREAM_LOST', { reason: 'weather' })
  }
  const gateways: FakeGateway[] = []
  const totals: Record<string, number> = {}
  const limits: Partial<ReverseLimits> = {
    applyConcurrency: 1 + random.int(3),
    applyBatchMax: 1 + random.int(20),
    outboxPageEntries: 1 + random.int(8),
    feedGraceMs: 50,
    waitAlarmMs: 1e9,
  }
  const leaders: Leader[] = []
  const elect = (): Leader => {
    const leader = lead(world, applier, ++applier.token, gateways, limits)
    leaders.push(leader)
    world.tell = (told) => leader.sync.settled(told)
    for (const gateway of gateways) {
      if (gateway.dead) continue
      leader.sync.feedAlive(gateway.lease, random.next() < 0.7)
      gateway.tellAgain()
    }
    return leader
  }
  const story = async (): Promise<void> => {
    for (let i = 0; i < 3; i++) gateways.push(new FakeGateway(world, `g${i}#1`))
    let leader = elect()
    const work: Promise<void>[] = []
    const keys = Array.from({ length: 2 + random.int(4) }, (_, i) => `${i}`)
    for (let n = 0; n < 150; n++) {
      await clock.sleep(random.next() * 12)
      const gateway = gateways[random.int(gateways.length)]!
      const key = random.next() < 0.4 ? keys[0]! : keys[random.int(keys.length)]!
      work.push(gateway.transact(key, `t${n}`))
      if (random.next() < 0.02) {
        gateway.die(50 + random.next() * 300)
        gateways.splice(gateways.indexOf(gateway), 1, new FakeGateway(world, `g#${n}`))
        leader.sync.feedAlive(gateway.lease, false)
      }
      if (random.next() < 0.05) for (const one of gateways) one.tellAgain()
      if (random.next() < 0.02) {
        // The old leader is told to stop, or does not know of the new one and finds its token stale.
        if (random.next() < 0.5) leader.stop.abort()
        leader = elect()
      }
    }
    await goWithoutTarget(world, applier, gateways, leader, totals)
    // Some die with a transaction under way that nobody meets again: only the reverse sync can finish it.
    for (const gateway of [...gateways]) {
      if (random.next() < 0.5) continue
      for (const key of keys) if (random.next() < 0.5) work.push(gateway.transact(key, `last ${gateway.lease} ${key}`))
      await clock.sleep(random.next() * world.delayMaxMs * 6)
      gateway.die(random.next() * 300)
      gateways.splice(gateways.indexOf(gateway), 1)
    }
    await Promise.all(work)
    await settle(world, gateways, leader)
    for (const one of leaders) one.stop.abort()
    await Promise.all(leaders.map((one) => one.running))
    for (const one of leaders) add(totals, one.sync.progress().counts)
  }
  await clock.run(story())
  check(world, applier)
  return totals
}

function lead(world: World, applier: FakeApplier, token: number, gateways: readonly FakeGateway[], limits: Partial<ReverseLimits>): Leader {
  const stop = new AbortController()
  const sync = createReverseSync({
    target: answering(world),
    applier: applier.as(token),
    leases: () => [...world.leases.values()],
    view: () => VIEW,
    limits,
    onPositions: (positions) => {
      for (const gateway of gateways) gateway.backlog.passed(positions)
    },
    clock: world.clock,
    random: world.random,
  })
  const running = sync.run(stop.signal).catch((error: unknown) => {
    if ((error as { code?: string }).code !== 'TOKEN_STALE') throw error
  })
  return { sync, stop, running }
}

/** Everything that the reverse sync asks of the target waits while it is silent. */
function answering(world: World): World['target'] {
  const { target } = world
  const waits =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      await untilItAnswers(world)
      return call(...args)
    }
  return {
    ...target,
    readHead: waits(target.readHead.bind(target)),
    readOutbox: waits(target.readOutbox.bind(target)),
    putRows: waits(target.putRows.bind(target)),
    deleteBucket: waits(target.deleteBucket.bind(target)),
  }
}

/**
 * With work in flight the target falls silent and a rollback does not wait for it: of the slots that it lets go everything acknowledged
 * or visible is in PostgreSQL, and nothing of theirs shows later, whatever arrives when the target answers again (26, 60).
 */
async function goWithoutTarget(
  world: World,
  applier: FakeApplier,
  gateways: FakeGateway[],
  leader: Leader,
  totals: Record<string, number>,
): Promise<void> {
  const { clock, random } = world
  // Mostly the outboxes of the dead have been read to their end by then, and little is under way.
  if (random.next() < 0.7) await clock.sleep(600)
  const keys = [...world.chain.keys()]
  for (let n = random.int(4); n > 0; n--)
    void gateways[random.int(gateways.length)]!.transact(keys[random.int(keys.length)]!, `silent ${n}`)
  await clock.sleep(random.next() * 60)
  if (random.next() < 0.3) {
    const gone = gateways.splice(random.int(gateways.length), 1, new FakeGateway(world, `g#${gateways.length} later`))[0]!
    gone.die(random.next() * 100)
    leader.sync.feedAlive(gone.lease, false)
  }
  world.silent = true
  await clock.sleep(random.next() * 100)
  const slots = [...new Set([...world.chain.keys()].map((key) => VIEW.slotOf(key)))]
  const words = gateways.map((gateway) => gateway.word(PARK_EPOCH))
  const others = [...world.leases.values()].filter(({ lease }) => !words.some((word) => word.lease === lease))
  // Copies that were lost with their connection are told again, by most.
  for (const gateway of gateways) if (random.next() < 0.8) gateway.tellAgain()
  const report = await leader.sync.drainHeld({ slots, epoch: PARK_EPOCH, leases: [...words, ...others] }, new AbortController().signal)
  const applied = new Map<string, string[]>()
  for (const { key, txnId } of applier.log) applied.set(key, [...(applied.get(key) ?? []), txnId])
  const going = [...world.chain].filter(([key]) => report.go.includes(VIEW.slotOf(key)))
  const look = () => {
    for (const [key, chain] of going) {
      const here = applied.get(key) ?? []
      for (const txnId of chain)
        if (world.acknowledged.has(txnId)) assert.ok(here.includes(txnId), `acknowledged ${txnId} went with its slot`)
      const rows = [...world.target.rows.values()].filter((row) => row.key === key)
      const visible = Math.max(0, ...rows.map((row) => Number(row.stamp - BASE)))
      assert.ok(visible <= here.length, `key ${key}: version ${visible} is visible, ${here.length} went with its slot`)
    }
  }
  look()
  world.silent = false
  while (gateways.some((gateway) => gateway.inFlight > 0)) await clock.sleep(10)
  look()
  totals['went'] = (totals['went'] ?? 0) + report.go.length
  totals['stayed'] = (totals['stayed'] ?? 0) + report.stay.length
}

/** The gateways ack, dead leases are over, and everything drains. */
async function settle(world: World, gateways: readonly FakeGateway[], leader: Leader): Promise<void> {
  const { clock } = world
  for (const gateway of gateways) {
    while (gateway.inFlight > 0) await clock.sleep(10)
    gateway.ack()
  }
  while ([...world.leases.values()].some((lease) => !lease.over && lease.ackedEpoch !== 9)) await clock.sleep(10)
  const teller = new AbortController()
  const telling = (async () => {
    while (!teller.signal.aborted) {
      await clock.sleep(300, teller.signal)
      for (const gateway of gateways) gateway.tellAgain()
    }
  })()
  const slots = [...new Set([...world.chain.keys()].map((key) => VIEW.slotOf(key)))]
  const deadline = new AbortController()
  const cancel = clock.after(60_000, () => deadline.abort())
  const result = await leader.sync.drain(slots, [...world.leases.values()], deadline.signal)
  cancel()
  teller.abort()
  await telling
  assert.deepEqual({ ...result, entriesApplied: 0 }, { drained: true, entriesApplied: 0, held: [], waitingFor: [] })
}

function check(world: World, applier: FakeApplier): void {
  const byKey = new Map<string, string[]>()
  for (const transaction of applier.log) {
    const list = byKey.get(transaction.key) ?? []
    byKey.set(transaction.key, list)
    list.push(transaction.txnId)
    assert.equal(transaction.version, list.length, `version of ${transaction.txnId} of key ${transaction.key}`)
  }
  for (const [key, chain] of world.chain) {
    const applied = byKey.get(key) ?? []
    assert.deepEqual(applied, chain.slice(0, applied.length), `key ${key} was applied as it was committed`)
    const visible = Math.max(0, ...[...world.target.rows.values()].filter((row) => row.key === key).map((row) => Number(row.stamp - BASE)))
    assert.ok(applied.length >= visible, `key ${key}: version ${visible} is visible, ${applied.length} are applied`)
  }
  const all = new Set(applier.log.map((transaction) => transaction.txnId))
  for (const txnId of world.acknowledged) assert.ok(all.has(txnId), `acknowledged ${txnId} was applied`)
  // Rows first: what PostgreSQL shows, the target shows.
  const last = new Map<string, string>()
  for (const { key, changes } of applier.log) for (const change of changes) last.set(`${key}/${change.clustering[0]}`, change.values![2]!)
  const shown = new Map([...world.target.rows.values()].map((row) => [`${row.key}/${row.clustering[0]}`, row.values![2]!]))
  assert.deepEqual(new Map([...shown].sort()), new Map([...last].sort()))
}

function add(totals: Record<string, number>, counts: Readonly<ReverseCounts>): void {
  for (const [name, n] of Object.entries(counts)) if (typeof n === 'number') totals[name] = (totals[name] ?? 0) + n
  totals['retried'] = (totals['retried'] ?? 0) + Object.values(counts.retries).reduce((a, b) => a + b, 0)
}
