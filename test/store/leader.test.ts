import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLsn } from '../../src/model/ids.ts'
import { takeLead } from '../../src/store/leader-control.ts'
import { leaderApplicationName } from '../../src/store/leadership.ts'
import { controlConnector } from '../../src/store/session.ts'
import { fenced, flipped } from '../guard/flips.ts'
import { eventually } from '../support/eventually.ts'
import { controlWorld, outcome } from './fixture.ts'

const FLIP = { to: 'target', slots: [1, 2, 3], deadlineMs: 20_000 } as const

test('a second controller gets null while the leader lives, and leads at once after it has closed', async () => {
  await using world = await controlWorld()
  const first = await world.leader()
  const connect = controlConnector({ connectionString: world.db.url })
  assert.equal(await takeLead({ connect, onLost: () => undefined }), null)
  await first.close()
  const second = await world.leader()
  assert.equal(second.token, first.token + 1)
})

test('a leader whose heart stands still with its sockets open is replaced within 5 s, its backends and row locks gone (faults.md 56)', async () => {
  await using world = await controlWorld()
  let lost: Error | null = null
  const beats = async () => Number((await world.admin.query('select beats::text as beats from switchback.heartbeat')).rows[0]!.beats)
  const before = await beats()
  const old = await world.leader({ beatMs: 3_600_000, onLost: (error) => (lost = error) })
  // Once with its token, once by its heart, which then stands still.
  await eventually(async () => (await beats()) === before + 2, 'its heart has beaten once')
  // A connection of its own, as the reverse applier's, that holds a row of the control schema.
  const applier = await world.db.connect({ application_name: leaderApplicationName(old.token, 'reverse 0') })
  await applier.query('begin')
  await applier.query('select 1 from switchback.leader for share')
  await applier.query('select 1 from switchback.ownership where slot = 1 for update')
  const startedMs = performance.now()
  const heir = await world.leader()
  const tookMs = performance.now() - startedMs
  assert.ok(tookMs < 5_000, `${tookMs} ms`)
  assert.equal((await heir.writeIntent(FLIP)).state, 'intent')
  assert.equal((await heir.setPhase(await heir.writeIntent(FLIP), 'parking')).state, 'parking')
  await eventually(() => lost !== null, 'the old leader hears that it is one no more')
  await assert.rejects(old.view(), { code: 'TOKEN_STALE' })
})

test('an old leader that wakes finds its token stale in every act, and nothing is changed (faults.md 5)', async () => {
  await using world = await controlWorld()
  const old = await world.leader()
  const flip = await old.writeIntent(FLIP)
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const before = (await world.admin.query('select epoch, binding_epoch from switchback.state')).rows
  await world.admin.query('update switchback.leader set token = token + 1') // as a successor does
  // Every function of the schema that takes a token, each by the schema's own comparison.
  const args: Record<string, string> = {
    announce_end: '',
    append_journal: `'note', '{}'`,
    assert_leader: '',
    begin_backfill: `'0/5', 1000, 'system', 1, null`,
    bind: '',
    cancel_flip: `'${flip.id}', 'x'`,
    commit_flip: `'${flip.id}', 9, false`,
    commit_in_debt: `'${flip.id}', 9, false`,
    end_leases: `array['${lease}'], array[0::bigint]`,
    finish_flip: `'${flip.id}', '[]'`,
    order_home_again: '1',
    ramp_order: `1, 'running', null, 0, '[]', '[]'`,
    record_verdict: `'{"act":"rollback","tMs":1,"detector":"tail"}', null, '', '', 1`,
    release_flip: `'${flip.id}'`,
    save_judge: `'', ''`,
    save_report: `1, null, '{}'`,
    set_phase: `'${flip.id}', 'parking'`,
    set_read_only: 'array[1], true',
    settle_debts: 'array[1], array[1::bigint]',
    split_flip: `'${flip.id}', array[1]`,
    split_pin: `'1'`,
    start_again: `'', ''`,
    stop_forward: `1, 'x', true`,
    write_intent: `'target', array[9], 1000`,
    write_marker: `'${flip.id}'`,
  }
  const { rows: functions } = await world.admin.query<{ name: string }>(
    `select p.proname as name from pg_proc p where p.pronamespace = 'switchback'::regnamespace and p.proargnames[1] = 'p_token'
       and p.proname not in ('beat', 'write_journal') order by 1`,
  )
  assert.deepEqual(
    functions.map((row) => row.name),
    Object.keys(args),
  )
  for (const [name, rest] of Object.entries(args)) {
    const call = `select from switchback.${name}(${[String(old.token), rest].filter((arg) => arg !== '').join(', ')})`
    assert.equal(await outcome(world.admin.query(call)), 'SB001', name)
  }
  assert.deepEqual((await world.admin.query('select switchback.beat($1) as leads', [old.token])).rows, [{ leads: false }])
  await assert.rejects(old.setPhase(flip, 'parking'), { code: 'TOKEN_STALE' })
  assert.deepEqual((await world.admin.query('select epoch, binding_epoch from switchback.state')).rows, before)
})

test('an act in flight holds a new token up, so that none commits under the old one afterwards', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const act = await world.db.connect()
  await act.query('begin')
  await act.query('select switchback.assert_leader($1)', [leader.token])
  await world.admin.query(`set lock_timeout = '100ms'`)
  await assert.rejects(world.admin.query('update switchback.leader set token = token + 1'), { code: '55P03' })
  await act.query('commit')
})

test('a cancelled flip keeps the tenure and base at a fresh epoch, and can only be cancelled before its commit (INV-7, faults.md 27)', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const before = (await leader.view()).ownership(1)!
  const flip = await fenced(leader, [1, 2, 3])
  const cancelled = await leader.cancelFlip(flip, 'a test')
  const after = (await leader.view()).ownership(1)!
  assert.deepEqual(after, { ...before, epoch: cancelled.epoch })
  assert.ok(cancelled.epoch > flip.epoch)
  assert.deepEqual(await leader.cancelFlip(flip, 'sent again'), cancelled)
  await assert.rejects(leader.commitFlip(flip, { newBase: 10n, held: false }), { code: 'FLIP_STATE' })
  const committed = await flipped(leader, [1, 2, 3])
  await assert.rejects(leader.cancelFlip(committed, 'too late'), { code: 'FLIP_STATE' })
  assert.equal((await leader.view()).ownership(1)!.owner, 'target')
})

test('acts that are sent again after a lost reply change nothing a second time', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const intent = await leader.writeIntent(FLIP)
  assert.deepEqual(await leader.writeIntent(FLIP), intent)
  await assert.rejects(leader.writeIntent({ ...FLIP, slots: [3, 4] }), { code: 'FLIP_OVERLAPS' })
  const parking = await leader.setPhase(intent, 'parking')
  assert.deepEqual(await leader.setPhase(intent, 'parking'), parking)
  const fence = await leader.setPhase(parking, 'fenced')
  await assert.rejects(leader.setPhase(fence, 'parking'), { code: 'FLIP_STATE' })
  await assert.rejects(leader.commitFlip(fence, { newBase: 10n, held: false }), { code: 'FLIP_STATE' }, 'without a marker')
  assert.equal(await leader.writeMarker(fence), `flip:${fence.id}:${fence.epoch}`)
  await assert.rejects(leader.commitFlip(fence, { newBase: 1n, held: false }), { code: 'FLIP_STATE' }, 'a base that is not above the old')
  const committed = await leader.commitFlip(fence, { newBase: 10n, held: false })
  assert.deepEqual(await leader.commitFlip(fence, { newBase: 10n, held: false }), committed)
  assert.deepEqual(await leader.openFlips(), [committed])
  const done = await leader.finishFlip(committed, [{ step: 'park', ms: 1, detail: '' }])
  assert.deepEqual([done.state, done.steps, await leader.openFlips()], ['routed', [{ step: 'park', ms: 1, detail: '' }], []])
  assert.deepEqual([intent.epoch, parking.epoch, fence.epoch, committed.epoch], [1, 2, 3, 4])
})

test('a commit writes owner, tenure, base and the first LSN, after the marker', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const flip = await fenced(leader, [5])
  await leader.tenures() // what is cached must not hide the new record
  await leader.writeMarker(flip)
  const markerLsn = await leader.currentWalLsn()
  const committed = await leader.commitFlip(flip, { newBase: 500n, held: false })
  const row = (await leader.view()).ownership(5)
  assert.deepEqual(row, {
    slot: 5,
    owner: 'target',
    phase: 'steady',
    readOnly: false,
    epoch: committed.epoch,
    tenure: committed.epoch,
    base: 500n,
  })
  const history = (await leader.tenures()).of(5).toReversed()
  assert.deepEqual(
    history.map(({ tenure, owner, base }) => ({ tenure, owner, base })),
    [
      { tenure: 1, owner: 'source', base: 1n },
      { tenure: committed.epoch, owner: 'target', base: 500n },
    ],
  )
  assert.equal(history[0]!.firstLsn, parseLsn('0/1000'))
  assert.ok(history[1]!.firstLsn >= markerLsn)
})

test('a flip past its deadline cannot commit, and is cancelled', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const intent = await leader.writeIntent({ ...FLIP, deadlineMs: 1 })
  const flip = await leader.setPhase(intent, 'fenced')
  await leader.writeMarker(flip)
  await assert.rejects(leader.commitFlip(flip, { newBase: 10n, held: false }), { code: 'FLIP_DEADLINE' })
  assert.equal((await leader.cancelFlip(flip, 'late')).state, 'cancelled')
})

test('the next leader finds open flips, oldest first, as the dead one left them (faults.md 4)', async () => {
  await using world = await controlWorld()
  const first = await world.leader()
  const committed = await fenced(first, [1])
  await first.writeMarker(committed)
  const one = await first.commitFlip(committed, { newBase: 10n, held: false })
  const two = await first.setPhase(await first.writeIntent({ ...FLIP, slots: [2] }), 'parking')
  const three = await first.writeIntent({ ...FLIP, slots: [3] })
  await first.close()
  const second = await world.leader()
  assert.deepEqual(await second.openFlips(), [one, two, three])
  assert.equal((await second.cancelFlip(two, 'resumed')).state, 'cancelled')
  assert.equal((await second.finishFlip(one, [])).state, 'routed')
})

test('read-only is a flag at a fresh epoch that commit and cancel keep', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const epoch = await leader.setReadOnly([1, 2], true)
  assert.equal(await leader.setReadOnly([1, 2], true), epoch, 'no change, no epoch')
  await leader.cancelFlip(await fenced(leader, [1]), 'x')
  await flipped(leader, [2])
  const view = await leader.view()
  const flags = [1, 2, 3].map((slot) => ({ slot, readOnly: view.ownership(slot)!.readOnly, owner: view.ownership(slot)!.owner }))
  assert.deepEqual(flags, [
    { slot: 1, readOnly: true, owner: 'source' },
    { slot: 2, readOnly: true, owner: 'target' },
    { slot: 3, readOnly: false, owner: 'source' },
  ])
})

test('a lost reply ends the old backend before the next act is sent, so that no command runs late', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gate = await world.db.connect()
  await gate.query('begin; lock table switchback.poison in access exclusive mode')
  const pidOf = async () =>
    (
      await world.admin.query(`select pid from pg_stat_activity where application_name = $1`, [
        leaderApplicationName(leader.token, 'control'),
      ])
    ).rows
  const [{ pid }] = (await pidOf()) as [{ pid: number }]
  const hanging = leader.poison().catch((error: unknown) => error)
  await eventually(async () => {
    const { rows } = await world.admin.query('select 1 from pg_stat_activity where pid = $1 and wait_event_type = $2', [pid, 'Lock'])
    return rows.length > 0
  }, 'the act waits')
  await world.admin.query('select pg_terminate_backend($1)', [pid])
  assert.equal(((await hanging) as { code: string }).code, 'CONTROL_UNREACHABLE')
  assert.deepEqual(await leader.openFlips(), [])
  const now = (await pidOf()) as { pid: number }[]
  assert.deepEqual([now.length, now[0]!.pid === pid], [1, false])
})

test('the highest applied version counts only the slots and their present tenures', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  await world.admin.query(`insert into switchback.applied (key, slot, tenure, version, txn_id)
    values ('a', 1, 1, 7, 'x'), ('b', 1, 0, 90, 'x'), ('c', 2, 1, 80, 'x'), ('d', 1, 1, 5, 'x')`)
  assert.deepEqual([await leader.highestApplied([1]), await leader.highestApplied([1, 2]), await leader.highestApplied([3])], [7, 80, 0])
})

test('a row of the state that somebody holds for longer than one lock time-out keeps no act of the leader from being done', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const holder = await world.db.connect()
  for (const act of [() => leader.bind(), () => leader.writeIntent({ to: 'target', slots: [1], deadlineMs: 10_000 })]) {
    await holder.query('begin')
    await holder.query('select 1 from switchback.state for update')
    const done = act()
    // The second statement that waits for it is a second try.
    const waits = `select count(*)::int as n from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock' and query_start > $1`
    const { rows } = await world.db.query('select clock_timestamp() as at')
    const first = await eventually(async () => (await world.db.query(waits, [rows[0].at])).rows[0].n > 0 && performance.now(), 'it waits')
    await eventually(() => performance.now() - first > 600, 'the first try is over')
    await holder.query('rollback')
    await done
  }
})
