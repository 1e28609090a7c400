// Explicit transactions on one aggregate, and the queue for it, each rule by name.
import assert from 'node:assert/strict'
import test from 'node:test'
import { createContentionCounters } from '../../src/commit/contention.ts'
import type { Isolation } from '../../src/model/executor.ts'
import type { KeyedPlan } from '../../src/model/plan.ts'
import { add, all, ENV, insert, one, remove } from './fake-plans.ts'
import { AT, code, Fixture, type Gateway } from './gateway-fixture.ts'

function begin(f: Fixture, g: Gateway, isolation: Isolation = 'read committed') {
  const tx = g.executor.begin(g.lease, AT, { isolation })
  const rows = async (plan: KeyedPlan) => (await f.time.run(tx.execute(plan, [], ENV))).rows.map((row) => `${row[1]}=${row[2]}`).join(' ')
  return {
    tx,
    rows,
    failure: (plan: KeyedPlan) => code(f.time.run(tx.execute(plan, [], ENV))),
    commit: () => code(f.time.run(tx.commit())),
  }
}

test('a transaction sees its own writes, others only what is committed, and COMMIT takes two round trips', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  await f.time.run(g.run(add('k', { x: 1, y: 1 }, 1)))
  const { rows, commit } = begin(f, g)
  assert.equal(await rows(add('k', { x: 5 }, 2)), 'x=6')
  assert.equal(await rows(remove('y')), '')
  assert.equal(await rows(all()), 'x=6')
  assert.equal((await f.shown(AT, all())).length, 2)
  g.sent()
  assert.equal(await rows(add('k', { x: 1 }, 2)), 'x=7')
  assert.deepEqual(g.sent(), [], 'a write whose rows are held needs no read')
  assert.equal(await commit(), 'resolved')
  assert.deepEqual(g.sent(), ['appendEntry + compareAndSetHead', 'putRows'])
  assert.deepEqual(await f.shown(AT, all()), [['k', 'x', '7', '2']])
})

test('faults 48: changes of one row are folded into the last; insert then delete leaves a delete, delete then insert the row', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  await f.time.run(g.run(add('k', { y: 1 }, 1)))
  const { tx, rows, commit } = begin(f, g)
  await rows(insert('k', 'x', 1, 2))
  await rows(remove('x'))
  await rows(remove('y'))
  await rows(insert('k', 'y', 9, 2))
  await rows(add('k', { z: 1 }, 2))
  await rows(add('k', { z: 1 }, 2))
  assert.equal(await commit(), 'resolved')
  tx.abort()
  assert.deepEqual(
    g.settled.at(-1)?.entry.changes.map(({ clustering, values }) => [clustering[0], values?.[2] ?? null]),
    [
      ['x', null],
      ['y', '9'],
      ['z', '2'],
    ],
  )
})

test('a written basis that another gateway has moved is 40001 at COMMIT, or at the next read, and nothing is written', async () => {
  const f = new Fixture()
  const a = f.gateway('a')
  const b = f.gateway('b')
  const atCommit = begin(f, a)
  await atCommit.rows(add('k', { x: 1 }, 1))
  await f.time.run(b.run(add('k', { y: 1 }, 2)))
  assert.equal(await atCommit.commit(), 'CONFLICT')
  const atRead = begin(f, a)
  await atRead.rows(one('x', { locks: true }))
  await f.time.run(b.run(add('k', { y: 1 }, 3)))
  assert.equal(await atRead.failure(all()), 'CONFLICT')
  assert.deepEqual(await f.shown(AT, all()), [['k', 'y', '2', '3']])
  assert.deepEqual(
    a.settled.map(({ verdict }) => verdict),
    ['void'],
  )
})

test('READ COMMITTED reads what is newest at each statement; REPEATABLE READ and SERIALIZABLE get 40001 where it has moved', async () => {
  for (const isolation of ['read committed', 'repeatable read', 'serializable'] as const) {
    const f = new Fixture()
    const a = f.gateway('a')
    const b = f.gateway('b')
    const { rows, failure, commit } = begin(f, a, isolation)
    assert.equal(await rows(one('x')), '')
    await f.time.run(b.run(add('k', { x: 1 }, 1)))
    if (isolation === 'read committed') {
      assert.equal(await rows(one('x')), 'x=1')
      assert.equal(await commit(), 'resolved')
    } else assert.equal(await failure(one('x')), 'CONFLICT')
    assert.deepEqual(a.settled, [])
  }
})

test('a repeatable transaction that read one row and writes another is 40001 if the aggregate moved between', async () => {
  const f = new Fixture()
  const a = f.gateway('a')
  const { rows, failure } = begin(f, a, 'serializable')
  await rows(one('x'))
  await f.time.run(f.gateway('b').run(add('k', { x: 1 }, 1)))
  assert.equal(await failure(add('k', { y: 1 }, 2)), 'CONFLICT')
})

test('a transaction that only read, or changed nothing, sends no compare-and-set', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  const { rows, commit } = begin(f, g, 'repeatable read')
  await rows(all())
  await rows(remove('x'))
  g.sent()
  assert.equal(await commit(), 'resolved')
  assert.deepEqual(g.sent(), [])
})

test('a transaction ends with the lease that it began under', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  const { rows, commit } = begin(f, g)
  await rows(add('k', { x: 1 }, 1))
  g.lease.held = false
  g.sent()
  assert.equal(await commit(), 'LEASE_OVER')
  assert.deepEqual(g.sent(), [])
})

test('a place is held from the first write to COMMIT: writers of this gateway wait in order, reads do not', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  const { tx, rows, commit } = begin(f, g)
  await rows(add('k', { x: 1 }, 1))
  const order: number[] = []
  const writers = [2, 3, 4].map((by) => g.run(add('k', { x: 1 }, by)).then(() => order.push(by)))
  await f.time.run(g.run(all()))
  assert.deepEqual([order, g.executor.waiting()], [[], 3])
  assert.equal(tx.committing, false)
  assert.equal(await commit(), 'resolved')
  await f.time.run(Promise.all(writers))
  assert.deepEqual([order, (await f.shown(AT, one('x')))[0]?.[2]], [[2, 3, 4], '4'])
  const [counted] = g.contention.take()
  assert.deepEqual([counted?.key, counted?.queued, counted?.casLost, counted!.queuedMs > 0, counted!.heldMs > 0], ['k', 3, 0, true, true])
})

test('a failed or aborted transaction gives its place back, once, also after COMMIT', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  const failed = begin(f, g)
  await failed.rows(add('k', { x: 1 }, 1))
  assert.equal(await failed.failure(insert('k', 'x', 1, 1)), '23505')
  const aborted = begin(f, g)
  await aborted.rows(add('k', { x: 1 }, 2))
  aborted.tx.abort()
  aborted.tx.abort()
  failed.tx.abort()
  const done = begin(f, g)
  await done.rows(add('k', { x: 1 }, 3))
  await done.commit()
  const next = begin(f, g)
  await next.rows(add('k', { x: 1 }, 4))
  done.tx.abort()
  const waiter = g.run(add('k', { x: 1 }, 5))
  await f.time.advanceTo(f.time.now + 50)
  assert.equal(g.executor.waiting(), 1)
  next.tx.abort()
  await f.time.run(waiter)
  assert.deepEqual(await f.shown(AT, one('x')), [['k', 'x', '2', '5']])
})

test('a fence ends waits in the queue and open transactions with 40001; what waits is counted in flight until then', async () => {
  const f = new Fixture()
  const g = f.gateway('a')
  const holder = begin(f, g)
  await holder.rows(add('k', { x: 1 }, 1))
  const waiters = [2, 3].map((by) => code(g.run(add('k', { x: 1 }, by))))
  const other = begin(f, g)
  const third = code(other.tx.execute(add('k', { x: 1 }, 4), [], ENV))
  await f.time.advanceTo(f.time.now + 5)
  assert.equal(g.flights.get(AT.slot), 3)
  assert.equal(g.executor.abortWaiters(new Set([99])), 0)
  assert.equal(g.executor.abortWaiters(new Set([AT.slot])), 3)
  holder.tx.abort()
  assert.deepEqual([...(await Promise.all(waiters)), await third], ['AGGREGATE_MOVING', 'AGGREGATE_MOVING', 'AGGREGATE_MOVING'])
  assert.deepEqual([await holder.commit(), g.flights.get(AT.slot), f.store.heads.size], ['AGGREGATE_MOVING', 0, 0])
})

test('a fence ends the retries of a statement that keeps losing, with nothing written by it', async () => {
  const f = new Fixture()
  const a = f.gateway('a')
  const b = f.gateway('b')
  await f.time.run(a.run(add('k', { x: 1 }, 1)))
  await f.time.run(b.run(add('k', { x: 1 }, 2)))
  const work = code(f.time.run(a.run(add('k', { x: 1 }, 3)))) // starts from a head that is no longer there
  assert.equal(a.executor.abortWaiters(new Set([AT.slot])), 0)
  assert.equal(await work, 'AGGREGATE_MOVING')
  await f.time.advanceTo(f.time.now + 50)
  assert.deepEqual([a.settled.at(-1)?.verdict, a.flights.get(AT.slot), (await f.shown(AT, one('x')))[0]?.[2]], ['void', 0, '2'])
})

test('the queue is bounded by name, and nobody waits past the deadline', async () => {
  const f = new Fixture()
  const g = f.gateway('a', { limits: { fifoWaitersMax: 1, commitDeadlineMs: 100 } })
  const { rows, tx } = begin(f, g)
  await rows(add('k', { x: 1 }, 1))
  const waiter = code(f.time.run(g.run(add('k', { x: 1 }, 2))))
  assert.equal(await code(g.run(add('k', { x: 1 }, 3))), 'AGGREGATE_QUEUE_FULL')
  assert.equal(await waiter, 'CONTENTION_DEADLINE')
  tx.abort()
  assert.deepEqual([g.executor.waiting(), g.flights.get(AT.slot)], [0, 0])
})

test('without the queue sessions of one gateway fight, and all get there', async () => {
  const f = new Fixture()
  const g = f.gateway('a', { fifo: false })
  await f.time.run(Promise.all([1, 2, 3, 4].map((by) => g.run(add('k', { x: 1 }, by)))))
  assert.equal((await f.shown(AT, one('x')))[0]?.[2], '4')
  assert.ok(g.contention.take()[0]!.casLost > 0)
})

test('contention counters are bounded, and keys that nobody waited for make room', () => {
  const counters = createContentionCounters({ keysMax: 2 })
  counters.held('quiet', 5)
  counters.casLost('hot')
  counters.queued('queued', 7)
  counters.casLost('more')
  assert.deepEqual(counters.take(), [
    { key: 'hot', casLost: 1, queued: 0, queuedMs: 0, heldMs: 0 },
    { key: 'queued', casLost: 0, queued: 1, queuedMs: 7, heldMs: 0 },
  ])
  assert.deepEqual(counters.take(), [])
})
