import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BugError } from '../../src/lib/assert.ts'
import { edgeFrom, Histogram } from '../../src/lib/histogram.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
/** From four microseconds to a quarter of an hour, all sizes alike. */
const latency = fc.double({ min: -7.9, max: 19.9, noNaN: true }).map((octave) => 2 ** octave)
const latencies = fc.array(latency, { maxLength: 200 })

const of = (values: readonly number[]): Histogram => {
  const histogram = new Histogram()
  for (const value of values) histogram.record(value)
  return histogram
}
/** Everything that can be seen of one. */
const seen = (histogram: Histogram) => ({ count: histogram.count, ...histogram.toPlain() })

test('quantiles are at most 0.8 % off those of the values themselves, whatever their size, and the largest is exact', () => {
  const random = seededRandom(SEED)
  const histogram = new Histogram()
  const values = Array.from({ length: 5_000 }, () => 10 ** (random.next() * 7 - 2))
  for (const value of values) histogram.record(value)
  values.sort((a, b) => a - b)
  for (const q of [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
    const exact = values[Math.ceil(q * values.length) - 1]!
    const off = Math.abs(histogram.quantile(q) - exact) / exact
    assert.ok(off <= 0.008, `seed ${SEED}: ${q} is ${histogram.quantile(q)}, not ${exact}`)
  }
  assert.equal(histogram.max, values.at(-1))
  assert.equal(histogram.count, 5_000)
})

test('of any values, a quantile is at most 0.8 % off, the interpolated one 1.6 %, neither above the largest', () => {
  fc.assert(
    fc.property(fc.array(latency, { minLength: 1, maxLength: 200 }), fc.double({ min: 0, max: 1, noNaN: true }), (values, q) => {
      const histogram = of(values)
      const exact = values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(q * values.length) - 1)]!
      assert.ok(Math.abs(histogram.quantile(q) - exact) <= exact / 128)
      assert.ok(Math.abs(histogram.interpolated(q) - exact) <= exact / 64)
      assert.ok(histogram.quantile(q) <= histogram.max && histogram.interpolated(q) <= histogram.max)
    }),
    { seed: SEED },
  )
})

test('interpolated, the P99 of ten thousand smooth latencies is about 0.1 % off', () => {
  const random = seededRandom(SEED)
  const offs = Array.from({ length: 60 }, () => {
    const scaleMs = 10 * (1 + random.next())
    const values = Array.from({ length: 10_000 }, () => scaleMs * (1 - Math.log(1 - random.next())))
    const exact = values.toSorted((a, b) => a - b)[9_899]!
    return Math.abs(of(values).interpolated(0.99) - exact) / exact
  })
  // Of one value all that is known is its bucket.
  assert.equal(of([1, 2]).interpolated(0.5), of([1, 2]).quantile(0.5))
  const median = offs.toSorted((a, b) => a - b)[30]!
  assert.ok(median < 0.0015, `seed ${SEED}: ${median}`)
})

test('quantiles rise with the share, and what is above falls with the value, from all to none', () => {
  const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 2, maxLength: 20 })
  fc.assert(
    fc.property(latencies, shares, latencies, (values, qs, points) => {
      const histogram = of(values)
      for (const read of [(q: number) => histogram.quantile(q), (q: number) => histogram.interpolated(q)]) {
        const rising = qs.toSorted((a, b) => a - b).map(read)
        assert.deepEqual(
          rising,
          rising.toSorted((a, b) => a - b),
        )
      }
      const falling = points.toSorted((a, b) => a - b).map((point) => histogram.countAbove(point))
      assert.deepEqual(
        falling,
        falling.toSorted((a, b) => b - a),
      )
      assert.deepEqual([histogram.countAbove(0), histogram.countAbove(2 ** 22 * 2)], [values.length, 0])
    }),
    { seed: SEED },
  )
})

test('what is above a value is counted exactly from the edge next to it, which is at most 1.6 % away', () => {
  fc.assert(
    fc.property(latencies, latency, (values, point) => {
      const edge = edgeFrom(point)
      assert.ok(edge >= point && edge <= point * (1 + 1 / 64))
      assert.equal(of(values).countAbove(point), values.filter((value) => value >= edge).length)
      assert.equal(edgeFrom(edge), edge)
    }),
    { seed: SEED },
  )
  assert.throws(() => of([1]).countAbove(Number.NaN), BugError)
})

test('merged, two are what one of all values would be, in either order', () => {
  fc.assert(
    fc.property(latencies, latencies, (a, b) => {
      const [ab, ba] = [of(a), of(b)]
      ab.merge(of(b))
      ba.merge(of(a))
      assert.deepEqual(seen(ab), seen(of([...a, ...b])))
      assert.deepEqual(seen(ba), seen(ab))
    }),
    { seed: SEED },
  )
})

test('since an earlier reading there is what came after it; since one of another life, all there is', () => {
  fc.assert(
    fc.property(latencies, latencies, (before, after) => {
      const [earlier, now] = [of(before), of([...before, ...after])]
      const since = now.since(earlier)
      assert.deepEqual([since.count, since.toPlain().buckets], [after.length, of(after).toPlain().buckets])
      assert.ok(since.max >= Math.max(0, ...after) && since.max <= Math.max(0, ...after) * (1 + 1 / 64))
      assert.ok(now.continues(earlier))
      // A process that began anew counts from zero.
      const restarted = of(after)
      if (restarted.continues(earlier)) return
      assert.deepEqual(seen(restarted.since(earlier)), seen(restarted))
    }),
    { seed: SEED },
  )
  assert.equal(of([5]).continues(of([5, 5])), false)
  assert.equal(of([5, 5]).continues(of([7])), false)
})

test('as JSON it comes back the same, and what is none is nothing', () => {
  fc.assert(
    fc.property(latencies, (values) => {
      const histogram = of(values)
      histogram.record(Number.NaN)
      const back = Histogram.fromPlain(JSON.parse(JSON.stringify(histogram.toPlain())))
      assert.deepEqual(back === null ? null : seen(back), seen(histogram))
    }),
    { seed: SEED },
  )
  const plain = of([1.5]).toPlain()
  const [bucket] = plain.buckets as [number]
  assert.deepEqual([plain, Histogram.fromPlain(plain)?.count], [{ max: 1.5, refused: 0, buckets: [bucket], counts: [1] }, 1])
  for (const broken of [
    null,
    7,
    {},
    { ...plain, buckets: [] },
    { ...plain, buckets: [0] },
    { ...plain, buckets: [bucket + 0.5] },
    { ...plain, buckets: [bucket + 2_048] },
    { ...plain, buckets: [bucket, bucket], counts: [1, 1] },
    { ...plain, buckets: [bucket, bucket - 1], counts: [1, 1] },
    { ...plain, counts: [0] },
    { ...plain, counts: [1.5] },
    { ...plain, counts: [2 ** 32] },
    { ...plain, max: 1.49 },
    { ...plain, max: 1.53 },
    { ...plain, max: null },
    { ...plain, refused: -1 },
    { ...plain, buckets: [], counts: [] },
  ])
    assert.equal(Histogram.fromPlain(broken), null, JSON.stringify(broken))
})

test('what is outside the range counts at its edge; what is no latency is refused and counted', () => {
  const histogram = of([0, 1e-9, 2 ** 20, 1e300])
  assert.deepEqual([histogram.count, histogram.countAbove(1), histogram.max, histogram.refused], [4, 2, 1e300, 0])
  for (const none of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1e-9]) histogram.record(none)
  assert.deepEqual([histogram.count, histogram.refused], [4, 4])
  assert.ok(Histogram.fromPlain(JSON.parse(JSON.stringify(histogram.toPlain()))) !== null)
})

test('a count that is full stays full, and what it could not take is told', () => {
  const full = () => Histogram.fromPlain({ ...of([1.5]).toPlain(), counts: [0xffff_fffe] })!
  const histogram = full()
  histogram.record(1.5)
  histogram.record(1.5)
  assert.deepEqual([histogram.count, histogram.refused], [0xffff_ffff, 1])
  const merged = full()
  merged.merge(full())
  assert.deepEqual([merged.count, merged.refused], [0xffff_ffff, 0xffff_fffd])
})

test('of no values there is nothing, and of zeros zero', () => {
  const histogram = new Histogram()
  assert.deepEqual([histogram.count, histogram.quantile(0.5), histogram.interpolated(0.5), histogram.max], [0, 0, 0, 0])
  histogram.record(0)
  assert.deepEqual([histogram.count, histogram.quantile(0.99), histogram.interpolated(0.99), histogram.max], [1, 0, 0, 0])
  histogram.clear()
  assert.deepEqual(seen(histogram), seen(new Histogram()))
})
