import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'
import { takeLead } from '../../src/store/leader-control.ts'
import { installControl } from '../../src/store/schema.ts'
import { controlConnector } from '../../src/store/session.ts'
import { mappingOf, TABLES } from '../store/fixture.ts'

test('a prepared transaction that wrote a mapped table is waited for by its gid, also after a crash of PostgreSQL', async () => {
  await using server = await startEmbeddedPostgres({ settings: { max_prepared_transactions: '4' } })
  const connect = async () => {
    const client = new pg.Client({ connectionString: server.url(), query_timeout: 10_000 })
    client.on('error', () => undefined)
    await client.connect()
    return client
  }
  const lead = async () => (await takeLead({ connect: controlConnector({ connectionString: server.url() }), onLost: () => undefined }))!
  const before = await connect()
  await before.query(TABLES)
  await installControl(before, { mapping: await mappingOf(before, ['accounts', 'entries']) })
  const first = await lead()
  await before.query('begin; insert into accounts (id) values (1)')
  const unprepared = await first.waitSet([])
  await before.query(`prepare transaction 'payroll'`)
  assert.deepEqual(await first.stillThere(unprepared), unprepared, 'a writer that has prepared meanwhile is still there')
  const seen = (await first.waitSet([])).map((writer) => [writer.gid, writer.user])
  await first.close()
  await server.kill()
  await server.start()
  const client = await connect()
  const leader = await lead()
  const writers = await leader.waitSet([])
  assert.deepEqual([seen, writers.map((writer) => [writer.gid, writer.user])], [[['payroll', 'postgres']], [['payroll', 'postgres']]])
  assert.deepEqual(await leader.stillThere(writers), writers)
  await client.query(`commit prepared 'payroll'`)
  assert.deepEqual(await leader.stillThere(writers), [])
  await leader.close()
  await client.end()
})
