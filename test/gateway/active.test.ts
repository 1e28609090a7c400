import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { eventually } from '../support/eventually.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'
import { SCHEMA, type TestGateway, testGateway } from './support.ts'

async function client(at: TestGateway, config: pg.ClientConfig = {}): Promise<pg.Client & AsyncDisposable> {
  const connection = new pg.Client({ connectionString: at.url, query_timeout: 10_000, ...config })
  connection.on('error', () => undefined)
  await connection.connect()
  return Object.assign(connection, { [Symbol.asyncDispose]: () => connection.end() })
}

/** Key moved to the target, with the row that PostgreSQL has for it. */
async function moved(at: TestGateway, key: string, balance: string): Promise<void> {
  at.executor.rows.set(key, [key, balance, '2024-01-02 03:04:05.678+00', '\\x00ff'])
  at.control.change(key, 'target', 'steady')
  await routed(at)
}

function routed(at: TestGateway): Promise<unknown> {
  return eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the gateway has the newest view')
}

async function world(database: TestDatabase, options: Parameters<typeof testGateway>[1] = {}): Promise<TestGateway> {
  const at = await testGateway(database, { bound: true, ...options })
  await routed(at)
  return at
}

test('a moved key is read and written on the target, another on PostgreSQL, with unnamed, named and simple statements', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7', '700')
  await using db = await client(at)
  const point = 'select balance from accounts where id = $1'
  for (const name of [undefined, 'point']) {
    const ask = (id: number) => db.query({ ...(name === undefined ? {} : { name }), text: point, values: [id] })
    assert.deepEqual((await ask(3)).rows, [{ balance: '30' }])
    assert.deepEqual((await ask(7)).rows, [{ balance: '700' }])
    assert.deepEqual((await ask(3)).rows, [{ balance: '30' }])
  }
  assert.deepEqual((await db.query('select balance from accounts where id = 7')).rows, [{ balance: '700' }])
  assert.deepEqual((await db.query('select balance from accounts where id = 3')).rows, [{ balance: '30' }])
  const add = await db.query('update accounts set balance = balance + $1 where id = $2 returning balance', [5, 7])
  assert.deepEqual([add.command, add.rowCount, add.rows], ['UPDATE', 1, [{ balance: '705' }]])
  await assert.rejects(db.query('update accounts set balance = balance + $1 where id = $2', [-900, 7]), { code: '23514' })
  assert.deepEqual((await database.query('select balance from accounts where id in (3, 7) order by id')).rows, [
    { balance: '30' },
    { balance: '70' },
  ])
  assert.deepEqual(at.executor.rows.get('7')![1], '705')
})

test('results of moved keys come in the formats asked for, under the settings of the session', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  const text = 'select id, balance, opened, data from accounts where id = $1'
  const direct = await database.connect()
  await using db = await client(at)
  for (const binary of [false, true]) {
    for (const zone of ['UTC', 'Asia/Kolkata']) {
      for (const one of [direct, db]) await one.query(`set timezone = '${zone}'`)
      const query = {
        text,
        values: [8],
        binary,
        rowMode: 'array' as const,
        types: { getTypeParser: () => (value: unknown) => String(value) },
      }
      const expected: pg.QueryResult = await direct.query(query as never)
      at.executor.rows.set('8', ['8', '80', '2024-01-02 03:04:05.678+00', '\\x00ff'])
      if (at.control.view.ownership(0) !== undefined) await moved(at, '8', '80')
      const answer: pg.QueryResult = await db.query(query as never)
      assert.deepEqual([answer.fields, answer.rows], [expected.fields, expected.rows])
    }
  }
})

test('an explicit transaction takes the arm of its first statement and keeps it', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7', '700')
  await using db = await client(at)
  await db.query('begin')
  await db.query('update accounts set balance = balance + $1 where id = $2', [1, 7])
  assert.deepEqual((await db.query('select balance from accounts where id = 7')).rows, [{ balance: '701' }])
  assert.equal(at.executor.rows.get('7')![1], '700')
  await db.query('commit')
  assert.equal(at.executor.rows.get('7')![1], '701')

  await db.query('begin')
  await db.query('update accounts set balance = balance + 1 where id = 7')
  await db.query('rollback')
  assert.equal(at.executor.rows.get('7')![1], '701')

  await db.query('begin')
  await db.query('update accounts set balance = balance + 1 where id = 3')
  await assert.rejects(db.query('update accounts set balance = balance + 1 where id = 7'), { code: '0A000' })
  await assert.rejects(db.query('select 1'), { code: '25P02' })
  assert.equal((await db.query('commit')).command, 'ROLLBACK')
  assert.deepEqual((await database.query('select balance from accounts where id = 3')).rows, [{ balance: '30' }])

  await db.query('begin')
  await db.query('update accounts set balance = balance + 1 where id = 7')
  await assert.rejects(db.query('update accounts set balance = balance + 1 where id = 3'), { code: '0A000' })
  await assert.rejects(db.query('select 1'), { code: '25P02' })
  await db.query('rollback')
  assert.equal(at.executor.rows.get('7')![1], '701')
  assert.deepEqual((await db.query('select 1 as one')).rows, [{ one: 1 }])

  await db.query('begin')
  await db.query('update accounts set balance = balance + 1 where id = 3')
  await db.query('commit')
  assert.deepEqual((await database.query('select balance from accounts where id = 3')).rows, [{ balance: '31' }])
})

test('a read-only transaction refuses writes of moved keys, a savepoint is refused, an empty transaction is one', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7', '700')
  await using db = await client(at)
  await db.query('begin read only')
  assert.deepEqual((await db.query('select balance from accounts where id = 7')).rows, [{ balance: '700' }])
  await assert.rejects(db.query('update accounts set balance = balance + 1 where id = 7'), { code: '25006' })
  await db.query('rollback')
  await db.query('begin')
  await db.query('update accounts set balance = balance + 1 where id = 7')
  await assert.rejects(db.query('savepoint s'), { code: '0A000' })
  assert.equal((await db.query('commit')).command, 'ROLLBACK')
  assert.equal((await db.query('begin')).command, 'BEGIN')
  assert.equal((await db.query('commit')).command, 'COMMIT')
  assert.deepEqual(at.executor.rows.get('7')![1], '700')
})

test('PostgreSQL decides who may: a role without rights gets its refusal for moved keys too', async () => {
  await using database = await testDatabase(`${SCHEMA} drop role if exists nobody_here; create role nobody_here;`)
  await using at = await world(database)
  await moved(at, '7', '700')
  await using db = await client(at)
  assert.deepEqual((await db.query('select balance from accounts where id = $1', [7])).rows, [{ balance: '700' }])
  await db.query('set role nobody_here')
  await assert.rejects(db.query('select balance from accounts where id = $1', [7]), { code: '42501' })
  await database.query('grant select (id, balance) on accounts to nobody_here')
  assert.deepEqual((await db.query('select balance from accounts where id = $1', [7])).rows, [{ balance: '700' }])
  await db.query('reset role')
  await database.query('drop owned by nobody_here; drop role nobody_here')
})

test('statements that begin on a slot in flip wait, run on the new owner, and are refused by name at the deadline', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database, { limits: { parkDeadlineMs: 400 } })
  await using db = await client(at)
  at.control.change('7', 'source', 'parking')
  await routed(at)
  const waiting = db.query('update accounts set balance = balance + 1 where id = $1', [7])
  await eventually(() => at.gateway.status().parked.statements === 1, 'the statement waits')
  await moved(at, '7', '700')
  await waiting
  assert.equal(at.executor.rows.get('7')![1], '701')
  at.control.change('7', 'target', 'parking')
  await routed(at)
  await assert.rejects(db.query('select balance from accounts where id = 7'), { code: '40001', message: /parkDeadlineMs/ })
  assert.deepEqual((await db.query('select balance from accounts where id = 3')).rows, [{ balance: '30' }])
})

test('a fence is acked when what wrote there has ended; other open transactions are excused by backend', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await using writer = await client(at)
  await using other = await client(at)
  await writer.query('begin')
  await writer.query('update accounts set balance = balance + 1 where id = 7')
  await other.query('begin')
  await other.query('update accounts set balance = balance + 1 where id = 3')
  const epoch = at.control.change('7', 'source', 'parking')
  await eventually(() => at.gateway.status().waitsFor.length === 1, 'the fence waits for the writer')
  assert.equal(
    at.control.acks.some((ack) => ack.epoch === epoch),
    false,
  )
  await writer.query('commit')
  const ack = await eventually(() => at.control.acks.find((one) => one.epoch === epoch), 'the ack')
  const backend = await database.query(`
    select a.pid, to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as start, l.virtualtransaction
    from pg_stat_activity a join pg_locks l on l.pid = a.pid and l.locktype = 'virtualxid'
    where a.query like 'update accounts set balance = balance + 1 where id = 3%' or a.query like '%virtualxid%' and a.state = 'idle in transaction'`)
  const { pid, virtualtransaction } = backend.rows[0]
  assert.deepEqual(
    ack.excused.map((one) => [one.pid, one.virtualTransaction]),
    [[pid, virtualtransaction]],
  )
  await assert.rejects(other.query('update accounts set balance = balance + 1 where id = 7'), { code: '40001' })
  await other.query('rollback')
})

test('an open target transaction gets 40001 when its key parks', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7', '700')
  await using db = await client(at)
  await db.query('begin')
  await db.query('update accounts set balance = balance + 1 where id = 7')
  const epoch = at.control.change('7', 'target', 'parking')
  await eventually(() => at.control.acks.some((ack) => ack.epoch === epoch), 'the ack')
  await assert.rejects(db.query('commit'), { code: '40001' })
  assert.equal(at.executor.rows.get('7')![1], '700')
  at.control.change('7', 'target', 'steady')
  assert.deepEqual((await db.query('select balance from accounts where id = 7')).rows, [{ balance: '700' }])
})

test('without a lease nothing mapped is served, on either store, and what is not mapped is', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7', '700')
  await using db = await client(at)
  await using open = await client(at)
  await open.query('begin')
  await open.query('update accounts set balance = balance + 1 where id = 3')
  at.control.reachable = false
  await eventually(() => at.gateway.status().lease === null, 'the lease has lapsed')
  for (const id of [3, 7]) await assert.rejects(db.query('select balance from accounts where id = $1', [id]), { code: '57P03' })
  assert.deepEqual((await db.query('select note from notes')).rows, [{ note: 'one' }])
  await assert.rejects(open.query('commit'))
  assert.deepEqual((await database.query('select balance from accounts where id = 3')).rows, [{ balance: '30' }])
  at.control.reachable = true
  await eventually(() => at.gateway.status().lease !== null, 'a new lease')
  assert.deepEqual((await db.query('select balance from accounts where id = $1', [7])).rows, [{ balance: '700' }])
})

test('what cannot be routed runs on PostgreSQL until a key has moved, then is refused with the reason', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await using db = await client(at)
  assert.deepEqual((await db.query('select count(*)::int as n from accounts')).rows, [{ n: 20 }])
  await moved(at, '7', '700')
  await assert.rejects(db.query('select count(*)::int as n from accounts'), { code: '0A000', message: /it names no key/ })
  await assert.rejects(db.query('delete from accounts'), { code: '0A000', hint: /where id = \$1/ })
})

test('a session that was passing goes over to active mode when INV-8 binds, its prepared statements too', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database)
  await using db = await client(at)
  const named = { name: 'point', text: 'select balance from accounts where id = $1' }
  assert.deepEqual((await db.query({ ...named, values: [7] })).rows, [{ balance: '70' }])
  at.control.bind()
  await eventually(() => at.gateway.status().bound, 'bound')
  await moved(at, '7', '700')
  assert.deepEqual((await db.query({ ...named, values: [7] })).rows, [{ balance: '700' }])
  assert.deepEqual((await db.query({ ...named, values: [3] })).rows, [{ balance: '30' }])
})

test('two gateways: each acks a fence for itself, and both serve the moved key', async () => {
  await using database = await testDatabase(SCHEMA)
  await using one = await world(database)
  await using two = await world(database, { control: one.control, executor: one.executor })
  await using a = await client(one)
  await using b = await client(two)
  await b.query('begin')
  await b.query('update accounts set balance = balance + 1 where id = 7')
  const epoch = one.control.change('7', 'source', 'parking')
  await eventually(() => one.control.acks.filter((ack) => ack.epoch === epoch).length === 1, 'the first has acked')
  await eventually(() => two.gateway.status().waitsFor.length === 1, 'the second waits for its writer')
  await b.query('commit')
  await eventually(() => one.control.acks.filter((ack) => ack.epoch === epoch).length === 2, 'the second has acked')
  await moved(one, '7', '71')
  await routed(two)
  for (const db of [a, b]) await db.query('update accounts set balance = balance + 1 where id = $1', [7])
  assert.deepEqual((await a.query('select balance from accounts where id = 7')).rows, [{ balance: '73' }])
})

test('a gateway whose lease lapsed before INV-8 bound lets nothing mapped through, since it may bind unheard', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database)
  await using db = await client(at)
  assert.deepEqual((await db.query('select balance from accounts where id = 7')).rows, [{ balance: '70' }])
  at.control.reachable = false
  await eventually(() => at.gateway.status().lease === null, 'the lease has lapsed')
  await assert.rejects(db.query('select balance from accounts where id = 7'), { code: '57P03' })
  assert.deepEqual((await db.query('select note from notes')).rows, [{ note: 'one' }])
})
