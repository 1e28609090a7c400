// The commit protocol's rules and faults, each by name, over a fake store on virtual time.
import assert from 'node:assert/strict'
import test from 'node:test'
import { SwitchbackError } from '../../src/model/errors.ts'
import { ENTRIES_IN_FLIGHT_MAX } from '../../src/model/head.ts'
import { add, all, insert, one, spend } from './fake-plans.ts'
import type { Operation } from './fake-store.ts'
import { AT, code, Fixture, type Gateway } from './gateway-fixture.ts'

const LOST = Number.POSITIVE_INFINITY
const verdicts = (g: Gateway) => g.settled.map(({ sequence, verdict, entry }) => [sequence, verdict, entry.version])
const inFlight = (g: Gateway) => [...g.flights.values()].reduce((sum, n) => sum + n, 0)
const entries = (f: Fixture, g: Gateway) =>
  [...f.store.outbox({ group: AT.group, lease: g.lease.id })].map(([sequence, entry]) => [sequence, entry.version, entry.txnId])

test('a write takes three round trips, two where the head is remembered, and tells its entry', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  await f.time.run(g.run(add('k', { x: 5 }, 1)))
  assert.deepEqual(g.sent(), ['readHead + readRows', 'appendEntry + compareAndSetHead', 'putRows'])
  await f.time.run(g.run(add('k', { x: 7 }, 2)))
  assert.deepEqual(g.sent(), ['appendEntry + compareAndSetHead', 'putRows'])
  assert.deepEqual(await f.shown(AT, one('x')), [['k', 'x', '12', '2']])
  assert.deepEqual(verdicts(g), [
    [1, 'committed', 1],
    [2, 'committed', 2],
  ])
  assert.deepEqual(g.executor.nextSequences(g.lease.id), new Map([[AT.group, 3]]))
  assert.equal(inFlight(g), 0)
})

test('a point read takes one round trip, several rows one where the version is known', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  await f.time.run(g.run(add('k', { x: 1, y: 2 }, 1)))
  g.sent()
  await f.time.run(g.run(one('x')))
  assert.deepEqual(g.sent(), ['readRows'])
  await f.time.run(g.run(all()))
  assert.deepEqual(g.sent(), ['readHead + readRange'])
  const fresh = f.gateway('b')
  await f.time.run(fresh.run(all()))
  assert.deepEqual(fresh.sent(), ['readHead + readRange', 'readHead + readRange'])
})

test('rows are sent only when both the compare-and-set and the entry are there', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  g.fate = (operation, _, nth) => (operation === 'appendEntry' && nth < 3 ? { requestMs: LOST } : undefined)
  const work = g.run(add('k', { x: 1 }, 1))
  await f.time.advanceTo(40)
  assert.deepEqual([f.store.heads.get('k')?.version, f.store.rows.size], [1, 0])
  await f.time.run(work)
  const at = (operation: Operation) => g.calls.filter((call) => call.operation === operation).map((call) => call.at)
  assert.equal(at('appendEntry').length, 3)
  assert.ok(at('putRows')[0]! > at('appendEntry')[2]!)
})

test('of one outbox no more entries are under way than the target contract allows: above it a write is refused and a helper waits', async () => {
  const f = new Fixture()
  const dead = f.gateway('dead')
  dead.fate = (operation) => (operation === 'putRows' ? { requestMs: LOST } : undefined)
  void dead.run(add('met', { x: 1 }, 1), { ...AT, key: 'met' }).catch(() => undefined)
  await f.time.advanceTo(40)
  const g = f.gateway('a', { limits: { commitDeadlineMs: 100_000 } })
  let silent = true
  g.fate = (operation) => (operation === 'appendEntry' && silent ? { requestMs: LOST } : undefined)
  const at = (i: number) => ({ ...AT, key: `k${i}` })
  const stuck = Array.from({ length: ENTRIES_IN_FLIGHT_MAX }, (_, i) => g.run(add(`k${i}`, { x: 1 }, i), at(i)))
  await f.time.advanceTo(100)
  const next = ENTRIES_IN_FLIGHT_MAX + 1
  assert.equal(await code(f.time.run(g.run(add(`k${next}`, { x: 1 }, 0), at(next)))), 'OUTBOX_FULL')
  // Another outbox has room, and a reader that must help waits for it.
  silent = false
  await f.time.run(g.run(add('other', { x: 1 }, 0), { ...AT, key: 'other', group: AT.group + 1 }))
  const helped = g.run(all(), { ...AT, key: 'met' })
  await f.time.run(Promise.all([helped, ...stuck]))
  assert.deepEqual((await helped).rows, [['met', 'x', '1', '1']])
  await f.time.run(g.run(add(`k${next}`, { x: 1 }, 0), at(next)))
  assert.deepEqual(
    g.executor.nextSequences(g.lease.id),
    new Map([
      [AT.group, ENTRIES_IN_FLIGHT_MAX + 3],
      [AT.group + 1, 2],
    ]),
  )
})

test('what a remembered head cannot prove is read afresh: no change and no error comes from memory', async () => {
  const f = new Fixture()
  const a = f.gateway('a')
  const b = f.gateway('b')
  await f.time.run(a.run(add('k', { x: 5 }, 1)))
  await f.time.run(b.run(add('k', { x: 5 }, 2)))
  assert.equal((await f.time.run(a.run(spend('k', 'x', 8, 3)))).commandTag, 'UPDATE 1')
  await f.time.run(b.run(add('k', { x: 100 }, 4)))
  await f.time.run(b.run(add('k', { y: 1 }, 5)))
  assert.equal(await code(f.time.run(a.run(insert('k', 'y', 1, 6)))), '23505')
  assert.equal((await f.time.run(a.run(insert('k', 'z', 1, 7)))).commandTag, 'INSERT 0 1')
})

test('a stale memory costs one lost compare-and-set, whose entry is told void, and is not trusted again until it was right', async () => {
  const f = new Fixture()
  const a = f.gateway('a')
  const b = f.gateway('b')
  await f.time.run(a.run(add('k', { x: 1 }, 1)))
  await f.time.run(b.run(add('k', { x: 1 }, 2)))
  await f.time.run(a.run(add('k', { x: 1 }, 3)))
  assert.deepEqual(verdicts(a).slice(1), [
    [2, 'void', 2],
    [3, 'committed', 3],
  ])
  assert.equal(a.contention.take()[0]?.casLost, 1)
  a.sent()
  for (const by of [4, 5, 6]) await f.time.run(a.run(add('k', { x: 1 }, by)))
  assert.deepEqual(
    a.sent().map((group) => group.split(' ')[0]),
    ['readHead', 'appendEntry', 'putRows', 'appendEntry', 'putRows', 'appendEntry', 'putRows'],
  )
  assert.deepEqual(await f.shown(AT, one('x')), [['k', 'x', '6', '6']])
})

test('faults 8: the reply to a compare-and-set is lost; the head tells that it is mine, and the client hears success', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  g.fate = (operation, _, nth) => (operation === 'compareAndSetHead' && nth === 1 ? { replyMs: LOST } : undefined)
  await f.time.run(g.run(add('k', { x: 1 }, 1)))
  assert.deepEqual(verdicts(g), [[1, 'committed', 1]])
  assert.equal(f.store.heads.get('k')?.version, 1)
})

test('faults 10: a compare-and-set that was lost is sent again; the first copy, late, changes nothing', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  g.fate = (operation, _, nth) => (operation === 'compareAndSetHead' && nth === 1 ? { requestMs: 5_000 } : undefined)
  await f.time.run(g.run(add('k', { x: 1 }, 1)))
  await f.time.run(g.run(add('k', { x: 1 }, 2)))
  await f.time.advanceTo(10_000)
  assert.deepEqual([f.store.heads.get('k')?.version, (await f.shown(AT, one('x')))[0]?.[2]], [2, '2'])
})

test('the client hears 08007 at its deadline; the entry is decided later, told, and only then a fence need not wait', async () => {
  const f = new Fixture()
  const g = f.gateway('a', { limits: { commitDeadlineMs: 200 } })
  g.fate = (operation) => (f.time.now < 1_000 && operation === 'compareAndSetHead' ? { requestMs: LOST } : undefined)
  assert.equal(await code(f.time.run(g.run(add('k', { x: 1 }, 1)))), 'OUTCOME_UNKNOWN')
  assert.deepEqual([f.time.now < 300, inFlight(g), verdicts(g)], [true, 1, []])
  await f.time.advanceTo(3_000)
  assert.deepEqual([inFlight(g), verdicts(g)], [0, [[1, 'committed', 1]]])
  assert.deepEqual(await f.shown(AT, one('x')), [['k', 'x', '1', '1']])
})

test('an own transaction that has gone from the last 16 is 08007, and holds up no fence', async () => {
  const f = new Fixture()
  const a = f.gateway('a')
  const b = f.gateway('b')
  a.fate = (operation) =>
    operation === 'compareAndSetHead' ? { replyMs: LOST } : operation === 'readHead' && f.time.now > 10 ? { requestMs: 400 } : undefined
  const work = a.run(add('k', { x: 1 }, 1))
  await f.time.advanceTo(20)
  for (let by = 2; by < 20; by++) await f.time.run(b.run(add('k', { x: 1 }, by)))
  a.fate = () => undefined
  assert.equal(await code(f.time.run(work)), 'OUTCOME_UNKNOWN')
  assert.deepEqual([verdicts(a), inFlight(a)], [[], 0])
})

test('faults 70: a compare-and-set refused for good after its entry was written is told void, and the client hears the refusal', async () => {
  for (const [refusal, deadlineMs] of [
    ['TARGET_REFUSED', 5_000],
    ['TARGET_THROTTLED', 100],
  ] as const) {
    const f = new Fixture()
    const g = f.gateway('a', { limits: { commitDeadlineMs: deadlineMs } })
    const refuse = new SwitchbackError(refusal, { operation: 'it', reason: 'no' })
    g.fate = (operation) => (operation === 'compareAndSetHead' ? { refuse } : undefined)
    const heard = await code(f.time.run(g.run(add('k', { x: 1 }, 1))))
    await f.time.advanceTo(f.time.now + 2_000)
    assert.deepEqual([verdicts(g), entries(f, g).length, inFlight(g), f.store.heads.size], [[[1, 'void', 1]], 1, 0, 0])
    assert.equal(heard, refusal)
  }
})

test('a refusal after an uncertain try decides nothing: the entry stays open until the head tells', async () => {
  const f = new Fixture()
  const g = f.gateway('a', { limits: { commitDeadlineMs: 300 } })
  const refuse = new SwitchbackError('TARGET_REFUSED', { operation: 'it', reason: 'no' })
  g.fate = (operation, _, nth) => (operation !== 'compareAndSetHead' ? undefined : nth === 1 ? { requestMs: 2_000 } : { refuse })
  assert.equal(await code(f.time.run(g.run(add('k', { x: 1 }, 1)))), 'OUTCOME_UNKNOWN')
  assert.deepEqual([verdicts(g), inFlight(g)], [[], 1])
  await f.time.advanceTo(4_000)
  assert.deepEqual([verdicts(g), inFlight(g)], [[[1, 'committed', 1]], 0])
})

test('faults 3: a gateway whose lease ends sends nothing more, whatever reply comes, and its client hears unknown', async () => {
  const steps: [Operation, string, string[]][] = [
    ['readHead', 'LEASE_OVER', ['readHead + readRows']],
    ['compareAndSetHead', 'OUTCOME_UNKNOWN', ['readHead + readRows', 'appendEntry + compareAndSetHead']],
    ['appendEntry', 'OUTCOME_UNKNOWN', ['readHead + readRows', 'appendEntry + compareAndSetHead']],
    ['putRows', 'OUTCOME_UNKNOWN', ['readHead + readRows', 'appendEntry + compareAndSetHead', 'putRows']],
  ]
  for (const [step, heard, sent] of steps) {
    const f = new Fixture()
    const g = f.gateway('a')
    g.fate = (operation) => {
      if (operation !== step) return undefined
      f.time.after(1.5, () => {
        g.lease.held = false
      })
      return { replyMs: 1 }
    }
    assert.equal(await code(f.time.run(g.run(add('k', { x: 1 }, 1)))), heard, step)
    await f.time.advanceTo(1_000)
    assert.deepEqual([g.sent(), verdicts(g), inFlight(g)], [sent, [], 0], step)
  }
})

/** Leaves a transaction of x and y behind its head: the gateway's lease ends after `step`; `put` rows are there. */
async function halfDone(f: Fixture, options: { entry: boolean; puts: number }): Promise<Gateway> {
  const dead = f.gateway('dead')
  dead.fate = (operation) => {
    if (operation === 'appendEntry') return options.entry ? undefined : { requestMs: LOST }
    return operation === 'putRows' ? { requestMs: LOST } : undefined
  }
  const work = code(f.time.run(dead.run(add('k', { x: 1, y: 2 }, 1))))
  f.time.after(20, () => {
    dead.lease.held = false
  })
  assert.equal(await work, 'OUTCOME_UNKNOWN')
  for (const change of f.store.heads.get('k')!.redo.slice(0, options.puts))
    f.store.put({ ...change, key: 'k', stamp: AT.base + 1n, mark: true })
  return dead
}

const BOTH = [
  ['k', 'x', '1', '1'],
  ['k', 'y', '2', '1'],
]

test('faults 51: whoever meets a half-done transaction finishes it: with an entry of its own only where no row is there', async () => {
  const table = [
    [{ entry: false, puts: 0 }, [[1, 'committed', 1]], ['readRows', 'appendEntry', 'putRows']],
    [{ entry: true, puts: 1 }, [], ['readRows', 'putRows']],
  ] as const
  for (const [left, told, steps] of table) {
    const f = new Fixture()
    await halfDone(f, left)
    const g = f.gateway('helper')
    assert.deepEqual((await f.time.run(g.run(all()))).rows, BOTH)
    assert.deepEqual([g.sent(), verdicts(g), inFlight(g)], [['readHead + readRange', ...steps, 'readHead + readRange'], told, 0])
  }
})

test('rows that were just read and are all there need no second look', async () => {
  const f = new Fixture()
  await halfDone(f, { entry: true, puts: 2 })
  const g = f.gateway('helper')
  assert.deepEqual((await f.time.run(g.run(all()))).rows, BOTH)
  assert.deepEqual(g.sent(), ['readHead + readRange', 'readHead + readRange'])
})

test('faults 57: a row of a half-done transaction is shown only once the others are there', async () => {
  const f = new Fixture()
  await halfDone(f, { entry: true, puts: 1 })
  const g = f.gateway('reader')
  assert.deepEqual((await f.time.run(g.run(one('x')))).rows, [BOTH[0]])
  assert.deepEqual(g.sent(), ['readRows', 'readHead', 'readRows', 'putRows'])
  assert.deepEqual((await f.time.run(f.gateway('other').run(one('y')))).rows, [BOTH[1]])
})

test('two sessions of one gateway that meet the same half-done transaction help it once', async () => {
  const f = new Fixture()
  await halfDone(f, { entry: false, puts: 0 })
  const g = f.gateway('helper')
  await f.time.run(Promise.all([g.run(all()), g.run(all()), g.run(add('k', { z: 1 }, 2))]))
  assert.deepEqual(verdicts(g), [
    [1, 'committed', 1],
    [2, 'committed', 2],
  ])
})

test('a helper whose lease ends after its entry sends no row', async () => {
  const f = new Fixture()
  await halfDone(f, { entry: false, puts: 0 })
  const g = f.gateway('helper')
  g.fate = (operation) => {
    if (operation === 'appendEntry') g.lease.held = false
    return undefined
  }
  assert.equal(await code(f.time.run(g.run(all()))), 'LEASE_OVER')
  assert.deepEqual([g.sent(), f.store.rows.size, verdicts(g)], [['readHead + readRange', 'readRows', 'appendEntry'], 0, []])
})

test('nobody helps a head of an older tenure: it counts as version 0, and its rows stay away', async () => {
  const f = new Fixture()
  await halfDone(f, { entry: false, puts: 0 })
  const later = { ...AT, tenure: 20, base: 9_000_000n }
  const g = f.gateway('new')
  assert.deepEqual((await f.time.run(g.run(all(), later))).rows, [])
  await f.time.run(g.run(add('k', { x: 9 }, 5), later))
  assert.deepEqual([f.store.heads.get('k')?.version, f.store.heads.get('k')?.prev, f.store.heads.get('k')?.recent.length], [1, null, 1])
  assert.deepEqual((await f.time.run(g.run(all(), later))).rows, [['k', 'x', '9', '5']])
})

test('faults 7: a late compare-and-set of a gateway that is over loses against the new tenure', async () => {
  const f = new Fixture()
  const old = f.gateway('old')
  old.fate = (operation) => (operation === 'compareAndSetHead' ? { requestMs: 3_000 } : undefined)
  const work = code(f.time.run(old.run(add('k', { x: 1 }, 1))))
  f.time.after(10, () => {
    old.lease.held = false
  })
  assert.equal(await work, 'OUTCOME_UNKNOWN')
  const later = { ...AT, tenure: 20, base: 9_000_000n }
  await f.time.run(f.gateway('new').run(add('k', { x: 9 }, 5), later))
  await f.time.advanceTo(5_000)
  assert.deepEqual([f.store.heads.get('k')?.tenure, await f.shown(later, one('x'))], [20, [['k', 'x', '9', '5']]])
})

test('faults 52: sequences are dense from 1 for each lease and group, and a new lease never continues an old one', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  for (const by of [1, 2, 3]) await f.time.run(g.run(add('k', { x: 1 }, by)))
  await f.time.run(g.run(add('q', { x: 1 }, 4), { ...AT, key: 'q', group: 5 }))
  assert.deepEqual(
    g.executor.nextSequences('a-1'),
    new Map([
      [3, 4],
      [5, 2],
    ]),
  )
  g.lease.id = 'a-2'
  await f.time.run(g.run(add('k', { x: 1 }, 5)))
  assert.deepEqual(
    [entries(f, g).map(([sequence, version]) => [sequence, version]), g.executor.nextSequences('a-2')],
    [[[1, 4]], new Map([[3, 2]])],
  )
})

test('between gateways the compare-and-set decides: conflicts are retried until each has its turn', async () => {
  const f = new Fixture()
  const gateways = ['a', 'b', 'c'].map((name) => f.gateway(name))
  const work = gateways.flatMap((g, i) => [0, 1, 2].map((n) => g.run(add('k', { x: 1 }, 3 * i + n))))
  await f.time.run(Promise.all(work))
  assert.deepEqual((await f.shown(AT, one('x')))[0]?.[2], '9')
})

test('a key contended beyond the deadline is refused by name, with nothing written by it', async () => {
  const f = new Fixture()
  const a = f.gateway('a', { limits: { commitDeadlineMs: 100 } })
  const b = f.gateway('b')
  let by = 100
  a.fate = (operation) => {
    if (operation === 'compareAndSetHead') void b.run(add('k', { x: 1 }, by++))
    return operation === 'compareAndSetHead' ? { requestMs: 30 } : undefined
  }
  assert.equal(await code(f.time.run(a.run(add('k', { y: 1 }, 1)))), 'CONTENTION_DEADLINE')
  await f.time.advanceTo(f.time.now + 1_000)
  assert.ok(a.settled.every(({ verdict }) => verdict === 'void'))
  assert.deepEqual(await f.shown(AT, one('y')), [])
})

test('an aggregate or a transaction larger than its limit is refused by name, before anything is sent', async () => {
  const f = new Fixture()
  const g = f.gateway('a', { limits: { aggregateRowsMax: 3, rangePageRows: 2, transactionRowsMax: 2 }, maxEntryBytes: 5_000 })
  assert.equal(await code(f.time.run(g.run(add('k', { x: 1, y: 1, z: 1 }, 1)))), 'TRANSACTION_TOO_LARGE')
  assert.equal(await code(f.time.run(g.run(insert('k', 'p'.repeat(3_000), 1, 1)))), 'TRANSACTION_TOO_LARGE')
  assert.deepEqual([f.store.heads.size, f.store.outboxes.size], [0, 0])
  for (const pot of ['a', 'b', 'c']) await f.time.run(g.run(insert('k', pot, 1, 2)))
  assert.equal((await f.time.run(g.run(all()))).rows.length, 3)
  await f.time.run(g.run(insert('k', 'd', 1, 2)))
  assert.equal(await code(f.time.run(g.run(all()))), 'AGGREGATE_TOO_LARGE')
})

test('faults 73: settling an aggregate leaves its transaction finished, and sends nothing where it is', async () => {
  const f = new Fixture()
  await halfDone(f, { entry: false, puts: 0 })
  const g = f.gateway('finalizer')
  await f.time.run(g.executor.settle(g.lease, AT))
  assert.deepEqual([g.sent(), f.store.rows.size], [['readHead', 'readRows', 'appendEntry', 'putRows', 'readHead'], 2])
  await f.time.run(g.executor.settle(g.lease, AT))
  assert.deepEqual([g.sent(), verdicts(g), inFlight(g)], [['readHead'], [[1, 'committed', 1]], 0])
})

test('faults 9: a target that is a black hole is an answer within the deadline, and says that nothing was written', async () => {
  const f = new Fixture()
  const g = f.gateway('a', { limits: { commitDeadlineMs: 300 } })
  g.fate = () => ({ requestMs: LOST })
  for (const plan of [one('x'), all(), add('k', { x: 1 }, 1)]) {
    const began = f.time.now
    assert.equal(await code(f.time.run(g.run(plan))), 'TARGET_SILENT')
    assert.ok(f.time.now - began < 500)
  }
  assert.equal(inFlight(g), 0)
})
