import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { unusableBecause } from '../../src/canary/arm-counts.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import { Histogram } from '../../src/lib/histogram.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)

const told = (values: readonly number[]) => {
  const histogram = new Histogram()
  for (const value of values) histogram.record(value)
  const { buckets, counts } = JSON.parse(JSON.stringify(histogram.toPlain()))
  return { buckets, counts }
}

test("what a gateway's histogram sends are latencies that the judge takes, bucket by bucket", () => {
  const inRange = fc.array(
    fc.double({ min: -7.9, max: 19.9, noNaN: true }).map((octave) => 2 ** octave),
    { maxLength: 60 },
  )
  fc.assert(
    fc.property(inRange, (values) => assert.deepEqual(told(values), latenciesOf(values))),
    { seed: SEED },
  )
  const any = fc.array(fc.double({ min: 0, max: 1e12, noNaN: true }), { maxLength: 60 })
  fc.assert(
    fc.property(any, (values) => {
      const latencies = told([...values, 0, 1e-9, 2 ** 20, 1e300])
      assert.equal(unusableBecause({ requests: values.length + 4, errors: 0, wrongWrites: 0, latencies }), null)
    }),
    { seed: SEED },
  )
})
