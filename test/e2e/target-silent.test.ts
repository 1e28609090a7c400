// The target answers nothing while keys live there, and the rollback does not wait for it (protocols.md, The flip, "Target unreachable";
// faults.md 26, 60).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { placeOrder } from '../../src/app/place-order.ts'
import { readStatus } from '../../src/app/status.ts'
import type { JobArguments, JobProgress } from '../../src/store/jobs.ts'
import type { Fault } from '../../src/targets/memory/faults.ts'
import { eventually } from '../support/eventually.ts'
import { startMove } from '../support/move.ts'

const SQL = `
  create table notes (account bigint primary key, n int not null default 0);
  insert into notes select a, 0 from generate_series(1, 9) a;
`
const SWALLOWED: Fault = { kind: 'hold', until: new Promise(() => undefined), done: () => undefined }
const MOVED = ['1', '2', '3', '4']

function started(down: () => boolean, more: Partial<Parameters<typeof startMove>[0]> = {}) {
  const tables = { 'public.notes': { partitionKey: 'account' } }
  return startMove({ sql: SQL, tables, faults: () => (down() ? SWALLOWED : undefined), ...more })
}

test('INV-2: a rollback with the target silent brings back what the gateways hold, names the rest, and pays its debt before the next canary (26, 60)', {
  timeout: 120_000,
}, async () => {
  let down = false
  await using move = await started(() => down, { gateways: 2, gateway: { limits: { commitDeadlineMs: 1_000 } } })
  await move.move('target', MOVED)
  const [one, two] = [await move.client(0), await move.client(1)]
  const set = (client: pg.Client, account: number, n: number) =>
    client.query('update notes set n = $2 where account = $1', [account, n]).then(
      () => 'done',
      (error: pg.DatabaseError) => error.code ?? error.message,
    )
  assert.equal(await set(one, 4, 1), 'done')

  // Acknowledged on the target, and not in PostgreSQL: somebody holds the rows there.
  const direct = await move.database.connect()
  await direct.query('begin')
  await direct.query('select from notes where account <= 4 for update')
  for (let n = 1; n <= 20; n++) assert.equal(await set(n % 2 === 0 ? one : two, 1 + (n % 3), n), 'done')
  const here = async () => (await move.database.query('select account::int, n from notes where account <= 4 order by account')).rows
  down = true
  assert.match(await set(one, 4, 2), /^08/, 'nobody can say what became of it')
  await direct.query('rollback')

  const slots = MOVED.map((key) => move.slotOf(key))
  const home: JobArguments = { kind: 'move', to: 'source', slots, readOnlyFirst: false }
  let told: Partial<JobProgress> = {}
  const startedMs = performance.now()
  const order = placeOrder(move.session, home, (progress) => (told = progress), AbortSignal.timeout(90_000))
  order.catch(() => undefined)
  await eventually(async () => told.step?.startsWith('the target does not answer') ?? false, 'the rollback names what stays')
  const tookMs = performance.now() - startedMs
  assert.ok(tookMs < 8_000, `${tookMs} ms`)
  assert.match(told.step!, new RegExp(`slot ${move.slotOf('4')}: gateway gateway 1 .*does not know yet`))
  assert.deepEqual(await here(), [
    { account: 1, n: 18 },
    { account: 2, n: 19 },
    { account: 3, n: 20 },
    { account: 4, n: 1 },
  ])
  const owned = async () =>
    (
      await move.session.query(
        'select owner, phase, count(*) as n from switchback.ownership where slot = any ($1) group by 1, 2 order by 1',
        [slots],
      )
    ).map((row) => `${row['owner']}/${row['phase']} ${row['n']}`)
  assert.deepEqual(await owned(), ['source/steady 3', 'target/parking 1'])
  assert.equal(await set(one, 1, 100), 'done', 'what went back is served')
  const status = await readStatus(move.session, `switchback_${move.database.name}`)
  assert.deepEqual(
    status.debts.map(({ slot }) => slot),
    slots.slice(0, 3).toSorted((a, b) => a - b),
  )

  down = false
  const job = await order
  assert.deepEqual([job.state, await owned()], ['done', ['source/steady 4']])
  const rows = await here()
  assert.ok([1, 2].includes(rows[3].n), `the acknowledged write, or the one that nobody could tell of: ${rows[3].n}`)
  // What the store lost meanwhile, as one that was restored from a copy, is put there again.
  const row = { table: move.mapping.tables[0]!.name, key: '2', clustering: [] }
  const [kept] = await move.target.target.readRows([row])
  await move.target.target.putRows([{ ...kept!, values: null, stamp: kept!.stamp + 1n }])
  await move.move('target', MOVED)
  assert.deepEqual((await move.session.query('select slot from switchback.debt')).length, 0)
  assert.equal((await two.query('select n from notes where account = 1')).rows[0].n, 100)
  assert.equal((await two.query('select n from notes where account = 2')).rows[0].n, 19)
})

test('INV-2: a controller that begins while the target is silent leads, is told again what the gateways hold, and brings it back (60, 70)', {
  timeout: 120_000,
}, async () => {
  let down = false
  await using move = await started(() => down)
  await move.move('target', ['1', '2'])
  const client = await move.client()
  const direct = await move.database.connect()
  await direct.query('begin')
  await direct.query('select from notes where account <= 2 for update')
  for (let n = 1; n <= 10; n++) await client.query('update notes set n = $2 where account = $1', [1 + (n % 2), n])
  down = true
  // Its lead is taken away, as by a standby that is gone again: the same process begins anew.
  const token = async () => Number((await move.session.query('select token from switchback.leader'))[0]!['token'])
  const before = await token()
  const taken = move.database.query('update switchback.leader set token = token + 1')
  // The applier, which waits for the rows, holds the lead up as it should.
  const { rows } = await direct.query('select pg_backend_pid() as pid')
  const ended = 'select pg_terminate_backend(pid) from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))'
  await eventually(async () => {
    await move.database.query(ended, [rows[0].pid])
    return (await token()) > before
  }, 'its lead is taken away')
  await taken
  await direct.query('rollback')
  await eventually(async () => (await token()) > before + 1, 'it leads again', 30_000)
  const slots = ['1', '2'].map((key) => move.slotOf(key))
  const home: JobArguments = { kind: 'move', to: 'source', slots, readOnlyFirst: false }
  const job = await placeOrder(move.session, home, () => undefined, AbortSignal.timeout(60_000))
  assert.deepEqual([job.state, (job.result!['flips'] as { slots: number }[]).map((flip) => flip.slots)], ['done', [2]])
  assert.deepEqual((await move.database.query('select account::int, n from notes where account <= 2 order by account')).rows, [
    { account: 1, n: 10 },
    { account: 2, n: 9 },
  ])
  down = false
})
