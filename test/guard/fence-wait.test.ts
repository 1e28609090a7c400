import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import type { BackendId } from '../../src/model/control.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { installGuard } from '../../src/source/guard.ts'
import { type ControlWorld, controlWorld, outcome } from '../store/fixture.ts'
import { eventually } from '../support/eventually.ts'
import { fenced, flipped } from './flips.ts'

const WRITERS = 60

async function guardedWorld(): Promise<ControlWorld> {
  const world = await controlWorld()
  await installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
  await world.admin.query(`insert into accounts (id) select g from generate_series(1, 3000) g`)
  return world
}

async function backendOf(client: pg.Client): Promise<BackendId> {
  const { rows } = await client.query(`
    select a.pid, a.backend_start::text as "backendStart", l.virtualtransaction as "virtualTransaction"
      from pg_stat_activity a join pg_locks l on l.pid = a.pid and l.locktype = 'virtualxid' where a.pid = pg_backend_pid()`)
  return rows[0]
}

test('60 concurrent bulk updates over all slots do not exhaust the lock table (faults.md 47)', async () => {
  await using world = await guardedWorld()
  const clients = await Promise.all(Array.from({ length: WRITERS }, () => world.db.connect()))
  // Each in an open transaction over rows of its own that fall into nearly all slots it can reach.
  await Promise.all(clients.map((client) => client.query('begin')))
  const outcomes = await Promise.all(
    clients.map((client, i) => outcome(client.query('update accounts set balance = 1 where id % $1 = $2', [WRITERS, i]))),
  )
  const { rows } = await world.admin.query(`select count(*)::int as locks from pg_locks where locktype in ('advisory', 'tuple')`)
  await Promise.all(clients.map((client) => client.query('commit')))
  assert.deepEqual([new Set(outcomes), rows[0].locks], [new Set(['ok']), 0])
})

test('a fence waits for a bulk update in flight, names it, and its rows are there before the flip commits (faults.md 47)', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const bulk = await world.db.connect()
  await bulk.query('begin')
  await bulk.query('update accounts set balance = 77')
  const flip = await fenced(leader, [hashSlotOf('7')])
  const writers = await leader.waitSet([])
  assert.deepEqual(
    writers.map((writer) => ({ pid: writer.pid, query: writer.query, user: writer.user, gid: writer.gid, aged: writer.ageMs > 0 })),
    [
      {
        pid: (bulk as unknown as { processID: number }).processID,
        query: 'update accounts set balance = 77',
        user: 'postgres',
        gid: null,
        aged: true,
      },
    ],
  )
  // What it wrote before the fence stands; what it begins now in the fenced slot is refused.
  assert.deepEqual(await leader.stillThere(writers), writers)
  await bulk.query('commit')
  assert.deepEqual(await eventually(async () => (await leader.stillThere(writers)).length === 0 && 'gone', 'the writer ends'), 'gone')
  assert.equal(await outcome(bulk.query('update accounts set balance = 78 where id = 7')), '40001')
  await leader.writeMarker(flip)
  await leader.commitFlip(flip, { newBase: 10n, held: false })
  assert.deepEqual((await world.admin.query('select balance from accounts where id = 7')).rows, [{ balance: '77' }])
})

test('readers, writers of other tables and the reverse applier are not waited for; a writer of a leaf and the holder of a lock are', async () => {
  await using world = await controlWorld({
    sql: `create table accounts (id int8 primary key, balance int);
      create table entries (account int8, n int, primary key (account, n)) partition by list (account);
      create table entries_1 partition of entries for values in (1);
      create table other (id int)`,
  })
  await installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
  const leader = await world.leader()
  const [reader, elsewhere, leaf, lock] = await Promise.all([1, 2, 3, 4].map(() => world.db.connect()))
  const applier = await world.connectAs(world.applierRole, 'applier')
  await reader!.query('begin; select 1 from accounts; select 1 from accounts for update')
  await elsewhere!.query('begin; insert into other values (1)')
  await applier.query('begin; insert into accounts values (5, 5)')
  assert.deepEqual(await leader.waitSet([]), [])
  await applier.query('commit')
  await reader!.query('commit')
  await leaf!.query('begin; insert into entries_1 values (1, 1)')
  await lock!.query('begin; lock table accounts in share row exclusive mode')
  const pidOf = (client: pg.Client | undefined) => (client as unknown as { processID: number }).processID
  const pids = (await leader.waitSet([])).map((writer) => writer.pid)
  assert.deepEqual(new Set(pids), new Set([pidOf(leaf), pidOf(lock)]))
})

test('an excused backend is not waited for, until a pooler lends it to another transaction (faults.md 69)', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const backend = await world.db.connect()
  await backend.query(`set timezone = 'Asia/Kolkata'`)
  await backend.query('begin; update accounts set balance = 1 where id = 1')
  const excused = await backendOf(backend)
  assert.deepEqual(await leader.waitSet([excused]), [])
  await backend.query('commit; begin; update accounts set balance = 2 where id = 2')
  assert.deepEqual(
    (await leader.waitSet([excused])).map((writer) => writer.pid),
    [excused.pid],
  )
})

test('a transaction that holds its guard lock keeps a fence waiting and never gets 40P01 from it (faults.md 66)', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const slots = [hashSlotOf('1'), hashSlotOf('2'), hashSlotOf('3')]
  const holder = await world.db.connect()
  await holder.query(`set deadlock_timeout = '10ms'`)
  await holder.query('begin isolation level repeatable read')
  await holder.query('update accounts set balance = 1 where id = 2')
  const intent = await leader.writeIntent({ to: 'target', slots, deadlineMs: 20_000 })
  const parking = leader.setPhase(intent, 'parking')
  let settled = false
  void parking.finally(() => {
    settled = true
  })
  // While the leader tries, the holder takes the other rows that the leader wants too.
  await eventually(async () => {
    const { rows } = await world.admin.query(
      `select count(*)::int as tries from pg_stat_activity where query like '%set_phase%' and pid <> pg_backend_pid()`,
    )
    return rows[0].tries > 0
  }, 'the leader tries')
  assert.deepEqual(
    [
      await outcome(holder.query('update accounts set balance = 1 where id = 1')),
      await outcome(holder.query('update accounts set balance = 1 where id = 3')),
      settled,
    ],
    ['ok', 'ok', false],
  )
  await holder.query('commit')
  assert.equal((await parking).state, 'parking')
})

test('a fence that is refused until its signal comes names the holder and has changed nothing', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const holder = await world.db.connect()
  await holder.query('begin isolation level repeatable read')
  await holder.query('update accounts set balance = 1 where id = 2')
  const before = (await leader.view()).epoch
  const intent = await leader.writeIntent({ to: 'target', slots: [hashSlotOf('2')], deadlineMs: 20_000 })
  const refused = await leader.setPhase(intent, 'parking', AbortSignal.timeout(100)).catch((error: unknown) => error)
  assert.match(
    String(refused),
    new RegExp(`kept waiting by pid ${(holder as unknown as { processID: number }).processID} \\(postgres, \\d+ ms in\\): update`),
  )
  assert.equal((await leader.view()).epoch, before)
})

test('money written by concurrent writers in every isolation level survives flips there and back, and none of them deadlocks', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const slots = Array.from({ length: 30 }, (_, i) => hashSlotOf(String(i + 1)))
  const stop = new AbortController()
  const codes = new Set<string>()
  let written = 0
  const writer = async (level: string, salt: number) => {
    const client = await world.db.connect()
    for (let i = salt; !stop.signal.aborted; i++) {
      await client.query(`begin isolation level ${level}`)
      const first = await outcome(client.query('update accounts set balance = balance + 1 where id = $1', [(i % 15) + 1]))
      const second =
        first === 'ok'
          ? await outcome(client.query('update accounts set balance = balance + 1 where id = $1', [((i * 7) % 15) + 16]))
          : first
      codes.add(second)
      if (second === 'ok' && (await outcome(client.query('commit'))) === 'ok') written += 2
      else await client.query('rollback')
    }
  }
  const writers = ['read committed', 'repeatable read', 'serializable', 'read committed'].map((level, i) => writer(level, i * 11))
  for (let round = 0; round < 3; round++) {
    await flipped(leader, slots)
    await flipped(leader, slots, 'source')
  }
  stop.abort()
  await Promise.all(writers)
  const { rows } = await world.admin.query('select sum(balance)::int as total from accounts')
  // Rows are taken in one order, so a 40P01 could only come from the guard or the flips.
  assert.deepEqual([rows[0].total, [...codes].filter((code) => !['ok', '40001', '55000'].includes(code))], [written, []])
})
