import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import pg from 'pg'
import { StartLog, startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'

test('an embedded PostgreSQL serves, survives kill -9, and leaves nothing', async () => {
  const server = await startEmbeddedPostgres()
  const read = async () => {
    const client = new pg.Client({ connectionString: server.url(), query_timeout: 10_000 })
    await client.connect()
    const { rows } = await client.query('select count(*)::int as n from kept')
    await client.end()
    return rows
  }
  try {
    const client = new pg.Client({ connectionString: server.url(), query_timeout: 10_000 })
    client.on('error', () => undefined)
    await client.connect()
    await client.query('create table kept (id int)')
    await client.query('insert into kept values (1)')
    await server.kill()
    await server.start()
    assert.deepEqual(await read(), [{ n: 1 }])
  } finally {
    await server.stop()
  }
  assert.equal(existsSync(server.folder), false)
})

test('a start is seen however many clients are refused before it', () => {
  const log = new StartLog()
  for (let i = 0; i < 2_000; i++) assert.equal(log.add('FATAL:  the database system is starting up\n'), false)
  assert.equal(log.add('LOG:  database system is ready to acc'), false)
  assert.equal(log.add('ept connections\n'), true)
  assert.ok(log.tail.length <= 20_000)
})
