// Promises: work is waited for so long and no longer. It goes on, and whatever it brings or fails with later is not heard here.
import type { Clock } from './clock.ts'

export const LATE: unique symbol = Symbol('late')
export type Late = typeof LATE

/** What the work brings, or LATE when the time or the signal comes first. Throws what the work throws in time. */
export async function inTime<T>(clock: Clock, ms: number, work: Promise<T>, signal?: AbortSignal): Promise<T | Late> {
  let end = () => {}
  const over = new Promise<void>((resolve) => {
    if (signal?.aborted) return resolve()
    const ended = () => resolve()
    const cancel = clock.after(ms, ended)
    signal?.addEventListener('abort', ended, { once: true })
    end = () => {
      cancel()
      signal?.removeEventListener('abort', ended)
    }
  })
  try {
    return await Promise.race([work, over.then((): Late => LATE)])
  } finally {
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
