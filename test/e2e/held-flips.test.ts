// What holds a move to the target in a running system, and is over by itself when its cause is (INV-10).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { placeOrder } from '../../src/app/place-order.ts'
import type { Owner } from '../../src/model/ids.ts'
import { trimLeases } from '../../src/store/lease-history.ts'
import { readReport } from '../../src/store/reports.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'

const TABLES = { 'public.notes': { partitionKey: 'account' } }
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`

/** 'done', or why not. */
async function ordered(move: Move, to: Owner, key: string): Promise<string> {
  const order = { kind: 'move', to, slots: [move.slotOf(key)], readOnlyFirst: false } as const
  const job = await placeOrder(move.session, order, () => undefined, AbortSignal.timeout(60_000))
  return job.state === 'done' ? 'done' : String(job.result?.['because'])
}

test('a forward stream that stands still holds a move though nobody writes, by its age, and the move goes when it flows again', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target', ['1'])
  const { rows } = await move.database.query('select active_pid as pid from pg_replication_slots where database = current_database()')
  const walsender = Number(rows[0].pid)
  process.kill(walsender, 'SIGSTOP')
  try {
    const lag = async () => Number((await readReport(move.session))?.content['forwardLagMs'])
    await eventually(async () => (await lag()) > 2_000, 'the lag has grown')
    assert.match(await ordered(move, 'target', '2'), /The forward sync is \d+ ms behind, more than 2000 ms/)
    // What holds the way out does not hold the way home.
    assert.equal(await ordered(move, 'source', '1'), 'done')
  } finally {
    process.kill(walsender, 'SIGCONT')
  }
  const flows = async () => Number((await readReport(move.session))?.content['forwardLagMs']) < 1_000
  await eventually(flows, 'the stream flows')
  assert.equal(await ordered(move, 'target', '2'), 'done')
})

test('the first move waits for what was open through a gateway before INV-8 bound, whatever it touched, and for nothing else (INV-8)', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  const [before, idle] = [await move.client(), await move.client()]
  await before.query('begin')
  // It has read only: nothing of it is in the guard's way.
  await before.query('select n from notes where account = 9')
  await idle.query('select 1')
  const moving = ordered(move, 'target', '1')
  moving.catch(() => undefined) // heard where it is awaited
  const parking = async () => {
    const [flip] = await move.session.query(
      `select f.state, l.acked_epoch >= f.epoch as acked from switchback.flip f, switchback.lease l where f.state = 'parking' and not l.over`,
    )
    return flip
  }
  await eventually(parking, 'the flip parks')
  // The gateway has that view: what begins now on other keys is served, and what was open before is waited for.
  await eventually(() => move.gateways[0]!.gateway.status().waitsFor.length > 0, 'the gateway waits for it')
  assert.deepEqual((await idle.query('select n from notes where account = 2')).rows, [{ n: 0 }])
  assert.deepEqual({ ...(await parking()) }, { state: 'parking', acked: 'f' })
  assert.deepEqual(await move.session.query(`select slot from switchback.ownership where owner = 'target'`), [])
  // It may still write, on PostgreSQL, what has not moved.
  await before.query('update notes set n = 1 where account = 9 and id = 1')
  await before.query('commit')
  assert.equal(await moving, 'done')
  assert.deepEqual((await idle.query('select n from notes where account = 9')).rows, [{ n: 1 }])
})

test('gateways that start again and again leave no leases and positions behind without end (faults.md 52)', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  for (let n = 0; n < 80; n++) {
    const [row] = await move.session.query('select switchback.open_lease($1) as lease', [`gateway ${n}`])
    await move.session.query('select switchback.release_lease($1)', [row!['lease']])
  }
  const [{ token }] = (await move.session.query('select token from switchback.leader')) as [{ token: string }]
  const left = await eventually(
    async () => {
      await trimLeases(move.session, Number(token))
      const [row] = await move.session.query(
        `select (select count(*) from switchback.lease where over) as leases, count(distinct lease) as outboxes
           from switchback.position where lease not like 'probe %'`,
      )
      return row!['leases'] === '64' && row
    },
    'all but the newest 64 are settled and gone',
    30_000,
  )
  assert.ok(Number(left['outboxes']) <= 65, `positions of ${left['outboxes']} leases`)
  assert.equal(await ordered(move, 'target', '1'), 'done')
})

test('a first move waits for a lock of the guard behind a long transaction, says whose it is, and goes when it ends', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  const writer = await move.database.connect()
  const { rows } = await writer.query('select pg_backend_pid() as pid')
  await writer.query('begin')
  await writer.query('update notes set n = 7 where account = 3')
  const steps: string[] = []
  const order = { kind: 'move', to: 'target', slots: [move.slotOf('1')], readOnlyFirst: false } as const
  const moving = placeOrder(move.session, order, ({ step }) => void steps.push(step ?? ''), AbortSignal.timeout(60_000))
  moving.catch(() => undefined) // heard where it is awaited
  const said = `the guard waits for a lock on the mapped tables: pid ${rows[0].pid} `
  await eventually(() => steps.some((step) => step.startsWith(said) && step.includes('update notes set n = 7')), 'it is told')
  await writer.query('commit')
  const { state, result } = await moving
  assert.equal(state, 'done', JSON.stringify(result))
})
