// Promises: so many at once. Whoever comes when every place is taken waits in order, and is no more than a promise until then.

/** Left ones are cut off the queue now and then. */
const CUT = 1_024

export class Places {
  readonly #max: number
  #taken = 0
  #queue: (() => void)[] = []
  #from = 0

  constructor(max: number) {
    this.#max = max
  }

  get waiting(): number {
    return this.#queue.length - this.#from
  }

  /** Null: there was a place. Else resolves when one has been left for the caller. Each is followed by one `leave`. */
  enter(): Promise<void> | null {
    if (this.#taken < this.#max) {
      this.#taken++
      return null
    }
    return new Promise((resolve) => this.#queue.push(resolve))
  }

  leave(): void {
    const next = this.#queue[this.#from]
    if (next === undefined) {
      this.#taken--
      return
    }
    if (++this.#from >= CUT || this.#from === this.#queue.length) {
      this.#queue = this.#queue.slice(this.#from)
      this.#from = 0
    }
    next()
  }
}
