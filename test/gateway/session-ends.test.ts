// Promises: however a session ends, its client hears nothing by which it would send again what takes effect (INV-9): PostgreSQL says that
// it ends the connection, and its socket stays open for a while (faults.md 2); the gateway shuts down; a broken message; a bug.
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import pg from 'pg'
import { encodeBackend } from '../../src/wire/backend.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'
import { type Client, ended, gatewayOver, heard, honest, query, served, signedIn, upstream } from './fake-upstream.ts'
import { fakePlanner, SCHEMA, type TestGateway, testGateway } from './support.ts'

const UPDATE = 'update accounts set balance = balance + 1 where id = 7'
const CLIENTS = 8
/** Clients that have heard it, of which nearly all had a write on its way. */
const TOLD_MIN = 60
const FATAL = encodeBackend({ kind: 'errorResponse', fields: { S: 'FATAL', V: 'FATAL', C: '57P01', M: 'terminating connection' } })

/** One client, its key on the target, and the server's side of its connection. */
async function scene(more: Parameters<typeof gatewayOver>[3] = {}) {
  const servers: Socket[] = []
  const fake = await upstream((_sql, socket) => {
    servers[0] ??= socket
    return null
  })
  const at = await gatewayOver(fake, true, {}, more)
  at.control.change('7', 'target', 'steady')
  at.executor.rows.set('7', ['7', '100', null, null])
  await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
  const client = await signedIn(at.gateway.port)
  await served(client)
  // Described and permitted once: from here on nothing about it is asked of PostgreSQL.
  await served(client, UPDATE)
  const begins = async () => {
    await ended(client)
    await eventually(() => Object.values(at.gateway.status().sessions).every((n) => n === 0), 'the session is over')
    return at.executor.came - 1
  }
  return {
    at,
    client,
    server: servers[0]!,
    begins,
    async [Symbol.asyncDispose]() {
      client.destroy()
      await at[Symbol.asyncDispose]()
      await fake[Symbol.asyncDispose]()
    },
  }
}

const fatalsOf = (client: Parameters<typeof heard>[0]) => heard(client).filter((one) => one.startsWith('FATAL'))

test('INV-9: a write that comes behind a FATAL of PostgreSQL is not begun on the target', async () => {
  await using at = await scene()
  // Sent when the client hears it, which is before the server closes: it never does.
  at.client.once('data', () => at.client.write(query(UPDATE)))
  at.server.write(FATAL)
  assert.equal(await at.begins(), 0)
  assert.deepEqual(fatalsOf(at.client), ['FATAL 57P01 terminating connection'])
})

test('INV-9: a write that is being planned when PostgreSQL ends the connection is not begun on the target', async () => {
  let plan = () => undefined as void
  let planning = false
  let times = 0
  const planned = new Promise<void>((resolve) => {
    plan = resolve
  })
  await using at = await scene({
    planner: {
      ...fakePlanner,
      async plan(sql, path) {
        if (sql === UPDATE && ++times === 2) {
          planning = true
          await planned
        }
        return fakePlanner.plan(sql, path)
      },
    },
  })
  at.client.write(query(UPDATE))
  await eventually(() => planning, 'it is being planned')
  at.server.write(FATAL)
  await eventually(() => fatalsOf(at.client).length > 0, 'the client has heard')
  plan()
  assert.equal(await at.begins(), 0)
  assert.deepEqual(fatalsOf(at.client), ['FATAL 57P01 terminating connection'])
})

test('INV-9: a COMMIT that comes behind a FATAL of PostgreSQL commits nothing on the target', async () => {
  await using at = await scene()
  await served(at.client, 'begin')
  await served(at.client, UPDATE)
  at.client.once('data', () => at.client.write(query('commit')))
  at.server.write(FATAL)
  assert.equal(await at.begins(), 0)
  assert.deepEqual(at.at.executor.log.length, 1)
})

test('INV-9: a write under way on the target is an unknown outcome, whatever ends the session or breaks in it', async () => {
  let answer = () => undefined as void
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  for (const [why, breaks] of [
    ['the gateway shuts down', ({ at }) => void at.gateway.close()],
    ['a broken message behind it', ({ client }) => client.write(honest('?', 'x'))],
    ['a bug', ({ fails }) => fails(new Error('a bug'))],
  ] as [string, (scene: { at: TestGateway; client: Client; fails: (error: Error) => void }) => void][]) {
    await using opened = await scene()
    const { at, client } = opened
    let fails = (_: Error) => undefined as void
    at.executor.gate = new Promise((resolve, reject) => {
      fails = reject
      void answered.then(resolve)
    })
    client.write(query(UPDATE))
    await eventually(() => at.executor.came === 2, 'it is under way')
    breaks({ at, client, fails })
    const errors = () => heard(client).filter((one) => /^(FATAL|ERROR)/.test(one))
    await eventually(() => errors().length > 0, `the client hears something: ${why}`)
    assert.match(errors()[0]!, / 08007 /, why)
  }
  answer()
})

test('INV-9: a write whose client heard 57P01 from a real PostgreSQL that ends its backends has not taken effect (2)', async () => {
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { bound: true })
  const keys = Array.from({ length: CLIENTS }, (_, i) => String(i + 1))
  for (const key of keys) {
    at.control.change(key, 'target', 'steady')
    at.executor.rows.set(key, [key, '0', null, null])
  }
  await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
  const told: string[] = []
  /** One client, one key: what is there and was not acknowledged is of the write that failed. */
  const client = async (key: string): Promise<void> => {
    let known = 0
    while (told.length < TOLD_MIN) {
      const db = new pg.Client({ connectionString: at.url })
      db.on('error', () => undefined)
      try {
        await db.connect()
        while (told.length < TOLD_MIN) {
          await db.query(`update accounts set balance = balance + 1 where id = ${key}`)
          known++
        }
      } catch (error) {
        const code = (error as { code?: string }).code
        // In memory, and nothing waits: what had begun has ended.
        const there = Number(at.executor.rows.get(key)![1])
        if (code === '57P01') told.push(there === known ? 'nothing' : `${there - known} of key ${key}`)
        known = there
      }
      await db.end().catch(() => undefined)
    }
  }
  const clients = Promise.all(keys.map(client))
  const ends = `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
  await eventually(async () => {
    await database.query(ends).catch(() => undefined)
    return told.length >= TOLD_MIN
  }, 'enough clients have heard it')
  await clients
  assert.deepEqual(
    told.filter((one) => one !== 'nothing'),
    [],
  )
})
