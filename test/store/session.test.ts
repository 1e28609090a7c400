import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { type Connect, controlConnector, openSession } from '../../src/store/session.ts'
import { watchDeprecations } from '../support/deprecations.ts'
import { testDatabase } from '../support/postgres.ts'

/** Counts what the session has under way on its connection. */
function watched(connect: Connect): { connect: Connect; most: () => number } {
  let underWay = 0
  let most = 0
  return {
    most: () => most,
    async connect(applicationName) {
      const client = await connect(applicationName)
      const query = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>
      client.query = ((...args: unknown[]) => {
        most = Math.max(most, ++underWay)
        return query(...args).finally(() => underWay--)
      }) as typeof client.query
      return client
    },
  }
}

test('statements asked for at once run one at a time, in order, each with its own answer, and pg warns of nothing', async () => {
  await using db = await testDatabase()
  const deprecations = watchDeprecations()
  const { connect, most } = watched(controlConnector({ connectionString: db.url }))
  const session = await openSession({ connect, applicationName: 'test' })
  const answers = await Promise.allSettled(['1', '2', 'none', '4'].map((n) => session.query('select $1::int as id', [n])))
  assert.deepEqual(
    answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : (answer.reason as pg.DatabaseError).code)),
    [[{ id: '1' }], [{ id: '2' }], '22P02', [{ id: '4' }]],
  )
  await session.close()
  assert.equal(most(), 1)
  assert.deepEqual(await deprecations.seen(), [])
})

test('when the connection is lost, whoever waits behind the loss hears it at once, and the next statement has a new connection', async () => {
  await using db = await testDatabase()
  const sent: string[] = []
  const connect: Connect = async (applicationName) => {
    const client = await controlConnector({ connectionString: db.url })(applicationName)
    const query = client.query.bind(client) as (...args: unknown[]) => unknown
    client.query = ((...args: unknown[]) => {
      sent.push((args[0] as { text?: string }).text ?? String(args[0]))
      return query(...args)
    }) as typeof client.query
    return client
  }
  const session = await openSession({ connect, applicationName: 'test' })
  const lost = session.query('select pg_terminate_backend(pg_backend_pid())')
  const waiting = [session.query('select 1 as id'), session.query('select 2 as id')]
  for (const each of [lost, ...waiting]) await assert.rejects(each, { code: 'CONTROL_UNREACHABLE' })
  assert.ok(!sent.includes('select 1 as id'), 'a statement that waited is not sent later')
  assert.deepEqual(await session.query('select 3 as id'), [{ id: '3' }])
  await session.close()
})
