import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FrontendMessage } from '../../src/wire/frontend.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'
import { rawSession } from '../support/raw-session.ts'
import { SCHEMA, testGateway } from './support.ts'

const prepare = (name: string): FrontendMessage => ({
  kind: 'parse',
  name,
  sql: 'update accounts set balance = balance + $1 where id = $2',
  parameterTypes: [],
})
const run = (statement: string, by: string): FrontendMessage[] => [
  { kind: 'bind', portal: 'p', statement, parameterFormats: [], parameters: [Buffer.from(by), Buffer.from('7')], resultFormats: [] },
  { kind: 'execute', portal: 'p', rowsMax: 0 },
  { kind: 'sync' },
]
const DONE = ['{"kind":"bindComplete"}', '{"kind":"commandComplete","tag":"UPDATE 1"}', '{"kind":"readyForQuery","status":"idle"}']

for (const name of ['', 'add']) {
  test(`a key that goes home while PostgreSQL prepares the ${name === '' ? 'unnamed' : 'named'} statement: it runs once, there, and can be run again`, async () => {
    await using database = await testDatabase(SCHEMA)
    await using at = await testGateway(database, { bound: true })
    const routed = () => eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the gateway has the newest view')
    at.executor.rows.set('7', ['7', '700', null, null])
    at.control.change('7', 'target', 'steady')
    await routed()
    const session = await rawSession(at.url)
    const lock = await database.connect()
    await lock.query('begin; lock table accounts in access exclusive mode')
    const answer = session.say([prepare(name), ...run(name, '1')])
    const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
    await eventually(async () => (await database.query(waits)).rowCount === 1, 'it is being prepared')
    at.control.change('7', 'source', 'steady')
    await routed()
    await lock.query('commit')
    assert.deepEqual(await answer, ['{"kind":"parseComplete"}', ...DONE])
    assert.deepEqual(await session.say(run(name, '2')), DONE)
    session.end()
    const { rows } = await database.query('select balance from accounts where id = 7')
    assert.deepEqual([rows, at.executor.log], [[{ balance: '73' }], []])
  })
}
