import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TableConfig } from '../../src/model/migration.ts'
import { connectSource } from '../../src/source/connect.ts'
import { preflight } from '../../src/source/preflight.ts'
import { testDatabase } from '../support/postgres.ts'
import { configOf } from './fixture.ts'

async function findingsOf(sql: string, tables: Readonly<Record<string, TableConfig>>, standbys: readonly string[] = []) {
  await using db = await testDatabase(sql)
  const client = await connectSource({ url: db.url, applicationName: 'test' })
  try {
    const config = configOf('test', tables)
    const findings = await preflight(client, { ...config, source: { ...config.source, standbys } })
    return (severity: string) =>
      findings
        .filter((one) => one.severity === severity)
        .map((one) => one.code)
        .sort()
  } finally {
    await client.end()
  }
}

test('tables that can be moved have no blocker', async () => {
  const of = await findingsOf(
    `create table public.accounts (id int8 primary key, at timestamptz);
     create table public.entries (account int8 references public.accounts, n int, tags text[], primary key (account, n), unique (account, tags))`,
    { 'public.accounts': { partitionKey: 'id' }, 'public.entries': { partitionKey: 'account' } },
  )
  assert.deepEqual(of('blocker'), [])
})

const KEYED = { 'public.t': { partitionKey: 'id' } }
const BLOCKED: readonly (readonly [string, string, readonly string[]])[] = [
  ['a table that is not there', 'select 1', ['TABLE_UNKNOWN']],
  ['a table without primary key', 'create table public.t (id int8 not null)', ['NO_PRIMARY_KEY']],
  [
    'a primary key without the partition key',
    'create table public.t (id int8 not null, n int primary key)',
    ['PARTITION_KEY_NOT_IN_PRIMARY_KEY'],
  ],
  [
    'a replica identity of nothing',
    'create table public.t (id int8 primary key); alter table public.t replica identity nothing',
    ['REPLICA_IDENTITY_UNUSABLE'],
  ],
  [
    'a replica identity without the partition key',
    `create table public.t (id int8, n int not null, primary key (id, n)); create unique index u on public.t (n);
     alter table public.t replica identity using index u`,
    ['REPLICA_IDENTITY_UNUSABLE', 'UNIQUE_KEY_LEAVES'],
  ],
  ['a numeric partition key', 'create table public.t (id numeric primary key)', ['KEY_COLUMN_TYPE', 'PARTITION_KEY_TYPE']],
  [
    'a nondeterministic collation of the key',
    `create collation public.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
     create table public.t (id text collate public.ci primary key)`,
    ['PARTITION_KEY_COLLATION'],
  ],
  ['a type that does not round-trip', 'create table public.t (id int8 primary key, p point)', ['COLUMN_TYPE_UNSUPPORTED']],
  [
    'row-level security',
    'create table public.t (id int8 primary key); alter table public.t enable row level security',
    ['ROW_LEVEL_SECURITY'],
  ],
  [
    'a trigger that always fires',
    `create table public.t (id int8 primary key);
     create function public.f() returns trigger language plpgsql as 'begin return new; end';
     create trigger f before insert on public.t for each row execute function public.f();
     alter table public.t enable always trigger f`,
    ['TRIGGER_FIRES_ALWAYS'],
  ],
  [
    'a trigger that fires for replicas, on a leaf',
    `create table public.t (id int8 primary key) partition by hash (id); create table public.t_0 partition of public.t for values with (modulus 1, remainder 0);
     create function public.f() returns trigger language plpgsql as 'begin return new; end';
     create trigger zz_switchback_like before insert on public.t_0 for each row execute function public.f();
     alter table public.t_0 enable replica trigger zz_switchback_like`,
    ['TRIGGER_FIRES_ALWAYS'],
  ],
  [
    "a leaf whose clone of the root's trigger always fires",
    `create table public.t (id int8 primary key) partition by hash (id); create table public.t_0 partition of public.t for values with (modulus 1, remainder 0);
     create function public.f() returns trigger language plpgsql as 'begin return new; end';
     create trigger f before insert on public.t for each row execute function public.f(); alter table public.t_0 enable always trigger f`,
    ['TRIGGER_FIRES_ALWAYS'],
  ],
  ['inheritance', 'create table public.t (id int8 primary key); create table public.c () inherits (public.t)', ['INHERITANCE']],
  ['an unlogged table', 'create unlogged table public.t (id int8 primary key)', ['TABLE_NOT_LOGGED']],
  [
    'a foreign key that leaves the aggregate',
    'create table public.o (n int primary key); create table public.t (id int8 primary key, o int references public.o)',
    ['FOREIGN_KEY_LEAVES'],
  ],
  ['a deferrable unique key', 'create table public.t (id int8 primary key, n int, unique (id, n) deferrable)', ['UNIQUE_KEY_DEFERRABLE']],
]

for (const [what, sql, codes] of BLOCKED) {
  test(`${what} is a blocker, by name`, async () => {
    assert.deepEqual((await findingsOf(sql, KEYED))('blocker'), codes)
  })
}

test('a foreign key that the configuration accepts is a warning, and a named standby that is absent too', async () => {
  const of = await findingsOf(
    'create table public.o (n int primary key); create table public.t (id int8 primary key, o int constraint fk references public.o)',
    { 'public.t': { partitionKey: 'id', acceptForeignKeys: ['fk'] } },
    ['other'],
  )
  assert.deepEqual(of('blocker'), [])
  assert.ok(of('warning').includes('FOREIGN_KEY_ACCEPTED') && of('warning').includes('STANDBY_ABSENT'))
})
