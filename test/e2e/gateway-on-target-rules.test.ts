// The rules that hold for keys on the target, through real gateways: one order of writes, rights, isolation, refusals, the guard.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { oidOf } from '../../src/wire/values.ts'
import { eventually } from '../support/eventually.ts'
import { startMove } from '../support/move.ts'
import { rawSession } from '../support/raw-session.ts'

const SQL = `
  create table accounts (id bigint primary key, balance numeric(12, 2) not null, note text);
  create table entries (account_id bigint not null references accounts (id), n integer not null, amount numeric(12, 2), primary key (account_id, n));
  create table plain (id int primary key, note text);
  insert into accounts select n, 100, 'note ' || n from generate_series(1, 20) n;
  insert into plain values (1, 'plain');
  create view rich as select id, balance from accounts where balance > 10;
  create function balance_of(bigint) returns numeric language sql stable as 'select balance from accounts where id = $1';
`
const TABLES = { 'public.accounts': { partitionKey: 'id' }, 'public.entries': { partitionKey: 'account_id' } }
const MOVED = ['1', '2', '3']

const code = (running: Promise<unknown>): Promise<string> =>
  running.then(
    () => 'done',
    (error: pg.DatabaseError) => error.code ?? error.message,
  )

const refusal = (running: Promise<unknown>): Promise<string> =>
  running.then(
    () => 'done',
    (error: pg.DatabaseError) => `${error.code} ${error.message} ${error.hint ?? ''}`,
  )

test('two gateways fight over one key: no update is lost, and what comes back is the sum (INV-2, INV-6)', { timeout: 90_000 }, async () => {
  await using world = await startMove({ sql: SQL, tables: TABLES, gateways: 2 })
  await world.move('target', MOVED)
  let acknowledged = 0
  const fighter = async (gateway: number, n: number) => {
    const client = await world.client(gateway)
    for (let i = 0; i < 15; i++) {
      if (n % 2 === 0) await client.query('update accounts set balance = balance + 1 where id = $1', ['1'])
      else {
        await client.query('begin')
        const done = await code(client.query('update accounts set balance = balance + 1 where id = $1', ['1']))
        const ended = done === 'done' ? await code(client.query('commit')) : done
        if (ended !== 'done') {
          assert.equal(ended, '40001')
          await client.query('rollback')
          continue
        }
      }
      acknowledged++
    }
  }
  await Promise.all([0, 1, 0, 1].map((gateway, n) => fighter(gateway, n < 2 ? 0 : 1)))
  assert.ok(acknowledged >= 30, `${acknowledged} acknowledged`)
  const balance = String((100 + acknowledged).toFixed(2))
  for (const gateway of [0, 1]) {
    const client = await world.client(gateway)
    assert.deepEqual((await client.query('select balance from accounts where id = 1')).rows, [{ balance }])
  }
  await world.move('source')
  assert.deepEqual((await world.database.query('select balance from accounts where id = 1')).rows, [{ balance }])
})

test('what cannot be routed, crosses aggregates or owners, or hides a mapped table is refused before anything is written (39, 40, 62)', {
  timeout: 90_000,
}, async () => {
  await using world = await startMove({ sql: SQL, tables: TABLES })
  await world.move('target', MOVED)
  const client = await world.client()
  await client.query('update accounts set balance = 555 where id = 1')
  for (const sql of [
    'update accounts set balance = 0',
    'select sum(balance) from accounts',
    'select * from rich',
    'select balance_of(1)',
    'copy accounts to stdout',
    `do $$ begin update accounts set balance = 0; end $$`,
    'with gone as (delete from accounts where id = 1 returning id) select * from gone',
    'update accounts set balance = 0 where id in (1, 2)',
    'update accounts set balance = 0 where id = 1; update accounts set balance = 0 where id = 2',
    'update accounts set balance = 0 where id = 1; update accounts set balance = 0 where id = 9',
    `set search_path = pg_temp; select 1 from accounts`,
    'create temp table accounts (id int)',
    'explain analyze delete from accounts where id = 1',
  ]) {
    assert.match(await refusal(client.query(sql)), /^0A000 .+ .+/s, sql)
  }
  for (const [first, second] of [
    [1, 2],
    [1, 9],
    [9, 1],
  ]) {
    await client.query('begin')
    await client.query('update accounts set balance = balance - 1 where id = $1', [first])
    assert.match(await refusal(client.query('update accounts set balance = balance + 1 where id = $1', [second])), /^0A000/)
    await client.query('rollback')
  }
  for (const [sql, first] of [
    ['savepoint s', 'update accounts set balance = 0 where id = 1'],
    ['select pg_advisory_xact_lock(1)', 'update accounts set balance = 0 where id = 1'],
    ['declare c cursor for select 1', 'update accounts set balance = 0 where id = 1'],
    ["set local work_mem = '1MB'", 'update accounts set balance = 0 where id = 1'],
    ['insert into plain values (2)', 'update accounts set balance = 0 where id = 1'],
  ] as const) {
    await client.query('begin')
    await client.query(first)
    assert.match(await refusal(client.query(sql)), /^0A000/, sql)
    assert.equal(await code(client.query('select 1')), '25P02')
    await client.query('rollback')
  }
  assert.deepEqual((await client.query('select balance from accounts where id = 1')).rows, [{ balance: '555.00' }])
  assert.deepEqual((await client.query('select balance from accounts where id = 9')).rows, [{ balance: '100.00' }])
  assert.deepEqual((await client.query('select count(*) from plain')).rows, [{ count: '1' }])
})

test('a direct writer to a moved key is refused by PostgreSQL with a hint, and other keys are his (44)', { timeout: 90_000 }, async () => {
  await using world = await startMove({ sql: SQL, tables: TABLES })
  await world.move('target', MOVED)
  const direct = await world.database.connect()
  assert.match(await refusal(direct.query('update accounts set balance = 0 where id = 1')), /^55000 .*gateway/s)
  assert.match(await refusal(direct.query('insert into entries values (1, 1, 1)')), /^55000 .*gateway/s)
  assert.equal(await code(direct.query('update accounts set balance = 0 where id = 9')), 'done')
})

test('rights are as PostgreSQL grants them, and a revoked one is refused within a renewal (63, 72)', { timeout: 90_000 }, async () => {
  const role = `reader_${process.pid}`
  await using world = await startMove({ sql: SQL, tables: TABLES, lease: { lengthMs: 1_500, renewMs: 200 } })
  const admin = await world.database.connect()
  await admin.query(`create role ${role}; grant select (id, balance) on accounts to ${role}; grant update (balance) on accounts to ${role}`)
  try {
    await world.move('target', MOVED)
    const client = await world.client()
    await client.query(`set role ${role}`)
    assert.deepEqual((await client.query('select balance from accounts where id = 1')).rows, [{ balance: '100.00' }])
    assert.equal(await code(client.query('update accounts set balance = 7 where id = 1')), 'done')
    for (const sql of [
      'select note from accounts where id = 1',
      'select * from accounts where id = 1',
      `update accounts set note = 'x' where id = 1`,
      'delete from accounts where id = 1',
      'select n from entries where account_id = 1',
      'insert into entries values (1, 1, 1)',
    ]) {
      const [ours, theirs] = await Promise.all([refusal(client.query(sql)), refusal(asRole(admin, role, sql.replaceAll('= 1', '= 9')))])
      assert.match(ours, /^42501/, sql)
      assert.equal(ours, theirs, sql)
    }
    await client.query('begin read only')
    assert.equal(await code(client.query('update accounts set balance = 8 where id = 1')), '25006')
    await client.query('rollback')
    await client.query('set default_transaction_read_only = on')
    assert.equal(await code(client.query('update accounts set balance = 8 where id = 1')), '25006')
    await client.query('set default_transaction_read_only = off')
    await admin.query(`revoke select on accounts from ${role}; revoke select (id, balance) on accounts from ${role}`)
    await eventually(async () => (await code(client.query('select balance from accounts where id = 1'))) === '42501', 'the revoke is seen')
    await client.query('reset role')
    assert.deepEqual((await client.query('select balance from accounts where id = 1')).rows, [{ balance: '7.00' }])
  } finally {
    await admin.query(`drop owned by ${role}; drop role ${role}`)
  }
})

async function asRole(admin: pg.Client, role: string, sql: string): Promise<unknown> {
  await admin.query(`set role ${role}`)
  try {
    return await admin.query(sql)
  } finally {
    await admin.query('reset role')
  }
}

test('a snapshot older than a flip meets 40001, there and back, and nothing is written (46)', { timeout: 90_000 }, async () => {
  await using world = await startMove({ sql: SQL, tables: TABLES })
  await world.move('target', ['3'])
  for (const level of ['repeatable read', 'serializable']) {
    const old = await world.client()
    await old.query(`begin isolation level ${level}`)
    await old.query('select balance from accounts where id = 9')
    await world.move('target', ['1'])
    assert.equal(await code(old.query('update accounts set balance = 0 where id = 1')), '40001', `${level}, to the target`)
    await old.query('rollback')
    const fresh = await world.client()
    await fresh.query(`begin isolation level ${level}`)
    await fresh.query('select balance from accounts where id = 1')
    const other = await world.client()
    await other.query('update accounts set balance = balance + 1 where id = 1')
    assert.equal(await code(fresh.query('select balance from accounts where id = 1')), '40001', `${level}, on the target`)
    await fresh.query('rollback')
    await old.query(`begin isolation level ${level}`)
    await old.query('select balance from accounts where id = 9')
    await world.move('source', ['1'])
    assert.equal(await code(old.query('select balance from accounts where id = 1')), '40001', `${level}, back`)
    await old.query('rollback')
  }
  assert.deepEqual((await world.database.query('select balance from accounts where id = 1')).rows, [{ balance: '102.00' }])
})

test('a plan runs only for what PostgreSQL makes of the statement: declared types, quoting, a null key (39)', {
  timeout: 90_000,
}, async () => {
  await using world = await startMove({ sql: SQL, tables: TABLES })
  await world.move('target', MOVED)
  const url = new URL(world.database.url)
  url.port = String(world.gateways[0]!.port)
  const session = await rawSession(url.href)
  const declared = async (sql: string, oid: number, value: string) =>
    (
      await session.say([
        { kind: 'parse', name: '', sql, parameterTypes: [oid] },
        { kind: 'bind', portal: '', statement: '', parameterFormats: [], parameters: [Buffer.from(value)], resultFormats: [] },
        { kind: 'execute', portal: '', rowsMax: 0 },
        { kind: 'sync' },
      ])
    ).find((reply) => /^(row|errorResponse)/.test(reply))
  const read = 'select balance from accounts where id = $1'
  assert.equal(await declared(read, 0, '1'), 'row "100.00"')
  assert.equal(await declared(read, oidOf('int8'), '1'), 'row "100.00"')
  assert.match((await declared(read, oidOf('float8'), '1')) ?? '', /0A000.*declared with another type/)
  session.end()

  const client = await world.client()
  await client.query('set standard_conforming_strings = off')
  assert.match(await refusal(client.query(`select note from accounts where id = 1 and note = 'a\\' or id = 2 --'`)), /^0A000 .*backslash/)
  assert.deepEqual((await client.query(`select balance from accounts where id = 1`)).rows, [{ balance: '100.00' }])
  await client.query('set standard_conforming_strings = on')

  await client.query('begin')
  await client.query('update accounts set balance = 3 where id = 1')
  assert.equal((await client.query('update accounts set balance = 3 where id = $1', [null])).rowCount, 0)
  assert.equal(await code(client.query('insert into accounts (id, balance) values ($1, 1)', [null])), '23502')
  await client.query('rollback and chain')
  assert.deepEqual((await client.query('select balance from accounts where id = 1')).rows, [{ balance: '100.00' }])
  await client.query('commit')
})
