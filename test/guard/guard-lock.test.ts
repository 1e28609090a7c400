// The guard is put on under the service's own writers: a lock that somebody holds is tried for again, and who holds it is told.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { systemRandom } from '../../src/lib/prng.ts'
import { checkGuard, installGuard, type LockTries } from '../../src/source/guard.ts'
import { installControl } from '../../src/store/schema.ts'
import { controlWorld, mappingOf, TABLES } from '../store/fixture.ts'

const NOT_ON = 'The guard is not on the mapped tables: PostgreSQL would take writes to keys that have moved.'

function triesOf(withinMs: number, onRefused: LockTries['onRefused'], signal = new AbortController().signal): LockTries {
  return { withinMs, clock: systemClock, random: systemRandom, onRefused, signal }
}

test('a writer that holds the table for the first tries is told by pid, age and query, and the guard is on when it lets go', async () => {
  await using world = await controlWorld()
  const writer = await world.db.connect()
  const { rows } = await writer.query('select pg_backend_pid() as pid')
  await writer.query('begin')
  await writer.query('insert into accounts (id) values (1)')
  const told: (readonly string[])[] = []
  const tries = triesOf(60_000, async (holders) => {
    told.push(holders)
    // Nobody waits behind a try that was given up.
    await world.db.query('insert into accounts (id) values ($1)', [100 + told.length])
    if (told.length === 3) await writer.query('commit')
  })
  await installGuard(world.admin, world.mapping, { applierRole: world.applierRole, tries })
  assert.equal(told.length, 3)
  const [holder, ...others] = told[0]!
  assert.deepEqual(others, [])
  const [, pid, ageMs, query] = /^pid (\d+) \(\w+\), (\d+) ms in: (.*)$/.exec(holder!)!
  assert.deepEqual([Number(pid), query], [rows[0].pid, 'insert into accounts (id) values (1)'])
  assert.ok(Number(ageMs) >= 200, `${ageMs} ms`)
  assert.deepEqual(await checkGuard(world.admin, world.mapping), [])
})

test('a lock that is held for longer than the limit, or than the order, fails by the name of who held it, and nothing is changed', async () => {
  await using world = await controlWorld()
  const writer = await world.db.connect()
  await writer.query('begin')
  await writer.query('insert into entries (account, n, amount) values (1, 1, 5)')
  const install = (tries: LockTries) => installGuard(world.admin, world.mapping, { applierRole: world.applierRole, tries })
  const held = { code: 'GUARD_LOCKED', message: /within \d+ ms: pid \d+ \(\w+\), \d+ ms in: insert into entries/ }
  await assert.rejects(install(triesOf(1_000, async () => undefined)), held)
  const stop = new AbortController()
  await assert.rejects(install(triesOf(60_000, async () => stop.abort(), stop.signal)), held)
  assert.deepEqual(await checkGuard(world.admin, world.mapping), [NOT_ON])
  await writer.query('rollback')
})

test('a transaction that somebody has prepared on a mapped table is named by its identifier', async () => {
  await using server = await startEmbeddedPostgres({ settings: { max_prepared_transactions: '4' } })
  const client = new pg.Client({ connectionString: server.url() })
  await client.connect()
  try {
    await client.query(TABLES)
    const mapping = await mappingOf(client, ['accounts', 'entries'])
    await installControl(client, { mapping })
    await client.query('create role applier login superuser')
    await client.query(`begin; insert into accounts (id) values (1); prepare transaction 'payroll'`)
    const install = installGuard(client, mapping, { applierRole: 'applier', tries: triesOf(300, async () => undefined) })
    await assert.rejects(install, { code: 'GUARD_LOCKED', message: /prepared transaction payroll of \w+, \d+ ms old/ })
    await client.query(`rollback prepared 'payroll'`)
  } finally {
    await client.end()
  }
})
