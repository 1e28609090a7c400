// Whoever writes, and however its session is set up: the guard refuses it for a key that PostgreSQL does not own (protocols.md, Guard).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { hashSlotOf } from '../../src/model/key.ts'
import { installGuard } from '../../src/source/guard.ts'
import { type ControlWorld, controlWorld, outcome } from '../store/fixture.ts'
import { eventually } from '../support/eventually.ts'
import { flipped } from './flips.ts'

const MOVED = '7'
const HOME = '8'

async function guardedWorld(): Promise<ControlWorld> {
  const world = await controlWorld()
  await installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
  return world
}

test("a logical replication subscription's apply worker is refused for a moved key, and applies others (faults.md 54)", async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  await flipped(leader, [hashSlotOf(MOVED)])
  // Another service's database, which publishes into the mapped table.
  const name = `${world.db.name}_pub`
  await world.admin.query(`create database ${name}`)
  const publisher = new pg.Client({ connectionString: world.db.server.url(name), query_timeout: 30_000 })
  await publisher.connect()
  const keys = async () => (await world.admin.query('select id::text as id from accounts order by accounts.id')).rows.map((row) => row.id)
  try {
    await publisher.query(
      `create table accounts (id int8 primary key, balance numeric not null default 0); create publication p for table accounts`,
    )
    await publisher.query(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`)
    await world.admin.query(`create subscription ${name} connection '${world.db.server.url(name)}' publication p
      with (create_slot = false, copy_data = false, disable_on_error = true)`)
    await publisher.query(`insert into accounts values (${HOME}, 0)`)
    await eventually(async () => (await keys()).length === 1, 'the worker applies to the key that is at home')
    await publisher.query(`insert into accounts values (${MOVED}, 0)`)
    const disabled = () => world.admin.query('select from pg_subscription where subname = $1 and not subenabled', [name])
    await eventually(async () => (await disabled()).rowCount === 1, 'the worker was refused')
    assert.deepEqual(await keys(), [HOME])
    // Nothing but the guard was in its way.
    await flipped(leader, [hashSlotOf(MOVED)], 'source')
    await world.admin.query(`alter subscription ${name} enable`)
    await eventually(async () => (await keys()).length === 2, 'the worker goes on')
  } finally {
    await world.admin.query(`alter subscription ${name} disable`).catch(() => undefined)
    await world.admin.query(`drop subscription if exists ${name}`)
    await publisher.end()
    await world.admin.query(`drop database ${name} with (force)`)
  }
})

test('settings of a role are no way past the guard: replica by default, in this database, or another isolation (faults.md 54)', async () => {
  await using world = await guardedWorld()
  await world.admin.query(`insert into accounts (id) values (${MOVED}), (${HOME})`)
  const leader = await world.leader()
  await flipped(leader, [hashSlotOf(MOVED)])
  const role = `${world.db.name}_w`
  await world.admin.query(`create role ${role} login password 'w'; grant all on accounts to ${role}`)
  const settings: readonly (readonly [set: string, name: string, value: string])[] = [
    [`alter role ${role} set session_replication_role = replica`, 'session_replication_role', 'replica'],
    [
      `alter role ${role} reset all; alter role ${role} in database ${world.db.name} set session_replication_role = replica`,
      'session_replication_role',
      'replica',
    ],
    [
      `alter role ${role} in database ${world.db.name} reset all; alter role ${role} set default_transaction_isolation = 'serializable'`,
      'transaction_isolation',
      'serializable',
    ],
    [
      `alter role ${role} reset all; alter database ${world.db.name} set session_replication_role = replica`,
      'session_replication_role',
      'replica',
    ],
  ]
  try {
    for (const [set, name, value] of settings) {
      for (const statement of set.split('; ')) await world.admin.query(statement)
      const client = await world.connectAs(role, 'w')
      const { rows } = await client.query(`select current_setting('${name}') as value`)
      const write = (key: string) => outcome(client.query(`update accounts set balance = balance + 1 where id = ${key}`))
      assert.deepEqual([rows[0].value, await write(MOVED), await write(HOME)], [value, '55000', 'ok'], set)
      await client.end()
    }
  } finally {
    await world.admin.query(`drop owned by ${role}; drop role ${role}`)
  }
})

test('a role without rights on the control schema, whose own schema shadows what the guard calls, is guarded as any other', async () => {
  await using world = await guardedWorld()
  await world.admin.query(`insert into accounts (id) values (${MOVED}), (${HOME})`)
  const leader = await world.leader()
  await flipped(leader, [hashSlotOf(MOVED)])
  const role = `${world.db.name}_w`
  await world.admin.query(`create role ${role} login password 'w'; grant all on accounts to ${role};
    create schema mine authorization ${role}; create schema authorization ${role}`)
  const client = await world.connectAs(role, 'w')
  try {
    // Functions, an operator and a table of the names that the guard's bodies use, before pg_catalog on the path.
    await client.query(`
      create function mine.sha256(bytea) returns bytea language sql as $$ select '\\x00'::bytea $$;
      create function mine.current_setting(text) returns text language sql as $$ select 'read committed'::text $$;
      create function mine.get_byte(bytea, int) returns int language sql as $$ select 0 $$;
      create function mine.same(int, int) returns boolean language sql as $$ select false $$;
      create operator mine.= (leftarg = int, rightarg = int, function = mine.same);
      create table mine.ownership (slot int, writable boolean, has_pins boolean)`)
    await client.query('set search_path = mine, pg_catalog, public')
    const write = (key: string) =>
      outcome(client.query(`update public.accounts set balance = balance + 1 where id operator(pg_catalog.=) ${key}`))
    assert.deepEqual(
      [await write(MOVED), await write(HOME), await outcome(client.query('select from switchback.ownership'))],
      ['55000', 'ok', '42501'],
    )
  } finally {
    await client.end()
    await world.admin.query(`drop owned by ${role} cascade; drop role ${role}`)
  }
})

test('TRUNCATE needs every slot steady on PostgreSQL: fenced and parking 40001, read-only 25006, an old snapshot 40001', async () => {
  await using world = await guardedWorld()
  const leader = await world.leader()
  const slot = hashSlotOf(MOVED)
  const truncate = (client: pg.Client = world.admin) => outcome(client.query('truncate accounts'))
  const seen: Record<string, string> = { steady: await truncate() }
  const old = await world.db.connect()
  await old.query('begin isolation level repeatable read')
  await old.query('select count(*) from entries')
  const intent = await leader.writeIntent({ to: 'target', slots: [slot], deadlineMs: 20_000 })
  const parking = await leader.setPhase(intent, 'parking')
  seen['parking'] = await truncate()
  const fence = await leader.setPhase(parking, 'fenced')
  seen['fenced'] = await truncate()
  await leader.cancelFlip(fence, 'test')
  seen['old snapshot'] = await truncate(old)
  await old.query('rollback')
  seen['cancelled'] = await truncate()
  await leader.setReadOnly([slot], true)
  seen['read-only'] = await truncate()
  await leader.setReadOnly([slot], false)
  await flipped(leader, [slot])
  seen['moved'] = await truncate()
  assert.deepEqual(seen, {
    steady: 'ok',
    parking: '40001',
    fenced: '40001',
    'old snapshot': '40001',
    cancelled: 'ok',
    'read-only': '25006',
    moved: '55000',
  })
})
