// Promises: parity's view of any target, over scans and reads of the target contract alone.
import { BucketSums, digestOf, recordText, TextDigester } from '../lib/digest.ts'
import type { TableMapping } from '../model/mapping.ts'
import type { BucketChoice, DigestedRow, ParityReader } from '../model/parity.ts'
import type { Target } from '../model/target.ts'
import { bucketOfKey } from './bucket.ts'

export function targetReader(target: Target, segments: number): ParityReader {
  return {
    async bucketSums(table, choice, progress, signal) {
      if (target.bucketSums !== undefined) return target.bucketSums(table.name, choice, { progress, signal })
      const sums = new BucketSums(choice.buckets)
      const digester = new TextDigester()
      await Promise.all(
        Array.from({ length: segments }, async (_, segment) => {
          for await (const rows of target.scanRows({ table: table.name, segment, segments, signal })) {
            let lastKey = ''
            let bucket = -1
            for (const row of rows) {
              if (row.values === null) continue
              if (bucket < 0 || row.key !== lastKey) {
                lastKey = row.key
                bucket = bucketOfKey(row.key, choice.buckets, digester)
              }
              if (choice.only === null || choice.only.has(bucket)) sums.add(bucket, digester.digest(recordText(row.values)))
            }
            progress(rows.length)
          }
        }),
      )
      return sums
    },
    rowDigests: (table, choice, signal) => digestedRows(target, table, choice, segments, signal),
    async readRows(_table, keys) {
      const rows = await target.readRows(keys)
      return rows.map((row) => row?.values ?? undefined)
    },
  }
}

async function* digestedRows(
  target: Target,
  table: TableMapping,
  choice: BucketChoice,
  segments: number,
  signal: AbortSignal,
): AsyncIterable<readonly DigestedRow[]> {
  const digester = new TextDigester()
  for (let segment = 0; segment < segments; segment++) {
    for await (const rows of target.scanRows({ table: table.name, segment, segments, signal })) {
      const found: DigestedRow[] = []
      for (const row of rows) {
        if (row.values === null) continue
        if (choice.only !== null && !choice.only.has(bucketOfKey(row.key, choice.buckets, digester))) continue
        const digest = BigInt.asUintN(64, digestOf(digester.digest(recordText(row.values))))
        found.push({ table: table.name, key: row.key, clustering: row.clustering, digest })
      }
      yield found
    }
  }
}
