import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import type { Answered } from '../../src/gateway/context.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { FrontendMessage } from '../../src/wire/frontend.ts'
import { eventually } from '../support/eventually.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'
import { rawSession } from '../support/raw-session.ts'
import { SCHEMA, type TestGateway, testGateway } from './support.ts'

interface Measured extends TestGateway {
  readonly told: Answered[]
}

async function world(database: TestDatabase, options: Parameters<typeof testGateway>[1] = {}): Promise<Measured> {
  const told: Answered[] = []
  const at = await testGateway(database, { bound: true, ...options, more: { metrics: { statement: (answered) => told.push(answered) } } })
  await routed(at)
  return Object.assign(at, { told })
}

function routed(at: TestGateway): Promise<unknown> {
  return eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the gateway has the newest view')
}

async function moved(at: TestGateway, key: string): Promise<void> {
  at.executor.rows.set(key, [key, '100', null, null])
  at.control.change(key, 'target', 'steady')
  await routed(at)
}

async function client(at: TestGateway): Promise<pg.Client & AsyncDisposable> {
  const connection = new pg.Client({ connectionString: at.url, query_timeout: 10_000 })
  connection.on('error', () => undefined)
  await connection.connect()
  return Object.assign(connection, { [Symbol.asyncDispose]: () => connection.end() })
}

/** What was told since the last call: arm, label, key, and what went with it. */
function taken(at: Measured): string[] {
  return at.told.splice(0).map(({ arm, label, key, slot, failed, commits }) => {
    assert.equal(slot, hashSlotOf(key))
    return `${arm} ${key} ${label}${commits ? ' commits' : ''}${failed ? ' failed' : ''}`
  })
}

const POINT = 'select balance from accounts where id = $1'
const ADD = 'update accounts set balance = balance + $1 where id = $2'
const [POINT_LABEL, ADD_LABEL] = ['select balance from accounts where id = ?', 'update accounts set balance = balance + ? where id = ?']

test('each keyed statement is told once under one label on both stores, prepared or not; what is not keyed is not', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  await using db = await client(at)
  for (const id of [3, 7]) {
    await db.query(POINT, [id])
    await db.query({ name: 'named', text: POINT, values: [id] })
    await db.query(POINT.replace('$1', String(id)))
    await db.query(ADD, [1, id])
  }
  await db.query('select note from notes')
  await db.query('show work_mem')
  const four = (arm: string, key: string) => [
    ...Array.from({ length: 3 }, () => `${arm} ${key} ${POINT_LABEL}`),
    `${arm} ${key} ${ADD_LABEL} commits`,
  ]
  assert.deepEqual(taken(at), [...four('source', '3'), ...four('target', '7')])
})

test('a transaction tells each statement, and its COMMIT for the aggregate that it is on, on both stores', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  await using db = await client(at)
  for (const id of [3, 7]) {
    for (const sql of ['begin', POINT.replace('$1', String(id)), ADD.replace('$1', '1').replace('$2', String(id)), 'commit'])
      await db.query(sql)
  }
  const three = (arm: string, key: string) => [`${arm} ${key} ${POINT_LABEL}`, `${arm} ${key} ${ADD_LABEL}`, `${arm} ${key} commit commits`]
  assert.deepEqual(taken(at), [...three('source', '3'), ...three('target', '7')])
  // Rolled back, and of nothing mapped: no COMMIT that is anybody's.
  for (const sql of ['begin', ADD.replace('$1', '1').replace('$2', '3'), 'rollback', 'begin', 'select note from notes', 'commit'])
    await db.query(sql)
  assert.deepEqual(taken(at), [`source 3 ${ADD_LABEL}`])
})

test('several statements in one text are told each, on the target with the commit that answers them', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  await using db = await client(at)
  for (const id of [3, 7]) await db.query(`${POINT.replace('$1', String(id))}; ${ADD.replace('$1', '1').replace('$2', String(id))}`)
  assert.deepEqual(taken(at), [
    `source 3 ${POINT_LABEL}`,
    `source 3 ${ADD_LABEL} commits`,
    `target 7 ${POINT_LABEL}`,
    `target 7 ${ADD_LABEL} commits`,
  ])
})

test("an application's own errors are answers like others; the system's count as failed, for the store or the owner of the key", async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  await using db = await client(at)
  const insert = 'insert into accounts (id, balance) values ($1, $2)'
  for (const id of [3, 7]) await assert.rejects(db.query(insert, [id, 1]), { code: '23505' })
  const label = 'insert into accounts (id, balance) values (?, ...)'
  assert.deepEqual(taken(at), [`source 3 ${label}`, `target 7 ${label}`])
  at.executor.slowness = () => Promise.reject(new Error('the target broke'))
  await assert.rejects(db.query(ADD, [1, 7]), { code: '08007' })
  assert.deepEqual(taken(at), [`target 7 ${ADD_LABEL} failed`])
  at.executor.slowness = () => null
  at.control.change('7', 'target', 'steady', { readOnly: true })
  await routed(at)
  await assert.rejects(db.query(ADD, [1, 7]), { code: '25006' })
  assert.deepEqual(taken(at), [`target 7 ${ADD_LABEL}`])
})

test('latency is from arrival: what a statement waits for behind its own session, or for a flip, is in it', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  let open = () => {}
  at.executor.gate = new Promise((resolve) => {
    open = resolve
  })
  const session = await rawSession(at.url)
  const queries = [ADD.replace('$1', '1').replace('$2', '7'), POINT.replace('$1', '3')]
  const both = session.say(queries.map((sql) => ({ kind: 'query', sql })))
  await eventually(() => at.executor.came === 1, 'the first has come to the target')
  await longEnough()
  open()
  await both
  const [first, second] = at.told.splice(0)
  assert.ok(first!.ms >= WAITED_MS && second!.ms >= WAITED_MS, `waited for ${first!.ms} ms, and behind it ${second!.ms} ms`)
  at.control.change('7', 'target', 'parking')
  await routed(at)
  const parked = session.say([{ kind: 'query', sql: POINT.replace('$1', '7') }])
  await eventually(() => at.gateway.status().parked.statements === 1, 'it is parked')
  await longEnough()
  at.control.change('7', 'source', 'steady')
  await parked
  const [told] = at.told.splice(0)
  assert.equal(told!.arm, 'source')
  assert.ok(told!.ms >= WAITED_MS, `it was parked, and waited for ${told!.ms} ms`)
  session.end()
})

const WAITED_MS = 60

async function longEnough(): Promise<void> {
  const since = performance.now()
  await eventually(() => performance.now() - since > WAITED_MS, 'time has passed')
}

/** Parse, Bind and Execute of each, and Sync behind all. */
function pipeline(...statements: readonly (readonly [sql: string, ...values: string[]])[]): FrontendMessage[] {
  const messages = statements.flatMap(([sql, ...values]): FrontendMessage[] => [
    { kind: 'parse', name: '', sql, parameterTypes: [] },
    {
      kind: 'bind',
      portal: '',
      statement: '',
      parameterFormats: [],
      parameters: values.map((value) => Buffer.from(value)),
      resultFormats: [],
    },
    { kind: 'execute', portal: '', rowsMax: 0 },
  ])
  return [...messages, { kind: 'sync' }]
}

test('statements that are sent together are told each; of those without BEGIN on the target, with the commit that answers them', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  const session = await rawSession(at.url)
  for (const id of ['3', '7']) await session.say(pipeline([POINT, id], [ADD, '1', id]))
  const two = (arm: string, key: string) => [`${arm} ${key} ${POINT_LABEL}`, `${arm} ${key} ${ADD_LABEL} commits`]
  assert.deepEqual(taken(at), [...two('source', '3'), ...two('target', '7')])
  // The commit fails: so does the last of them, and the one before was answered.
  at.executor.slowness = () => Promise.reject(new Error('the target broke'))
  await session.say(pipeline([POINT, '7'], [ADD, '1', '7']))
  assert.deepEqual(taken(at), [`target 7 ${POINT_LABEL}`, `target 7 ${ADD_LABEL} failed`])
  at.executor.slowness = () => null
  // An error skips what follows it: that was not answered.
  const insert = 'insert into accounts (id, balance) values ($1, $2)'
  for (const id of ['3', '7']) await session.say(pipeline([POINT, id], [insert, id, '1'], [POINT, id]))
  const answered = (arm: string, key: string) => [
    `${arm} ${key} ${POINT_LABEL}`,
    `${arm} ${key} insert into accounts (id, balance) values (?, ...)`,
  ]
  assert.deepEqual(taken(at), [...answered('source', '3'), ...answered('target', '7')])
  session.end()
})

test('a client that goes away while its statement waits was answered nothing, and nothing is told of it', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  const [gone, stays] = [await rawSession(at.url), await rawSession(at.url)]
  at.control.change('7', 'target', 'parking')
  await routed(at)
  const waiting = gone.say([{ kind: 'query', sql: POINT.replace('$1', '7') }])
  await eventually(() => at.gateway.status().parked.statements === 1, 'it is parked')
  gone.end()
  await assert.rejects(waiting)
  await eventually(() => at.gateway.status().parked.statements === 0, 'it waits no more')
  await stays.say([{ kind: 'query', sql: POINT.replace('$1', '3') }])
  assert.deepEqual(taken(at), [`source 3 ${POINT_LABEL}`])
  stays.end()
})
