// Promises: where the reverse sync stands in one outbox: which entries are known, which are settled, and a position that advances only
// over a run without a hole (protocols.md, Reverse sync; faults.md 52). A hole closes only when the outbox is final: its lease is over
// and it was read once more to its end.
import { assert } from '../lib/assert.ts'
import type { OutboxId } from '../model/head.ts'

export class OutboxTrack<Item> {
  readonly id: OutboxId
  /** What is durable in PostgreSQL. */
  saved: { sequence: number; final: boolean }
  /** Buckets below it are deleted. */
  trimmedBuckets = 0
  readonly #items = new Map<number, Item>()
  readonly #held = new Set<number>()
  readonly #settled: Settled
  #known: number
  #last: number
  #final: boolean

  constructor(id: OutboxId, start: { readonly sequence: number; readonly final: boolean }) {
    this.id = id
    this.saved = { sequence: start.sequence, final: start.final }
    this.#settled = new Settled(start.sequence)
    this.#known = start.sequence
    this.#last = start.sequence
    this.#final = start.final
  }

  /** Everything up to and including it is settled. */
  position(): number {
    return this.#settled.upTo
  }

  /** Everything up to and including it is settled or at hand. */
  knownUpTo(): number {
    if (this.#known < this.#settled.upTo) this.#known = this.#settled.upTo
    while (this.#isKnown(this.#known + 1)) this.#known++
    return this.#known
  }

  /** The highest sequence seen. */
  get last(): number {
    return this.#last
  }

  get final(): boolean {
    return this.#final
  }

  isSettled(sequence: number): boolean {
    return this.#settled.has(sequence)
  }

  item(sequence: number): Item | undefined {
    return this.#items.get(sequence)
  }

  items(): Iterable<Item> {
    return this.#items.values()
  }

  /** Sequences up to `upTo` that are neither settled nor at hand, at most so many. */
  missing(upTo: number, max: number): number[] {
    const missing: number[] = []
    for (let sequence = this.knownUpTo() + 1; sequence <= upTo && missing.length < max; sequence++)
      if (!this.#isKnown(sequence)) missing.push(sequence)
    return missing
  }

  add(sequence: number, item: Item): void {
    assert(!this.isSettled(sequence), `entry ${sequence} of ${this.id.lease} is settled already`)
    this.#items.set(sequence, item)
    this.#held.delete(sequence)
    this.#seen(sequence)
  }

  /** Known, but not kept: its aggregate is halted. Read again after `forgetHeld`. */
  hold(sequence: number): void {
    this.#held.add(sequence)
    this.#seen(sequence)
  }

  forgetHeld(): void {
    this.#held.clear()
    this.#known = this.#settled.upTo
  }

  get heldCount(): number {
    return this.#held.size
  }

  settle(sequence: number): void {
    assert(sequence > 0, 'sequences begin at 1')
    this.#items.delete(sequence)
    this.#held.delete(sequence)
    this.#seen(sequence)
    this.#settled.add(sequence)
  }

  /** No entry will be read any more. Returns how many holes it closed. */
  finish(): number {
    this.#final = true
    let closed = 0
    for (let sequence = this.#settled.upTo + 1; sequence <= this.#last; sequence++) {
      if (this.#isKnown(sequence)) continue
      this.#settled.add(sequence)
      closed++
    }
    return closed
  }

  #seen(sequence: number): void {
    if (sequence > this.#last) this.#last = sequence
  }

  #isKnown(sequence: number): boolean {
    return this.#items.has(sequence) || this.#held.has(sequence) || this.isSettled(sequence)
  }
}

/** Sequences that are settled: all up to one, and above it ranges that are disjoint, ascending, inclusive. */
class Settled {
  upTo: number
  readonly #ranges: { from: number; to: number }[] = []

  constructor(upTo: number) {
    this.upTo = upTo
  }

  has(sequence: number): boolean {
    if (sequence <= this.upTo) return true
    const range = this.#ranges[this.#indexFrom(sequence)]
    return range !== undefined && range.from <= sequence
  }

  add(sequence: number): void {
    if (this.has(sequence)) return
    if (sequence === this.upTo + 1) this.upTo = sequence
    else this.#addAbove(sequence)
    while (this.#ranges[0]?.from === this.upTo + 1) this.upTo = this.#ranges.shift()!.to
  }

  #addAbove(sequence: number): void {
    const ranges = this.#ranges
    const at = this.#indexFrom(sequence)
    const next = ranges[at]
    const before = ranges[at - 1]
    const joinsBefore = before !== undefined && before.to === sequence - 1
    const joinsNext = next !== undefined && next.from === sequence + 1
    if (joinsBefore && joinsNext) {
      before.to = next.to
      ranges.splice(at, 1)
    } else if (joinsBefore) before.to = sequence
    else if (joinsNext) next.from = sequence
    else ranges.splice(at, 0, { from: sequence, to: sequence })
  }

  /** Of the first range that does not end below it. */
  #indexFrom(sequence: number): number {
    let low = 0
    let high = this.#ranges.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#ranges[middle]!.to < sequence) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Buckets that may go whole: the durable position is past them; of a final outbox that is settled to its end, all. */
export function bucketsPast(saved: { readonly sequence: number; readonly final: boolean }, last: number, entriesPerBucket: number): number {
  const whole = Math.floor(saved.sequence / entriesPerBucket)
  return saved.final && saved.sequence >= last ? Math.ceil(saved.sequence / entriesPerBucket) : whole
}
