// Promises under test: a derived select answers what PostgreSQL answers, byte for byte.
import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../support/postgres.ts'
import { LEDGER_SQL, ledgerTwin, SEED_SQL } from './ledger.ts'
import { keyedPlan, parameterTypes, same } from './twin.ts'

type Case = readonly [sql: string, ...params: (string | null)[]]

const ORDERED: readonly Case[] = [
  ['select * from accounts where id = $1', '1'],
  ['select * from accounts where id = $1', '9223372036854775807'],
  ['select * from accounts where id = $1', '77'],
  ['select * from accounts where id = $1', null],
  ['select * from profiles where id = $1', '1'],
  ['select * from profiles where id = 3'],
  ["select owner from accounts where id = '1'"],
  ["select owner from accounts where id = '1'::bigint"],
  ['select owner from accounts where id = $1::int', '1'],
  ['select owner from accounts where $1 = id', '1'],
  ['select owner from accounts where id in ($1)', '2'],
  ['select owner from public.accounts where public.accounts.id = 2'],
  ['select a.owner as "Owner", a.balance b from accounts as a where a.id = $1 and a.balance >= $2', '1', '100.5'],
  ['select id, amount from entries where account_id = $1 order by id', '1'],
  ['select id, amount from entries where account_id = $1 order by amount desc, id', '1'],
  ['select id, amount from entries where account_id = $1 order by 2, 1 desc limit 2 offset 1', '1'],
  ['select id, memo from entries where account_id = $1 order by memo collate "C" nulls first, id limit $2', '1', '3'],
  ['select id, memo from entries where account_id = $1 order by memo collate "C" desc, id', '1'],
  ['select id from entries where account_id = $1 order by id limit $2 offset $3', '1', null, '1'],
  ['select id from entries where account_id = $1 order by id limit -1', '1'],
  ['select id from entries where account_id = $1 and id between $2 and $3 order by id', '1', '2', '4'],
  ['select id from entries where account_id = $1 and id = any($2) order by id', '1', '{1,3,9}'],
  ['select id from entries where account_id = $1 and id not in (1, 2) order by id', '1'],
  ["select id from entries where account_id = $1 and memo in ('one', $2) order by id", '1', 'four'],
  ["select id from entries where account_id = $1 and memo like 't%e' order by id", '1'],
  ['select id from entries where account_id = $1 and memo not like $2 order by id', '1', '_n%'],
  ['select id from entries where account_id = $1 and (memo is null or amount > 5) order by id', '1'],
  ['select id from entries where account_id = $1 and not (memo = $2) order by id', '1', 'one'],
  ['select id from entries where account_id = $1 and memo is distinct from $2 order by id', '1', 'one'],
  ['select id from entries where account_id = $1 and memo is not distinct from null order by id', '1'],
  ["select id from entries where account_id = $1 and code = 'ab' order by id", '1'],
  ["select id, code || '|' as padded, length(memo) from entries where account_id = $1 order by id", '1'],
  ['select id, amount * 2 as twice, amount / 3, amount % 3, -amount, amount + 1.50 from entries where account_id = $1 order by id', '1'],
  [
    'select round(amount, 1), round(amount), trunc(amount, 2), abs(amount), ceil(amount), floor(amount), sign(amount) from entries where account_id = 1 order by id',
  ],
  ['select score + 1, score / 2, score % 4, small + small, small * 2, -score from accounts where id = 1'],
  ['select score + 1 from accounts where id = 3'],
  ['select small + small from accounts where id = 3'],
  ['select score / (small - 3) from accounts where id = 1'],
  // An argument that fails does so beside a null, unless the null stands in the statement itself.
  ['select score + 1 / balance from accounts where id = 2'],
  ['select 1 / balance + score from accounts where id = 2'],
  ['select score > 1 / balance from accounts where id = 2'],
  ['select nullif(score, 1 / balance::int) from accounts where id = 2'],
  ['select 1 / balance::int = any($1::int[]) from accounts where id = 2', null],
  ['select 1 / balance::int = any($1::int[]) from accounts where id = 2', '{}'],
  ['select $1::int + 1 / balance from accounts where id = 2', null],
  ['select null::int + 1 / balance, nullif(null::int, 1 / balance::int) from accounts where id = 2'],
  ['select 1 / balance > 1 and 2 < 1, 1 / balance > 1 or 2 > 1 from accounts where id = 2'],
  ['select balance / (score - 7) from accounts where id = 1'],
  ['select ratio * 2, ratio / 3, ratio + score, single + single, single * ratio, ratio > 1, single from accounts where id = 1'],
  ['select ratio * 1e10 from accounts where id = 3'],
  ['select ratio * 1e10::float8 from accounts where id = 3'],
  [
    'select balance::int, balance::float8, score::numeric, score::text, ratio::numeric, ratio::int, flag::int, flag::text, small::bigint from accounts where id = 1',
  ],
  ['select balance::smallint from accounts where id = 3'],
  ['select balance::numeric(10,1), owner::varchar(2), balance::numeric(3,0) from accounts where id = 1'],
  ['select owner::varchar(4), owner::char(8) from accounts where id = 3'],
  [
    "select '12'::int, '1.50'::numeric, '2024-02-29'::date, '2024-02-29 01:02:03+02'::timestamptz, 'x', null, true, 1.50, 5000000000 from accounts where id = 1",
  ],
  ['select coalesce(score, 5), nullif(owner, $2), greatest(score, 3, null), least(small, score) from accounts where id = $1', '2', 'Bo'],
  [
    "select case when balance > 50 then 'rich' when balance is null then null else 'poor' end, case score when 7 then 1 else 2.5 end from accounts where id = $1",
    '1',
  ],
  ["select owner || ' has ' || balance, concat(owner, null, score, flag), owner || null from accounts where id = 1"],
  [
    "select data->'a', data->>'s', data->'b'->'c'->0, data #> '{b,c}', data #>> '{b,c,2}', data->'n', data->>'n', data->'none', data->>'num' from profiles where id = 1",
  ],
  ['select data->0, data->>1, data->-1, data->2->$2, data->9 from profiles where id = $1', '3', 'three'],
  [
    "select data @> '{\"a\": 1}', data @> '{\"b\": {\"c\": [2]}}', data ? 's', data ? 'zz', '{\"a\": 1}' <@ data, data @> '{\"num\": 1.5}' from profiles where id = 1",
  ],
  ["select data @> '[1]', data @> '1', data ? 'two', jsonb_typeof(data), jsonb_array_length(data) from profiles where id = 3"],
  ['select jsonb_array_length(data) from profiles where id = 1'],
  [
    "select (data->>'num')::numeric * 2, (data->>'a')::int + 1, data || '{\"z\": 1, \"a\": 2}', data->'list' || '4' from profiles where id = 1",
  ],
  ["select (data->>'s')::int from profiles where id = 1"],
  [
    "select seen > '2023-01-01 00:00:00+00', seen < now(), born + 1, born - 1, born < '2001-01-01', local >= '2024-05-06 07:08:09', at > '12:00:00' from profiles where id = 1",
  ],
  ["select seen < '0001-01-01 00:00:00+00', born, born + 366, local = 'infinity', born::timestamp, local::date from profiles where id = 3"],
  [
    "select token = '6F1D2F5E0C574B0A9A513D5B8E0C1A11', token < $2, bytes = '\\x00FF10', bytes from profiles where id = $1",
    '1',
    'ffffffff-0c57-4b0a-9a51-3d5b8e0c1a11',
  ],
  [
    "select 1 = any(tags), 3 = any(tags), 5 > all(tags), 'b c' = any(words), tags = '{1,2,NULL,4}', cardinality(tags), array[1,2], array['a', null, 'b c'] from profiles where id = 1",
  ],
  ['select 1 = any(tags), 1 <> all(tags) from profiles where id = 3'],
  [
    "select padded, padded = 'ab', length(name), padded || 'x', left(name, 2), right(name, -2), octet_length(name) from profiles where id = 1",
  ],
  ['select lapse, rate, rate * 2, rate / 7 from profiles where id = 3'],
  ['select flag is true, flag is not false, flag is unknown, not flag, (score > 3) is not true from accounts where id = 2'],
  ['select true and null, null or true, not null, 1 = 2 or null from accounts where id = 1'],
  ['select count(*), count(memo), sum(amount), avg(amount), min(amount), max(amount) from entries where account_id = $1', '1'],
  ['select count(*), sum(amount), avg(amount), max(id) from entries where account_id = 5'],
  [
    'select sum(id), avg(id), min(id), max(id), count(distinct amount), count(*) filter (where memo is null), sum(amount) + 1 as total from entries where account_id = 1',
  ],
  ['select code, count(*) as n, sum(amount) from entries where account_id = $1 group by code order by 2 desc, sum(amount)', '1'],
  ['select code, count(*) from entries where account_id = $1 group by 1 having count(*) > 1', '1'],
  ['select a.owner, e.id, e.amount from accounts a join entries e on e.account_id = a.id where a.id = $1 order by e.id', '1'],
  [
    'select a.owner, e.id, h.reason from accounts a join entries e on e.account_id = a.id left join holds h on h.account_id = e.account_id and h.entry_id = e.id where a.id = $1 order by e.id, h.reason collate "C"',
    '1',
  ],
  [
    'select a.id, count(e.id), coalesce(sum(e.amount), 0) from accounts a left join entries e on e.account_id = a.id where a.id = $1 group by a.id, a.owner',
    '9223372036854775807',
  ],
  [
    'select a.owner, e.id from accounts a, entries e where e.account_id = a.id and a.id = $1 and e.account_id = $1 order by e.id desc limit 1',
    '1',
  ],
  [
    'select account_id, e.id, h.reason from entries e join holds h using (account_id) where h.entry_id = e.id and account_id = 1 order by h.reason collate "C", e.id',
  ],
  ['select balance from accounts where id = $1 for update', '1'],
  ['select balance from accounts where id = $1 for no key update', '1'],
  ['select current_timestamp = now(), now() from accounts where id = 1'],
  [
    'select reason from holds where account_id = $1 and entry_id = $2 and reason > $3 collate "C" order by reason collate "C"',
    '1',
    '1',
    'A',
  ],
  ['select $2, $2 from accounts where id = $1', '1', 'text'],
  ['select $2::numeric + 1, $3::int * 2 from accounts where id = $1', '1', '1.10', '4'],
  ['select $2::int * $3 from accounts where id = $1', '1', '2147483647', '2'],
  ['select mod(score, 4), upper(owner collate "C"), lower(owner collate "C") from accounts where id = 1'],
  ['select max(score), min(single), max(ratio), bool_and(flag) from accounts where id = 1'],
  ['select distinct amount from entries where account_id = 1 order by amount'],
  ['select U&"own\\0065r", U&\'d\\0061ta\' from accounts where id = 1'],
  ['select /* id = 9 */ id -- or id = 7\n from accounts where id = 2'],
  ['select 0.1 + 0.2, 1.0 / 3, 10 / 4, 10 / 4.0, 7 % 3, -7 / 2, -7 % 3, 2.50 * 1.10, 1e5, 1e-5 from accounts where id = 1'],
  ['select 1000000000000000000000 / 3, 0.000001 / 7, 1 / 0.0000003, 123456.789 / 0.001, 99999999999.5 % 0.7 from accounts where id = 1'],
]

test('a derived select answers what PostgreSQL answers, with the parameter types PostgreSQL infers', { timeout: 120_000 }, async () => {
  await using database = await testDatabase(LEDGER_SQL)
  const client = await database.connect({ options: '-c timezone=UTC' })
  await client.query(SEED_SQL)
  // With a plan for their values PostgreSQL computes what parameters alone decide before it looks at any row, reached or not.
  await client.query('set plan_cache_mode = force_generic_plan')
  await using twin = await ledgerTwin(client)
  const failures: string[] = []
  for (const [sql, ...params] of ORDERED) {
    try {
      await same(twin, sql, params, { ordered: / order by /.test(sql) })
      if (params.length > 0) assert.deepEqual((await keyedPlan(twin, sql)).parameterTypes, await parameterTypes(client, sql), sql)
    } catch (error) {
      await client.query('rollback')
      failures.push(String((error as Error).message).slice(0, 1500))
    }
  }
  assert.equal(failures.join('\n\n'), '')
})
