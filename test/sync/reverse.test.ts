import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import type { SettledEntry } from '../../src/model/executor.ts'
import { ENTRIES_PER_BUCKET, type Head, type OutboxEntry } from '../../src/model/head.ts'
import { HASH_SLOTS, hashSlotOf } from '../../src/model/key.ts'
import { RoutingView } from '../../src/model/ownership.ts'
import { createReverseSync, type ReverseSync } from '../../src/sync/reverse.ts'
import type { OutboxPosition, ReverseAlarm, ReverseOptions } from '../../src/sync/reverse-parts.ts'
import { eventually } from '../support/eventually.ts'
import {
  ENTRIES,
  type FakeApplier,
  type FakeTarget,
  fakeApplier,
  fakeTarget,
  leaseRow,
  outboxName,
  targetOwned,
  targetOwnsAll,
  viewOf,
} from './fakes.ts'

const TENURE = 5
const BASE = 1_000n
const groupOf = (key: string) => Math.floor(hashSlotOf(key) / 64)

function entry(key: string, version: number, txnId: string, more: Partial<OutboxEntry> = {}): OutboxEntry {
  const changes = [{ table: ENTRIES.name, clustering: ['1'], values: [key, '1', txnId, null] }]
  return {
    key,
    slot: hashSlotOf(key),
    tenure: TENURE,
    version,
    txnId,
    prev: version === 1 ? null : `${key}.${version - 1}`,
    changes,
    ...more,
  }
}

interface Scene extends AsyncDisposable {
  readonly target: FakeTarget
  readonly applier: FakeApplier
  readonly sync: ReverseSync
  readonly leases: Map<string, LeaseRow>
  readonly alarms: ReverseAlarm[]
  readonly positions: OutboxPosition[]
  view: RoutingView
  /** Written to an outbox, told or not. */
  write(lease: string, sequence: number, what: OutboxEntry, told?: 'committed' | 'void' | null): void
  tell(lease: string, sequence: number, what: OutboxEntry, verdict?: 'committed' | 'void'): void
  head(key: string, version: number, names?: (version: number) => string): void
  appliedIds(): string[]
  readonly running: Promise<void>
}

function scene(more: Partial<ReverseOptions> & { readonly over?: Partial<Scene> } = {}): Scene {
  const target = more.over?.target ?? fakeTarget()
  const leases = new Map<string, LeaseRow>()
  const alarms: ReverseAlarm[] = []
  const positions: OutboxPosition[] = []
  const stop = new AbortController()
  const it: Scene = {
    target,
    applier: more.over?.applier ?? fakeApplier(() => it.view),
    leases,
    alarms,
    positions,
    view: targetOwnsAll(TENURE, BASE),
    sync: createReverseSync({
      target,
      get applier() {
        return it.applier
      },
      leases: () => [...leases.values()],
      view: () => it.view,
      onAlarm: (alarm) => alarms.push(alarm),
      onPositions: (list) => positions.push(...list),
      clock: systemClock,
      random: seededRandom(7),
      ...more,
      limits: { pollFeedDeadMs: 20, pollFeedAliveMs: 40, tickMs: 5, feedGraceMs: 30, holeGraceMs: 10, positionsSaveMs: 5, ...more.limits },
    } as ReverseOptions),
    write(lease, sequence, what, told = null) {
      const name = outboxName({ group: groupOf(what.key), lease })
      const outbox = target.outboxes.get(name) ?? new Map<number, OutboxEntry>()
      target.outboxes.set(name, outbox)
      outbox.set(sequence, what)
      if (told !== null) it.tell(lease, sequence, what, told)
    },
    tell(lease, sequence, what, verdict = 'committed') {
      const told: SettledEntry = { group: groupOf(what.key), lease, sequence, verdict, entry: what }
      it.sync.settled(told)
    },
    head(key, version, names = (v) => `${key}.${v}`) {
      const recent = Array.from({ length: Math.min(16, version) }, (_, i) => version - i).reverse()
      const head: Head = {
        tenure: TENURE,
        version,
        txnId: names(version),
        prev: version > 1 ? names(version - 1) : null,
        redo: [],
        lock: null,
        recent: recent.map((v) => ({ version: v, txnId: names(v) })),
      }
      target.heads.set(key, head)
    },
    appliedIds: () => it.applier.log.map((transaction) => transaction.txnId),
    get running() {
      return running
    },
    async [Symbol.asyncDispose]() {
      stop.abort()
      await running.catch(() => undefined)
    },
  }
  const running = it.sync.run(stop.signal)
  running.catch(() => undefined)
  return it
}

test('told entries are applied in order of version, whatever order they come in, without a look at the target', async () => {
  await using it = scene({ limits: { pollFeedAliveMs: 1e9 } })
  it.leases.set('l', leaseRow('l'))
  it.sync.feedAlive('l', true)
  for (const version of [3, 1, 2]) it.tell('l', version, entry('7', version, `7.${version}`))
  await eventually(() => it.appliedIds().length === 3, 'three applied')
  assert.deepEqual(it.appliedIds(), ['7.1', '7.2', '7.3'])
  assert.equal(it.sync.progress().counts.headReads, 0)
  await eventually(() => it.positions.at(-1)?.sequence === 3, 'the position is durable')
})

test('positions are durable when they are asked for, however long the next save is off (65)', async () => {
  await using it = scene({ limits: { pollFeedAliveMs: 1e9, positionsSaveMs: 1e9 } })
  it.leases.set('l', leaseRow('l'))
  it.sync.feedAlive('l', true)
  await eventually(() => it.sync.positionsSaved(), 'the sync has begun')
  for (const version of [1, 2]) it.tell('l', version, entry('7', version, `7.${version}`))
  await eventually(() => it.sync.progress().itemsUnsettled === 0 && it.appliedIds().length === 2, 'both applied')
  assert.deepEqual(it.positions, [])
  assert.equal(await it.sync.positionsSaved(), true)
  assert.deepEqual(
    it.positions.map(({ lease, sequence }) => [lease, sequence]),
    [['l', 2]],
  )
})

test('rows first: an entry whose gateway died before its rows has them on the target before PostgreSQL has it (53)', async () => {
  await using it = scene()
  const rowsThen: (string | null | undefined)[] = []
  it.applier.fault = () => rowsThen.push(it.target.row(ENTRIES.name, '7', ['1'])?.values?.[2])
  it.leases.set('dead', leaseRow('dead', { over: true }))
  it.head('7', 1)
  it.write('dead', 1, entry('7', 1, '7.1'))
  await eventually(() => it.appliedIds().length === 1, 'applied')
  assert.deepEqual(rowsThen, ['7.1', '7.1'])
  assert.deepEqual(it.target.row(ENTRIES.name, '7', ['1'])?.stamp, BASE + 1n)
})

test('an entry that lost its compare-and-set is void, one of a dead lease whose head is not there too; both are passed (70)', async () => {
  await using it = scene()
  it.leases.set('l', leaseRow('l')).set('dead', leaseRow('dead', { over: true }))
  it.head('7', 1)
  it.write('l', 1, entry('7', 1, 'loser'))
  it.write('l', 2, entry('7', 1, '7.1'))
  it.write('dead', 1, entry('7', 2, 'never'))
  it.write('l', 3, entry('7', 2, 'refused'), 'void')
  await eventually(() => it.applier.saved.get(`${groupOf('7')}/dead`)?.final === true, 'the dead outbox is final')
  await eventually(() => it.applier.saved.get(`${groupOf('7')}/l`)?.sequence === 3, 'the living one is passed')
  assert.deepEqual(it.appliedIds(), ['7.1'])
  assert.equal(it.sync.progress().counts.voids + it.sync.progress().counts.doubles, 3)
})

test('the same transaction in two outboxes is applied once, the other is a double', async () => {
  await using it = scene()
  it.leases.set('l', leaseRow('l')).set('helper', leaseRow('helper'))
  it.head('7', 1)
  it.write('l', 1, entry('7', 1, '7.1'))
  it.write('helper', 1, entry('7', 1, '7.1'), 'committed')
  await eventually(() => it.applier.saved.get(`${groupOf('7')}/l`)?.sequence === 1, 'passed')
  assert.deepEqual(it.appliedIds(), ['7.1'])
})

test('an entry of an older tenure is discarded and counted, one of a tenure that the view does not know yet waits', async () => {
  let refreshes = 0
  await using it = scene({ refreshView: () => refreshes++ })
  it.leases.set('l', leaseRow('l'))
  it.tell('l', 1, entry('7', 1, 'old', { tenure: 4 }))
  it.tell('l', 2, entry('7', 1, 'early', { tenure: 8 }))
  await eventually(() => it.applier.saved.get(`${groupOf('7')}/l`)?.sequence === 1, 'the old one is passed')
  assert.equal(it.sync.progress().counts.old, 1)
  assert.ok(refreshes > 0)
  it.view = targetOwnsAll(8, 5_000n)
  await eventually(() => it.appliedIds().includes('early'), 'the new view lets it through')
})

test('a hole of a living lease is waited for, and alarmed; the position does not pass it (52)', async () => {
  await using it = scene({ limits: { waitAlarmMs: 30 } })
  it.leases.set('l', leaseRow('l'))
  it.tell('l', 2, entry('7', 1, '7.1'))
  it.tell('l', 3, entry('7', 3, '7.3'))
  await eventually(
    () => it.alarms.some((alarm) => alarm.kind === 'hole') && it.alarms.some((alarm) => alarm.kind === 'waits'),
    'both alarms',
  )
  assert.deepEqual(it.appliedIds(), ['7.1'])
  assert.equal(it.applier.saved.get(`${groupOf('7')}/l`), undefined)
  it.head('7', 3)
  it.write('l', 1, entry('7', 2, '7.2'))
  await eventually(() => it.applier.saved.get(`${groupOf('7')}/l`)?.sequence === 3, 'position')
  assert.deepEqual(it.appliedIds(), ['7.1', '7.2', '7.3'])
})

test('a late entry of an outbox that is final is discarded and counted, and never applied', async () => {
  await using it = scene()
  it.leases.set('dead', leaseRow('dead', { over: true }))
  it.head('7', 1)
  it.write('dead', 2, entry('7', 1, '7.1'))
  await eventually(() => it.applier.saved.get(`${groupOf('7')}/dead`)?.final === true, 'final')
  it.head('7', 2)
  it.tell('dead', 5, entry('7', 2, '7.2'))
  assert.deepEqual([it.sync.progress().counts.late, it.sync.progress().counts.holesClosed], [1, 1])
  assert.deepEqual(it.appliedIds(), ['7.1'])
})

test('a poisoned aggregate halts and holds back its own slot in a drain; the others go on, and it goes on when released (59)', async () => {
  await using it = scene()
  it.leases.set('l', leaseRow('l'))
  it.applier.poisonous.add('7')
  it.tell('l', 1, entry('7', 1, '7.1'))
  it.tell('l', 2, entry('7', 2, '7.2'))
  for (let v = 1; v <= 3; v++) it.tell('l', v, entry('8', v, `8.${v}`))
  const ack = leaseRow('l', {
    nextSequences: new Map([
      [groupOf('7'), 3],
      [groupOf('8'), 4],
    ]),
  })
  const drained = await it.sync.drain([hashSlotOf('7'), hashSlotOf('8')], [ack], AbortSignal.timeout(5_000))
  assert.equal(drained.drained, true)
  assert.deepEqual(
    drained.held.map((held) => held.slot),
    [hashSlotOf('7')],
  )
  assert.deepEqual(it.appliedIds(), ['8.1', '8.2', '8.3'])
  assert.deepEqual(it.sync.halted(), [{ key: '7', slot: hashSlotOf('7'), tenure: TENURE, version: 1 }])
  it.applier.poisonous.clear()
  assert.equal(it.sync.release('7'), true)
  await eventually(() => it.appliedIds().length === 5, 'released')
  assert.deepEqual(it.sync.halted(), [])
})

test('a drain waits for all that a living lease had written when it acked, and for the last read of one that is over (INV-2)', async () => {
  await using it = scene({ limits: { pollFeedAliveMs: 1e9, pollFeedDeadMs: 1e9 } })
  it.leases.set('l', leaseRow('l')).set('dead', leaseRow('dead'))
  it.sync.feedAlive('l', true)
  it.sync.feedAlive('dead', true)
  await eventually(() => it.sync.progress().counts.outboxReads >= 128, 'the first look at each outbox is over')
  it.head('7', 2)
  it.write('l', 1, entry('7', 1, '7.1'))
  it.write('dead', 1, entry('7', 2, '7.2'))
  const leases = [leaseRow('l', { nextSequences: new Map([[groupOf('7'), 2]]) }), leaseRow('dead', { over: true })]
  const result = await it.sync.drain([hashSlotOf('7')], leases, AbortSignal.timeout(5_000))
  assert.deepEqual(result, { drained: true, entriesApplied: 2, held: [], waitingFor: [] })
  assert.deepEqual(it.appliedIds(), ['7.1', '7.2'])
})

test('a drain whose signal aborts says what it waited for', async () => {
  await using it = scene()
  it.leases.set('l', leaseRow('l'))
  it.tell('l', 1, entry('7', 2, '7.2'))
  const result = await it.sync.drain(
    [hashSlotOf('7')],
    [leaseRow('l', { nextSequences: new Map([[groupOf('7'), 3]]) })],
    AbortSignal.timeout(100),
  )
  assert.equal(result.drained, false)
  assert.deepEqual(result.waitingFor, [
    `entry 2 of 2 of lease l in group ${groupOf('7')} has not come`,
    'key 7: version 1 has not come, version 2 has',
  ])
})

test('with the target unreachable, slots whose entries are all held by gateways drain from their copies (60)', async () => {
  const target = fakeTarget()
  const gone = async () => {
    throw new Error('no route to host')
  }
  await using it = scene({ target: { ...target, readHead: gone, readOutbox: gone, putRows: gone, deleteBucket: gone } })
  it.leases.set('l', leaseRow('l'))
  for (let v = 1; v <= 5; v++) it.tell('l', v, entry('7', v, `7.${v}`))
  const ack = leaseRow('l', { nextSequences: new Map([[groupOf('7'), 6]]) })
  const result = await it.sync.drain([hashSlotOf('7')], [ack], AbortSignal.timeout(5_000))
  assert.equal(result.drained, true)
  assert.deepEqual(it.appliedIds(), ['7.1', '7.2', '7.3', '7.4', '7.5'])
})

test('with the target silent, a copy that may be on its way is waited for, and nothing else is (60)', async () => {
  await using it = scene({ limits: { copiesWaitMs: 60_000 } })
  it.leases.set('l', leaseRow('l'))
  const [seven, eight] = [hashSlotOf('7'), hashSlotOf('8')]
  const word = { epoch: 9, busy: new Set([eight]), nextSequences: new Map([[groupOf('7'), 3]]), undecided: new Map() }
  const leases = [leaseRow('l', { ackedEpoch: 8, partial: word })]
  it.tell('l', 1, entry('7', 1, '7.1'))
  const late = AbortSignal.timeout(20_000)
  const held = it.sync.drainHeld({ slots: [seven, eight], epoch: 9, leases }, late)
  it.tell('l', 2, entry('7', 2, '7.2'))
  // Work of the gateway's own that has not ended is in its word: no wait ends it.
  const { go, stay } = await held
  assert.deepEqual([go, stay.map(({ slot }) => slot), it.appliedIds()], [[seven], [eight], ['7.1', '7.2']])
  assert.ok(!late.aborted, 'it was waited for what cannot come')
})

test('an old leader stops at its first stale token, and the new one finds everything again (56)', async () => {
  const shared = fakeApplier(() => targetOwnsAll(TENURE, BASE))
  const target = fakeTarget()
  await using old = scene({ over: { target, applier: shared } })
  old.leases.set('l', leaseRow('l'))
  old.write('l', 1, entry('7', 1, '7.1'), 'committed')
  await eventually(() => shared.saved.get(`${groupOf('7')}/l`)?.sequence === 1, 'the old leader serves')
  shared.token = 2
  old.write('l', 2, entry('7', 2, '7.2'), 'committed')
  await assert.rejects(old.running, { code: 'TOKEN_STALE' })
  assert.equal(shared.log.length, 1)
  await using fresh = scene({ target, applier: shared.as(2) })
  fresh.leases.set('l', leaseRow('l'))
  old.head('7', 2)
  await eventually(() => shared.log.length === 2, 'the new leader reads the outbox')
  assert.deepEqual(
    shared.log.map((transaction) => transaction.version),
    [1, 2],
  )
})

test('a bucket is deleted whole once the durable position is past it, and the last one when the outbox is final', async () => {
  await using it = scene()
  it.leases.set('l', leaseRow('l'))
  for (let v = 1; v <= ENTRIES_PER_BUCKET + 3; v++) it.write('l', v, entry('7', v, `7.${v}`), 'committed')
  await eventually(() => it.target.deletedBuckets.length === 1, 'the first bucket')
  it.leases.set('l', leaseRow('l', { over: true }))
  await eventually(() => it.target.deletedBuckets.includes(`${groupOf('7')}/l/1`), 'the last bucket')
  assert.deepEqual(it.target.deletedBuckets, [`${groupOf('7')}/l/0`, `${groupOf('7')}/l/1`])
  assert.equal(it.applier.log.length, ENTRIES_PER_BUCKET + 3)
})

test('entries written before a pin was split off belong to the pin: its drain misses none (67)', async () => {
  await using it = scene()
  it.leases.set('l', leaseRow('l'))
  it.applier.pause = () => systemClock.sleep(20)
  const pin = { key: '7', slot: HASH_SLOTS + 1, parent: hashSlotOf('7') }
  it.tell('l', 1, entry('7', 1, '7.1'))
  it.view = new RoutingView({ epoch: 9, bindingEpoch: 1, rows: [...it.view.rows(), targetOwned(pin.slot, TENURE, BASE)], pins: [pin] })
  const ack = leaseRow('l', { nextSequences: new Map([[groupOf('7'), 2]]) })
  const result = await it.sync.drain([pin.slot], [ack], AbortSignal.timeout(5_000))
  assert.equal(result.drained, true)
  assert.deepEqual(
    it.applier.log.map(({ txnId, slot }) => [txnId, slot]),
    [['7.1', pin.slot]],
  )
})

test('one core applies more than 1,000 transactions a second with a commit of 2 ms, lag measured', async () => {
  await using it = scene({ limits: { pollFeedAliveMs: 1e9 } })
  it.leases.set('l', leaseRow('l'))
  it.sync.feedAlive('l', true)
  it.applier.pause = () => systemClock.sleep(2)
  const many = 5_000
  const before = process.cpuUsage()
  const sequences = new Map<number, number>()
  for (let i = 0; i < many; i++) {
    const key = `${i % 500}`
    const group = groupOf(key)
    const sequence = (sequences.get(group) ?? 0) + 1
    sequences.set(group, sequence)
    const version = Math.floor(i / 500) + 1
    it.tell('l', sequence, entry(key, version, `${key}.${version}`))
  }
  await eventually(() => it.applier.log.length === many, 'all applied')
  const spent = process.cpuUsage(before)
  const perSecond = many / ((spent.user + spent.system) / 1e6)
  assert.ok(perSecond > 3_000, `${Math.round(perSecond)} transactions a CPU second`)
  assert.ok(it.sync.progress().lagMs.p99! > 0)
  assert.equal(it.sync.progress().itemsUnsettled, 0)
})

test('a view of no slots knows nothing: nothing is applied, nothing is discarded (INV-10)', async () => {
  await using it = scene()
  it.view = viewOf([])
  it.leases.set('l', leaseRow('l'))
  it.tell('l', 1, entry('7', 1, '7.1'))
  await eventually(() => it.sync.progress().aggregatesWaiting === 1, 'it waits')
  assert.deepEqual([it.applier.log.length, it.sync.progress().counts.old], [0, 0])
})
