import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { encodeStartup } from '../../src/wire/frontend.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'
import { rawSocket, SCHEMA, testGateway } from './support.ts'

const startup = (parameters: [string, string][]) => encodeStartup({ kind: 'startup', major: 3, minor: 0, parameters })

function closed(socket: { destroyed: boolean }): Promise<unknown> {
  return eventually(() => socket.destroyed, 'the gateway has closed the connection')
}

test('hostile lengths close the connection and nobody else notices', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database)
  const db = new pg.Client({ connectionString: at.url })
  await db.connect()
  for (const length of [0, 3, -1, 2 ** 31 - 1, 10_001]) {
    const socket = await rawSocket(at.gateway.port)
    const header = Buffer.alloc(8)
    header.writeInt32BE(length)
    header.writeInt32BE(196_608, 4)
    socket.write(header)
    await closed(socket)
  }
  assert.deepEqual((await db.query('select 1 as one')).rows, [{ one: 1 }])
  await db.end()
})

test('an encryption request is answered N, and bytes behind it end the connection', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database)
  const polite = await rawSocket(at.gateway.port)
  polite.write(encodeStartup({ kind: 'sslRequest' }))
  await eventually(() => polite.received().toString() === 'N', 'the answer N')
  polite.destroy()
  const smuggler = await rawSocket(at.gateway.port)
  smuggler.write(Buffer.concat([encodeStartup({ kind: 'sslRequest' }), startup([['user', 'postgres']])]))
  await closed(smuggler)
  assert.equal(smuggler.received().length, 0)
})

test('only the session settings on the list may come with the startup', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database)
  for (const extra of [
    ['replication', 'database'],
    ['options', '-c session_replication_role=replica'],
    ['options', '--session_replication_role=replica'],
    ['session_replication_role', 'replica'],
  ] as [string, string][]) {
    const socket = await rawSocket(at.gateway.port)
    socket.write(startup([['user', 'postgres'], ['database', database.name], extra]))
    await closed(socket)
    assert.match(socket.received().toString('latin1'), /0A000/, extra.join('='))
  }
  const db = new pg.Client({ connectionString: at.url, options: '-c search_path=pg_catalog' })
  await db.connect()
  assert.deepEqual((await db.query('show search_path')).rows, [{ search_path: 'pg_catalog' }])
  await db.end()
})

test('a socket that does not sign in is closed at the login timeout, named, and does not count as a connection', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { limits: { loginTimeoutMs: 600, connectionsMax: 1 } })
  const idle = await Promise.all(Array.from({ length: 20 }, () => rawSocket(at.gateway.port)))
  const db = new pg.Client({ connectionString: at.url })
  await db.connect()
  const second = new pg.Client({ connectionString: at.url })
  await assert.rejects(second.connect(), { code: '53300', message: /connectionsMax/ })
  for (const socket of idle) {
    await closed(socket)
    assert.match(socket.received().toString('latin1'), /loginTimeoutMs/)
  }
  assert.deepEqual((await db.query('select 1 as one')).rows, [{ one: 1 }])
  await db.end()
})

test('a wrong password is refused by PostgreSQL itself, in its own words', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database)
  const url = new URL(at.url)
  url.password = 'wrong'
  const direct = new URL(database.url)
  direct.password = 'wrong'
  const refusal = async (connectionString: string) => {
    const client = new pg.Client({ connectionString })
    client.on('error', () => undefined)
    return client.connect().then(
      () => 'connected',
      (error: pg.DatabaseError) => `${error.code} ${error.message}`,
    )
  }
  assert.equal(await refusal(url.href), await refusal(direct.href))
})

for (const bound of [false, true]) {
  test(`a cancel reaches the session whose key it has and no other, ${bound ? 'after' : 'before'} INV-8 binds`, async () => {
    await using database = await testDatabase(SCHEMA)
    await using at = await testGateway(database, { bound })
    await eventually(() => at.gateway.status().lease !== null, 'a lease')
    const db = new pg.Client({ connectionString: at.url })
    await db.connect()
    const { processID, secretKey } = db as unknown as { processID: number; secretKey: number }
    const sleeping = assert.rejects(db.query('select pg_sleep(20)'), { code: '57014' })
    const running = () =>
      database
        .query(`select 1 from pg_stat_activity where pid = ${processID} and query like 'select pg_sleep%' and state = 'active'`)
        .then(({ rowCount }) => rowCount === 1)
    await eventually(running, 'the statement runs')
    const cancel = async (key: number) => {
      const secret = Buffer.alloc(4)
      secret.writeInt32BE(key)
      const socket = await rawSocket(at.gateway.port)
      socket.write(encodeStartup({ kind: 'cancelRequest', processId: processID, secretKey: secret }))
      await closed(socket)
    }
    await cancel(secretKey ^ 1)
    assert.equal(await running(), true)
    await cancel(secretKey)
    await sleeping
    assert.deepEqual((await db.query('select 1 as one')).rows, [{ one: 1 }])
    await db.end()
  })
}

test('a statement that waits for a flip can be cancelled', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { bound: true })
  at.control.change('7', 'source', 'parking')
  await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
  const db = new pg.Client({ connectionString: at.url })
  await db.connect()
  const { processID, secretKey } = db as unknown as { processID: number; secretKey: number }
  const waiting = assert.rejects(db.query('select balance from accounts where id = 7'), { code: '57014' })
  await eventually(() => at.gateway.status().parked.statements === 1, 'it waits')
  const secret = Buffer.alloc(4)
  secret.writeInt32BE(secretKey)
  const socket = await rawSocket(at.gateway.port)
  socket.write(encodeStartup({ kind: 'cancelRequest', processId: processID, secretKey: secret }))
  await waiting
  await db.end()
})

test('a connection lost at COMMIT is an unknown outcome, one lost before it is a failure', async () => {
  await using database = await testDatabase(`${SCHEMA}
    create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(20); return null; end $$;
    create constraint trigger slow after update on notes deferrable initially deferred for each row execute function wait();`)
  await using at = await testGateway(database, { bound: true })
  await eventually(() => at.gateway.status().lease !== null, 'a lease')
  for (const [last, code] of [
    ['commit', '08007'],
    ['select pg_sleep(20)', /57P01|08006/],
  ] as const) {
    const db = new pg.Client({ connectionString: at.url })
    const errors: string[] = []
    db.on('error', (error) => void errors.push('code' in error ? String(error.code) : error.message))
    await db.connect()
    const { processID } = db as unknown as { processID: number }
    await db.query('begin')
    await db.query("update notes set note = 'x' where id = 1")
    const failed = db.query(last).then(
      () => 'done',
      (error: pg.DatabaseError) => error.code ?? error.message,
    )
    await eventually(
      () =>
        database.query(`select 1 from pg_stat_activity where pid = ${processID} and wait_event = 'PgSleep'`).then((r) => r.rowCount === 1),
      'it waits',
    )
    await database.query(`select pg_terminate_backend(${processID})`)
    const heard = [await failed, ...errors]
    assert.equal(
      heard.some((one) => (typeof code === 'string' ? one === code : code.test(one))),
      true,
      `${last}: ${heard.join(', ')}`,
    )
    await db.end().catch(() => undefined)
  }
})

test('PostgreSQL goes away while a write is under way on the target: an unknown outcome; a read is a failure (INV-9)', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { bound: true })
  at.control.change('7', 'target', 'steady')
  at.executor.rows.set('7', ['7', '100', null, null])
  await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
  let answer = () => undefined as void
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  for (const [statements, code] of [
    [['update accounts set balance = balance + 1 where id = 7'], '08007'],
    [['begin', 'update accounts set balance = balance + 1 where id = 7', 'commit'], '08007'],
    [['select balance from accounts where id = 7'], /57P01|08006/],
  ] as const) {
    at.executor.gate = Promise.resolve()
    const db = new pg.Client({ connectionString: at.url })
    const errors: string[] = []
    db.on('error', (error) => void errors.push('code' in error ? String(error.code) : error.message))
    await db.connect()
    const { processID } = db as unknown as { processID: number }
    for (const statement of statements.slice(0, -1)) await db.query(statement)
    at.executor.gate = answered
    const came = at.executor.came
    const last = db.query(statements.at(-1)!).then(
      () => 'done',
      (error: pg.DatabaseError) => error.code ?? error.message,
    )
    await eventually(() => at.executor.came > came, `${statements.at(-1)} is under way`, 4_000)
    await database.query(`select pg_terminate_backend(${processID})`)
    const heard = [await last, ...errors]
    assert.ok(
      heard.some((one) => (typeof code === 'string' ? one === code : code.test(one))),
      `${statements.at(-1)}: ${heard.join(', ')}`,
    )
    assert.ok(typeof code !== 'string' || !heard.some((one) => /57P01|08006/.test(one)), `${statements.at(-1)}: ${heard.join(', ')}`)
    await db.end().catch(() => undefined)
  }
  answer()
})
