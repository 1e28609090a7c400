import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import type { ReverseTransaction } from '../../src/model/control.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { RowChange } from '../../src/model/row.ts'
import { createApplierRole, dropApplierRole } from '../../src/source/applier-role.ts'
import { createReverseApplier, type PostgresReverseApplier } from '../../src/source/reverse-applier.ts'
import { type SourceWorld, sourceWorld, take } from './fixture.ts'

const SQL = `
create table public.accounts (
  id int8 primary key, balance numeric(12, 2) not null check (balance >= 0),
  serial int generated always as identity, doubled numeric generated always as (balance * 2) stored);
create table public.entries (account int8 references public.accounts, n int, code text, tags text[],
  primary key (account, n), unique (account, code))`
const TABLES = { 'public.accounts': { partitionKey: 'id' }, 'public.entries': { partitionKey: 'account' } }
const TENURE = 5

interface ApplierWorld extends AsyncDisposable {
  readonly world: SourceWorld
  readonly role: string
  readonly origin: string
  open(token?: number): Promise<PostgresReverseApplier>
}

async function applierWorld(): Promise<ApplierWorld> {
  const world = await sourceWorld(SQL, TABLES, { control: true })
  const role = `applier_${world.db.name}`
  const origin = `origin_${world.db.name}`
  await createApplierRole(world.admin, { role, password: 'secret', mapping: world.mapping })
  await world.admin.query(`update switchback.leader set token = 7`)
  await world.admin.query(`update switchback.ownership set owner = 'target', tenure = ${TENURE}, epoch = ${TENURE}`)
  const url = new URL(world.db.url)
  url.username = role
  url.password = 'secret'
  const opened: PostgresReverseApplier[] = []
  return {
    world,
    role,
    origin,
    async open(token = 7) {
      const applier = await createReverseApplier({
        url: url.href,
        mapping: world.mapping,
        leaderToken: token,
        originName: origin,
        clock: systemClock,
      })
      opened.push(applier)
      return applier
    },
    async [Symbol.asyncDispose]() {
      for (const applier of opened) await applier.close()
      await dropApplierRole(world.admin, { role, originName: origin })
      await world[Symbol.asyncDispose]()
    },
  }
}

function account(balance: string | null): RowChange {
  return { table: 'public.accounts', clustering: [], values: balance === null ? null : ['1', balance, '41', null] }
}

function entry(key: string, n: string, code: string | null): RowChange {
  return { table: 'public.entries', clustering: [n], values: code === null ? null : [key, n, code, '{"a b",NULL,"x\\"y"}'] }
}

function transaction(key: string, version: number, changes: readonly RowChange[], tenure = TENURE): ReverseTransaction {
  return { key, slot: hashSlotOf(key), tenure, version, txnId: `t${key}-${version}`, changes }
}

async function rowsOf(world: SourceWorld, sql: string): Promise<unknown[]> {
  return (await world.admin.query({ text: sql, rowMode: 'array' })).rows
}

test('batches are applied once each, in order, with identity, generated and array columns, and recorded in the same commit', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  const batch = [
    transaction('1', 1, [account('10.00'), entry('1', '1', 'a')]),
    transaction('1', 2, [account('12.50'), entry('1', '1', null), entry('1', '2', 'a')]),
    transaction('2', 1, [entry('2', '1', 'z')]),
    transaction('3', 2, [entry('3', '1', 'gap')]),
    transaction('4', 1, [entry('4', '1', 'old')], TENURE - 1),
  ]
  assert.deepEqual(await applier.apply(batch), ['applied', 'applied', 'applied', 'wait', 'old'])
  assert.deepEqual(await applier.apply(batch.slice(0, 2)), ['double', 'double'])
  assert.deepEqual(await rowsOf(it.world, 'select id, balance, serial, doubled from public.accounts'), [['1', '12.50', '41', '25.00']])
  assert.deepEqual(await rowsOf(it.world, 'select account, n, code, tags from public.entries order by 1'), [
    ['1', '2', 'a', '{"a b",NULL,"x\\"y"}'],
    ['2', '1', 'z', '{"a b",NULL,"x\\"y"}'],
  ])
  assert.deepEqual(
    await applier.applied([
      { key: '1', tenure: TENURE },
      { key: '2', tenure: TENURE - 1 },
    ]),
    [{ key: '1', tenure: TENURE, version: 2, txnId: 't1-2' }],
  )
})

test('a stale token is refused and nothing is written', async () => {
  await using it = await applierWorld()
  const stale = await it.open(6)
  await assert.rejects(stale.apply([transaction('1', 1, [account('1')])]), { code: 'TOKEN_STALE' })
  await assert.rejects(stale.savePositions([{ group: 1, lease: 'l', sequence: 3, final: false }]), { code: 'TOKEN_STALE' })
  assert.deepEqual(await rowsOf(it.world, 'select id from public.accounts'), [])
  assert.deepEqual(await rowsOf(it.world, 'select key from switchback.applied'), [])
})

test('what PostgreSQL refuses is poison: its aggregate halts, the others go on', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  const batch = [
    transaction('2', 1, [entry('2', '1', 'fine')]),
    transaction('1', 1, [account('-1')]),
    transaction('1', 2, [entry('1', '1', 'after')]),
    transaction('3', 1, [entry('3', '1', 'fine')]),
  ]
  assert.deepEqual(await applier.apply(batch), ['applied', 'poison', 'poison', 'applied'])
  assert.deepEqual(await rowsOf(it.world, 'select key, tenure, version, sqlstate from switchback.poison'), [
    ['1', String(TENURE), '1', '23514'],
  ])
  assert.deepEqual(await rowsOf(it.world, 'select id from public.accounts'), [])
  assert.deepEqual(await applier.apply([transaction('2', 2, [entry('2', '2', 'more')])]), ['applied'])
})

test('poison that somebody wants tried again goes in the commit that applies it; refused again, it is poison as before', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  const refused = [transaction('1', 1, [account('-1')]), transaction('1', 2, [entry('1', '1', 'after')])]
  const poison = () => rowsOf(it.world, 'select key, version, retrying from switchback.poison')
  const wantRetry = () => rowsOf(it.world, 'update switchback.poison set retrying = true returning key')
  assert.deepEqual(await applier.apply([refused[0]!]), ['poison'])
  assert.deepEqual(await applier.apply(refused), ['poison', 'poison'])
  await wantRetry()
  assert.deepEqual(await applier.apply([refused[0]!]), ['poison'])
  assert.deepEqual(await poison(), [['1', '1', 'f']])
  await wantRetry()
  // The constraint is mended.
  await rowsOf(it.world, 'alter table public.accounts drop constraint accounts_balance_check')
  assert.deepEqual(await applier.apply(refused), ['applied', 'applied'])
  assert.deepEqual(await poison(), [])
  assert.deepEqual(await rowsOf(it.world, 'select key, version from switchback.applied'), [['1', '2']])
})

test('rows that swap an inner unique key are no poison', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  assert.deepEqual(await applier.apply([transaction('2', 1, [entry('2', '1', 'a'), entry('2', '2', 'b')])]), ['applied'])
  assert.deepEqual(await applier.apply([transaction('2', 2, [entry('2', '1', 'b'), entry('2', '2', 'a')])]), ['applied'])
  assert.deepEqual(await rowsOf(it.world, 'select n, code from public.entries order by n'), [
    ['1', 'b'],
    ['2', 'a'],
  ])
})

test('the forward stream sees the origin of what was applied (INV-5)', async () => {
  await using it = await applierWorld()
  await (await it.world.source.createSlot()).release()
  const applier = await it.open()
  await applier.apply([transaction('2', 1, [entry('2', '1', 'a')])])
  const stream = await it.world.stream()
  const [seen] = await take(stream, (all) => all.length === 1)
  assert.deepEqual([seen!.origin, seen!.changes.length], [it.origin, 1])
})

test('user triggers and foreign key actions do not fire', async () => {
  await using it = await applierWorld()
  await it.world.admin.query(`
    create function public.boom() returns trigger language plpgsql as $$ begin raise exception 'fired'; end $$;
    create trigger boom before insert on public.entries for each row execute function public.boom()`)
  const applier = await it.open()
  assert.deepEqual(await applier.apply([transaction('2', 1, [entry('2', '1', 'a')])]), ['applied'])
})

test('an applier whose backend was ended goes on with a new one', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  await applier.apply([transaction('2', 1, [entry('2', '1', 'a')])])
  await it.world.admin.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [it.role])
  const next = [transaction('2', 2, [entry('2', '2', 'b')])]
  const outcome = await applier.apply(next).catch(() => applier.apply(next))
  assert.deepEqual(outcome, ['applied'])
})

test('a column that is gone stops the applier by name instead of poisoning every aggregate', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  await it.world.admin.query('alter table public.entries drop column tags')
  await assert.rejects(applier.apply([transaction('2', 1, [entry('2', '1', 'a')])]), { code: 'APPLY_REFUSED' })
  assert.deepEqual(await rowsOf(it.world, 'select key from switchback.poison'), [])
})

test('positions are kept and never go back', async () => {
  await using it = await applierWorld()
  const applier = await it.open()
  await applier.savePositions([{ group: 1, lease: 'l', sequence: 9, final: true }])
  await applier.savePositions([{ group: 1, lease: 'l', sequence: 3, final: false }])
  assert.deepEqual(await applier.positions(), [{ group: 1, lease: 'l', sequence: 9, final: true }])
})

test('one-row transactions are applied at more than a thousand a second', async (t) => {
  await using it = await applierWorld()
  const applier = await it.open()
  const total = 5_000
  const startedMs = performance.now()
  for (let from = 0; from < total; from += 500) {
    const batch = Array.from({ length: 500 }, (_, i) => transaction(String(from + i), 1, [entry(String(from + i), '1', 'a')]))
    assert.ok((await applier.apply(batch)).every((outcome) => outcome === 'applied'))
  }
  const rate = Math.round((total * 1000) / (performance.now() - startedMs))
  t.diagnostic(`${rate} transactions/s`)
  assert.ok(rate > 1_000, `${rate} transactions/s`)
})
