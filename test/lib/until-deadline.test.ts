import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { untilDeadline } from '../../src/lib/in-time.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

test('a deadline aborts after its time, or with the signal, by the clock that it was given', async () => {
  const clock = new VirtualClock()
  const outer = new AbortController()
  const [late, early] = [untilDeadline(clock, 50, outer.signal), untilDeadline(clock, 500, outer.signal)]
  await clock.advance(49)
  assert.deepEqual([late.signal.aborted, early.signal.aborted], [false, false])
  await clock.advance(1)
  assert.deepEqual([late.signal.aborted, early.signal.aborted], [true, false])
  outer.abort()
  assert.equal(early.signal.aborted, true)
  assert.equal(untilDeadline(clock, 500, outer.signal).signal.aborted, true)
})

test('a deadline that is disposed of waits for nothing', async () => {
  const clock = new VirtualClock()
  const outer = new AbortController()
  let over: AbortSignal
  {
    using deadline = untilDeadline(clock, 50, outer.signal)
    over = deadline.signal
    assert.equal(getEventListeners(outer.signal, 'abort').length, 1)
  }
  assert.equal(getEventListeners(outer.signal, 'abort').length, 0)
  await clock.advance(100)
  assert.equal(over.aborted, false)
})
