// Promises: waits between tries that grow, are capped, and are jittered so that losers of one race do not meet again.
import type { Random } from './prng.ts'

export interface BackoffLimits {
  readonly firstMs: number
  readonly capMs: number
}

/** "Full jitter" (Brooker, Exponential Backoff and Jitter, 2015): uniform in [0, min(cap, first * 2^attempt)); attempt counts from 0. */
export function backoffMs(attempt: number, limits: BackoffLimits, random: Random): number {
  return random.next() * Math.min(limits.capMs, limits.firstMs * 2 ** Math.min(attempt, 30))
}
