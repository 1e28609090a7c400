// Promises: several statements in one text are one transaction outside a block, and what BEGIN, COMMIT, ROLLBACK and SAVEPOINT do to what
// stood before them is PostgreSQL's to say: the same answers, state and rows; on the target the same, or nothing at all (INV-9).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FrontendMessage } from '../../src/wire/frontend.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'
import { rawSession } from '../support/raw-session.ts'
import { SCHEMA, testGateway } from './support.ts'

const ADD = 'update accounts set balance = balance + 1 where id = K'
const FAILS = 'select 1 from notes where 1 / (id - 1) = 0'

const TEXTS = [
  [ADD, ADD],
  [ADD, FAILS],
  [ADD, 'begin', FAILS],
  [ADD, 'begin', ADD, 'commit'],
  [ADD, 'begin', ADD],
  [ADD, 'rollback'],
  [ADD, 'savepoint a'],
  [ADD, 'commit', ADD, FAILS],
  [ADD, 'commit', ADD, 'rollback'],
  ['begin', ADD, 'commit'],
  ['begin', ADD, 'commit', ADD, 'rollback'],
  ['begin', ADD, 'commit', ADD, 'begin', ADD],
  ['begin', ADD, 'rollback', ADD],
  ['begin', ADD, 'commit and chain', ADD, 'rollback'],
]
/** Of a key that has moved, what is refused: nothing of a text that PostgreSQL alone can answer is run. */
const ON_TARGET_TOO = new Set([
  `${ADD}; ${ADD}`,
  `begin; ${ADD}; commit`,
  `begin; ${ADD}; rollback; ${ADD}`,
  `begin; ${ADD}; commit and chain; ${ADD}; rollback`,
])

for (const text of TEXTS.map((list) => list.join('; '))) {
  test(`in one text: ${text.replaceAll(ADD, 'update').replace(FAILS, 'an error')}`, async () => {
    await using database = await testDatabase(SCHEMA)
    await using at = await testGateway(database, { bound: true })
    at.executor.rows.set('7', ['7', '0', null, null])
    at.control.change('7', 'target', 'steady')
    await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
    const balanceOf = async (id: number) =>
      Number((await database.query(`select balance - id * 10 as b from accounts where id = ${id}`)).rows[0].b)
    const said = async (url: string, id: number) => {
      const session = await rawSession(url)
      const answers = await session.say([{ kind: 'query', sql: text.replaceAll('K', String(id)) }])
      session.end()
      return answers.map((one) => one.replaceAll(/"(file|line|routine)":"[^"]*"/g, ''))
    }
    const direct = await said(database.url, 3)
    assert.deepEqual(await said(at.url, 4), direct)
    assert.equal(await balanceOf(4), await balanceOf(3))
    const moved = await said(at.url, 7)
    const balance = Number(at.executor.rows.get('7')![1])
    if (ON_TARGET_TOO.has(text)) assert.deepEqual([moved, balance], [direct, await balanceOf(3)])
    else {
      assert.match(moved.find((one) => one.includes('errorResponse')) ?? 'no error', /0A000/)
      const committed = text.startsWith('begin') && /^begin; [^;]*; commit(;|$)/.test(text)
      assert.equal(balance, committed ? 1 : 0)
    }
    assert.equal(await balanceOf(7), 0)
  })
}

const run = (sql: string): FrontendMessage[] => [
  { kind: 'parse', name: '', sql, parameterTypes: [] },
  { kind: 'bind', portal: '', statement: '', parameterFormats: [], parameters: [], resultFormats: [] },
  { kind: 'execute', portal: '', rowsMax: 0 },
]

test('in one pipeline: update; begin, and a rollback behind its Sync', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { bound: true })
  at.executor.rows.set('7', ['7', '0', null, null])
  at.control.change('7', 'target', 'steady')
  await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
  const said = async (url: string, id: number) => {
    const session = await rawSession(url)
    const answers = await session.say([
      ...run(ADD.replace('K', String(id))),
      ...run('begin'),
      { kind: 'sync' },
      { kind: 'query', sql: 'rollback' },
    ])
    session.end()
    return answers
  }
  const direct = await said(database.url, 3)
  assert.deepEqual(await said(at.url, 4), direct)
  assert.match((await said(at.url, 7)).join(), /0A000/)
  assert.deepEqual((await database.query('select balance from accounts where id in (3, 4) order by id')).rows, [
    { balance: '30' },
    { balance: '40' },
  ])
  assert.equal(at.executor.rows.get('7')![1], '0')
})
