// Promises: virtual time for real promises: one event at a time, and everything that follows from it by promises alone is done
// before the next. Hosts sleep and die: their timers and replies come late or never.
import type { Clock } from '../../src/lib/clock.ts'

export interface Host {
  dead: boolean
  /** Sleeps until then. */
  until: number
}

export function newHost(): Host {
  return { dead: false, until: 0 }
}

interface Event {
  readonly at: number
  readonly n: number
  /** Null: taken back. */
  call: (() => void) | null
}

/** Takes an event back. */
type Cancel = () => void

export class VirtualTime {
  now = 0
  #heap: Event[] = []
  #n = 0

  at(delayMs: number, call: () => void): Cancel {
    const event: Event = { at: this.now + delayMs, n: this.#n++, call }
    const heap = this.#heap
    let i = heap.length
    heap.push(event)
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (before(heap[parent]!, event)) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = event
    return () => {
      event.call = null
    }
  }

  /** On a host: not while it sleeps, never once it is dead. */
  on(host: Host, delayMs: number, call: () => void): Cancel {
    let cancel = this.at(delayMs, () => {
      if (host.dead) return
      if (this.now < host.until) cancel = this.on(host, host.until - this.now, call)
      else call()
    })
    return () => cancel()
  }

  async run(untilMs: number): Promise<void> {
    await settle()
    while (this.#heap.length > 0 && this.#heap[0]!.at <= untilMs) {
      await this.#step()
    }
    this.now = Math.max(this.now, untilMs)
  }

  /** Runs time until the promise is settled. */
  async until<T>(work: Promise<T>, limitMs = 60_000): Promise<T> {
    let done = false
    const mark = () => {
      done = true
    }
    work.then(mark, mark)
    await settle()
    const end = this.now + limitMs
    while (!done) {
      if (this.#heap.length === 0 || this.#heap[0]!.at > end) throw new Error(`not settled within ${limitMs} ms of virtual time`)
      await this.#step()
    }
    return work
  }

  clock(host: Host): Clock {
    return {
      nowMs: () => this.now,
      monotonicMs: () => this.now,
      sleep: (ms) => new Promise((resolve) => this.on(host, ms, resolve)),
      after: (ms, call) => this.on(host, ms, call),
    }
  }

  async #step(): Promise<void> {
    const event = this.#pop()
    if (event.call === null) return
    this.now = event.at
    event.call()
    await settle()
  }

  #pop(): Event {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return top
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (before(last, heap[child]!)) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last
    return top
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.n < b.n)
}

/** Asked for by a promise's reaction, a tick comes after all other reactions have run. */
function settle(): Promise<void> {
  return Promise.resolve().then(() => new Promise((resolve) => process.nextTick(resolve)))
}
