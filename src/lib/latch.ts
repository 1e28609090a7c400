// Promises: a condition that others can await without polling, and without a lost wake-up between the look and the wait.

/** Wakes every waiter each time it is signalled. Take `next()` before looking at the state, then await it. */
export class Signal {
  #waiters: (() => void)[] = []

  notify(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  /** Resolves at the next `notify`, or when the signal aborts. */
  next(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        signal?.removeEventListener('abort', aborted)
        resolve()
      }
      // Who waits no more is forgotten: a lease holder pauses each second, and may be woken once a day.
      const aborted = () => {
        const at = this.#waiters.indexOf(done)
        if (at >= 0) this.#waiters.splice(at, 1)
        resolve()
      }
      this.#waiters.push(done)
      signal?.addEventListener('abort', aborted, { once: true })
    })
  }
}
