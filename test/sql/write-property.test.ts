// Promises under test: any sequence of small writes leaves, answers and refuses the same on PostgreSQL and by plan.
import assert from 'node:assert/strict'
import test from 'node:test'
import { seededRandom } from '../../src/lib/prng.ts'
import { testDatabase } from '../support/postgres.ts'
import { LEDGER_SQL, ledgerTwin, SEED_SQL } from './ledger.ts'
import { same } from './twin.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const random = seededRandom(SEED)
const pick = <T>(list: readonly T[]): T => list[random.int(list.length)]!

const account = () => pick(['1', '2', '3', '4', '5'])
const entry = () => pick(['1', '2', '3', '4', '200', '201'])
const money = () => pick(['0', '1', '-1', '0.00005', '99.9', '1e3', '12345678901234567', null])
const memo = () => pick(['one', 'two', 'x', '', null])

const STATEMENTS: readonly (() => readonly [string, ...(string | null)[]])[] = [
  () => [
    'insert into accounts (id, owner, balance) values ($1, $2, $3) returning balance, doubled',
    account(),
    pick(['a', 'é', null]),
    money(),
  ],
  () => ['insert into accounts (id, owner) values ($1, $2) on conflict do nothing', account(), 'n'],
  () => [
    'insert into accounts as a (id, owner, balance) values ($1, $2, $3) on conflict (id) do update set balance = a.balance + excluded.balance, owner = a.owner || excluded.owner where a.balance < 100 returning *',
    account(),
    'u',
    money(),
  ],
  () => [
    'update accounts set balance = balance - $2, score = coalesce(score, 0) + 1 where id = $1 returning id, balance, score',
    account(),
    money(),
  ],
  () => ['update accounts set balance = round(balance / nullif($2::numeric, 0), 2), flag = balance > $2 where id = $1', account(), money()],
  () => [
    "update accounts set state = $2, small = small * 2 where id = $1 and state <> 'closed'",
    account(),
    pick(['open', 'closed', 'bad', 'far too long a state']),
  ],
  () => ['delete from accounts where id = $1 and balance = 0', account()],
  () => ['delete from accounts where id = $1 returning owner', account()],
  () => ['insert into entries (account_id, id, amount, memo) values ($1, $2, $3, $4) returning *', account(), entry(), money(), memo()],
  () => [
    'insert into entries (account_id, amount, memo) values ($1, $2, $3), ($1, $2, $4) returning id',
    account(),
    money(),
    memo(),
    memo(),
  ],
  () => [
    'insert into entries (account_id, id, amount, memo) values ($1, $2, $3, $4) on conflict (account_id, memo) do update set amount = entries.amount - excluded.amount',
    account(),
    entry(),
    money(),
    memo(),
  ],
  () => [
    'insert into entries (account_id, id, amount, memo) values ($1, $2, 1, $3) on conflict do nothing returning id',
    account(),
    entry(),
    memo(),
  ],
  () => [
    'update entries set amount = amount * 2, code = left(memo, 4) where account_id = $1 and amount between $2 and 1000',
    account(),
    money(),
  ],
  () => ['update entries set id = $3 where account_id = $1 and id = $2', account(), entry(), entry()],
  () => ['update entries set memo = $3 where account_id = $1 and id = $2 returning memo', account(), entry(), memo()],
  () => ['delete from entries where account_id = $1 and id = $2', account(), entry()],
  () => ['delete from entries where account_id = $1 and memo is not distinct from $2 returning id', account(), memo()],
  () => ["insert into holds values ($1, $2, 'r', '2024-01-31') on conflict do nothing", account(), entry()],
  () => [
    'update holds set entry_id = $2, placed = placed + 1 where account_id = $1 and entry_id = $3 and reason = $4',
    account(),
    entry(),
    entry(),
    'r',
  ],
  () => ['delete from holds where account_id = $1', account()],
  () => ['insert into profiles (id, data, rate, token) values ($1, $2, $3, default)', account(), pick(['{"a": 1}', '[]', null]), money()],
  () => [
    "update profiles set data = data || '{\"b\": 2}', rate = rate * 1.5, tags = '{1}' where id = $1 returning data->'a', rate",
    account(),
  ],
  () => ['delete from profiles where id = $1', account()],
]

test(`random writes keep PostgreSQL and the plans together (seed ${SEED})`, { timeout: 120_000 }, async () => {
  await using database = await testDatabase(LEDGER_SQL)
  const client = await database.connect({ options: '-c timezone=UTC' })
  await client.query(SEED_SQL)
  await client.query(
    `alter table profiles alter token set default '00000000-0000-4000-8000-000000000000'; delete from holds where reason <> 'audit'; delete from holds where entry_id = 2`,
  )
  await using twin = await ledgerTwin(client)
  const seen = new Map<string, number>()
  for (let i = 0; i < 400; i++) {
    const [sql, ...params] = pick(STATEMENTS)()
    const outcome = await same(twin, sql, params, { anyChild: true })
    const what = outcome.error?.sqlstate ?? 'done'
    seen.set(what, (seen.get(what) ?? 0) + 1)
  }
  // The run met what it is for.
  for (const wanted of ['done', '23505', '23503', '23514'])
    assert.ok((seen.get(wanted) ?? 0) > 0, `no ${wanted} in ${JSON.stringify([...seen])}`)
})
