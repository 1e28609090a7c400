// Promises: how latencies of one arm are told: a count for each 64th of an octave that has any, ascending, as plain JSON. Buckets are the
// float's exponent and the upper six bits of its mantissa, so that a value is at most 1.6 % above its bucket's floor. Pure.

import { bucketBits, bucketFloor, LOWEST_EXPONENT, OCTAVES } from '../lib/float-buckets.ts'

/** The same of gateways, controller and evidence files: a few microseconds to a quarter of an hour; what lies outside counts at the ends. */
const LEAST_MS = 2 ** LOWEST_EXPONENT
const MOST_MS = 2 ** (LOWEST_EXPONENT + OCTAVES)

export interface Latencies {
  /** Ascending. */
  readonly buckets: readonly number[]
  readonly counts: readonly number[]
}

export const NO_LATENCIES: Latencies = { buckets: [], counts: [] }

/** Of a number; NaN has none and must not come here. */
export function bucketOf(ms: number): number {
  return bucketBits(Math.min(MOST_MS, Math.max(LEAST_MS, ms)))
}

/** The least latency that the bucket holds. */
export function floorMs(bucket: number): number {
  return bucketFloor(bucket)
}

/** The first bucket that lies wholly at or above `ms`: what is in it or in a later one has reached `ms` for certain. */
export function firstBucketFrom(ms: number): number {
  const bucket = bucketOf(ms)
  return floorMs(bucket) >= ms ? bucket : bucket + 1
}

export function countFrom({ buckets, counts }: Latencies, bucket: number): number {
  let sum = 0
  for (let i = buckets.length - 1; i >= 0 && buckets[i]! >= bucket; i--) sum += counts[i]!
  return sum
}

export function countOf({ counts }: Latencies): number {
  let sum = 0
  for (const count of counts) sum += count
  return sum
}

export function latenciesOf(valuesMs: readonly number[]): Latencies {
  const counts = new Map<number, number>()
  for (const value of valuesMs) {
    const bucket = bucketOf(value)
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1)
  }
  const buckets = [...counts.keys()].sort((a, b) => a - b)
  return { buckets, counts: buckets.map((bucket) => counts.get(bucket)!) }
}

/** Bucket by bucket, `combine` of both counts (0 where there is none); buckets that come to nothing are left out. */
export function combined(a: Latencies, b: Latencies, combine: (a: number, b: number) => number): Latencies {
  const buckets: number[] = []
  const counts: number[] = []
  let [i, j] = [0, 0]
  while (i < a.buckets.length || j < b.buckets.length) {
    const bucket = Math.min(a.buckets[i] ?? Number.POSITIVE_INFINITY, b.buckets[j] ?? Number.POSITIVE_INFINITY)
    const count = combine(a.buckets[i] === bucket ? a.counts[i++]! : 0, b.buckets[j] === bucket ? b.counts[j++]! : 0)
    if (count === 0) continue
    buckets.push(bucket)
    counts.push(count)
  }
  return { buckets, counts }
}
