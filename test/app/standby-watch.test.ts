import assert from 'node:assert/strict'
import { test } from 'node:test'
import { watchStandbys } from '../../src/app/standby-watch.ts'
import { type Lsn, lsnOf } from '../../src/model/ids.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const NEVER = new AbortController().signal

/** PostgreSQL commits, its one named standby has what a test says; the journal is a list. */
async function watched() {
  const clock = new VirtualClock()
  const journal: string[] = []
  const world = { here: 100n, there: 100n, onLook: () => {} }
  const control = {
    standbys: async () => {
      const seen = { flushedHere: lsnOf(world.here), rows: [{ name: 'b', flushLsn: lsnOf(world.there) as Lsn, sign: `${world.there}` }] }
      world.onLook()
      return seen
    },
    struck: async () => [{ name: 'b', at: '', silentMs: 0 }],
    strikeOff: async (name: string) => void journal.push(`struck ${name}`),
    takeBack: async (name: string) => void journal.push(`back ${name}`),
  }
  const source = { urlEnv: '', standbys: ['b'], standbyLostMs: 1_000_000 }
  const standbys = await watchStandbys({ source, control, clock, log: { warn: () => {}, info: () => {} } })
  return { clock, journal, world, standbys }
}

test('a standby that was struck off is taken back only with what was committed while nobody waited for it (68)', async () => {
  const { clock, journal, world, standbys } = await watched()
  const stop = new AbortController()
  // Each look finds that it holds everything, and then something is committed.
  world.onLook = () => {
    if (world.here < 200n) world.here = 200n
  }
  const run = standbys.run(stop.signal)
  await clock.advance(500)
  assert.deepEqual(journal, [], 'it lacks a commit that came after the look')
  world.there = 200n
  await clock.advance(2_000)
  assert.deepEqual(journal, ['back b'])
  stop.abort()
  await clock.run(run)
})

test('while it is struck off nobody waits for it, and commits are held all the same', async () => {
  const { clock, world, standbys } = await watched()
  world.here = 200n
  assert.deepEqual(await clock.run(standbys.awaitFlushed(NEVER)), [])
  assert.equal(standbys.any(), true, 'it may be taken back before the commit is there')
})

test('once it is taken back it is waited for', async () => {
  const { clock, journal, world, standbys } = await watched()
  const stop = new AbortController()
  const run = standbys.run(stop.signal)
  await clock.advance(10)
  assert.deepEqual(journal, ['back b'])
  world.here = 300n
  const waits = standbys.awaitFlushed(stop.signal)
  await clock.advance(500)
  stop.abort()
  assert.deepEqual(await clock.run(waits), ['b'])
  await clock.run(run)
})
