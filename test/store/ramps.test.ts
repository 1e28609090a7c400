// A ramp in the control schema: one at a time, its orders fenced by the leader's token, stopped in the transaction that holds its moves.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createJobs } from '../../src/store/jobs.ts'
import { createRamps } from '../../src/store/ramps.ts'
import { controlConnector, openSession } from '../../src/store/session.ts'
import { readTraffic, writeTraffic } from '../../src/store/traffic.ts'
import { eventually } from '../support/eventually.ts'
import { controlWorld } from './fixture.ts'

interface Config {
  readonly name: string
}

async function rampWorld() {
  const world = await controlWorld()
  const open = () => openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'test' })
  const session = await open()
  return {
    ...world,
    session,
    open,
    leader: await world.leader(),
    ramps: createRamps<Config, readonly number[]>(session),
    jobs: createJobs(session),
    async [Symbol.asyncDispose]() {
      await session.close()
      await world[Symbol.asyncDispose]()
    },
  }
}

const STEP = { state: 'running', plan: [1, 2], step: 0, passed: [], slots: [1, 2] } as const

test('there is one open ramp; its order and its step are one act; when it has ended there may be another', async () => {
  await using world = await rampWorld()
  const { ramps, jobs, leader } = world
  assert.equal(await ramps.open(), null)
  const id = (await ramps.order({ name: 'first' }))!
  assert.equal(await ramps.order({ name: 'second' }), null)
  assert.equal(await ramps.step(id, leader.token, STEP), true)
  const [job] = await jobs.open()
  assert.deepEqual(job!.arguments, { kind: 'move', to: 'target', slots: [1, 2], readOnlyFirst: false, by: 'ramp' })
  await ramps.tell(id, leader.token, { observedMs: 1, bakedMs: 2.4, heldBecause: ['waits'] })
  const { toldAgeMs, ...ramp } = (await ramps.open())!
  assert.ok(toldAgeMs >= 0 && toldAgeMs < 60_000)
  assert.deepEqual(ramp, {
    id,
    state: 'running',
    config: { name: 'first' },
    plan: [1, 2],
    step: 0,
    job: { id: job!.id, state: 'open', slotsDone: 0, slotsTotal: 0, held: [], because: null },
    observedMs: 1,
    bakedMs: 2,
    passed: [],
    heldBecause: ['waits'],
    because: null,
    ended: false,
  })
  await jobs.end(job!.id, leader.token, 'done', { held: [{ slot: 2, because: 'poison' }] })
  assert.deepEqual((await ramps.read(id)).job!.held, [{ slot: 2, because: 'poison' }])
  await ramps.end(id, leader.token, { state: 'done', because: null })
  const second = (await ramps.order({ name: 'second' }))!
  assert.deepEqual([(await ramps.last())!.id, (await ramps.read(id)).ended], [second, true])
})

test('a leader that leads no more orders no step and says nothing of a ramp', async () => {
  await using world = await rampWorld()
  const { ramps, jobs, leader } = world
  const id = (await ramps.order({ name: 'r' }))!
  await world.admin.query('update switchback.leader set token = token + 1')
  await assert.rejects(ramps.step(id, leader.token, STEP), { code: 'TOKEN_STALE' })
  await assert.rejects(ramps.tell(id, leader.token, { observedMs: 0, bakedMs: 0, heldBecause: [] }), { code: 'TOKEN_STALE' })
  await assert.rejects(ramps.end(id, leader.token, { state: 'done', because: null }), { code: 'TOKEN_STALE' })
  assert.deepEqual([(await ramps.read(id)).state, await jobs.open()], ['ordered', []])
})

test('a hold of moves to the target stops the ramp and its order in one transaction, of moves to the source it leaves it alone', async () => {
  await using world = await rampWorld()
  const { ramps, jobs, leader } = world
  const id = (await ramps.order({ name: 'r' }))!
  await ramps.step(id, leader.token, STEP)
  await jobs.order({ kind: 'move', to: 'source', slots: [3], readOnlyFirst: true })
  assert.deepEqual(await jobs.hold('read-only', 'writes go on'), { orders: 1, ramp: null })
  assert.deepEqual(await jobs.hold('source', 'stop'), { orders: 0, ramp: null })
  assert.equal((await ramps.read(id)).state, 'running')
  assert.deepEqual(await jobs.hold('target', 'held by a person'), { orders: 1, ramp: id })
  const { state, because, job } = await ramps.read(id)
  assert.deepEqual([state, because, job!.state, job!.because], ['stopped', 'held by a person', 'held', 'held by a person'])
  // What the leader was about to do next comes to nothing.
  assert.equal(await ramps.step(id, leader.token, { ...STEP, step: 1 }), false)
  assert.deepEqual(await jobs.open(), [])
})

test('a step that is being ordered while somebody holds is held too, in whichever order they come', async () => {
  await using world = await rampWorld()
  const { ramps, jobs, leader, admin } = world
  const id = (await ramps.order({ name: 'r' }))!
  // The leader's act has its locks, and has not committed yet.
  await admin.query('begin')
  await admin.query(`select switchback.ramp_order($1, $2, 'running', '[]', 0, '[]', '[7]')`, [leader.token, id])
  const held = jobs.hold('target', 'held by a person')
  const waits = await world.db.connect()
  await eventually(async () => {
    const { rows } = await waits.query(`select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%hold_moves%'`)
    return rows.length > 0
  }, 'the hold waits for the ramp')
  await admin.query('commit')
  assert.deepEqual(await held, { orders: 1, ramp: id })
  assert.deepEqual(await jobs.open(), [])
})

test('a ramp that no leader took up is withdrawn; one that a leader has looked at is not', async () => {
  await using world = await rampWorld()
  const { ramps, leader } = world
  const first = (await ramps.order({ name: 'r' }))!
  await ramps.tell(first, leader.token, { observedMs: 0, bakedMs: 0, heldBecause: ['order 1 is under way'] })
  assert.equal(await ramps.withdraw(first, 'nobody'), false)
  await ramps.end(first, leader.token, { state: 'stopped', because: 'a test' })
  const second = (await ramps.order({ name: 'r' }))!
  assert.equal(await ramps.withdraw(second, 'nobody'), true)
  assert.deepEqual([(await ramps.read(second)).state, await ramps.open()], ['stopped', null])
  await assert.rejects(ramps.read(99), { code: 'RAMP_GONE' })
})

test('the traffic is the newest leader’s last word, with its age', async () => {
  await using world = await rampWorld()
  const { session, leader } = world
  assert.equal(await readTraffic(session), null)
  const profile = { slots: [[3, 10.5]], keys: [['key-1', 3, 7]] } as const
  await writeTraffic(session, leader.token, profile)
  await writeTraffic(session, leader.token - 1, { slots: [], keys: [] })
  const { ageMs, profile: seen } = (await readTraffic(session))!
  assert.deepEqual(seen, profile)
  assert.ok(ageMs >= 0 && ageMs < 60_000)
})
