// Many sockets that do nothing: bounded memory, and whoever is signed in does not notice (faults.md 32, 37).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import pg from 'pg'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'
import { gatewayOver, nothingLeft, served, signedIn, upstream } from './fake-upstream.ts'
import { rawSocket, SCHEMA, testGateway } from './support.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

const SOCKETS = 1_000
/** Known among other timers by its length; fires when the test says. */
const LOGIN_TIMEOUT_MS = 987_654
/** Both ends live in this process, so this is what a socket costs twice. */
const BYTES_A_SOCKET_MAX = 24 * 1024

test('1,000 idle sockets that never sign in cost little memory, disturb nobody, and are gone after the login timeout', {
  timeout: 60_000,
}, async (t) => {
  const timeouts = new Set<() => void>()
  const clock: Clock = {
    nowMs: () => systemClock.nowMs(),
    monotonicMs: () => systemClock.monotonicMs(),
    sleep: (ms, signal) => systemClock.sleep(ms, signal),
    after(ms, call) {
      if (ms !== LOGIN_TIMEOUT_MS) return systemClock.after(ms, call)
      timeouts.add(call)
      return () => timeouts.delete(call)
    },
  }
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { bound: true, limits: { loginTimeoutMs: LOGIN_TIMEOUT_MS }, more: { clock } })
  const db = new pg.Client({ connectionString: at.url, query_timeout: 5_000 })
  db.on('error', () => undefined)
  await db.connect()
  await db.query('select 1')
  const before = memory()
  const sockets: Awaited<ReturnType<typeof rawSocket>>[] = []
  for (let n = 0; n < SOCKETS; n += 100) sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => rawSocket(at.gateway.port)))))
  await eventually(() => at.gateway.status().sessions.startup === SOCKETS, 'all are there')
  const cost = (memory() - before) / SOCKETS
  t.diagnostic(`${Math.round(cost)} bytes a socket`)
  assert.ok(cost < BYTES_A_SOCKET_MAX, `${Math.round(cost)} bytes a socket`)
  const slowest = await Array.from({ length: 50 }).reduce<Promise<number>>(async (worst) => {
    const sofar = await worst
    const startedMs = performance.now()
    assert.deepEqual((await db.query('select balance from accounts where id = $1', [3])).rows, [{ balance: '30' }])
    return Math.max(sofar, performance.now() - startedMs)
  }, Promise.resolve(0))
  assert.ok(slowest < 1_000, `${Math.round(slowest)} ms for one statement`)
  // A byte now and then is no sign-in.
  for (const socket of sockets.slice(0, 20)) socket.write('\0')
  assert.equal(timeouts.size, SOCKETS, 'who has signed in has none')
  for (const timeout of timeouts) timeout()
  await eventually(() => sockets.every((socket) => socket.destroyed), 'the login timeout has closed them')
  await eventually(() => at.gateway.status().sessions.startup === 0, 'no session is left')
  assert.equal(at.gateway.status().sessions.active + at.gateway.status().sessions.passing, 1)
  await eventually(() => memory() - before < (SOCKETS * BYTES_A_SOCKET_MAX) / 4, 'their memory is given back')
  await db.end()
})

test('500 signed-in sessions that do nothing cost little memory each, before and after INV-8 binds', { timeout: 60_000 }, async (t) => {
  for (const bound of [false, true]) {
    await using fake = await upstream(() => null)
    await using at = await gatewayOver(fake, bound)
    const first = await signedIn(at.gateway.port)
    await served(first)
    const before = memory()
    const clients = []
    for (let n = 0; n < 500; n += 50) clients.push(...(await Promise.all(Array.from({ length: 50 }, () => signedIn(at.gateway.port)))))
    await Promise.all(clients.map((client) => served(client)))
    const cost = (memory() - before) / clients.length
    t.diagnostic(`${Math.round(cost)} bytes a session`)
    assert.ok(cost < 4 * BYTES_A_SOCKET_MAX, `${Math.round(cost)} bytes a session, four sockets and both ends in this process`)
    await served(first)
    for (const client of [first, ...clients]) client.destroy()
    await nothingLeft(at, fake)
  }
})

/** Heap and buffers in use, after a collection. */
function memory(): number {
  gc()
  const { heapUsed, arrayBuffers, external } = process.memoryUsage()
  return heapUsed + arrayBuffers + external
}
