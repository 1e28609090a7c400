// Promises: work is waited for so long and no longer. It goes on, and whatever it brings or fails with later is not heard here.
import type { Clock } from './clock.ts'

export const LATE: unique symbol = Symbol('late')
export type Late = typeof LATE

/** What the work brings, or LATE when the time or the signal comes first. Throws what the work throws in time. */
export async function inTime<T>(clock: Clock, ms: number, work: Promise<T>, signal?: AbortSignal): Promise<T | Late> {
  const over = new AbortController()
  const end = () => over.abort()
  signal?.addEventListener('abort', end, { once: true })
  if (signal?.aborted) end()
  const late = clock.sleep(ms, over.signal).then((): Late => LATE)
  try {
    return await Promise.race([work, late])
  } finally {
    signal?.removeEventListener('abort', end)
    end()
  }
}
