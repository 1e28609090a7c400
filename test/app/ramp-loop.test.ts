// The leader's ramp loop over the real control schema; the judge, the measurements and who carries orders out are the test's.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import type { JudgeNow } from '../../src/app/judging-parts.ts'
import { type RampParts, runRamps } from '../../src/app/ramp-loop.ts'
import { NO_CANARY } from '../../src/canary/judge.ts'
import type { RampPlan, RampSettings } from '../../src/canary/ramp.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { Signal } from '../../src/lib/latch.ts'
import { createJobs } from '../../src/store/jobs.ts'
import type { PostgresLeaderControl } from '../../src/store/leader-control.ts'
import { createRamps } from '../../src/store/ramps.ts'
import { controlConnector, openSession } from '../../src/store/session.ts'
import { flipped } from '../guard/flips.ts'
import { controlWorld } from '../store/fixture.ts'
import { eventually } from '../support/eventually.ts'

const SETTINGS: RampSettings = {
  steps: [
    { percent: 0.1, bakeMs: 200 },
    { percent: 0.2, bakeMs: 200 },
  ],
  distanceMax: 0.1,
  overshootMax: 1.25,
  observeMs: 400,
}
const TRAFFIC = { slots: new Map(Array.from({ length: 4_096 }, (_, slot) => [slot, 1])), keys: [{ key: 'hot', slot: 0, requests: 1 }] }
const NOTHING_OUT: JudgeNow = { step: 0, promote: false, holds: [NO_CANARY], rolledBack: null, saturation: [] }

async function loopWorld() {
  const world = await controlWorld()
  const session = await openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'test' })
  const ramps = createRamps<RampSettings, RampPlan>(session)
  const jobs = createJobs(session)
  const said = { judge: NOTHING_OUT, traffic: TRAFFIC, startedAgain: 0 }
  const running: (() => Promise<void>)[] = []
  return {
    ...world,
    ramps,
    jobs,
    said,
    /** As a leader; returns what ends it. */
    lead(leader: PostgresLeaderControl) {
      const parts: RampParts = {
        ramps,
        jobs,
        token: leader.token,
        clock: systemClock,
        log: pino({ level: 'silent' }),
        judge: {
          now: () => said.judge,
          startAgain: async () => {
            said.startedAgain++
            said.judge = { ...said.judge, rolledBack: null }
          },
        },
        measurements: { profile: () => said.traffic },
        nextOrder: (signal) => placed.next(signal),
        view: () => leader.view(),
        frozen: async () => [],
        nameOf: (key) => `named ${key}`,
      }
      const placed = new Signal()
      leader.onOrder(() => placed.notify())
      const stop = new AbortController()
      const loop = runRamps(parts, stop.signal)
      const end = async () => {
        stop.abort()
        await loop
      }
      running.push(end)
      return end
    },
    /** Carries out the order that is open, once there is one. */
    async carryOut(leader: PostgresLeaderControl) {
      const job = await eventually(async () => (await jobs.open())[0], 'an order')
      const { slots } = job.arguments as { slots: readonly number[] }
      if (slots.length > 0) await flipped(leader, slots)
      await jobs.end(job.id, leader.token, 'done', { held: [] })
      return slots
    },
    async [Symbol.asyncDispose]() {
      for (const end of running) await end()
      await session.close()
      await world[Symbol.asyncDispose]()
    },
  }
}

test('a ramp arms, observes, moves a step, goes on when the judge promotes that step, and not by any other', async () => {
  await using world = await loopWorld()
  const { ramps, jobs, said } = world
  const leader = await world.leader()
  world.lead(leader)
  const id = (await ramps.order(SETTINGS))!
  assert.deepEqual(await world.carryOut(leader), []) // arms, moves nothing
  const first = await world.carryOut(leader)
  const { plan, step, state } = await ramps.read(id)
  assert.deepEqual([state, step, plan!.basis, plan!.hottest[0]!.key], ['running', 0, 'profile', 'named hot'])
  assert.deepEqual(first, plan!.steps[0]!.adds)
  // Promoted was another step, long ago.
  said.judge = { ...NOTHING_OUT, step: 1, promote: true, holds: [] }
  await eventually(async () => (await ramps.read(id)).heldBecause.join().includes('has not seen the step'), 'it holds')
  said.judge = { ...said.judge, step: first.length, promote: false, holds: ['inconclusive'] }
  await eventually(async () => {
    const { bakedMs, heldBecause } = await ramps.read(id)
    return bakedMs >= 200 && heldBecause.join() === 'inconclusive'
  }, 'it has baked, and holds')
  assert.deepEqual(await jobs.open(), [])
  said.judge = { ...said.judge, promote: true, holds: [] }
  const second = await world.carryOut(leader)
  assert.deepEqual(second, plan!.steps[1]!.adds)
  said.judge = { ...said.judge, step: first.length + second.length }
  await eventually(async () => (await ramps.read(id)).state === 'done', 'it is done')
  const passed = (await ramps.read(id)).passed
  assert.ok(passed.length === 1 && passed[0]!.bakedMs >= 200)
})

test('INV-10: without a request that a gateway has told of no first step is taken, however long that lasts', async () => {
  await using world = await loopWorld()
  const { ramps, jobs, said } = world
  said.traffic = { slots: new Map(), keys: [] }
  const leader = await world.leader()
  world.lead(leader)
  const id = (await ramps.order({ ...SETTINGS, observeMs: 1 }))!
  await world.carryOut(leader)
  await eventually(async () => (await ramps.read(id)).heldBecause.join().includes('no gateway has told of a request'), 'it holds')
  assert.deepEqual([await jobs.open(), (await ramps.read(id)).plan], [[], null])
  said.traffic = TRAFFIC
  assert.ok((await world.carryOut(leader)).length > 0)
})

test('a new leader goes on at the step and the bake time of the old one; what it has to observe it observes itself (faults.md 4)', async () => {
  await using world = await loopWorld()
  const { ramps, said } = world
  const old = await world.leader()
  const endOld = world.lead(old)
  const id = (await ramps.order({ ...SETTINGS, observeMs: 3_000, steps: [{ percent: 0.1, bakeMs: 600_000 }, SETTINGS.steps[1]!] }))!
  await world.carryOut(old)
  await eventually(async () => (await ramps.read(id)).observedMs > 1_000, 'the old leader observes')
  await endOld()
  await old.close()
  const young = await eventually(() => world.leader().catch(() => undefined), 'another one leads')
  const endYoung = world.lead(young)
  await eventually(async () => {
    const { observedMs } = await ramps.read(id)
    return observedMs < 1_000
  }, 'the new one begins to observe')
  const slots = await world.carryOut(young)
  said.judge = { ...NOTHING_OUT, step: slots.length, promote: true, holds: [] }
  await eventually(async () => (await ramps.read(id)).bakedMs > 1_000, 'it bakes')
  await endYoung()
  await young.close()
  const { bakedMs: baked } = await ramps.read(id)
  const third = await eventually(() => world.leader().catch(() => undefined), 'a third one leads')
  world.lead(third)
  let begunAnew = false
  const later = await eventually(async () => {
    const ramp = await ramps.read(id)
    if (ramp.bakedMs < baked) begunAnew = true
    return ramp.bakedMs > baked + 500 && ramp
  }, 'it goes on to bake')
  assert.equal(begunAnew, false)
  assert.deepEqual([later.state, later.step, later.plan!.steps[0]!.adds], ['running', 0, slots])
})

test('after a verdict a ramp is over, and a person’s new one starts the judge again once nothing is under way', async () => {
  await using world = await loopWorld()
  const { ramps, jobs, said } = world
  const leader = await world.leader()
  world.lead(leader)
  const id = (await ramps.order(SETTINGS))!
  await world.carryOut(leader)
  const verdict = {
    tMs: 1,
    act: 'rollback',
    detector: 'errors',
    evidence: {
      statement: 's',
      level: 9,
      threshold: 1,
      stepsPerFalseAlarm: null,
      window: { fromMs: 0, toMs: 1 },
      arms: null,
      numbers: {},
      quantileTest: null,
    },
  } as const
  said.judge = { ...NOTHING_OUT, rolledBack: verdict }
  await eventually(async () => (await ramps.read(id)).state === 'rolled back', 'the ramp is over')
  assert.match((await ramps.read(id)).because!, /^the judge turned the traffic back: errors of s/)
  const home = await jobs.order({ kind: 'move', to: 'source', slots: [1], readOnlyFirst: false })
  const again = (await ramps.order(SETTINGS))!
  await eventually(
    async () => (await ramps.read(again)).heldBecause.join() === `order ${home.id} is under way`,
    'it waits for the way back',
  )
  assert.equal(said.startedAgain, 0)
  await jobs.end(home.id, leader.token, 'done', {})
  assert.deepEqual(await world.carryOut(leader), [])
  assert.equal(said.startedAgain, 1)
})

test('a row that somebody holds ends no lead: the ramp is looked at again', async () => {
  await using world = await loopWorld()
  const { ramps, admin } = world
  const leader = await world.leader()
  const id = (await ramps.order(SETTINGS))!
  await admin.query('begin')
  await admin.query('select 1 from switchback.ramp where id = $1 for update', [id])
  world.lead(leader)
  const watch = await world.db.connect()
  const waits = async () =>
    (await watch.query(`select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%ramp_order%'`)).rows.length > 0
  await eventually(waits, 'the leader waits for the row')
  await eventually(async () => !(await waits()), 'it is refused')
  await eventually(waits, 'it tries again')
  await admin.query('rollback')
  assert.deepEqual(await world.carryOut(leader), [])
})
