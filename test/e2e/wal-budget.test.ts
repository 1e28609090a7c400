// The target takes no rows, so the forward sync stands still and PostgreSQL keeps WAL for it, past its budget (faults.md 14): alarm, then the
// policy; PostgreSQL takes writes all the while.
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { readStatus } from '../../src/app/status.ts'
import { WAL_JOURNAL } from '../../src/app/wal-budget.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { type Ended, objectOf, startCommand } from './cli-place.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`
const BUDGET_BYTES = 64 * 1024 * 1024
const CHUNK_BYTES = 1024 * 1024
const slotOf = (move: Move) => `switchback_${move.database.name}`

function command(move: Move, args: readonly string[]): Promise<Ended> {
  return startCommand([...args, '--config', move.configPath], dirname(move.configPath), { ...process.env, ...move.env }).ended
}

/** A move whose target refuses rows for now while `refusing`. */
async function jammed(pastWalBudget: 'alarm' | 'drop slot') {
  const at = { refusing: false }
  const faults = (operation: string) => (at.refusing && operation === 'putRows' ? ({ kind: 'refuse' } as const) : undefined)
  const move = await startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    source: { walBudgetBytes: BUDGET_BYTES, pastWalBudget },
    faults,
  })
  const status = () => readStatus(move.session, slotOf(move), { walBudgetBytes: BUDGET_BYTES })
  return {
    at,
    move,
    status,
    /** WAL that is nobody's row, until the slot keeps more than the budget. */
    async fill() {
      at.refusing = true
      await move.database.query('update notes set n = n + 1 where account = 5')
      await eventually(async () => {
        await move.database.query(`select pg_logical_emit_message(false, 'test', repeat('x', ${CHUNK_BYTES}))`)
        const { slot } = await status()
        return slot === null || slot.walBudget === 'past'
      }, 'the WAL is past its budget')
    },
    journal: async () =>
      (await move.database.query(`select kind from switchback.journal where kind like 'WAL %' order by id`)).rows.map((row) => row.kind),
    [Symbol.asyncDispose]: () => move[Symbol.asyncDispose](),
  }
}

test('row 14: past its WAL budget the policy "alarm" alarms, keeps the slot, and PostgreSQL takes writes; what was held gets there', {
  timeout: 120_000,
}, async () => {
  await using scene = await jammed('alarm')
  const { move, at } = scene
  assert.equal((await scene.status()).slot?.walBudget, 'within')
  await scene.fill()
  await eventually(async () => (await scene.journal()).at(-1) === WAL_JOURNAL.past, 'the journal has the alarm')
  const told = await command(move, ['status'])
  assert.match(told.stdout, /WAL past its budget: PostgreSQL keeps \d+ bytes for the forward sync, of 67108864/)
  await move.database.query('update notes set n = 77 where account = 7')
  assert.equal((await scene.status()).slot?.walStatus, 'reserved', 'it is kept')
  at.refusing = false
  await eventually(async () => {
    // The slot lets go of WAL by checkpoints of its own.
    await move.database.query('checkpoint')
    return (await scene.journal()).at(-1) === WAL_JOURNAL.within
  }, 'it is within its budget again')
  const rows = await move.target.target.readRows([{ table: 'public.notes', key: '7', clustering: ['1'] }])
  assert.equal(rows[0]?.values?.at(-1), '77')
})

test('row 14: the policy "drop slot" gives the slot up by name, on record; writes and the way back go on, and a second backfill mends it', {
  timeout: 120_000,
}, async () => {
  await using scene = await jammed('drop slot')
  const { move, at } = scene
  await eventually(async () => (await scene.status()).readyForCanary, 'a canary may start', 30_000)
  await move.move('target', ['1'])
  await scene.fill()
  const stopped = await eventually(async () => {
    const now = await scene.status()
    return now.slot === null && now.backfill.state === 'stopped' && now
  }, 'the slot is gone')
  assert.match(stopped.backfill.because!, /more than source\.walBudgetBytes \(67108864\)/)
  assert.match(stopped.notReadyBecause[0]!, /^The forward sync has stopped .*switchback backfill --again/)
  await move.database.query('update notes set n = 77 where account = 7')
  at.refusing = false
  const client = await move.client()
  await client.query('update notes set n = 11 where account = 1')
  await move.move('source', ['1'])
  assert.deepEqual((await move.database.query('select account, n from notes where account in (1, 7) order by 1')).rows, [
    { account: '1', n: 11 },
    { account: '7', n: 77 },
  ])
  const again = await command(move, ['backfill', '--again', '--json'])
  assert.equal(again.exitCode, 0, again.stderr)
  const parity = objectOf(await command(move, ['parity', '--full', '--json']))
  assert.deepEqual([parity['differences'], (await scene.journal()).filter((kind) => kind === WAL_JOURNAL.past).length], [0, 1])
})
