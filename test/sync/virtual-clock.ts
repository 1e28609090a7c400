// Promises: time that stands still while anything can run, and jumps to the next timer when nothing can: random tests of timed code run
// as fast as the machine does, the same under one seed.
import type { Clock } from '../../src/lib/clock.ts'

interface Timer {
  readonly atMs: number
  readonly n: number
  readonly call: () => void
}

export interface VirtualClock extends Clock {
  /** Advances time, timer by timer, until the promise settles. */
  drive<T>(work: Promise<T>): Promise<T>
}

export function virtualClock(startMs = 1_000_000): VirtualClock {
  let now = startMs
  let n = 0
  const timers: Timer[] = []
  const add = (ms: number, call: () => void): Timer => {
    const timer = { atMs: now + Math.max(0, ms), n: n++, call }
    let at = timers.length
    while (at > 0 && (timers[at - 1]!.atMs < timer.atMs || (timers[at - 1]!.atMs === timer.atMs && timers[at - 1]!.n < timer.n))) at--
    timers.splice(at, 0, timer)
    return timer
  }
  const remove = (timer: Timer) => {
    const at = timers.indexOf(timer)
    if (at >= 0) timers.splice(at, 1)
  }
  return {
    nowMs: () => now,
    monotonicMs: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve()
        const done = () => {
          remove(timer)
          signal?.removeEventListener('abort', done)
          resolve()
        }
        const timer = add(ms, done)
        signal?.addEventListener('abort', done, { once: true })
      }),
    after(ms, call) {
      const timer = add(ms, call)
      return () => remove(timer)
    },
    async drive(work) {
      let settled = false
      const end = () => {
        settled = true
      }
      work.then(end, end)
      while (!settled) {
        await new Promise((resolve) => setImmediate(resolve))
        if (settled) break
        // Latest first in the list, so that the next one is at its end.
        const next = timers.pop()
        if (next === undefined) throw new Error('everything waits and no timer is set: a deadlock')
        if (next.atMs > now) now = next.atMs
        next.call()
      }
      return work
    },
  }
}
