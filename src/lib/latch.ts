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
        signal?.removeEventListener('abort', done)
        resolve()
      }
      this.#waiters.push(done)
      signal?.addEventListener('abort', done, { once: true })
    })
  }
}
