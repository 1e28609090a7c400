import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLsn } from '../../src/model/ids.ts'
import { backfillRanges, reopenClaims } from '../../src/store/backfill-ranges.ts'
import { lockBackfillRun } from '../../src/store/backfill-run.ts'
import { beginBackfill, endBackfill, readBackfillFacts, slotsOfTenure, stopForward } from '../../src/store/backfills.ts'
import { readEpoch } from '../../src/store/read-view.ts'
import { controlConnector, openSession } from '../../src/store/session.ts'
import { fenced, flipped } from '../guard/flips.ts'
import { eventually } from '../support/eventually.ts'
import { type ControlWorld, controlWorld, outcome } from './fixture.ts'

const SERVER = { systemIdentifier: 'system', timeline: 1 }
const POINT = parseLsn('FF/0')

async function opened(world: ControlWorld) {
  const connect = controlConnector({ connectionString: world.db.url })
  const session = await openSession({ connect, applicationName: 'test' })
  return { connect, session, [Symbol.asyncDispose]: () => session.close() }
}

test('a second backfill opens a new tenure for source-owned slots only, above every stamp, with its record, in one transaction', async () => {
  await using world = await controlWorld()
  await using at = await opened(world)
  const { session } = at
  const leader = await world.leader()
  await flipped(leader, [1])
  const before = await leader.view()
  const epoch = await readEpoch(session)
  const begin = { token: leader.token, consistentPoint: POINT, epoch, server: SERVER }
  const id = await beginBackfill(session, { ...begin, highestStamp: 1_000_000_000_000n })
  const view = await leader.view()
  assert.deepEqual(view.ownership(1), before.ownership(1))
  const taken = epoch + 1
  assert.deepEqual(view.ownership(2), { ...before.ownership(2)!, epoch: taken, tenure: taken, base: 1_000_000_000_001n })
  const history = (await leader.tenures()).newest(2)
  assert.deepEqual(history, { slot: 2, tenure: taken, owner: 'source', base: 1_000_000_000_001n, firstLsn: POINT })
  const { backfill } = await readBackfillFacts(session, 'no_slot')
  assert.deepEqual(
    { ...backfill!, ageMs: 0 },
    {
      id,
      consistentPoint: POINT,
      done: false,
      again: true,
      tenure: taken,
      base: 1_000_000_000_001n,
      ageMs: 0,
      stopped: null,
      madeFrom: SERVER,
    },
  )
  const slots = await slotsOfTenure(session, taken)
  assert.deepEqual([slots.size, slots.has(1), slots.has(2)], [4095, false, true])
  // Without a word of the caller: above what the WAL can have given.
  const next = await beginBackfill(session, { ...begin, epoch: taken })
  const [row] = await session.query('select base from switchback.backfill where id = $1', [next])
  assert.ok(BigInt(row!['base']!) > 1_000_000_000_001n)
})

test('a backfill does not begin while a flip is open, nor on a slot that was made before an owner changed', async () => {
  await using world = await controlWorld()
  await using at = await opened(world)
  const { session } = at
  const leader = await world.leader()
  const begin = async (epoch: number) => beginBackfill(session, { token: leader.token, consistentPoint: POINT, epoch, server: SERVER })
  const rows = async () => Number((await session.query('select count(*) as n from switchback.backfill'))[0]!['n'])
  const before = await rows()
  const flip = await fenced(leader, [1])
  await assert.rejects(begin(await readEpoch(session)), { code: 'FLIP_OVERLAPS', details: { flip: flip.id, state: 'fenced' } })
  await leader.cancelFlip(flip, 'test')
  const epoch = await readEpoch(session)
  await flipped(leader, [2])
  assert.equal(await begin(epoch), null)
  assert.equal(await rows(), before)
  assert.ok((await begin(await readEpoch(session))) !== null)
})

test('a stale token begins no backfill and stops no forward sync', async () => {
  await using world = await controlWorld()
  await using at = await opened(world)
  const leader = await world.leader()
  const stale = { token: leader.token + 1, consistentPoint: POINT, epoch: 99, server: SERVER }
  await assert.rejects(beginBackfill(at.session, stale), { code: 'TOKEN_STALE' })
  assert.equal(await outcome(world.admin.query(`select switchback.stop_forward(${leader.token + 1}, 1, 'x', true)`)), 'SB001')
})

test('what is lost stays lost, also when the forward sync would go on or the backfill end; what only stopped goes on', async () => {
  await using world = await controlWorld()
  await using at = await opened(world)
  const { session } = at
  const leader = await world.leader()
  const seen = async () => {
    const { backfill } = await readBackfillFacts(session, 'no_slot')
    return [backfill!.stopped, backfill!.done]
  }
  const { id } = (await readBackfillFacts(session, 'no_slot')).backfill!
  const stop = (because: string | null, lost: boolean) => stopForward(session, leader.token, { backfill: id, because, lost })
  await stop('TABLE_CHANGED', false)
  assert.deepEqual(await seen(), [{ because: 'TABLE_CHANGED', lost: false }, false])
  await stop(null, false)
  assert.deepEqual(await seen(), [null, false])
  await stop('the slot is gone', true)
  await stop(null, false)
  await endBackfill(session, id)
  assert.deepEqual(await seen(), [{ because: 'the slot is gone', lost: true }, false])
  const { rows } = await world.admin.query(`select kind from switchback.journal where kind like 'forward%' order by id`)
  assert.deepEqual(
    rows.map((row) => row.kind),
    ['forward sync stopped', 'forward sync goes on', 'forward sync stopped'],
  )
})

test('a superseded backfill has no work to give, and what its workers still hold does not count', async () => {
  await using world = await controlWorld()
  await using at = await opened(world)
  const { session } = at
  const leader = await world.leader()
  const begin = async () =>
    (await beginBackfill(session, { token: leader.token, consistentPoint: POINT, epoch: await readEpoch(session), server: SERVER }))!
  const old = backfillRanges(session, await begin())
  await old.plan('t', [
    { table: 't', from: null, to: ['5'] },
    { table: 't', from: ['5'], to: null },
  ])
  const claimed = (await old.claim('w'))!
  const later = await begin()
  assert.equal(await old.progress(claimed.id, 'w', { after: ['3'], rows: 3, bytes: 3 }), false)
  assert.equal(await old.done(claimed.id, 'w', { rows: 5, bytes: 5, snapshotLsn: null }), false)
  await assert.rejects(old.claim('w'), { code: 'BACKFILL_SUPERSEDED' })
  // Claims of the dead are open at once for who knows that they are dead.
  const now = backfillRanges(session, later)
  await now.plan('t', [{ table: 't', from: null, to: null }])
  await now.claim('dead')
  assert.equal(await now.claim('alive'), null)
  assert.equal(await reopenClaims(session, later), 1)
  assert.equal((await now.claim('alive'))?.resumed, true)
})

test('one run at a time, named to the second; a helper may join; the lock survives its connection and ends with the run', async () => {
  await using world = await controlWorld()
  const connect = controlConnector({ connectionString: world.db.url })
  const lost: Error[] = []
  const lock = (name: string, join = false) => lockBackfillRun({ connect, name, join, onLost: (error) => lost.push(error) })
  const first = await lock('here:1')
  await assert.rejects(lock('there:2'), { code: 'BACKFILL_RUNNING', message: /here:1, since .* UTC \(backend \d+\)/ })
  const helper = await lock('there:2', true)
  assert.deepEqual([first.isMain, helper.isMain, (await first.helpers()).length], [true, false, 1])
  await helper.close()
  const backends = () =>
    world.admin.query(
      `select pid from pg_stat_activity where application_name = 'switchback backfill here:1' and datname = current_database()`,
    )
  const [{ pid }] = (await backends()).rows as [{ pid: number }]
  await world.admin.query('select pg_terminate_backend($1)', [pid])
  await eventually(async () => {
    const { rows } = await world.admin.query(
      `select a.pid from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' and a.application_name = 'switchback backfill here:1'`,
    )
    return rows.length === 1 && rows[0].pid !== pid
  }, 'the lock is held by a new connection')
  await assert.rejects(lock('there:3'), { code: 'BACKFILL_RUNNING' })
  await first.close()
  await (await lock('there:3')).close()
  assert.deepEqual(lost, [])
})

test('the timeline and the system are those of this PostgreSQL, and any role may read them', async () => {
  await using world = await controlWorld()
  await using at = await opened(world)
  const { server } = await readBackfillFacts(at.session, 'none')
  const { rows } = await world.admin.query(
    'select system_identifier::text as system, timeline_id as timeline from pg_control_system(), pg_control_checkpoint()',
  )
  assert.deepEqual(server, { systemIdentifier: rows[0].system, timeline: rows[0].timeline })
  const { rows: rights } = await world.admin.query(
    `select bool_and(p.proacl is null or array_to_string(p.proacl, ',') like '%=X/%') as all_may from pg_proc p where p.proname in ('pg_control_system', 'pg_walfile_name', 'pg_current_wal_insert_lsn')`,
  )
  assert.deepEqual(rights, [{ all_may: true }])
})
