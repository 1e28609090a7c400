// An idle loop of the leader is woken by what is placed, also while it looks, and looks by itself once a second (a NOTIFY may be lost).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { IDLE_LOOK_MS, lookOrWait } from '../../src/app/look-or-wait.ts'
import { Signal } from '../../src/lib/latch.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function world() {
  const clock = new VirtualClock(0)
  const placed = new Signal()
  const waiting = { now: 0 }
  const nextOrder = async (signal: AbortSignal) => {
    waiting.now++
    await placed.next(signal)
    waiting.now--
  }
  return { clock, placed, waiting, waits: { clock, nextOrder } }
}
const NEVER = new AbortController().signal

test('what is placed while it looks, or after it, ends the wait at once', async () => {
  const { placed, waits } = world()
  const during = lookOrWait(
    async () => {
      placed.notify()
      return null
    },
    waits,
    NEVER,
  )
  assert.equal(await during, null)
  const after = lookOrWait(async () => null, waits, NEVER)
  await new Promise((resolve) => setImmediate(resolve))
  placed.notify()
  assert.equal(await after, null)
})

test('without a word it looks again after a second, and what it finds leaves nobody waiting', async () => {
  const { clock, waiting, waits } = world()
  let over = false
  const idle = lookOrWait(async () => null, waits, NEVER).then(() => {
    over = true
  })
  await clock.advance(IDLE_LOOK_MS - 1)
  assert.equal(over, false)
  await clock.advance(1)
  await idle
  assert.equal(await lookOrWait(async () => 'an order', waits, NEVER), 'an order')
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(waiting.now, 0)
})

test('it ends with its signal, and a look that fails leaves nobody waiting', async () => {
  const { waiting, waits } = world()
  const stop = new AbortController()
  const idle = lookOrWait(async () => null, waits, stop.signal)
  stop.abort()
  assert.equal(await idle, null)
  await assert.rejects(
    lookOrWait(() => Promise.reject(new Error('PostgreSQL is away')), waits, NEVER),
    /away/,
  )
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(waiting.now, 0)
})
