// Promises: a Clock that stands still until it is told to go on: one timer at a time, in order, and everything that follows from it by
// promises alone is done before the next. Code on it runs as fast as the machine does, the same under one seed. Who drives it, drives it
// alone: two would run time past what the one waits for.
import type { Clock } from '../../src/lib/clock.ts'

/** Where a timer is set: it rings not while that sleeps, and never once it is dead. */
export interface Host {
  dead: boolean
  /** Sleeps until then. */
  until: number
}

interface Timer {
  atMs: number
  n: number
  readonly host: Host | null
  /** Null: taken back. */
  call: (() => void) | null
}

const RUN_LIMIT_MS = 600_000

export class VirtualClock implements Clock {
  #now: number
  #n = 0
  /** The next one first. */
  readonly #heap: Timer[] = []
  #driven = false

  constructor(startMs = 1_000_000) {
    this.#now = startMs
  }

  get now(): number {
    return this.#now
  }

  nowMs(): number {
    return this.#now
  }

  monotonicMs(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        cancel()
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const cancel = this.after(ms, done)
      signal?.addEventListener('abort', done, { once: true })
    })
  }

  after(ms: number, call: () => void): () => void {
    return this.#set(null, ms, call)
  }

  /** The returned function takes it back. */
  on(host: Host, ms: number, call: () => void): () => void {
    return this.#set(host, ms, call)
  }

  #set(host: Host | null, ms: number, call: () => void): () => void {
    const timer: Timer = { atMs: this.#now + Math.max(0, ms), n: this.#n++, host, call }
    push(this.#heap, timer)
    return () => {
      timer.call = null
    }
  }

  /** Runs time until the promise settles. Fails when it can settle no more, or does not within so much time. */
  async run<T>(work: Promise<T>, limitMs = RUN_LIMIT_MS): Promise<T> {
    const startedMs = this.#now
    let settled = false
    const mark = () => {
      settled = true
    }
    work.then(mark, mark)
    await this.#drive(() => {
      if (settled) return null
      const next = this.#next()
      if (next === undefined) throw new Error('everything waits and no timer is set: a deadlock')
      if (next.atMs > startedMs + limitMs) throw new Error(`not settled within ${limitMs} ms of virtual time`)
      return next
    })
    return work
  }

  advance(ms: number): Promise<void> {
    return this.advanceTo(this.#now + ms)
  }

  async advanceTo(untilMs: number): Promise<void> {
    await this.#drive(() => {
      const next = this.#next()
      return next !== undefined && next.atMs <= untilMs ? next : null
    })
    this.#now = Math.max(this.#now, untilMs)
  }

  /** Timer by timer, until there is none to be run. */
  async #drive(next: () => Timer | null): Promise<void> {
    if (this.#driven) throw new Error('time is driven by another already')
    this.#driven = true
    try {
      await settle()
      for (let timer = next(); timer !== null; timer = next()) {
        pop(this.#heap)
        this.#now = timer.atMs
        if (timer.host !== null && !this.#rings(timer, timer.host)) continue
        timer.call!()
        await reactions()
      }
    } finally {
      this.#driven = false
    }
  }

  #rings(timer: Timer, host: Host): boolean {
    if (host.dead) return false
    if (this.#now >= host.until) return true
    timer.atMs = host.until
    timer.n = this.#n++
    push(this.#heap, timer)
    return false
  }

  #next(): Timer | undefined {
    const heap = this.#heap
    while (heap.length > 0 && heap[0]!.call === null) pop(heap)
    return heap[0]
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.n < b.n)
}

function push(heap: Timer[], timer: Timer): void {
  let i = heap.length
  heap.push(timer)
  while (i > 0) {
    const parent = (i - 1) >> 1
    if (before(heap[parent]!, timer)) break
    heap[i] = heap[parent]!
    i = parent
  }
  heap[i] = timer
}

function pop(heap: Timer[]): void {
  const last = heap.pop()!
  if (heap.length === 0) return
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
}

/** Whoever asks may not be a promise's reaction itself. */
function settle(): Promise<void> {
  return Promise.resolve().then(reactions)
}

/** Asked for by a promise's reaction, a tick comes after all other reactions have run. */
function reactions(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}
