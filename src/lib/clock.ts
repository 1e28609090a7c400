// Promises: the only place that reads the machine's clocks or starts a timer on behalf of decisions, so that a simulator can
// take its place. Everything under lib, model, wire, sql, commit, sync and flip gets a Clock passed in.

export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump. */
  nowMs(): number
  /** Monotonic clock, milliseconds from an arbitrary origin. Stands still while the machine is suspended. */
  monotonicMs(): number
  /** Resolves after `ms`, or as soon as the signal aborts (without an error: cancellation is not one). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Runs `call` after `ms`; the returned function takes that back. */
  after(ms: number, call: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
  after: (ms, call) => {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
}
