// Promises: the digests of a memory target's rows, summed where the rows are (Target.bucketSums), a part of the table a request. Yields
// to other requests now and then: a comparison must not stall a commit.
import { BucketSums, recordText, TextDigester } from '../../lib/digest.ts'
import type { TableName } from '../../model/mapping.ts'
import { BUCKET_SEED, type BucketChoice } from '../../model/parity.ts'
import type { MemoryTarget } from './memory-target.ts'

export interface WireSums {
  readonly sums: readonly (readonly [bucket: number, count: number, sum: string])[]
  readonly rows: number
  /** Index of the aggregate with which the next part begins; null: that was all. */
  readonly next: number | null
}

/** Rows between two looks at what else there is to do: about a millisecond. */
const ROWS_PER_TURN = 500

/** At least one aggregate, whole aggregates only. */
export async function digestPart(
  target: MemoryTarget,
  table: TableName,
  choice: BucketChoice,
  part: { readonly from: number; readonly rows: number },
): Promise<WireSums> {
  const sums = new BucketSums(choice.buckets)
  const touched = new Set<number>()
  const digester = new TextDigester()
  let [at, bucket, rows, seen] = [-1, 0, 0, 0]
  let next: number | null = null
  for (const { index, key, values } of target.liveRows(table, part.from)) {
    if (index !== at) {
      if (seen >= part.rows) {
        next = index
        break
      }
      at = index
      bucket = (digester.digest(key, BUCKET_SEED).lo & (choice.buckets - 1)) >>> 0
    }
    if (choice.only === null || choice.only.has(bucket)) {
      sums.add(bucket, digester.digest(recordText(values)))
      touched.add(bucket)
      rows++
    }
    if (++seen % ROWS_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  return { sums: [...touched].map((one) => [one, sums.counts[one]!, sums.sum(one).toString()] as const), rows, next }
}
