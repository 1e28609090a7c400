// Promises: what is known not to have taken effect is tried again, with jittered backoff, a named number of times; and work over
// many items goes on with a bounded number in flight, until all have ended, whatever fails.
import { type BackoffLimits, backoffMs } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Random } from '../../lib/prng.ts'
import { hasCode } from '../../model/errors.ts'

/** Tries of a throttled request inside one call of the target. With full jitter about 1.3 s in all; then the caller decides. */
export const TRIES_MAX = 7
const BACKOFF: BackoffLimits = { firstMs: 20, capMs: 1_000 }

export interface Pace {
  readonly clock: Clock
  readonly random: Random
}

/** Only for idempotent work: never for a compare-and-set. */
export async function untilNotThrottled<T>(pace: Pace, call: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call()
    } catch (error) {
      if (attempt + 1 >= TRIES_MAX || !hasCode(error, 'TARGET_THROTTLED')) throw error
      await pause(pace, attempt)
    }
  }
}

export function pause({ clock, random }: Pace, attempt: number): Promise<void> {
  return clock.sleep(backoffMs(attempt, BACKOFF, random))
}

/** Errors of all items that failed, in no order; empty if none did. */
export async function forEachLimited<T>(items: readonly T[], inFlightMax: number, call: (item: T) => Promise<void>): Promise<unknown[]> {
  const errors: unknown[] = []
  let next = 0
  const work = async () => {
    while (next < items.length) {
      try {
        await call(items[next++]!)
      } catch (error) {
        errors.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(inFlightMax, items.length) }, work))
  return errors
}
