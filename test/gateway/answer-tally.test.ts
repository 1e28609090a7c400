import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import type { Answered } from '../../src/gateway/context.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { eventually } from '../support/eventually.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'
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

test('latency is from arrival: what a statement waits for before it, its session or a flip, is in it', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await world(database)
  await moved(at, '7')
  await using db = await client(at)
  let open = () => {}
  at.executor.gate = new Promise((resolve) => {
    open = resolve
  })
  const began = performance.now()
  const both = [db.query(ADD, [1, 7]), db.query(POINT, [3])]
  // pg sends one at a time: a raw second session would too, so the first alone is what is slow here.
  await eventually(() => at.executor.came === 1, 'the first has come to the target')
  await eventually(() => performance.now() - began > 60, 'time has passed')
  open()
  await Promise.all(both)
  const [first] = at.told.splice(0)
  assert.ok(first!.ms > 50, `it was waited for ${first!.ms} ms`)
  at.control.change('7', 'target', 'parking')
  await routed(at)
  const parked = db.query(POINT, [7])
  await eventually(() => at.gateway.status().parked.statements === 1, 'it is parked')
  const since = performance.now()
  await eventually(() => performance.now() - since > 60, 'time has passed')
  at.control.change('7', 'source', 'steady')
  await parked
  const [told] = at.told.splice(0)
  assert.equal(told!.arm, 'source')
  assert.ok(told!.ms > 50, `it was parked, and waited for ${told!.ms} ms`)
})
