import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type ArmCounts, countsBetween, mergeCounts, NO_COUNTS, unusableBecause } from '../../src/canary/arm-counts.ts'
import { bucketOf, countFrom, countOf, firstBucketFrom, floorMs, latenciesOf } from '../../src/canary/latencies.ts'
import { FIRST_BUCKET, LAST_BUCKET } from '../../src/lib/float-buckets.ts'
import { arm } from './seen.ts'

const latencyMs = fc.double({ min: 0.004, max: 1e6, noNaN: true })
const counts: fc.Arbitrary<ArmCounts> = fc
  .record({ values: fc.array(latencyMs, { maxLength: 30 }), more: fc.nat(50), failed: fc.nat(100), wrongWrites: fc.nat(3) })
  .map(({ values, more, failed, wrongWrites }) => {
    const requests = values.length + more
    return { requests, errors: Math.min(failed, requests), wrongWrites, latencies: latenciesOf(values) }
  })

test('a latency is in the bucket that says so, at most 1.6 % above its floor', () => {
  fc.assert(
    fc.property(latencyMs, (ms) => {
      const floor = floorMs(bucketOf(ms))
      assert.ok(floor <= ms && ms < floorMs(bucketOf(ms) + 1) && ms / floor < 1.016)
    }),
  )
  assert.deepEqual([bucketOf(0), bucketOf(-1), bucketOf(Number.POSITIVE_INFINITY)], [FIRST_BUCKET, FIRST_BUCKET, LAST_BUCKET])
})

test('what counts as over a bound is over it, and only what is within its bucket of it is missed', () => {
  fc.assert(
    fc.property(fc.array(latencyMs), latencyMs, (values, boundMs) => {
      const seen = countFrom(latenciesOf(values), firstBucketFrom(boundMs))
      assert.ok(seen <= values.filter((value) => value >= boundMs).length)
      assert.ok(seen >= values.filter((value) => value >= boundMs * 1.016).length)
    }),
  )
})

test('counts merge in any order and lose nothing', () => {
  fc.assert(
    fc.property(counts, counts, counts, (a, b, c) => {
      assert.deepEqual(mergeCounts(a, mergeCounts(b, c)), mergeCounts(mergeCounts(a, b), c))
      assert.deepEqual(mergeCounts(a, b), mergeCounts(b, a))
      assert.deepEqual(mergeCounts(a, NO_COUNTS), a)
      assert.equal(countOf(mergeCounts(a, b).latencies), countOf(a.latencies) + countOf(b.latencies))
    }),
  )
})

test('between two looks at counters is what came between; counters that began again give what they have since, never less than nothing', () => {
  fc.assert(
    fc.property(counts, counts, (before, between) => {
      assert.deepEqual(countsBetween(before, mergeCounts(before, between)), { counts: between, reset: false })
      const { counts: seen, reset } = countsBetween(before, between)
      assert.equal(unusableBecause(seen), null)
      if (reset) assert.deepEqual(seen, between)
      if (before.requests > between.requests) assert.ok(reset)
    }),
  )
})

test('counts that cannot be are named: NaN, below nothing, halves, more errors than requests, unknown or unordered buckets', () => {
  const good = arm({ requests: 10, slow: 2 })
  assert.equal(unusableBecause(good), null)
  const bad: readonly Partial<ArmCounts>[] = [
    { requests: Number.NaN },
    { requests: -1 },
    { errors: 0.5 },
    { errors: 11 },
    { wrongWrites: Number.POSITIVE_INFINITY },
    { requests: 9 },
    { latencies: { buckets: good.latencies.buckets.toReversed(), counts: good.latencies.counts } },
    { latencies: { buckets: good.latencies.buckets, counts: [8, Number.NaN] } },
    { latencies: { buckets: [FIRST_BUCKET - 1], counts: [1] } },
    { latencies: { buckets: good.latencies.buckets, counts: [8] } },
  ]
  for (const part of bad) assert.notEqual(unusableBecause({ ...good, ...part }), null, JSON.stringify(part))
})
