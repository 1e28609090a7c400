import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SourceChange } from '../../src/model/change.ts'
import { connectSource } from '../../src/source/connect.ts'
import { eventually } from '../support/eventually.ts'
import { sourceWorld, take } from './fixture.ts'

const TABLE = `
create table public.items (id int8, n int, big text, at timestamptz, primary key (id, n));
alter table public.items alter column big set storage external`
const TABLES = { 'public.items': { partitionKey: 'id' } }
const BIG = 'x'.repeat(10_000)

test('inserts, an unchanged TOAST column, key changes, deletes and truncates come as what they are', async () => {
  await using world = await sourceWorld(TABLE, TABLES)
  const point = await world.source.createSlot()
  await point.release()
  await world.admin.query(`insert into public.items values (1, 1, '${BIG}', '2020-01-02 03:04:05.678901+02')`)
  await world.admin.query('update public.items set at = null where id = 1')
  await world.admin.query('update public.items set n = 2 where id = 1')
  await world.admin.query('delete from public.items')
  await world.admin.query('truncate public.items')
  const stream = await world.stream()
  const taken = await take(stream, (all) => all.length === 5)
  const table = 'public.items'
  assert.deepEqual(
    taken.map((transaction) => transaction.changes),
    [
      [{ kind: 'insert', table, after: ['1', '1', BIG, '2020-01-02 01:04:05.678901+00'] }],
      [{ kind: 'update', table, before: null, after: ['1', '1', undefined, null] }],
      [{ kind: 'update', table, before: ['1', '1', undefined, undefined], after: ['1', '2', undefined, null] }],
      [{ kind: 'delete', table, before: ['1', '2', undefined, undefined] }],
      [{ kind: 'truncate', tables: [table] }],
    ] satisfies SourceChange[][],
  )
  assert.ok(taken.every((one) => one.origin === null && one.endLsn > one.commitLsn && one.commitLsn >= point.consistentPoint))
})

test('what was not acknowledged comes again, what was acknowledged does not (INV-3)', async () => {
  await using world = await sourceWorld(TABLE, TABLES)
  await (await world.source.createSlot()).release()
  for (let i = 1; i <= 3; i++) await world.admin.query('insert into public.items values ($1, 1)', [i])
  const idsOf = (all: readonly { changes: readonly SourceChange[] }[]) =>
    all.map(({ changes: [change] }) => (change?.kind === 'insert' ? change.after[0] : null))
  const first = await world.stream()
  const taken = await take(first, (all) => all.length === 3)
  first.acknowledge(taken[0]!.endLsn)
  await eventually(async () => (await world.source.slotState())!.confirmedFlushLsn === taken[0]!.endLsn, 'the first is confirmed')
  // Long enough for several status messages: none may go beyond.
  const seen = first.serverLsn()
  await world.admin.query(`select pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()`)
  await eventually(() => first.serverLsn() > seen, 'a keepalive')
  assert.equal((await world.source.slotState())!.confirmedFlushLsn, taken[0]!.endLsn)
  await world.admin.query(`select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1`, [
    `switchback_${world.config.migration}`,
  ])
  await assert.rejects(take(first, () => false))
  const second = await eventually(() => world.stream(), 'the slot is free')
  assert.deepEqual(idsOf(await take(second, (all) => all.length === 2)), ['2', '3'])
})

test('an idle slot moves on while other tables write, once everything received was acknowledged', async () => {
  await using world = await sourceWorld(`${TABLE}; create table public.other (n int)`, TABLES)
  const point = await world.source.createSlot()
  await point.release()
  const stream = await world.stream()
  const abort = new AbortController()
  const taking = (async () => {
    for await (const transaction of stream.transactions(abort.signal)) stream.acknowledge(transaction.endLsn)
  })()
  await world.admin.query('insert into public.other select generate_series(1, 1000)')
  const written = await world.source.currentWalLsn()
  await eventually(async () => (await world.source.slotState())!.confirmedFlushLsn >= written, 'the slot moves on')
  abort.abort()
  await taking
})

test('values are canonical whatever the role and the database are set to (faults 21)', async () => {
  await using world = await sourceWorld(
    `create table public.odd (id int primary key, at timestamptz, d date, b bytea, i interval, f float8)`,
    { 'public.odd': { partitionKey: 'id' } },
  )
  for (const setting of [
    `datestyle = 'SQL, DMY'`,
    `timezone = 'Asia/Kolkata'`,
    `bytea_output = 'escape'`,
    `intervalstyle = 'sql_standard'`,
    'extra_float_digits = -5',
  ]) {
    await world.db.query(`alter database ${world.db.name} set ${setting}`)
  }
  await (await world.source.createSlot()).release()
  await world.db.query(
    `insert into public.odd values (1, '2020-02-03 04:05:06Z', '2020-02-03', '\\x00ff', '1 day 2 hours', 0.1::float8 + 0.2::float8)`,
  )
  const expected = ['1', '2020-02-03 04:05:06+00', '2020-02-03', '\\x00ff', '1 day 02:00:00', '0.30000000000000004']
  const stream = await world.stream()
  const [transaction] = await take(stream, (all) => all.length === 1)
  assert.deepEqual(transaction!.changes, [{ kind: 'insert', table: 'public.odd', after: expected }])
  const reader = await world.source.snapshotReader(null)
  const rows = []
  for await (const batch of reader.rows({ table: 'public.odd', from: null, to: null }, 10, AbortSignal.timeout(5_000))) rows.push(...batch)
  await reader.close()
  assert.deepEqual(rows, [expected])
})

test('an aborted transaction has no effect, a transaction of another origin carries its name', async () => {
  await using world = await sourceWorld(TABLE, TABLES)
  await (await world.source.createSlot()).release()
  const origin = `origin_${world.db.name}`
  const other = await connectSource({ url: world.db.url, applicationName: 'test' })
  await other.query('select pg_replication_origin_create($1)', [origin])
  await other.query('begin')
  await other.query('insert into public.items select 9, g from generate_series(1, 20000) g')
  await other.query('rollback')
  await other.query('select pg_replication_origin_session_setup($1)', [origin])
  await other.query('insert into public.items values (1, 1)')
  await other.end()
  const stream = await world.stream()
  const taken = await take(stream, (all) => all.length === 1)
  assert.deepEqual(
    taken.map((one) => [one.origin, one.changes.length]),
    [[origin, 1]],
  )
  await world.admin.query('select pg_replication_origin_drop($1)', [origin])
})

test('a slot that is not there, or used by another, is named', async () => {
  await using world = await sourceWorld(TABLE, TABLES)
  await assert.rejects(world.source.stream(), { code: 'SLOT_MISSING' })
  assert.equal(await world.source.slotState(), null)
  await (await world.source.createSlot()).release()
  await world.stream()
  await assert.rejects(world.source.stream(), { code: 'SLOT_IN_USE' })
})

test('a column added to a mapped table stops the stream by name before a row of it is handed on (faults 20)', async () => {
  await using world = await sourceWorld(TABLE, TABLES)
  await (await world.source.createSlot()).release()
  await world.admin.query('alter table public.items add column more int')
  await world.admin.query('insert into public.items values (1, 1)')
  const stream = await world.stream()
  await assert.rejects(
    take(stream, (all) => all.length > 0),
    { code: 'TABLE_CHANGED' },
  )
})

test('a consumer that takes nothing holds the stream back, and gets everything in the end', async () => {
  await using world = await sourceWorld(TABLE, TABLES)
  await (await world.source.createSlot()).release()
  for (let i = 0; i < 30; i++) {
    await world.admin.query(`insert into public.items select $1, g, repeat(md5(g::text), 3000) from generate_series(1, 20) g`, [i])
  }
  const stream = await world.stream()
  let count = 0
  const taken = await take(
    stream,
    (all) => {
      count = all.reduce((sum, one) => sum + one.changes.length, 0)
      return count === 600
    },
    true,
  )
  assert.equal(taken.length, 30)
})
