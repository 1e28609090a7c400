// Promises: work one after the other, in the order it was asked for. A failure is its own: the next has its turn all the same.

export interface TurnsOptions {
  /** More than these may not wait. */
  readonly waitingMax: number
  /** What those above hear. */
  readonly full: () => Error
}

export class Turns {
  readonly #options: TurnsOptions
  #last: Promise<unknown> = Promise.resolve()
  #waiting = 0

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= this.#options.waitingMax) return Promise.reject(this.#options.full())
    this.#waiting++
    const turn = () => {
      this.#waiting--
      return work()
    }
    const done = this.#last.then(turn)
    this.#last = done.catch(() => undefined)
    return done
  }
}
