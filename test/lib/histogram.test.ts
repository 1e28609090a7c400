import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Histogram } from '../../src/lib/histogram.ts'
import { seededRandom } from '../../src/lib/prng.ts'

test('quantiles are at most 0.8 % off those of the values themselves, whatever their size, and the largest is exact', () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
  const random = seededRandom(seed)
  const histogram = new Histogram()
  const values = Array.from({ length: 5_000 }, () => 10 ** (random.next() * 7 - 2))
  for (const value of values) histogram.record(value)
  values.sort((a, b) => a - b)
  for (const q of [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
    const exact = values[Math.ceil(q * values.length) - 1]!
    const off = Math.abs(histogram.quantile(q) - exact) / exact
    assert.ok(off <= 0.008, `seed ${seed}: ${q} is ${histogram.quantile(q)}, not ${exact}`)
  }
  assert.equal(histogram.max, values.at(-1))
  assert.equal(histogram.count, 5_000)
})

test('of no values there is nothing, and of zeros zero', () => {
  const histogram = new Histogram()
  assert.deepEqual([histogram.count, histogram.quantile(0.5), histogram.max], [0, 0, 0])
  histogram.record(0)
  assert.deepEqual([histogram.count, histogram.quantile(0.99), histogram.max], [1, 0, 0])
})
