// Promises: latencies added up over time, with or without decay, and their quantiles. Plain JSON: the range of buckets that has any, filled.
// Pure: adding makes a new one.

import { floorMs, type Latencies } from './latencies.ts'

export interface DenseCounts {
  /** The bucket of `weights[0]`. */
  readonly from: number
  readonly weights: readonly number[]
}

export const NO_WEIGHTS: DenseCounts = { from: 0, weights: [] }

/** Less than this of a request is nothing: without an end, decay would go on into denormal numbers, which are slow. */
const LEAST_WEIGHT = 1e-9

/** What was there times `keep`, and the new on top. */
export function added(dense: DenseCounts, { buckets, counts }: Latencies, keep = 1): DenseCounts {
  const old = dense.weights
  if (buckets.length === 0 && old.length === 0) return dense
  const from = Math.min(old.length === 0 ? buckets[0]! : dense.from, buckets[0] ?? dense.from)
  const end = Math.max(dense.from + old.length, (buckets.at(-1) ?? -1) + 1)
  const weights = new Array<number>(end - from).fill(0)
  const offset = dense.from - from
  for (let i = 0; i < old.length; i++) {
    const weight = old[i]! * keep
    weights[offset + i] = weight < LEAST_WEIGHT ? 0 : weight
  }
  for (let i = 0; i < buckets.length; i++) weights[buckets[i]! - from]! += counts[i]!
  return { from, weights }
}

export function totalOf({ weights }: DenseCounts): number {
  let sum = 0
  for (const weight of weights) sum += weight
  return sum
}

/** Straight inside a bucket; null of nothing. */
export function quantileMs(dense: DenseCounts, q: number): number | null {
  const total = totalOf(dense)
  if (!(total > 0)) return null
  const above = (1 - q) * total
  let sum = 0
  for (let i = dense.weights.length - 1; i >= 0; i--) {
    const weight = dense.weights[i]!
    if (weight === 0 || sum + weight < above) {
      sum += weight
      continue
    }
    const low = floorMs(dense.from + i)
    return low + (floorMs(dense.from + i + 1) - low) * (1 - (above - sum) / weight)
  }
  return floorMs(dense.from)
}
