// Promises: virtual time that goes on by itself while somebody waits for something on it, so that a suite written for real time runs on it.
import type { HostTime } from '../commit/host-time.ts'

const STEP_MS = 1

export class Pump {
  readonly #time: HostTime
  #waiting = 0
  #running = false

  constructor(time: HostTime) {
    this.#time = time
  }

  async until<T>(work: Promise<T>): Promise<T> {
    this.#waiting++
    void this.#run()
    try {
      return await work
    } finally {
      this.#waiting--
    }
  }

  passed(ms: number): Promise<void> {
    return this.until(new Promise((resolve) => this.#time.after(ms, resolve)))
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    while (this.#waiting > 0) await this.#time.advance(STEP_MS)
    this.#running = false
  }

  /** Each of its calls makes time go on. */
  pumped<T extends object>(of: T): T {
    return new Proxy(of, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          const result: unknown = value.apply(target, args)
          return result instanceof Promise ? this.until(result) : result
        }
      },
    })
  }
}
