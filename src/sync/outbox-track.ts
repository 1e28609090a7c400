// Promises: where the reverse sync stands in one outbox: which entries are known, which are settled, and a position that advances only
// over a run without a hole (protocols.md, Reverse sync; faults.md 52). A hole closes only when the outbox is final: its lease is over
// and it was read once more to its end.
import { assert } from '../lib/assert.ts'
import { ENTRIES_PER_BUCKET, type OutboxId } from '../model/head.ts'

export interface OutboxTrack<Item> {
  readonly id: OutboxId
  /** Everything up to and including it is settled. */
  position(): number
  /** Everything up to and including it is settled or at hand. */
  knownUpTo(): number
  isSettled(sequence: number): boolean
  item(sequence: number): Item | undefined
  items(): Iterable<Item>
  add(sequence: number, item: Item): void
  /** Known, but not kept: its aggregate is halted. Read again after `forgetHeld`. */
  hold(sequence: number): void
  forgetHeld(): void
  readonly heldCount: number
  settle(sequence: number): void
  /** No entry will be read any more. Returns how many holes it closed. */
  finish(): number
  readonly final: boolean
  /** The highest sequence seen. */
  readonly last: number
  /** What is durable in PostgreSQL. */
  saved: { sequence: number; final: boolean }
  /** Buckets below it are deleted. */
  trimmedBuckets: number
}

export function createOutboxTrack<Item>(id: OutboxId, start: { readonly sequence: number; readonly final: boolean }): OutboxTrack<Item> {
  const items = new Map<number, Item>()
  const held = new Set<number>()
  // Settled above the position: disjoint, ascending, inclusive.
  const ranges: { from: number; to: number }[] = []
  let position = start.sequence
  let known = start.sequence
  let last = start.sequence
  let final = start.final

  const indexFrom = (sequence: number): number => {
    let low = 0
    let high = ranges.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (ranges[middle]!.to < sequence) low = middle + 1
      else high = middle
    }
    return low
  }
  const isSettled = (sequence: number): boolean => {
    if (sequence <= position) return true
    const range = ranges[indexFrom(sequence)]
    return range !== undefined && range.from <= sequence
  }
  const isKnown = (sequence: number): boolean => items.has(sequence) || held.has(sequence) || isSettled(sequence)

  function markSettled(sequence: number): void {
    if (sequence === position + 1) position = sequence
    else {
      const at = indexFrom(sequence)
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
    while (ranges[0]?.from === position + 1) position = ranges.shift()!.to
    if (known < position) known = position
  }

  const track: OutboxTrack<Item> = {
    id,
    position: () => position,
    knownUpTo() {
      while (isKnown(known + 1)) known++
      return known
    },
    isSettled,
    item: (sequence) => items.get(sequence),
    items: () => items.values(),
    add(sequence, item) {
      assert(!isSettled(sequence), `entry ${sequence} of ${id.lease} is settled already`)
      items.set(sequence, item)
      held.delete(sequence)
      if (sequence > last) last = sequence
    },
    hold(sequence) {
      held.add(sequence)
      if (sequence > last) last = sequence
    },
    forgetHeld() {
      held.clear()
      known = position
    },
    get heldCount() {
      return held.size
    },
    settle(sequence) {
      assert(sequence > 0, 'sequences begin at 1')
      items.delete(sequence)
      held.delete(sequence)
      if (sequence > last) last = sequence
      if (!isSettled(sequence)) markSettled(sequence)
    },
    finish() {
      final = true
      let closed = 0
      for (let sequence = position + 1; sequence <= last; sequence++) {
        if (isKnown(sequence)) continue
        markSettled(sequence)
        closed++
      }
      return closed
    },
    get final() {
      return final
    },
    get last() {
      return last
    },
    saved: { sequence: start.sequence, final: start.final },
    trimmedBuckets: 0,
  }
  return track
}

/** Buckets that may go whole: the durable position is past them; of a final outbox that is settled to its end, all. */
export function bucketsPast(saved: { readonly sequence: number; readonly final: boolean }, last: number): number {
  const whole = Math.floor(saved.sequence / ENTRIES_PER_BUCKET)
  return saved.final && saved.sequence >= last ? Math.ceil(saved.sequence / ENTRIES_PER_BUCKET) : whole
}
