import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hashSlotOf } from '../../src/model/key.ts'
import { installGuard } from '../../src/source/guard.ts'
import { controlInstalled, installControl, removeControl } from '../../src/store/schema.ts'
import { testDatabase } from '../support/postgres.ts'
import { controlWorld, mappingOf, TABLES } from './fixture.ts'

/** Everything that could have been left anywhere in the database. */
const TRACES = `
select 'namespace ' || n.nspname as trace from pg_namespace n where n.nspname = 'switchback'
union all select 'class ' || c.relname from pg_class c where c.relname ~* 'switchback' or c.relnamespace::regnamespace::text = 'switchback'
union all select 'function ' || p.proname from pg_proc p where p.prosrc ~* 'switchback'
union all select 'trigger ' || t.tgname from pg_trigger t where t.tgname ~* 'switchback'
union all select 'event trigger ' || e.evtname from pg_event_trigger e where e.evtname ~* 'switchback'
union all select 'comment ' || d.description from pg_description d where d.description ~* 'switchback'
union all select 'shared ' || s.refobjid::regrole::text from pg_shdepend s
   where s.dbid = (select oid from pg_database where datname = current_database()) and s.refclassid = 'pg_authid'::regclass and s.refobjid > 16384
union all select 'setting ' || s.setdatabase from pg_db_role_setting s where s.setdatabase = (select oid from pg_database where datname = current_database())
order by 1`

test('a key has the same slot in TypeScript and inside PostgreSQL, and a pin goes before it', async () => {
  await using world = await controlWorld()
  const slots = async (keys: readonly string[]) =>
    (
      await world.admin.query('select switchback.hash_slot(k) as slot from unnest($1::text[]) with ordinality u(k, n) order by n', [keys])
    ).rows.map((row) => row.slot)
  const key = fc.oneof(fc.string({ unit: 'grapheme' }), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String), fc.uuid())
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        key.filter((text) => !text.includes('\0') && !/[\ud800-\udfff]/u.test(text)),
        { minLength: 1, maxLength: 200 },
      ),
      async (keys) => {
        assert.deepEqual(await slots(keys), keys.map(hashSlotOf))
      },
    ),
    { numRuns: 30 },
  )
  const leader = await world.leader()
  const pin = await leader.splitPin('42')
  const { rows } = await world.admin.query(`select switchback.slot_of('42') as pinned, switchback.slot_of('43') as other`)
  assert.deepEqual(rows, [{ pinned: pin, other: hashSlotOf('43') }])
})

test('installing twice changes nothing, and 4096 slots begin at the source in their first tenure', async () => {
  await using db = await testDatabase(TABLES)
  const client = await db.connect()
  const mapping = await mappingOf(client, ['accounts', 'entries'])
  assert.equal(await controlInstalled(client), false)
  await installControl(client, { mapping })
  const read = async () =>
    (
      await client.query(`
        select count(*)::int as slots, min(slot) as first, max(slot) as last, array_agg(distinct owner || ' ' || phase) as states,
               array_agg(distinct epoch::int) as epochs, array_agg(distinct tenure::int) as tenures, array_agg(distinct base::int) as bases,
               (select count(*)::int from switchback.tenure t where t.first_lsn is null and t.tenure = 1) as history
          from switchback.ownership`)
    ).rows[0]
  const first = await read()
  await installControl(client, { mapping })
  assert.deepEqual(first, {
    slots: 4096,
    first: 0,
    last: 4095,
    states: ['source steady'],
    epochs: [1],
    tenures: [1],
    bases: [1],
    history: 4096,
  })
  assert.deepEqual(await read(), first)
  assert.equal(await controlInstalled(client), true)
  await assert.rejects(installControl(client, { mapping: { ...mapping, migration: 'other' } }), { code: 'CONTROL_OF_ANOTHER' })
})

test('every table and function of the control schema is documented', async () => {
  await using world = await controlWorld()
  const { rows } = await world.admin.query(`
    select c.relname as name from pg_class c where c.relnamespace = 'switchback'::regnamespace and c.relkind = 'r' and obj_description(c.oid, 'pg_class') is null
    union all select p.proname from pg_proc p where p.pronamespace = 'switchback'::regnamespace and obj_description(p.oid, 'pg_proc') is null`)
  assert.deepEqual(rows, [])
})

test('a mapping cannot be exchanged once the move is bound', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  await leader.bind()
  await installControl(world.admin, { mapping: world.mapping })
  const less = { ...world.mapping, tables: world.mapping.tables.slice(1) }
  await assert.rejects(installControl(world.admin, { mapping: less }), { code: 'MAPPING_CHANGED' })
})

test('removing the control schema leaves nothing in the catalogs, with the guard on too', async () => {
  await using db = await testDatabase(TABLES)
  const client = await db.connect()
  const before = (await client.query(TRACES)).rows
  assert.deepEqual(before, [])
  const mapping = await mappingOf(client, ['accounts', 'entries'])
  await client.query(`create role ${db.name}_own login`)
  try {
    await installControl(client, { mapping })
    await installGuard(client, mapping, { applierRole: `${db.name}_own` })
    assert.notDeepEqual((await client.query(TRACES)).rows, [])
    await removeControl(client)
    assert.deepEqual((await client.query(TRACES)).rows, [])
    assert.equal(await controlInstalled(client), false)
    await client.query('insert into accounts (id) values (1)')
  } finally {
    await client.query(`drop role ${db.name}_own`)
  }
})
