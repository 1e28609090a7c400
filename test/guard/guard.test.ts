import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { hashSlotOf } from '../../src/model/key.ts'
import { checkGuard, guardFinal, installGuard, removeGuard } from '../../src/source/guard.ts'
import { type ControlWorld, controlWorld, outcome } from '../store/fixture.ts'
import { fenced, flipped } from './flips.ts'

const MOVED = '7'
const HOME = '8'

async function guardedWorld(): Promise<ControlWorld> {
  const world = await controlWorld()
  assert.deepEqual(await installGuard(world.admin, world.mapping, { applierRole: world.applierRole }), { eventTrigger: true, notes: [] })
  await world.admin.query(`insert into accounts (id) select g from generate_series(1, 20) g`)
  await world.admin.query(`insert into entries (account, n, amount) select g, 1, 5 from generate_series(1, 20) g`)
  return world
}

test('a direct writer to a moved key is refused and told to use the gateway; other keys go on (faults.md 44, INV-1)', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  await flipped(leader, [hashSlotOf(MOVED)])
  const refused = await world.admin.query(`update accounts set balance = 1 where id = ${MOVED}`).then(
    () => null,
    (error: pg.DatabaseError) => ({ code: error.code, message: error.message, hint: error.hint }),
  )
  assert.deepEqual(refused, {
    code: '55000',
    message: `key '7' of public.accounts is not written in PostgreSQL any more: it lives on the target`,
    hint: 'Connect through the Switchback gateway, which writes it where it lives.',
  })
  const write = (sql: string) => outcome(world.admin.query(sql))
  assert.deepEqual(
    {
      insert: await write(`insert into entries values (${MOVED}, 2, 1)`),
      delete: await write(`delete from entries where account = ${MOVED}`),
      upsert: await write(`insert into accounts (id) values (${MOVED}) on conflict (id) do update set balance = 3`),
      merge: await write(`merge into accounts a using (select ${MOVED}::int8 as id) s on a.id = s.id when matched then delete`),
      into: await write(`update entries set account = ${MOVED}, n = 9 where account = ${HOME}`),
      outOf: await write(`update entries set account = ${HOME}, n = 9 where account = ${MOVED}`),
      other: await write(`update accounts set balance = 1 where id = ${HOME}`),
    },
    { insert: '55000', delete: '55000', upsert: '55000', merge: '55000', into: '55000', outOf: '55000', other: 'ok' },
  )
})

test('parking still accepts, fenced is 40001, read-only is 25006, and cancel gives the slot back', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const slot = hashSlotOf(MOVED)
  const write = () => outcome(world.admin.query(`update accounts set balance = balance + 1 where id = ${MOVED}`))
  const seen: Record<string, string> = {}
  await leader.setReadOnly([slot], true)
  seen['readOnly'] = await write()
  await leader.setReadOnly([slot], false)
  const intent = await leader.writeIntent({ to: 'target', slots: [slot], deadlineMs: 20_000 })
  seen['intent'] = await write()
  const parking = await leader.setPhase(intent, 'parking')
  seen['parking'] = await write()
  const fence = await leader.setPhase(parking, 'fenced')
  seen['fenced'] = await write()
  await leader.cancelFlip(fence, 'test')
  seen['cancelled'] = await write()
  assert.deepEqual(seen, { readOnly: '25006', intent: 'ok', parking: 'ok', fenced: '40001', cancelled: 'ok' })
})

for (const level of ['repeatable read', 'serializable']) {
  test(`a ${level} transaction whose snapshot is older than a flip writes nothing of a moved key (faults.md 46)`, async () => {
    await using world = await guardedWorld()
    const leader = await world.leader()
    const old = await world.db.connect()
    await old.query(`begin isolation level ${level}`)
    await old.query('select count(*) from accounts')
    await flipped(leader, [hashSlotOf(MOVED)])
    assert.equal(await outcome(old.query(`update accounts set balance = 99 where id = ${MOVED}`)), '40001')
    await old.query('rollback')
    // There and back: the owner is the source again, and the old snapshot still must not write.
    await old.query(`begin isolation level ${level}`)
    await old.query('select count(*) from accounts')
    await flipped(leader, [hashSlotOf(MOVED)], 'source')
    assert.equal(await outcome(old.query(`update accounts set balance = 99 where id = ${MOVED}`)), '40001')
    await old.query('rollback')
    const { rows } = await world.admin.query(`select balance from accounts where id = ${MOVED}`)
    assert.deepEqual(rows, [{ balance: '0' }])
  })
}

test('a READ COMMITTED transaction opened before a flip sees it at its next statement', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const old = await world.db.connect()
  await old.query('begin')
  await old.query('select count(*) from accounts')
  await flipped(leader, [hashSlotOf(MOVED)])
  assert.equal(await outcome(old.query(`update accounts set balance = 99 where id = ${MOVED}`)), '55000')
})

test('a replica-role session, TRUNCATE, a leaf and a BEFORE trigger that changes the key are refused (faults.md 54)', async () => {
  await using world = await controlWorld()
  // Made before the guard: sends rows of account 100 to the moved key.
  await world.admin.query(`
    create function redirect() returns trigger language plpgsql as $$ begin
      if new.account = 100 then new.account := ${MOVED}; end if; return new; end $$;
    create trigger zzz_redirect before insert on entries for each row execute function redirect()`)
  const { rows } = await world.admin.query('update switchback.state set planned_tables = switchback.tables_digest() returning 1')
  assert.equal(rows.length, 1)
  await installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
  await world.admin.query(`insert into entries values (${MOVED}, 1, 1), (${HOME}, 1, 1)`)
  const leader = await world.leader()
  await flipped(leader, [hashSlotOf(MOVED)])
  const replica = await world.db.connect()
  await replica.query('set session_replication_role = replica')
  const leaf = (await world.admin.query(`select tableoid::regclass::text as leaf from entries where account = ${MOVED}`)).rows[0]
    .leaf as string
  const of = (client: pg.Client, sql: string) => outcome(client.query(sql))
  assert.deepEqual(
    {
      replica: await of(replica, `update entries set amount = 2 where account = ${MOVED}`),
      replicaTruncate: await of(replica, 'truncate entries'),
      leaf: await of(world.admin, `update ${leaf} set amount = 2 where account = ${MOVED}`),
      leafTruncate: await of(world.admin, `truncate ${leaf}`),
      truncate: await of(world.admin, 'truncate accounts'),
      redirected: await of(world.admin, 'insert into entries values (100, 5, 1)'),
      direct: await of(world.admin, 'insert into entries values (101, 5, 1)'),
    },
    {
      replica: '55000',
      replicaTruncate: '55000',
      leaf: '55000',
      leafTruncate: '55000',
      truncate: '55000',
      redirected: '55000',
      direct: 'ok',
    },
  )
  await flipped(leader, [hashSlotOf(MOVED)], 'source')
  assert.equal(await of(world.admin, 'truncate accounts'), 'ok')
})

test('the reverse applier passes, and nobody passes by SET ROLE to it', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  await flipped(leader, [hashSlotOf(MOVED)])
  const applier = await world.connectAs(world.applierRole, 'applier')
  await applier.query('set session_replication_role = replica')
  assert.equal(await outcome(applier.query(`update accounts set balance = 5 where id = ${MOVED}`)), 'ok')
  await world.admin.query(`set role ${world.applierRole}`)
  assert.equal(await outcome(world.admin.query(`update accounts set balance = 6 where id = ${MOVED}`)), '55000')
  await world.admin.query('reset role')
})

test('an applier role that others use too is refused', async () => {
  await using world = await controlWorld()
  await assert.rejects(installGuard(world.admin, world.mapping, { applierRole: 'postgres' }), { code: 'GUARD_REFUSED' })
  await assert.rejects(installGuard(world.admin, world.mapping, { applierRole: 'nobody_there' }), { code: 'GUARD_REFUSED' })
})

test('silent DDL on a mapped table is refused while the guard is on, other tables are free (faults.md 61)', async () => {
  await using world = await guardedWorld()
  await world.admin.query('create table other (id int primary key)')
  const ddl = (sql: string) => outcome(world.admin.query(sql))
  assert.deepEqual(
    {
      add: await ddl('alter table accounts add column note text default $$x$$'),
      drop: await ddl('drop table entries'),
      dropLeaf: await ddl('drop table entries_0'),
      detach: await ddl('alter table entries detach partition entries_0'),
      child: await ddl('create temp table child () inherits (accounts)'),
      rename: await ddl('alter table accounts rename to accounts2'),
      trigger: await ddl('create trigger t before update on accounts for each row execute function suppress_redundant_updates_trigger()'),
      unique: await ddl('create unique index u on accounts (balance, id)'),
      disable: await ddl('alter table accounts disable trigger all'),
      unguard: await ddl('drop trigger "~switchback_guard" on accounts'),
      replica: await ddl('alter table entries_1 enable trigger "~switchback_guard"'),
      cascade: await ddl('drop schema public cascade'),
      rls: await ddl('alter table accounts enable row level security'),
      // Harmless to plans and to the guard.
      index: await ddl('create index i on accounts (balance)'),
      comment: await ddl(`comment on table accounts is 'x'`),
      vacuum: await ddl('alter table accounts set (fillfactor = 90)'),
      other: await ddl('alter table other add column x int'),
      temp: await ddl('create temp table scratch (id int)'),
      reindex: await ddl('reindex table concurrently accounts'),
    },
    {
      add: '55006',
      drop: '55006',
      dropLeaf: '55006',
      detach: '55006',
      child: '55006',
      rename: '55006',
      trigger: '55006',
      unique: '55006',
      disable: '55006',
      unguard: '55006',
      replica: '55006',
      cascade: '55006',
      rls: '55006',
      index: 'ok',
      comment: 'ok',
      vacuum: 'ok',
      other: 'ok',
      temp: 'ok',
      reindex: 'ok',
    },
  )
  assert.deepEqual(await checkGuard(world.admin, world.mapping), [])
})

test('without the right to create an event trigger the installation says so, and the commit still finds the change (faults.md 61)', async () => {
  await using world = await controlWorld()
  const owner = `${world.db.name}_owner`
  await world.admin.query(`create role ${owner} login password 'owner'`)
  try {
    await world.admin.query(`
      alter schema switchback owner to ${owner}; grant usage, create on schema public to ${owner};
      do $$ declare r record; begin
        for r in select oid::regclass as rel from pg_class where relnamespace in ('switchback'::regnamespace, 'public'::regnamespace) and relkind in ('r', 'p') loop
          execute format('alter table %s owner to ${owner}', r.rel); end loop;
        for r in select oid::regprocedure as fn from pg_proc where pronamespace = 'switchback'::regnamespace loop
          execute format('alter function %s owner to ${owner}', r.fn); end loop;
      end $$`)
    const client = await world.connectAs(owner, 'owner')
    const { eventTrigger, notes } = await installGuard(client, world.mapping, { applierRole: world.applierRole })
    assert.deepEqual({ eventTrigger, notes: notes.length }, { eventTrigger: false, notes: 1 })
    assert.deepEqual(await checkGuard(client, world.mapping), [])
    const leader = await world.leader()
    const flip = await fenced(leader, [1])
    await leader.writeMarker(flip)
    await client.query(`alter table accounts add column note text default 'x'`)
    await assert.rejects(leader.commitFlip(flip, { newBase: 10n, held: false }), { code: 'CATALOG_CHANGED' })
    assert.equal(await leader.catalogUnchanged(), false)
    assert.deepEqual((await leader.cancelFlip(flip, 'test')).state, 'cancelled')
    await client.end()
  } finally {
    await world.admin.query(`reassign owned by ${owner} to postgres; drop owned by ${owner}; drop role ${owner}`)
  }
})

test('the check names a guard that is missing, disabled, changed or not the last to fire', async () => {
  await using world = await controlWorld()
  assert.equal((await checkGuard(world.admin, world.mapping)).length, 1)
  await installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
  assert.deepEqual(await checkGuard(world.admin, world.mapping), [])
  const oid = world.mapping.tables[0]!.relationOid
  await world.admin.query(`
    alter event trigger switchback_guard_ddl disable;
    alter table accounts enable trigger "~switchback_guard";
    drop trigger "~switchback_truncate" on entries_0;
    create trigger "~zzz" before insert on entries for each row execute function suppress_redundant_updates_trigger();
    create or replace function switchback.guard_${oid}() returns trigger language plpgsql as 'begin return new; end'`)
  assert.deepEqual(await checkGuard(world.admin, world.mapping), [
    'The mapped tables have changed since the guard was put on them.',
    `The guard's function switchback.guard_${oid} has been changed.`,
    `The guard's trigger ~switchback_guard on public.accounts is not enabled for all sessions (ENABLE ALWAYS).`,
    'The trigger ~zzz on public.entries fires after the guard, and could change a key behind its back.',
    'The trigger ~zzz on public.entries_0 fires after the guard, and could change a key behind its back.',
    `The guard's trigger ~switchback_truncate is missing on public.entries_0.`,
    'The trigger ~zzz on public.entries_1 fires after the guard, and could change a key behind its back.',
    `The guard's event trigger switchback_guard_ddl is not enabled for all sessions.`,
  ])
})

test('a pin split off under a REPEATABLE READ snapshot: the old snapshot writes neither pin nor neighbours (faults.md 67)', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const old = await world.db.connect()
  await old.query('begin isolation level repeatable read')
  await old.query('select count(*) from accounts')
  const pin = await leader.splitPin(MOVED)
  assert.equal(await leader.splitPin(MOVED), pin)
  await flipped(leader, [pin])
  assert.equal(await outcome(old.query(`update accounts set balance = 99 where id = ${MOVED}`)), '40001')
  await old.query('rollback')
  // The pin has moved, and its hash slot has not.
  assert.equal(await outcome(world.admin.query(`update accounts set balance = 1 where id = ${MOVED}`)), '55000')
  assert.equal((await leader.view()).ownership(hashSlotOf(MOVED))!.owner, 'source')
  const neighbour = Array.from({ length: 100_000 }, (_, i) => String(i + 1000)).find((key) => hashSlotOf(key) === hashSlotOf(MOVED))!
  assert.equal(await outcome(world.admin.query(`insert into accounts (id) values (${neighbour})`)), 'ok')
  const history = (await leader.tenures())
    .of(pin)
    .toReversed()
    .map(({ owner, tenure }) => ({ owner, first: tenure === 1 }))
  assert.deepEqual(history, [
    { owner: 'source', first: true },
    { owner: 'target', first: false },
  ])
})

test('after finalize every write is refused, the applier included, and tables may be dropped (faults.md 65)', async () => {
  await using world = await guardedWorld()
  await guardFinal(world.admin, world.mapping)
  const applier = await world.connectAs(world.applierRole, 'applier')
  assert.deepEqual(
    [
      await outcome(world.admin.query(`update accounts set balance = 1 where id = ${HOME}`)),
      await outcome(applier.query(`update accounts set balance = 1 where id = ${HOME}`)),
      await outcome(world.admin.query('truncate accounts')),
      await outcome(world.admin.query('drop table entries')),
    ],
    ['55000', '55000', '55000', 'ok'],
  )
})

test('taking the guard off leaves nothing of it, and can be done twice', async () => {
  await using world = await guardedWorld()
  await removeGuard(world.admin, world.mapping)
  await removeGuard(world.admin, world.mapping)
  const { rows } = await world.admin.query(`
    select t.tgname::text as left from pg_trigger t where t.tgname like '~switchback%'
    union all select p.proname from pg_proc p where p.pronamespace = 'switchback'::regnamespace and p.proname like 'guard%'
    union all select e.evtname from pg_event_trigger e
    union all select s.classid::regclass::text from pg_shdepend s
      where s.refobjid = '${world.applierRole}'::regrole and s.dbid = (select oid from pg_database where datname = current_database())
    union all select g.relation::text from switchback.guarded g`)
  assert.deepEqual(rows, [])
  assert.equal(await outcome(world.admin.query('truncate accounts, entries')), 'ok')
})

test('installing waits for a writer in flight only in short turns, and then goes through', async () => {
  await using world = await controlWorld()
  const busy = await world.db.connect()
  await busy.query('begin; insert into accounts (id) values (1)')
  const installing = installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
  const second = await world.db.connect()
  for (let i = 2; i < 6; i++) await second.query(`insert into accounts (id) values (${i})`)
  await busy.query('commit')
  assert.equal((await installing).eventTrigger, true)
})
