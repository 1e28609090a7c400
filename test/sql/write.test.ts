// Promises under test: a derived write changes, answers and refuses what PostgreSQL changes, answers and refuses.
import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../support/postgres.ts'
import { LEDGER_SQL, ledgerTwin, SEED_SQL } from './ledger.ts'
import { keyedPlan, parameterTypes, same } from './twin.ts'

type Case = readonly [sql: string, ...params: (string | null)[]]

/** In this order: each sees what the ones before it left. */
const WRITES: readonly Case[] = [
  ['update accounts set balance = balance - $2 where id = $1', '1', '0.5'],
  ['update accounts set balance = balance - $2 where id = $1 returning balance, doubled', '1', '50.00005'],
  ['update accounts set balance = balance - $2 where id = $1', '1', '1000'],
  ['update accounts set balance = balance - $2 where id = $1 and balance >= $2 returning id', '1', '1000'],
  ['update accounts set balance = balance * 1e15 where id = $1', '3'],
  ['update accounts set balance = balance / 0 where id = 1 and score = 7'],
  ['update accounts set score = score + 1 where id = 3'],
  ['update accounts set small = score where id = 3'],
  ['update accounts set score = 0 where id = 1'],
  ['update accounts set score = null, flag = not flag, ratio = ratio / 3, single = 0.3 where id = 1 returning *'],
  ["update accounts set state = 'gone' where id = 1"],
  ["update accounts set state = 'much too long a state' where id = 1"],
  ["update accounts set state = $2, owner = owner || '!' where id = $1 returning state, owner", '1', 'frozen'],
  ['update accounts set owner = null where id = 1'],
  ['update accounts set owner = $2 where id = $1', '1', null],
  ['update accounts set doubled = 3 where id = 1'],
  ['update accounts set doubled = default, balance = default, updated_at = now() where id = 1 returning *'],
  ['update accounts set (owner, score) = ($2, $3) where id = $1 returning owner, score', '2', 'Bob', '4'],
  ['update accounts set owner = state, state = owner where id = 2'],
  ["update accounts set state = 'open' where id = 77"],
  ["update accounts set state = 'open' where id = $1", null],
  ['update entries set amount = amount + 1 where account_id = $1 and amount > $2 returning id, amount', '1', '5'],
  ["update entries set memo = 'one' where account_id = 1 and id = 2"],
  ["update entries set memo = 'two', code = 'x' where account_id = 1 and id = 2 returning *"],
  ["update entries set code = 'toolong' where account_id = 1 and id = 2"],
  ["update entries set code = 'ab   ' where account_id = 1 and id = 2"],
  ['update entries set id = 50 where account_id = 1 and id = 5 returning id'],
  ['update entries set id = 4 where account_id = 1 and id = 50'],
  ['update entries set id = 60 where account_id = 1 and id = 1'],
  ['update holds set entry_id = 99 where account_id = 1 and entry_id = 2 and reason = $1', 'audit'],
  ['update holds set entry_id = 4, placed = placed + 1 where account_id = 1 and entry_id = 2 and reason = $1 returning placed', 'audit'],
  ['update profiles set data = data || $2, rate = $3 where id = $1 returning data, rate', '1', '{"z": [1, 2.50]}', '2.12345'],
  ['update profiles set rate = 1000 where id = 1'],
  [
    "update profiles set data = '{\"b\": 1, \"aa\": 2, \"a\": 1.0}', tags = '{3,4}', words = array['x', 'y z'], token = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' where id = 2",
  ],
  [
    "update profiles set seen = '2024-06-01 12:00:00+02', born = '2024-06-01', local = '2024-06-01 12:00', at = '01:02', padded = 'ab', bytes = '\\xAB', name = 5 where id = 2",
  ],
  ['insert into accounts (id, owner) values ($1, $2) returning *', '10', 'Cy'],
  ['insert into accounts (id, owner) values ($1, $2)', '10', 'Cy again'],
  ['insert into accounts (id, owner, balance) values (11, $1, -1)', 'neg'],
  ['insert into accounts (id, owner, balance) values (11, $1, $2)', null, '-1'],
  ['insert into accounts (id, owner, doubled) values (11, $1, 4)', 'gen'],
  ['insert into accounts values (11, $1, default, default, 5) returning doubled, state, score', 'eleven'],
  ['insert into accounts (id, owner, balance) values ($1, $2, $3) returning balance', '12', 'Ann', '12345678901234567.1'],
  ['insert into accounts (id, owner, balance) values ($1, $2, $3) returning balance', '12', 'Ann', '1.00005'],
  ['insert into accounts as a (id, owner) values ($1, $2) on conflict (id) do nothing', '12', 'x'],
  ['insert into accounts (id, owner) values ($1, $2) on conflict do nothing returning id', '13', 'x'],
  [
    'insert into accounts as a (id, owner, balance) values ($1, $2, 5) on conflict (id) do update set owner = excluded.owner, balance = a.balance + excluded.balance returning owner, balance',
    '13',
    'y',
  ],
  [
    'insert into accounts as a (id, owner, balance) values ($1, $2, 5) on conflict on constraint accounts_pkey do update set balance = a.balance - 100',
    '13',
    'y',
  ],
  [
    'insert into accounts (id, owner) values ($1, $2) on conflict (id) do update set owner = excluded.owner where accounts.score > 0',
    '13',
    'z',
  ],
  ['insert into accounts (id, owner) values ($1, $2), ($1, $3)', '14', 'a', 'b'],
  ['insert into accounts (id, owner) values ($1, $2), ($1, $3) on conflict do nothing returning owner', '14', 'a', 'b'],
  ['insert into accounts (id, owner) values ($1, $2), ($1, $3) on conflict (id) do update set owner = excluded.owner', '15', 'a', 'b'],
  ['insert into entries (account_id, amount) values ($1, $2) returning id, amount', '1', '7.70'],
  ['insert into entries (account_id, amount, memo) values ($1, $2, $3), ($1, $4, null) returning id, memo', '1', '1', 'm1', '2'],
  ['insert into entries (account_id, amount, memo) values ($1, $2, $3)', '1', '1', 'm1'],
  [
    'insert into entries (account_id, amount, memo) values ($1, $2, $3) on conflict (account_id, memo) do update set amount = entries.amount + excluded.amount returning id, amount',
    '1',
    '1',
    'm1',
  ],
  ['insert into entries (account_id, id, amount) values ($1, 1, 0)', '1'],
  ['insert into entries (account_id, id, amount) overriding user value values ($1, 1, 0) returning id', '1'],
  ['insert into entries (account_id, amount) values ($1, $2)', '555', '1'],
  ['insert into entries (account_id, amount) values ($1, null)', '1'],
  ['insert into entries (account_id, amount) values ($1, 1)', null],
  ['insert into entries (account_id, id, amount, code) values ($1, 900, 1, $2)', '1', 'abcde'],
  ['insert into holds values ($1, $2, $3)', '1', '1', 'audit'],
  ['insert into holds values ($1, $2, $3, $4) returning *', '1', '3', 'new', '2024-02-29'],
  ['insert into holds values ($1, $2, $3)', '1', '12345', 'dangling'],
  ['insert into profiles (id, data, token) values ($1, $2, default) returning id, data, token', '10', '{"k": null}'],
  ['insert into profiles (id) values ($1)', '999'],
  ['insert into profiles (id, rate, padded, name) values ($1, 1.0005, $2, $3) returning rate, padded', '11', 'abc', 'ñ'.repeat(50)],
  ['insert into profiles (id, padded) values ($1, $2)', '12', 'abcdefg'],
  ['delete from holds where account_id = $1 and entry_id = 1 and reason = $2 returning reason', '1', 'Fraud'],
  ['delete from entries where account_id = $1 and id = 1', '1'],
  ['delete from entries where account_id = $1 and amount = $2', '1', '2'],
  ['delete from entries where account_id = $1 and id = 2 returning *', '1'],
  ['delete from accounts where id = 1'],
  ['delete from profiles where id = 1'],
  ['delete from holds where account_id = 1 and entry_id <> 3'],
  ['delete from accounts where id = 1'],
  ['delete from holds where account_id = 1'],
  ['delete from accounts where id = 1 returning owner'],
  ['delete from accounts where id = $1', '1'],
  ['delete from accounts where id = 3'],
  ['delete from accounts where id = $1 and balance > 5', '2'],
]

test('derived writes change, answer and refuse what PostgreSQL does, and both hold the same rows after each', {
  timeout: 180_000,
}, async () => {
  await using database = await testDatabase(LEDGER_SQL)
  const client = await database.connect({ options: '-c timezone=UTC' })
  await client.query(SEED_SQL)
  await using twin = await ledgerTwin(client)
  await client.query(`alter table profiles alter token set default '00000000-0000-4000-8000-000000000000'`)
  const failures: string[] = []
  for (const [sql, ...params] of WRITES) {
    try {
      await same(twin, sql, params)
      if (params.length > 0 && !sql.includes('doubled) values'))
        assert.deepEqual((await keyedPlan(twin, sql)).parameterTypes, await parameterTypes(client, sql), sql)
    } catch (error) {
      await client.query('rollback')
      failures.push(String((error as Error).message).slice(0, 1500))
    }
  }
  assert.equal(failures.join('\n\n'), '')
})
