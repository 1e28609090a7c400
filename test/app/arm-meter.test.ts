import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ArmMeter, HOT_TOLD_EVERY_MS, MEASURED_KEPT_MS } from '../../src/app/arm-meter.ts'
import { bucketOf } from '../../src/canary/latencies.ts'
import { HASH_SLOTS, hashSlotOf } from '../../src/model/key.ts'
import { MEASURED_LABELS_MAX, type MeasuredReport, OTHER_STATEMENTS } from '../../src/model/measured.ts'
import { createFeedDecoder, encodeFeedMessage } from '../../src/sync/feed.ts'
import { answered, handClock } from './measuring.ts'

const decoded = (report: MeasuredReport): MeasuredReport => {
  const [message] = createFeedDecoder().push(encodeFeedMessage({ type: 'measured', report }))
  assert.ok(message?.type === 'measured')
  return message.report
}

test('a report is what came since the last one, by statement and arm, and comes through the feed as it was', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  meter.statement(answered('a', { ms: 1 }))
  meter.statement(answered('a', { ms: 20, failed: true }))
  meter.statement(answered('b', { arm: 'target', ms: 3, commits: true }))
  clock.at += 1_000
  const first = meter.take()
  assert.deepEqual(decoded(first), first)
  assert.deepEqual(first.statements, [
    {
      label: 'select ?',
      source: { requests: 2, errors: 1, buckets: [bucketOf(1), bucketOf(20)], counts: [1, 1] },
      target: { requests: 1, errors: 0, buckets: [bucketOf(3)], counts: [1] },
    },
  ])
  assert.deepEqual([first.overMs, first.lostMs], [1_000, 0])
  assert.deepEqual(
    new Map(first.slots),
    new Map([
      [hashSlotOf('a'), 2],
      [hashSlotOf('b'), 1],
    ]),
  )
  clock.at += 1_000
  const { statements, slots, keys } = meter.take()
  assert.deepEqual({ statements, slots, keys }, { statements: [], slots: [], keys: [] })
})

test('a key that was told as hot before the time began is told by name: requests and commits of both arms, holds, lost compare-and-sets', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  meter.statement(answered('hot'))
  meter.take()
  meter.statement(answered('hot', { commits: true }))
  meter.statement(answered('hot', { arm: 'target', commits: true }))
  meter.statement(answered('cold'))
  meter.held('hot', 3)
  meter.held('hot', 4)
  meter.held('cold', 5)
  meter.casLost('hot')
  meter.queued('hot', 70)
  clock.at += HOT_TOLD_EVERY_MS
  const report = decoded(meter.take())
  const holds = { commits: 2, sumMs: 7, sumSquaresMs: 25, maxMs: 4 }
  assert.deepEqual(report.keys, [{ key: 'hot', requests: 2, commits: 2, targetCommits: 1, retries: 1, holds }])
  assert.deepEqual(report.holds, { commits: 3, sumMs: 12, sumSquaresMs: 50, maxMs: 5 })
  assert.deepEqual(report.hot?.target.queueMs?.keys, [['hot', 70, 0]])
  assert.deepEqual(report.hot?.source.queueMs, null)
})

test('sketches go with the first report and then every five seconds; their keys are told by name in each report between', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  // Nothing to tell of yet.
  assert.deepEqual(meter.take().keys, [])
  clock.at += 1_000
  meter.statement(answered('hot'))
  const told: (boolean | readonly string[])[][] = []
  for (let second = 0; second <= 6; second++) {
    const { hot, keys } = decoded(meter.take())
    told.push([hot !== null, keys.map(({ key }) => key)])
    meter.statement(answered('hot'))
    if (second > 0) meter.statement(answered('later'))
    clock.at += HOT_TOLD_EVERY_MS / 5
  }
  assert.deepEqual(told, [
    [true, []],
    [false, ['hot']],
    [false, ['hot']],
    [false, ['hot']],
    [false, ['hot']],
    [true, ['hot']],
    [false, ['hot', 'later']],
  ])
})

test('slots are counted past those of hashes too, where pinned keys are', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  for (const slot of [HASH_SLOTS + 5, 3, HASH_SLOTS + 5, 20_000]) meter.statement({ ...answered('a'), slot })
  assert.deepEqual(
    new Map(meter.take().slots),
    new Map([
      [HASH_SLOTS + 5, 2],
      [3, 1],
      [20_000, 1],
    ]),
  )
  assert.deepEqual(meter.take().slots, [])
})

test('statements past the limit are told as one, and one that did not run for long makes room', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  for (let i = 0; i < 100; i++) meter.statement(answered('a', { label: `statement ${i}` }))
  const labels = meter.take().statements.map(({ label, source }) => [label, source?.requests])
  assert.equal(labels.length, MEASURED_LABELS_MAX)
  assert.deepEqual(labels.at(-1), [OTHER_STATEMENTS, 100 - (MEASURED_LABELS_MAX - 1)])
  clock.at += 600_001
  meter.take()
  meter.statement(answered('a', { label: 'statement 99' }))
  assert.deepEqual(
    meter.take().statements.map(({ label }) => label),
    ['statement 99'],
  )
})

test('what nobody takes for a minute is let go, and told as lost', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  meter.statement(answered('a'))
  clock.at += MEASURED_KEPT_MS
  meter.keep()
  meter.statement(answered('b'))
  clock.at += 1
  meter.keep()
  meter.statement(answered('c'))
  clock.at += 1_000
  const { statements, overMs, lostMs } = meter.take()
  assert.deepEqual([statements[0]!.source!.requests, overMs, lostMs], [1, 1_000, MEASURED_KEPT_MS + 1])
  assert.equal(meter.take().lostMs, 0)
})

test('a report of 64 busy statements and full sketches stays below 256 KB', () => {
  const clock = handClock()
  const meter = new ArmMeter(clock)
  for (let i = 0; i < 200_000; i++) {
    const arm = i % 3 === 0 ? 'target' : 'source'
    const label = `${'x'.repeat(150)} ${i % 64}`
    // Four octaves, each of their buckets.
    meter.statement(
      answered(`0193c2e4-7d1a-7cc3-98c4-${String(i % 2_000).padStart(12, '0')}`, { arm, label, ms: 2 ** ((i % 1_009) / 252) }),
    )
    if (i % 7 === 0) meter.queued(`0193c2e4-7d1a-7cc3-98c4-${String(i % 2_000).padStart(12, '0')}`, i / 7)
    if (i === 100_000) {
      meter.take()
      clock.at += HOT_TOLD_EVERY_MS
    }
  }
  const report = meter.take()
  assert.ok(report.statements.length === 64 && report.keys.length >= 100)
  const bytes = encodeFeedMessage({ type: 'measured', report }).length
  assert.ok(bytes < 256 * 1_024, `it has ${bytes} bytes`)
})
