import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FIRST_BUCKET } from '../../src/lib/float-buckets.ts'
import type { SettledEntry } from '../../src/model/executor.ts'
import type { MeasuredArm, MeasuredReport } from '../../src/model/measured.ts'
import { createFeedDecoder, encodeFeedMessage, encodeSettled, FEED_ENTRIES_PER_FRAME_MAX, type FeedMessage } from '../../src/sync/feed.ts'
import { SettledBacklog } from '../../src/sync/settled-backlog.ts'

const told = (sequence: number, verdict: 'committed' | 'void' = 'committed', note = ''): SettledEntry => ({
  group: 1,
  lease: 'l1',
  sequence,
  verdict,
  entry: {
    key: '7',
    slot: 70,
    tenure: 5,
    version: sequence,
    txnId: `t${sequence}`,
    prev: sequence === 1 ? null : `t${sequence - 1}`,
    changes: [
      { table: 'public.entries', clustering: ['1'], values: ['7', '1', null, note] },
      { table: 'public.entries', clustering: ['2'], values: null },
    ],
  },
})

const text = fc.string({ unit: 'binary', maxLength: 20 })
const change = fc.record({
  table: text,
  clustering: fc.array(text, { maxLength: 3 }),
  values: fc.option(fc.array(fc.oneof(text, fc.constant(null), fc.constant(undefined)), { maxLength: 4 }), { nil: null }),
})
const count = fc.nat({ max: 1_000_000 })
const entry: fc.Arbitrary<SettledEntry> = fc.record({
  group: count,
  lease: text,
  sequence: fc.integer({ min: 1, max: 2 ** 40 }),
  verdict: fc.constantFrom('committed' as const, 'void' as const),
  entry: fc.record({
    key: text,
    slot: count,
    tenure: count,
    version: count,
    txnId: text,
    prev: fc.option(text, { nil: null }),
    changes: fc.array(change, { maxLength: 3 }),
  }),
})
const amount = fc.double({ min: 0, max: 1e9, noNaN: true, noDefaultInfinity: true }).map(Math.abs)
const holds = fc.record({ commits: count, sumMs: amount, sumSquaresMs: amount, maxMs: amount })
const arm: fc.Arbitrary<MeasuredArm> = fc
  .uniqueArray(fc.nat({ max: 1_700 }), { maxLength: 5 })
  .map((offsets) => offsets.map((offset) => FIRST_BUCKET + offset).sort((a, b) => a - b))
  .map((buckets) => ({ requests: buckets.length + 1, errors: 1, buckets, counts: buckets.map(() => 1) }))
const named = <T extends object, N extends string>(name: N, more: fc.Arbitrary<T>) =>
  fc
    .dictionary(text, more, { maxKeys: 4 })
    .map((all) => Object.entries(all).map(([key, one]) => ({ [name]: key, ...one }) as T & Record<N, string>))
const sketch = fc.option(
  fc.record({
    capacity: fc.constant(1_024),
    total: amount,
    absentMax: amount,
    refused: count,
    keys: fc.constant([['a', 2, 1] as const, ['b', 1, 0.5] as const]),
  }),
  { nil: null },
)
const hot = fc.record({ requests: sketch, casRetries: sketch, queueMs: sketch })
const report: fc.Arbitrary<MeasuredReport> = fc.record({
  overMs: amount,
  fromMs: fc.option(amount, { nil: null }),
  lostMs: amount,
  statements: named('label', fc.record({ source: fc.option(arm, { nil: null }), target: fc.option(arm, { nil: null }) })),
  slots: fc.uniqueArray(fc.nat({ max: 4_095 }), { maxLength: 5 }).map((slots) => slots.map((slot) => [slot, slot + 1] as const)),
  holds,
  keys: named('key', fc.record({ requests: count, commits: count, targetCommits: count, retries: count, holds })),
  hot: fc.option(fc.record({ source: hot, target: hot }), { nil: null }),
})
const message: fc.Arbitrary<FeedMessage> = fc.oneof(
  fc.record({ type: fc.constant('measured' as const), report }),
  fc.record({ type: fc.constant('hello' as const), protocol: count, gateway: text, lease: text, secret: text }),
  fc.record({ type: fc.constant('settled' as const), entries: fc.array(entry, { maxLength: 5 }) }),
  fc.record({ type: fc.constant('toldAll' as const), lease: text, copiesDropped: count }),
  fc.record({ type: fc.constant('positions' as const), positions: fc.array(fc.record({ group: count, lease: text, sequence: count })) }),
  fc.record({ type: fc.constant('welcome' as const), protocol: count, token: count, measures: fc.boolean() }),
)

test('messages come back as they were sent, however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.integer({ min: 1, max: 40 }), (messages, slice) => {
      const bytes = Buffer.concat(messages.map(encodeFeedMessage))
      const decoder = createFeedDecoder()
      const back: FeedMessage[] = []
      for (let i = 0; i < bytes.length; i += slice) back.push(...decoder.push(bytes.subarray(i, i + slice)))
      assert.deepEqual(plain(back), plain(messages))
    }),
    { numRuns: 200 },
  )
})

/** fast-check's records have no prototype. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
  return value
}

test('a length beyond the limit is refused before anything is buffered, and what is no message ends the feed', () => {
  const huge = Buffer.from([0x7f, 0xff, 0xff, 0xff])
  assert.throws(() => createFeedDecoder().push(huge), { code: 'FEED_FRAME_INVALID' })
  const framed = (body: string) => {
    const frame = Buffer.alloc(4 + Buffer.byteLength(body))
    frame.writeUInt32BE(Buffer.byteLength(body))
    frame.write(body, 4)
    return frame
  }
  for (const body of [
    '',
    '{',
    'null',
    '[]',
    '{"type":"other"}',
    '{"type":"settled","entries":[{}]}',
    '{"type":"welcome","protocol":-1,"token":0}',
  ]) {
    assert.throws(() => createFeedDecoder().push(framed(body)), { code: 'FEED_FRAME_INVALID' }, body)
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        createFeedDecoder({ frameBytesMax: 1000 }).push(Buffer.from(bytes))
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'FEED_FRAME_INVALID')
      }
    }),
  )
})

test('many entries are cut into frames, in order and without loss', () => {
  const entries = Array.from({ length: 1_300 }, (_, i) => told(i + 1, 'committed', i % 100 === 0 ? 'x'.repeat(300_000) : 'y'))
  const frames = encodeSettled(entries)
  const decoder = createFeedDecoder()
  const back = frames.flatMap((frame) => decoder.push(frame)).map((m) => (m.type === 'settled' ? m.entries : []))
  assert.deepEqual(back.flat(), entries)
  assert.ok(back.every((list) => list.length <= FEED_ENTRIES_PER_FRAME_MAX))
  assert.deepEqual(encodeSettled([]), [])
})

test('the backlog keeps each entry until the durable position is past it, and tells all of it again', () => {
  const now: number[] = []
  const backlog = new SettledBacklog({ onSettled: (one) => now.push(one.sequence) })
  for (const sequence of [2, 1, 4, 3]) backlog.settled(told(sequence))
  backlog.passed([{ group: 1, lease: 'l1', sequence: 2 }])
  backlog.passed([{ group: 2, lease: 'l1', sequence: 9 }])
  assert.deepEqual(now, [2, 1, 4, 3])
  assert.deepEqual(backlog.all(), [told(4), told(3)])
  backlog.passed([{ group: 1, lease: 'l1', sequence: 4 }])
  assert.deepEqual(backlog.counts(), { entries: 0, bytes: 0, committedDropped: 0, voidsDropped: 0 })
})

test('a full backlog drops the oldest committed copies, counted, and keeps the voids (60, 70)', () => {
  const backlog = new SettledBacklog({ limits: { backlogBytesMax: 5_000 } })
  backlog.settled(told(1, 'void', 'z'.repeat(3_000)))
  for (let i = 2; i <= 20; i++) backlog.settled(told(i, 'committed', 'z'.repeat(500)))
  const { committedDropped, voidsDropped, bytes } = backlog.counts()
  assert.ok(bytes <= 5_000 && committedDropped > 10)
  assert.equal(voidsDropped, 0)
  const held = backlog.all()
  assert.deepEqual(held.at(-1), { ...told(1, 'void'), entry: { ...told(1).entry, changes: [] } })
  assert.deepEqual(
    held.slice(0, -1).map((one) => one.sequence),
    Array.from({ length: 19 - committedDropped }, (_, i) => 2 + committedDropped + i),
  )
})
