// Promises: what one arm did in one span of time, as a plain record that merges, and how it is made of a gateway's counters, which only
// rise and begin again at 0 with each restart. Counts that cannot be are named, never judged (INV-10). Pure.

import { FIRST_BUCKET, LAST_BUCKET } from '../lib/float-buckets.ts'
import { combined, countOf, type Latencies, NO_LATENCIES } from './latencies.ts'

export interface ArmCounts {
  readonly requests: number
  /** Requests that failed, of `requests`. */
  readonly errors: number
  /** Acknowledged writes that a check has found lost or wrong. Confirmed ones: settled differences, never a suspicion. */
  readonly wrongWrites: number
  /** From arrival at the gateway, so that queueing counts. */
  readonly latencies: Latencies
}

export interface Arms {
  /** Keys that the target owns. */
  readonly canary: ArmCounts
  /** Keys that PostgreSQL owns: the same statement in the same seconds. */
  readonly control: ArmCounts
}

export const NO_COUNTS: ArmCounts = { requests: 0, errors: 0, wrongWrites: 0, latencies: NO_LATENCIES }

export function mergeCounts(a: ArmCounts, b: ArmCounts): ArmCounts {
  return {
    requests: a.requests + b.requests,
    errors: a.errors + b.errors,
    wrongWrites: a.wrongWrites + b.wrongWrites,
    latencies: combined(a.latencies, b.latencies, (x, y) => x + y),
  }
}

export interface Difference {
  readonly counts: ArmCounts
  /** The counters began again in between; what came before that, after the first look, is not in `counts`. */
  readonly reset: boolean
}

/** What a gateway's counters counted between two looks at them. A difference that cannot be,
 * as of a count that fell, means that all of them began again. */
export function countsBetween(before: ArmCounts, after: ArmCounts): Difference {
  const counts: ArmCounts = {
    requests: after.requests - before.requests,
    errors: after.errors - before.errors,
    wrongWrites: after.wrongWrites - before.wrongWrites,
    latencies: combined(after.latencies, before.latencies, (x, y) => x - y),
  }
  const reset = unusableBecause(counts) !== null
  return reset ? { counts: after, reset } : { counts, reset }
}

/** Why these counts say nothing; null of counts that can be. */
export function unusableBecause(counts: ArmCounts): string | null {
  const { requests, errors, wrongWrites, latencies } = counts
  if (![requests, errors, wrongWrites].every(isCount)) return 'a count is not a whole number'
  if (errors > requests) return 'more errors than requests'
  if (latencies.buckets.length !== latencies.counts.length || !latencies.counts.every(isCount))
    return 'a latency count is not a whole number'
  if (!latencies.buckets.every((bucket, i) => isBucket(bucket) && (i === 0 || bucket > latencies.buckets[i - 1]!))) {
    return 'latency buckets are unknown or not ascending'
  }
  return countOf(latencies) > requests ? 'more latencies than requests' : null
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function isBucket(bucket: number): boolean {
  return Number.isInteger(bucket) && bucket >= FIRST_BUCKET && bucket <= LAST_BUCKET
}
