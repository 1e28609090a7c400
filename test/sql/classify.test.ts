// Promises under test: what is never taken for a keyed statement (faults.md 39, 40, 62), and what each other statement is.
import assert from 'node:assert/strict'
import test, { before } from 'node:test'
import type { Plan } from '../../src/model/plan.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'
import { LEDGER_SQL, ledgerTwin } from './ledger.ts'
import type { Twin } from './twin.ts'

let database: TestDatabase
let twin: Twin

before(async () => {
  database = await testDatabase(`${LEDGER_SQL}
    create schema other;
    create table other.accounts (id int);
    create table part (id int) partition by range (id);`)
  twin = await ledgerTwin(await database.connect())
})

async function plansOf(sql: string, searchPath: readonly string[] = ['public']): Promise<Plan[]> {
  return (await twin.planner.plan(sql, searchPath)).map((one) => one.plan)
}

async function brief(sql: string, searchPath?: readonly string[]): Promise<string> {
  return (await plansOf(sql, searchPath))
    .map((plan) => {
      if (plan.kind === 'pass') return plan.pins ? 'pass pins' : 'pass'
      if (plan.kind === 'unroutable') return plan.reads ? 'unroutable read' : 'unroutable'
      if (plan.kind === 'control') return [plan.control, plan.isolation, plan.readOnly].filter((one) => one !== null).join(' ')
      if (plan.kind === 'session') return plan.statement
      return plan.readOnly ? 'keyed read' : plan.locks ? 'keyed lock' : 'keyed write'
    })
    .join('; ')
}

const NEVER_KEYED: readonly (readonly [sql: string, verdict: string])[] = [
  // faults.md 39
  ['select * from accounts', 'unroutable read'],
  ['select * from accounts where id = 1 or id = 2', 'unroutable read'],
  ['select * from accounts where id = 1 or true', 'unroutable read'],
  ['select * from accounts where not (id = 1)', 'unroutable read'],
  ['select * from accounts where id in (1, 2)', 'unroutable read'],
  ['select * from accounts where id = any($1)', 'unroutable read'],
  ['select * from accounts where id > 1', 'unroutable read'],
  ['select * from accounts where id = 1 and id = 2', 'unroutable read'],
  ['select * from accounts where id = $1 and id = $2', 'unroutable read'],
  ['select * from accounts where id = $1 + 1', 'unroutable read'],
  ['select * from accounts where id + 0 = $1', 'unroutable read'],
  ['select * from accounts where id = 1.5', 'unroutable read'],
  ['select * from accounts where id::text = $1', 'unroutable read'],
  ['select * from accounts where id = length($1)', 'unroutable read'],
  ['select * from accounts where id = (select 1)', 'unroutable read'],
  ['select * from accounts where (id, owner) = (1, $1)', 'unroutable read'],
  ['select * from accounts where id = 1 union all select * from accounts where id = 2', 'unroutable read'],
  ['select * from accounts a join entries e on e.id = a.id where a.id = 1', 'unroutable read'],
  ['select * from accounts a left join entries e on a.id = 1 and e.account_id = a.id', 'unroutable read'],
  ['select * from accounts a join plain p on p.id = a.id where a.id = 1', 'unroutable read'],
  ['select *, (select count(*) from accounts) from accounts where id = 1', 'unroutable read'],
  ['select * from accounts where id = 1 and exists (select 1 from entries)', 'unroutable read'],
  ['with x as (select 1) select * from accounts where id = 1', 'unroutable read'],
  ['with x as (update accounts set balance = 0 where id = 1 returning *) select * from x', 'unroutable'],
  ['with x as (delete from accounts returning *) select 1', 'unroutable'],
  ['with accounts as (select 1 as id) select * from accounts where id = 1', 'unroutable read'],
  ['with x as (insert into plain values (1, null)) select * from accounts where id = 1', 'unroutable'],
  ['select * from accounts tablesample system (10) where id = 1', 'unroutable read'],
  ['select * from only accounts where id = 1', 'unroutable read'],
  ['select peek(1)', 'unroutable read'],
  ['select peek(id) from plain', 'unroutable read'],
  ['select *, peek(2) from accounts where id = 1', 'unroutable read'],
  ["select nextval('entries_id_seq') from accounts where id = 1", 'unroutable'],
  ['select random() from accounts where id = 1', 'unroutable'],
  ['select pg_advisory_lock(1) from accounts where id = 1', 'unroutable'],
  ["select set_config('search_path', 'other', false) from accounts where id = 1", 'unroutable'],
  ["select query_to_xml('select * from accounts', true, true, '')", 'unroutable'],
  ["select table_to_xml('accounts', true, true, '')", 'unroutable'],
  ['select nosuch(1)', 'unroutable'],
  ['select 1 operator(public.+) 1', 'unroutable'],
  ['select 1 <@@> 1', 'unroutable'],
  ['select * from accounts where id = 1 for update skip locked', 'unroutable'],
  ['select * from accounts order by id for update', 'unroutable'],
  ['select owner from accounts where id = 1 order by owner', 'unroutable read'],
  ['select upper(owner) from accounts where id = 1', 'unroutable read'],
  ['select updated_at::text from accounts where id = 1', 'unroutable read'],
  ["select * from accounts where id = 1 and updated_at > '2024-01-01'", 'unroutable read'],
  ["select * from accounts where id = 1 and owner ~ 'x'", 'unroutable read'],
  ['select ctid from accounts where id = 1', 'unroutable read'],
  ['select accounts from accounts where id = 1', 'unroutable read'],
  ['select rank() over (order by id) from accounts where id = 1', 'unroutable read'],
  ['select array_agg(id) from entries where account_id = 1', 'unroutable read'],
  ['select sum(ratio) from accounts where id = 1', 'unroutable read'],
  ['table accounts', 'unroutable read'],
  ['insert into accounts (owner) values ($1)', 'unroutable'],
  ['insert into accounts default values', 'unroutable'],
  ['insert into accounts (id, owner) values (1, $1), (2, $1)', 'unroutable'],
  ['insert into accounts (id, owner) select 1, $1', 'unroutable'],
  ['insert into accounts (id, owner) values ($1 + 1, $2)', 'unroutable'],
  ['insert into plain select id, owner from accounts where id = 1', 'unroutable'],
  ['insert into accounts (id, owner) values (1, $1) on conflict (owner) do nothing', 'unroutable'],
  ['update accounts set id = 2 where id = 1', 'unroutable'],
  ['update accounts set id = id where id = 1', 'unroutable'],
  ['update accounts set balance = 0', 'unroutable'],
  ['update accounts set balance = 0 from plain where accounts.id = 1', 'unroutable'],
  ['update accounts set balance = (select 1) where id = 1', 'unroutable'],
  ['update entries set id = id + 1 where account_id = 1', 'unroutable'],
  ['update accounts set balance = 0 where current of c', 'unroutable'],
  ['delete from accounts', 'unroutable'],
  ['delete from accounts using plain where accounts.id = 1', 'unroutable'],
  ['merge into accounts a using plain p on a.id = p.id when matched then delete', 'unroutable'],
  ['select * from rich where id = 1', 'unroutable read'],
  ['select * from missing where id = 1', 'unroutable read'],
  ['select * from pg_temp.accounts where id = 1', 'unroutable read'],
  ['select * from otherdb.public.accounts where id = 1', 'unroutable'],
  ['select * into temp copy from accounts where id = 1', 'unroutable'],
  ['create temp table copy as select * from accounts', 'unroutable'],
  ['create temp table accounts (id int)', 'unroutable'],
  ['create temp view accounts as select 1 as id', 'unroutable'],
  ['create table pg_temp.accounts (id int)', 'unroutable'],
  ['copy accounts to stdout', 'unroutable read'],
  ['copy accounts from stdin', 'unroutable'],
  ['copy (select * from accounts where id = 1) to stdout', 'unroutable read'],
  ['copy (delete from accounts returning *) to stdout', 'unroutable'],
  ['lock table accounts', 'unroutable'],
  ['truncate accounts', 'unroutable'],
  ['truncate plain cascade', 'unroutable'],
  ['alter table accounts add x int', 'unroutable'],
  ['drop table plain, accounts', 'unroutable'],
  ['drop schema public cascade', 'unroutable'],
  ['drop trigger x on accounts', 'unroutable'],
  ['create index on accounts (owner)', 'unroutable'],
  ['create rule r as on insert to accounts do nothing', 'unroutable'],
  ['do $$ begin delete from accounts; end $$', 'unroutable'],
  ['prepare q as select * from accounts where id = $1', 'unroutable'],
  ['execute q (1)', 'unroutable'],
  ['declare c cursor for select * from accounts where id = 1', 'unroutable read'],
  ['explain select * from accounts where id = 1', 'unroutable read'],
  ['explain analyze delete from accounts where id = 1', 'unroutable'],
]

async function verdicts(list: readonly (readonly [string, string])[]): Promise<(readonly [string, string])[]> {
  return Promise.all(list.map(async ([sql]) => [sql, await brief(sql)] as const))
}

test('what is not exactly one aggregate by its key, or hides something, is never keyed and never passed', async () => {
  assert.deepEqual(await verdicts(NEVER_KEYED), NEVER_KEYED)
})

test('an unroutable statement says why, and what would route', async () => {
  for (const [sql] of NEVER_KEYED) {
    const [plan] = await plansOf(sql)
    assert.ok(plan?.kind === 'unroutable' && plan.because.length > 3 && plan.wouldRoute.length > 3, sql)
  }
})

const OTHERS: readonly (readonly [sql: string, verdict: string])[] = [
  ['commit and chain', 'commit'],
  ['select 1', 'pass'],
  ['select * from plain where id = 1', 'pass'],
  ['select * from other.accounts where id = 1', 'pass'],
  ['select count(*), now(), random(), gen_random_uuid() from plain', 'pass'],
  ['select pure_add(1, 2), lower(note) from plain', 'pass'],
  ["insert into plain values (1, 'accounts')", 'pass'],
  ['with recursive t(n) as (values (1) union all select n + 1 from t where n < 9) select n from t', 'pass'],
  ["select 'select * from accounts'", 'pass'],
  ['select relname from pg_class', 'pass'],
  ['select * from information_schema.tables', 'pass'],
  ['selec', 'pass'],
  ['', 'pass'],
  ['-- nothing', 'pass'],
  ['create table fresh (id int)', 'pass'],
  ['create temp table scratch (id int)', 'pass pins'],
  ['create temp table scratch as select 1', 'pass pins'],
  ['select pg_advisory_lock(1)', 'pass pins'],
  ['select pg_try_advisory_xact_lock(1)', 'pass pins'],
  ['listen news', 'pass pins'],
  ["notify news, 'x'", 'pass pins'],
  ['declare c cursor for select * from plain', 'pass pins'],
  ['fetch 1 from c', 'pass pins'],
  ['set local work_mem = 100', 'pass pins'],
  ['prepare q as select * from plain', 'pass pins'],
  ['lock table plain', 'pass pins'],
  ['grant select on accounts to public', 'pass'],
  ['analyze accounts', 'pass'],
  ['vacuum', 'pass'],
  ['copy plain from stdin', 'pass'],
  ['drop table plain', 'pass'],
  ['truncate plain', 'pass'],
  ['begin', 'begin'],
  ['start transaction isolation level repeatable read, read only', 'begin repeatable read true'],
  ['begin isolation level serializable read write', 'begin serializable false'],
  ['commit', 'commit'],
  ['end', 'commit'],
  ['rollback', 'abort'],
  ['abort', 'abort'],
  ['savepoint a', 'savepoint'],
  ['release a', 'release'],
  ['rollback to savepoint a', 'rollback to'],
  ["prepare transaction 'x'", 'prepare transaction'],
  ["commit prepared 'x'", 'pass'],
  ["set search_path = 'other'", 'SET search_path'],
  ['set transaction isolation level serializable', 'SET TRANSACTION'],
  ['set role nobody', 'SET role'],
  ['reset all', 'RESET ALL'],
  ['reset search_path', 'RESET search_path'],
  ['show search_path', 'SHOW search_path'],
  ['discard all', 'DISCARD ALL'],
  ['deallocate q', 'DEALLOCATE'],
  ["select set_config('search_path', 'other', false)", 'SELECT set_config'],
  ['select * from accounts where id = 1', 'keyed read'],
  ['select * from "accounts" where "id" = 1', 'keyed read'],
  ['select * from U&"\\0061ccounts" where id = 1', 'keyed read'],
  ['select * from ACCOUNTS where ID = 1', 'keyed read'],
  ['select * from accounts where id = 1 for update', 'keyed lock'],
  ['update accounts set balance = balance - $2 where id = $1', 'keyed write'],
  ['a=1; update accounts set balance = 0', 'pass'],
  ['select 1; update accounts set balance = 0', 'pass; unroutable'],
  ['select owner from accounts where id = 1; delete from plain; commit', 'keyed read; pass; commit'],
]

test('every other statement has the plan that it is', async () => {
  assert.deepEqual(await verdicts(OTHERS), OTHERS)
})

test('names mean what the search_path makes them', async () => {
  assert.equal(await brief('select * from accounts where id = 1', ['other', 'public']), 'pass')
  assert.equal(await brief('select * from accounts where id = 1', ['public', 'other']), 'keyed read')
  assert.equal(await brief('select * from public.accounts where id = 1', ['other']), 'keyed read')
  assert.equal(await brief('select * from accounts where id = 1', []), 'unroutable read')
  assert.equal(await brief('select * from accounts where id = 1', ['public', 'pg_catalog']), 'unroutable read')
})

test('statements of one text keep their own text, byte offsets beyond ASCII included', async () => {
  const planned = await twin.planner.plan("select 'é😀' ; /* x */ select 2 ;", ['public'])
  assert.deepEqual(
    planned.map((one) => one.sql),
    ["select 'é😀'", 'select 2'],
  )
})

test('hostile texts are never keyed and never end the parser: deep, long, NUL', async () => {
  const from = ' from accounts where id = 1'
  assert.equal(await brief(`select ${'('.repeat(20_000)}1${')'.repeat(20_000)}${from}`), 'unroutable')
  assert.equal(await brief(`select 1${'+1'.repeat(20_000)}${from}`), 'unroutable')
  assert.equal(await brief(`select ${'not '.repeat(3000)} true${from}`), 'unroutable')
  assert.equal(await brief(`select '${'x'.repeat(70_000)}'${from}`), 'unroutable')
  assert.equal(await brief('select 1\0; delete from accounts'), 'pass')
  assert.equal(await brief(`select 1${from}`), 'keyed read')
})

test('a plan is found in the cache by exact text and search_path, and not under a new catalog', async () => {
  const sql = 'select balance from accounts where id = $1 and score = $2'
  assert.equal(twin.planner.cached(sql, ['public']), undefined)
  const planned = await twin.planner.plan(sql, ['public'])
  assert.equal(twin.planner.cached(sql, ['public']), planned)
  assert.equal(twin.planner.cached(sql, ['other', 'public']), undefined)
  // Their fingerprints are the same.
  assert.equal(twin.planner.cached('select balance from accounts where score = $1 and id = $2', ['public']), undefined)
  const digest = twin.catalog.digest
  Object.assign(twin.catalog, { digest: 'another' })
  assert.equal(twin.planner.cached(sql, ['public']), undefined)
  Object.assign(twin.catalog, { digest })
})

test('after', async () => {
  await (twin as Twin & AsyncDisposable)[Symbol.asyncDispose]()
  await database[Symbol.asyncDispose]()
})
