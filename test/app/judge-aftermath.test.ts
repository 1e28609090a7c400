// What a verdict stands for in PostgreSQL, and what is said of it afterwards, whoever leads by then and whatever was moved since.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import { watchAftermath } from '../../src/app/judge-aftermath.ts'
import type { RollbackReport } from '../../src/app/judge-report.ts'
import { savedState } from '../../src/app/judge-state.ts'
import { FRESH_JUDGE } from '../../src/canary/judge.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { JudgeVerdict } from '../../src/model/judge-verdict.ts'
import { createJudgeStore, listVerdicts } from '../../src/store/judging.ts'
import type { PostgresLeaderControl } from '../../src/store/leader-control.ts'
import { controlConnector, openSession } from '../../src/store/session.ts'
import { fenced, flipped } from '../guard/flips.ts'
import { controlWorld } from '../store/fixture.ts'
import { eventually } from '../support/eventually.ts'

const OFF_UNTIL_A_PERSON = /off by a verdict/
const SAVED = savedState(FRESH_JUDGE)!
const VERDICT: JudgeVerdict = {
  tMs: 1_800_000_000_000,
  act: 'rollback',
  detector: 'silence',
  evidence: {
    statement: null,
    level: 3_000,
    threshold: 3_000,
    stepsPerFalseAlarm: null,
    window: { fromMs: 1, toMs: 2 },
    arms: null,
    quantileTest: null,
    numbers: { silentMs: 3_000 },
  },
}

async function opened(world: Awaited<ReturnType<typeof controlWorld>>, leader: PostgresLeaderControl) {
  const session = await openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'test' })
  const store = createJudgeStore(session, leader.token)
  const turnBack = () => store.record({ ...SAVED, verdict: VERDICT, evidence: null, evidenceFilesMax: 1 })
  return { session, store, turnBack }
}

test('a flip to the target that was under way when the verdict was recorded does not commit, and none begins until a person starts again', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const { session, store, turnBack } = await opened(world, leader)
  try {
    const flip = await fenced(leader, [5])
    await leader.writeMarker(flip)

    await turnBack()

    const commit = () => leader.commitFlip(flip, { newBase: 500n, held: false })
    await assert.rejects(
      commit(),
      (error: Error) => (error as unknown as { code: string }).code === 'FLIP_STATE' && OFF_UNTIL_A_PERSON.test(error.message),
    )
    assert.equal((await leader.cancelFlip(flip, 'the judge')).state, 'cancelled')
    await assert.rejects(leader.writeIntent({ to: 'target', slots: [6], deadlineMs: 20_000 }), { code: 'FLIP_STATE' })
    assert.deepEqual((await world.admin.query(`select 1 from switchback.ownership where owner = 'target'`)).rows, [])

    await store.startAgain(SAVED)
    await flipped(leader, [5], 'target')
    assert.equal((await leader.view()).ownership(5)?.owner, 'target')
  } finally {
    await session.close()
  }
})

test('a verdict waits for a commit to the target that came first, and its order takes that home too', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const { session, turnBack } = await opened(world, leader)
  try {
    const flip = await fenced(leader, [5])
    await leader.writeMarker(flip)
    const before = await world.db.connect()
    await before.query('begin')
    await before.query('select switchback.commit_flip($1, $2, 500, false)', [leader.token, flip.id])
    const verdict = turnBack()
    await eventually(async () => {
      const { rows } = await world.admin.query(`select 1 from pg_stat_activity where query ~ 'record_verdict' and wait_event_type = 'Lock'`)
      return rows.length > 0
    }, 'the verdict waits')
    await before.query('commit')
    const { job } = await verdict
    assert.ok(job !== null)
    const kinds = (await world.admin.query(`select kind from switchback.journal where kind in ('commit', 'verdict') order by id`)).rows
    assert.deepEqual(
      kinds.map(({ kind }) => kind),
      ['commit', 'verdict'],
    )
  } finally {
    await session.close()
  }
})

test('a report that is written late tells of its own way home, not of that of a canary that a person has started since', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const { session, store, turnBack } = await opened(world, leader)
  const end = new AbortController()
  try {
    await flipped(leader, [5, 6], 'target')
    const { id, job } = await turnBack()
    const home = await flipped(leader, [5, 6], 'source')
    await world.admin.query(`update switchback.job set state = 'done', result = '{"held": []}' where id = $1`, [job])
    await store.startAgain(SAVED)
    await flipped(leader, [5], 'target')
    await flipped(leader, [5], 'source')
    const { rows } = await world.admin.query(
      `select j.at, round(extract(epoch from j.at - v.at) * 1000)::int as ms from switchback.verdict v, switchback.journal j
        where j.kind = 'finish' and j.flip = $1`,
      [home.id],
    )

    const parts = {
      session,
      store,
      parity: { compare: async () => null },
      rolledBack: () => null,
      clock: systemClock,
      log: pino({ level: 'silent' }),
    }
    const watching = watchAftermath(parts, end.signal)
    const row = await eventually(
      async () => (await listVerdicts(session, 1)).find(({ report }) => report?.['whole'] === true),
      'the report',
    )
    end.abort()
    await watching

    const { verdictToOffMs, flips, slotsHome } = row.report as unknown as RollbackReport
    assert.equal(row.id, id)
    assert.deepEqual([verdictToOffMs, flips.map((flip) => flip.id), slotsHome], [rows[0]!.ms, [home.id], 2])
  } finally {
    end.abort()
    await session.close()
  }
})
