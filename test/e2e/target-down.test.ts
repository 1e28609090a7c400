// The target answers nothing while keys live there (faults.md 9, 25, 26, 27): an honest word in bounded time, other keys unharmed, a
// rollback that says what it waits for and loses nothing.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { placeOrder } from '../../src/app/place-order.ts'
import type { JobArguments } from '../../src/store/jobs.ts'
import type { Fault } from '../../src/targets/memory/faults.ts'
import { eventually } from '../support/eventually.ts'
import { startMove } from '../support/move.ts'

const SQL = `
  create table notes (account bigint primary key, n int not null default 0);
  insert into notes select a, 0 from generate_series(1, 9) a;
`
/** As a black hole: no answer, and no effect. */
const SWALLOWED: Fault = { kind: 'hold', until: new Promise(() => undefined), done: () => undefined }
const COMMIT_DEADLINE_MS = 1_000

test('a target that is a black hole: moved keys fail in time, others go on; a rollback that is held while it waits leaves the rest there and, when it answers again, loses nothing', {
  timeout: 90_000,
}, async () => {
  let down = false
  await using move = await startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    gateway: { limits: { commitDeadlineMs: COMMIT_DEADLINE_MS } },
    faults: () => (down ? SWALLOWED : undefined),
  })
  await move.move('target', ['1', '2'])
  const client = await move.client()
  const set = (account: number, n: number) =>
    client.query('update notes set n = $2 where account = $1', [account, n]).then(
      () => 'done',
      (error: pg.DatabaseError) => error.code ?? error.message,
    )
  assert.equal(await set(1, 7), 'done')

  down = true
  const startedMs = performance.now()
  const outcomes = [await set(1, 8), await set(2, 8)]
  const tookMs = performance.now() - startedMs
  // INV-9: nobody can say whether these took effect.
  assert.ok(
    outcomes.every((outcome) => /^(08007|08006|57P03|53\d{3}|40001|58\w{3})$/.test(outcome)),
    outcomes.join(),
  )
  assert.ok(tookMs < 2 * (COMMIT_DEADLINE_MS + 1_000), `${tookMs} ms for two statements`)
  const otherMs = performance.now()
  assert.equal(await set(9, 1), 'done')
  assert.ok(performance.now() - otherMs < 1_000, 'other keys are unharmed')

  const home: JobArguments = { kind: 'move', to: 'source', slots: [move.slotOf('1'), move.slotOf('2')], readOnlyFirst: false }
  let told = ''
  const order = () => placeOrder(move.session, home, ({ step }) => (told = step ?? ''), AbortSignal.timeout(60_000))
  const held = order()
  held.catch(() => undefined)
  await eventually(() => told.startsWith('the target does not answer'), 'the rollback says what it waits for')
  assert.match(told, new RegExp(`slot ${move.slotOf('1')}: `))
  await move.session.query(`update switchback.job set state = 'held', ended_at = clock_timestamp() where state in ('open', 'running')`)
  await held
  const owned = `select distinct owner, phase from switchback.ownership where slot = any ($1)`
  const noFlip = async () =>
    (await move.session.query(`select id from switchback.flip where state not in ('cancelled', 'routed')`)).length === 0
  await eventually(noFlip, 'no flip is open')
  // Of key 1 nobody knows whether its last write was committed; key 2 may have gone.
  assert.deepEqual({ ...(await move.session.query(owned, [[move.slotOf('1')]]))[0] }, { owner: 'target', phase: 'steady' })

  down = false
  await eventually(async () => (await set(2, 9)) === 'done', 'the target is used again')
  // Two at once: the second finds it done, or does what is left (faults.md 27).
  const [first, second] = await Promise.all([order(), order()])
  assert.deepEqual([first.state, second.state], ['done', 'done'])
  const rows = (await move.database.query('select account::int, n from notes where account in (1, 2, 9) order by account')).rows
  assert.deepEqual(rows.slice(1), [
    { account: 2, n: 9 },
    { account: 9, n: 1 },
  ])
  assert.ok([7, 8].includes(rows[0].n), `the acknowledged write, or the one that nobody could tell of: ${rows[0].n}`)
  assert.deepEqual({ ...(await move.session.query(owned, [home.slots]))[0] }, { owner: 'source', phase: 'steady' })
})
