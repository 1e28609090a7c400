import assert from 'node:assert/strict'
import { test } from 'node:test'
import { uninstall } from '../../src/app/uninstall.ts'
import { startMove } from '../support/move.ts'
import { openStores } from '../support/stores.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`
const TABLES = { 'public.notes': { partitionKey: 'account' } }

test('uninstall needs every slot at home and nobody serving; then nothing of Switchback is left in PostgreSQL or on the target', {
  timeout: 120_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await using stores = await openStores(move)
  const { workspace, target } = stores
  await move.move('target', ['1', '2'])
  await assert.rejects(uninstall(workspace, target, { targetRows: true }), (error: Error) => {
    assert.match(error.message, /slots are not steady on PostgreSQL/)
    assert.match(error.message, /gateways still serve/)
    assert.match(error.message, /A controller still runs/)
    return true
  })
  await move.move('source')
  await move.stop()
  await uninstall(workspace, target, { targetRows: true })
  const client = await move.database.connect()
  const { rows } = await client.query(
    `select 'slot' as what from pg_replication_slots where database = current_database()
     union all select 'publication' from pg_publication
     union all select 'schema' from pg_namespace where nspname = 'switchback'
     union all select 'role' from pg_roles where rolname = $1
     union all select 'trigger' from pg_trigger where not tgisinternal
     union all select 'event trigger' from pg_event_trigger`,
    [`switchback_applier_${move.database.name}`],
  )
  assert.deepEqual(rows, [])
  assert.equal((await client.query('update notes set n = 5 where account = 1')).rowCount, 1)
  for (const table of ['public.notes', 'switchback.probe']) {
    await assert.rejects(async () => {
      for await (const batch of move.target.target.scanRows({ table, segment: 0, segments: 1 })) assert.equal(batch.length, 0)
      throw new Error('not there any more')
    })
  }
  assert.equal(await move.target.target.readHead('1'), null)
})
