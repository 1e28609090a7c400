// Promises: the distribution of any number of latencies in 7 KB, whatever comes in: one count for each 64th of an octave, from 2^-8 ms
// (four microseconds) to 2^20 ms (17 minutes): the range and the buckets that the judge reads (canary/latencies.ts).
// Formula: of a float's bits, exponent and the upper six bits of its mantissa are the bucket, so a record is a store, a load and a shift
// (the idea of HdrHistogram, G. Tene, without its own arithmetic). A bucket is at most 1/64 of its lower edge wide: its middle is at
// most 1/128, 0.8 %, off any value in it.
// What lies outside counts in the bucket at the edge. What is no latency (not finite, negative) is refused, and counted as such.
import { assert } from './assert.ts'
import { bucketBits, bucketFloor, FIRST_BUCKET, LOWEST_EXPONENT, OCTAVES, SUB_BUCKETS } from './float-buckets.ts'

const LOWEST = 2 ** LOWEST_EXPONENT
const HIGHEST = 2 ** (LOWEST_EXPONENT + OCTAVES)
const BUCKETS = OCTAVES * SUB_BUCKETS
const FIRST = FIRST_BUCKET
const COUNT_MAX = 0xffff_ffff

/** As JSON: buckets that have any, ascending, by their floats' upper bits (the same number in any process), and the count of each. */
export interface HistogramPlain {
  readonly max: number
  readonly refused: number
  readonly buckets: readonly number[]
  readonly counts: readonly number[]
}

export class Histogram {
  readonly #counts = new Uint32Array(BUCKETS)
  #count = 0
  #max = 0
  #refused = 0

  /** In milliseconds. */
  record(value: number): void {
    let bucket = 0
    if (value >= LOWEST) {
      if (value < HIGHEST) {
        bucket = bucketBits(value) - FIRST
      } else if (value < Number.POSITIVE_INFINITY) bucket = BUCKETS - 1
      else return this.#refuse(1)
    } else if (!(value >= 0)) return this.#refuse(1)
    const counted = this.#counts[bucket]!
    // A count does not begin anew at zero: it would look like a restart.
    if (counted === COUNT_MAX) return this.#refuse(1)
    this.#counts[bucket] = counted + 1
    this.#count++
    if (value > this.#max) this.#max = value
  }

  get count(): number {
    return this.#count
  }

  /** Exact, but of what `since` made: there at most a bucket's width too large. */
  get max(): number {
    return this.#max
  }

  /** How many were no latency, or came when their bucket had counted 2^32 - 1. */
  get refused(): number {
    return this.#refused
  }

  /** The value of which a share `q` of all are not above: at most 0.8 % off, for any values within the range. 0 of no values. */
  quantile(q: number): number {
    const { bucket } = this.#find(q)
    return bucket < 0 ? 0 : Math.min((edge(bucket) + edge(bucket + 1)) / 2, this.#max)
  }

  /**
   * The same, as if the values of a bucket were spread evenly over it: about 0.1 % off at P99 of a smooth distribution with some ten
   * thousand values, at most 1.6 % off for any values.
   */
  interpolated(q: number): number {
    const { bucket, into } = this.#find(q)
    if (bucket < 0) return 0
    const from = edge(bucket)
    return Math.min(from + (edge(bucket + 1) - from) * into, this.#max)
  }

  /**
   * How many were at or above the first edge of a bucket that is not below `value`: a whole number that falls as `value` rises, the same
   * for whoever counted. `edgeFrom(value)` is that edge, at most 1.6 % above; above the range it is what the last bucket has.
   */
  countAbove(value: number): number {
    assert(!Number.isNaN(value), 'nothing is above NaN')
    let above = 0
    for (let bucket = bucketFrom(value); bucket < BUCKETS; bucket++) above += this.#counts[bucket]!
    return above
  }

  merge(other: Histogram): void {
    let refused = other.#refused
    let added = 0
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const more = other.#counts[bucket]!
      if (more === 0) continue
      const room = COUNT_MAX - this.#counts[bucket]!
      const fits = Math.min(more, room)
      this.#counts[bucket] = this.#counts[bucket]! + fits
      added += fits
      refused += more - fits
    }
    this.#count += added
    this.#refuse(refused)
    if (other.#max > this.#max) this.#max = other.#max
  }

  clear(): void {
    this.#counts.fill(0)
    this.#count = 0
    this.#max = 0
    this.#refused = 0
  }

  /** No count is below what it was: this is what `previous` has become, not one of a process that began anew. */
  continues(previous: Histogram): boolean {
    if (this.#count < previous.#count || this.#refused < previous.#refused) return false
    return this.#counts.every((count, bucket) => count >= previous.#counts[bucket]!)
  }

  /** What came in since. Where this does not continue `previous` (the process began anew), all of it came since. */
  since(previous: Histogram): Histogram {
    const since = new Histogram()
    if (!this.continues(previous)) {
      since.merge(this)
      return since
    }
    let highest = -1
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const count = this.#counts[bucket]! - previous.#counts[bucket]!
      if (count === 0) continue
      since.#counts[bucket] = count
      highest = bucket
    }
    since.#count = this.#count - previous.#count
    since.#refused = this.#refused - previous.#refused
    if (highest >= 0) since.#max = this.#max > previous.#max ? this.#max : Math.min(topOf(highest), this.#max)
    return since
  }

  toPlain(): HistogramPlain {
    const [buckets, counts]: [number[], number[]] = [[], []]
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const count = this.#counts[bucket]!
      if (count === 0) continue
      buckets.push(FIRST + bucket)
      counts.push(count)
    }
    return { max: this.#max, refused: this.#refused, buckets, counts }
  }

  /** Null: it is none, so nothing of it is known. */
  static fromPlain(plain: unknown): Histogram | null {
    if (!isPlain(plain)) return null
    const { max, refused, buckets, counts } = plain
    const made = new Histogram()
    let bucket = -1
    for (const [i, count] of counts.entries()) {
      const next = buckets[i]! - FIRST
      if (!isCount(next) || next <= bucket || next >= BUCKETS) return null
      if (!isCount(count) || count < 1 || count > COUNT_MAX) return null
      made.#counts[next] = count
      made.#count += count
      bucket = next
    }
    // A maximum that no value had would move every quantile.
    if (bucket < 0 ? max !== 0 : max < edge(bucket) || max > topOf(bucket)) return null
    made.#max = max
    made.#refused = refused
    return made
  }

  #refuse(values: number): void {
    this.#refused += values
  }

  /** The bucket of the value that so large a share is not above, and how far into it, 0..1; -1: there are no values. */
  #find(q: number): { readonly bucket: number; readonly into: number } {
    if (this.#count === 0) return { bucket: -1, into: 0 }
    const rank = Math.min(this.#count, Math.max(1, Math.ceil(q * this.#count)))
    let before = 0
    let bucket = 0
    for (; before + this.#counts[bucket]! < rank; bucket++) before += this.#counts[bucket]!
    return { bucket, into: (rank - before - 0.5) / this.#counts[bucket]! }
  }
}

/** The edge from which `countAbove(value)` counts. */
export function edgeFrom(value: number): number {
  return edge(bucketFrom(value))
}

/** The first bucket whose lower edge is not below the value; the last one above the range. */
function bucketFrom(value: number): number {
  if (!(value > 0)) return 0
  if (!(value < HIGHEST)) return BUCKETS - 1
  // The edge bucket begins at zero.
  if (value < LOWEST) return 1
  const bucket = bucketBits(value) - FIRST
  return Math.min(edge(bucket) < value ? bucket + 1 : bucket, BUCKETS - 1)
}

/** Lower edge; bucket 0 begins at zero, since what is below the range counts there. */
function edge(bucket: number): number {
  return bucket <= 0 ? 0 : bucketFloor(FIRST + bucket)
}

/** The last bucket has no upper edge. */
function topOf(bucket: number): number {
  return bucket === BUCKETS - 1 ? Number.POSITIVE_INFINITY : edge(bucket + 1)
}

function isPlain(plain: unknown): plain is HistogramPlain {
  if (typeof plain !== 'object' || plain === null) return false
  const { max, refused, buckets, counts } = plain as Partial<HistogramPlain>
  if (!Number.isFinite(max) || max! < 0 || !isCount(refused)) return false
  return Array.isArray(buckets) && Array.isArray(counts) && buckets.length === counts.length
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
