import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HEARTBEAT, Heartbeats } from '../../src/app/heartbeats.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

test('a stream that stands still shows as an age that grows, though nobody writes; nothing is known before the first has passed', async () => {
  const clock = new VirtualClock()
  const beats = new Heartbeats(clock)
  const first = beats.next(7)
  await clock.advance(100)
  assert.equal(beats.oldestMs(), undefined, 'INV-10: not known is not zero')
  beats.passed(first)
  assert.equal(beats.oldestMs(), 0)
  const second = beats.next(7)
  await clock.advance(1_000)
  const third = beats.next(7)
  await clock.advance(500)
  assert.equal(beats.oldestMs(), 1_500)
  beats.passed(second)
  assert.equal(beats.oldestMs(), 500)
  beats.passed(third)
  assert.equal(beats.oldestMs(), 0)
})

test('a heartbeat that passes tells of those before it; one of another leader, or seen twice, tells nothing', async () => {
  const clock = new VirtualClock()
  const beats = new Heartbeats(clock)
  const sent = [beats.next(3), beats.next(3), beats.next(3)]
  assert.equal(new Set(sent).size, 3)
  beats.passed(`${HEARTBEAT}2:1`)
  assert.equal(beats.oldestMs(), undefined)
  beats.passed(sent[1]!)
  await clock.advance(40)
  beats.passed(sent[0]!)
  beats.passed(sent[1]!)
  assert.equal(beats.oldestMs(), 40, 'the third is still on its way')
})

test('heartbeats under way are bounded, and the oldest of them counts for those that are not kept', async () => {
  const clock = new VirtualClock()
  const beats = new Heartbeats(clock)
  beats.passed(beats.next(1))
  const oldest = beats.next(1)
  for (let n = 0; n < 5_000; n++) {
    await clock.advance(1)
    beats.next(1)
  }
  assert.equal(beats.oldestMs(), 5_000)
  beats.passed(oldest)
  assert.ok(beats.oldestMs()! > 4_000, 'the next one that was kept is the oldest now')
})
