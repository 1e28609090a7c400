import assert from 'node:assert/strict'
import { test } from 'node:test'
import { placeOrder } from '../../src/app/place-order.ts'
import { startMove } from '../support/move.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`

test('finalize needs every slot on the target; then PostgreSQL refuses a forgotten job, the gateway goes on, and no entry is sent (65)', {
  timeout: 120_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: { 'public.notes': { partitionKey: 'account' } } })
  const finalize = () => placeOrder(move.session, { kind: 'finalize' }, () => undefined, AbortSignal.timeout(60_000))
  await assert.rejects(
    finalize().then((job) => {
      if (job.state !== 'done') throw new Error(String(job.result?.['because']))
    }),
    /4096 slots are not steady on the target/,
  )
  await move.move('target')
  const client = await move.client()
  await client.query('update notes set n = 1 where account = 1 and id = 1')
  const job = await finalize()
  assert.equal(job.state, 'done', JSON.stringify(job.result))
  // What was written before has come back.
  const direct = await move.database.connect()
  const { rows } = await direct.query('select n from notes where account = 1')
  assert.deepEqual(rows, [{ n: 1 }])
  for (const sql of ['update notes set n = 9 where account = 2', 'truncate notes'])
    await assert.rejects(direct.query(sql), { code: '55000', message: /its move to another store is final/ })
  await assert.rejects(move.move('source'), /has ended on the target|there is no way back|ends on the target/)
  const { rows: slots } = await direct.query('select slot_name from pg_replication_slots where database = current_database()')
  assert.deepEqual(slots, [])
  await client.query('update notes set n = n + 10 where account = 1 and id = 1')
  const read = await client.query('select n from notes where account = 1 and id = 1')
  assert.deepEqual(read.rows, [{ n: 11 }])
  const leases = await move.session.query('select id from switchback.lease where not over')
  const { group } = { group: Math.floor(move.slotOf('1') / 64) }
  for (const { id } of leases)
    assert.deepEqual(await move.target.target.readOutbox({ group, lease: id! }, 0, 10), { entries: [], end: true })
})
