import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BucketSums } from '../../src/lib/digest.ts'
import type { BucketChoice } from '../../src/model/parity.ts'
import type { RowPut } from '../../src/model/row.ts'
import { targetReader } from '../../src/parity/target-reader.ts'
import { connectMemoryTarget } from '../../src/targets/memory/client.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { MAPPING, POTS } from '../commit/fake-plans.ts'

test('the sums that the store digests itself are those of a scan, for all buckets and for some, tombstones left out', async () => {
  const server = await serveMemoryTarget()
  const target = connectMemoryTarget({ port: server.port })
  try {
    await target.prepare(MAPPING)
    // More than one request's share, aggregates of several rows, texts that a record quotes.
    const rows = Array.from({ length: 60_000 }, (_, i): RowPut => {
      const [key, pot] = [`k${i % 20_000}`, `p${Math.floor(i / 20_000)}`]
      const values = i % 11 === 0 ? null : [key, pot, `a "b", \\c ${i}`, i % 7 === 0 ? '' : '€']
      return { table: POTS, key, clustering: [pot], values, stamp: 1n, mark: false }
    })
    for (let from = 0; from < rows.length; from += 5_000) await target.putRows(rows.slice(from, from + 5_000))
    const table = MAPPING.tables[0]!
    const { bucketSums: _, ...scanned } = target
    for (const only of [null, new Set([0, 3, 255])]) {
      const choice: BucketChoice = { buckets: 256, only }
      const sums = async (store: typeof target) => {
        let seen = 0
        const found = await targetReader(store, 3).bucketSums(table, choice, (n) => (seen += n), new AbortController().signal)
        return { found, seen }
      }
      const [here, there] = [await sums(scanned), await sums(target)]
      assert.deepEqual(here.found.differing(there.found), [])
      assert.ok(there.found instanceof BucketSums && there.found.counts.reduce((sum, n) => sum + n, 0) > 500)
      if (only === null) assert.equal(there.seen, rows.filter(({ values }) => values !== null).length)
    }
  } finally {
    await target.close()
    await server.close()
  }
})
