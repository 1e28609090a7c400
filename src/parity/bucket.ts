// Promises: the bucket of a key, and how many buckets a table is cut into. Pure.
import type { TextDigester } from '../lib/digest.ts'
import type { AggregateKey } from '../model/key.ts'
import { BUCKET_SEED } from '../model/parity.ts'

const ROWS_PER_BUCKET = 64
const BUCKETS_MIN = 256
const BUCKETS_MAX = 1 << 20

/** A power of two, so that the low bits of the key's digest choose. */
export function bucketCount(estimatedRows: number): number {
  const wanted = Math.max(BUCKETS_MIN, Math.min(BUCKETS_MAX, estimatedRows / ROWS_PER_BUCKET))
  return 2 ** Math.ceil(Math.log2(wanted))
}

export function bucketOfKey(key: AggregateKey, buckets: number, digester: TextDigester): number {
  return (digester.digest(key, BUCKET_SEED).lo & (buckets - 1)) >>> 0
}

/** Every n-th bucket from an offset: a sample that is spread evenly and, with another offset each time, reaches all in the end. */
export function sampleOfBuckets(buckets: number, share: number, offset: number): ReadonlySet<number> | null {
  if (share >= 1) return null
  const step = Math.max(1, Math.round(1 / share))
  const chosen = new Set<number>()
  for (let bucket = offset % step; bucket < buckets; bucket += step) chosen.add(bucket)
  return chosen
}
