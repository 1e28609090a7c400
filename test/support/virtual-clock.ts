// Promises: a Clock that stands still until it is told to go on, timers in order, and promise callbacks run dry between them.
import type { Clock } from '../../src/lib/clock.ts'

export class VirtualClock implements Clock {
  #nowMs: number
  #sequence = 0
  #timers: { readonly atMs: number; readonly sequence: number; readonly call: () => void }[] = []

  constructor(startMs = 1_000_000) {
    this.#nowMs = startMs
  }

  nowMs(): number {
    return this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const cancel = this.after(ms, resolve)
      signal?.addEventListener(
        'abort',
        () => {
          cancel()
          resolve()
        },
        { once: true },
      )
    })
  }

  after(ms: number, call: () => void): () => void {
    const timer = { atMs: this.#nowMs + Math.max(0, ms), sequence: this.#sequence++, call }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  /** Runs until `promise` settles, moving time from timer to timer; fails after `maxMs` of virtual time. */
  async run<T>(promise: Promise<T>, maxMs = 600_000): Promise<T> {
    let settled = false
    const watched = promise.finally(() => {
      settled = true
    })
    watched.catch(() => undefined)
    const endMs = this.#nowMs + maxMs
    for (;;) {
      await drain()
      if (settled) return watched
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs || a.sequence - b.sequence)[0]
      if (next === undefined) throw new Error('nothing is left to run, and the promise has not settled')
      if (next.atMs > endMs) throw new Error(`not settled within ${maxMs} ms of virtual time`)
      this.#timers = this.#timers.filter((other) => other !== next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.call()
    }
  }

  async advance(ms: number): Promise<void> {
    await this.run(this.sleep(ms))
  }
}

/** Lets every promise callback that is due run, however long the chain. */
async function drain(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}
