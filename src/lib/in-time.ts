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

/** Aborts after so long, or with `signal`. Disposed of, it waits for nothing any more. */
export function untilDeadline(clock: Clock, ms: number, signal: AbortSignal): { readonly signal: AbortSignal } & Disposable {
  const over = new AbortController()
  const end = () => over.abort()
  const disarm = clock.after(ms, end)
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  return {
    signal: over.signal,
    [Symbol.dispose]: () => {
      disarm()
      signal.removeEventListener('abort', end)
    },
  }
}
