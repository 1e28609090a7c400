// Promises: whether a history of one object of any kind is linearizable, by looking for an order that explains it.
// J. Wing and C. Gong, Testing and Verifying Concurrent Objects, J. Parallel Distrib. Comput. 17, 1993: an operation may come next if no
// other one that is left ended before it began; tried one by one, taken back where nothing can follow. G. Lowe, Testing for
// Linearizability, Concurrency Computat.: Pract. Exper. 29(4), 2017: what was reached before (the same operations done, the same state)
// is not tried again. In the worst case exponential in how many operations overlap, so it is for few clients, and has a limit.
import type { Interval } from './zones.ts'

export interface Operation<State> extends Interval {
  /** The state after it; null: in this state it could not have answered as it did. */
  readonly apply: (state: State) => State | null
}

export interface SearchOptions<State> {
  /** Equal texts for equal states, and only for these. */
  readonly nameOf: (state: State) => string
  readonly stepsMax: number
}

/** `stuck`: of the longest order that was found, the operations that could not come next. */
export type Verdict = { readonly kind: 'linearizable' | 'undecided' } | { readonly kind: 'not'; readonly stuck: readonly number[] }

interface Entry {
  readonly operation: number
  readonly returns: boolean
  readonly at: number
  before: Entry | null
  next: Entry | null
}

export function linearize<State>(initial: State, operations: readonly Operation<State>[], options: SearchOptions<State>): Verdict {
  return new Search(initial, operations, options).run()
}

class Search<State> {
  readonly #operations: readonly Operation<State>[]
  readonly #options: SearchOptions<State>
  readonly #head: Entry
  readonly #returns = new Map<number, Entry>()
  readonly #done: Uint16Array
  readonly #reached = new Set<string>()
  /** Those that must be done: of the others nobody has heard. */
  #left: number
  #state: State
  #stuck: { readonly left: number; readonly next: readonly number[] }

  constructor(initial: State, operations: readonly Operation<State>[], options: SearchOptions<State>) {
    this.#operations = operations
    this.#options = options
    this.#state = initial
    this.#left = operations.filter(({ ended }) => ended !== Number.POSITIVE_INFINITY).length
    this.#stuck = { left: this.#left + 1, next: [] }
    this.#done = new Uint16Array(Math.ceil(operations.length / 16))
    this.#head = this.#listed()
  }

  /** Begins and ends in time; of one instant begins first, since what only touches overlaps. No end of what has none. */
  #listed(): Entry {
    const entries = this.#operations.flatMap(({ began, ended }, operation): Entry[] => {
      const call: Entry = { operation, returns: false, at: began, before: null, next: null }
      if (ended === Number.POSITIVE_INFINITY) return [call]
      const end: Entry = { operation, returns: true, at: ended, before: null, next: null }
      this.#returns.set(operation, end)
      return [call, end]
    })
    entries.sort((a, b) => a.at - b.at || Number(a.returns) - Number(b.returns))
    const head: Entry = { operation: -1, returns: false, at: Number.NEGATIVE_INFINITY, before: null, next: null }
    let last = head
    for (const entry of entries) {
      entry.before = last
      last.next = entry
      last = entry
    }
    return head
  }

  run(): Verdict {
    const taken: { readonly call: Entry; readonly state: State }[] = []
    let entry = this.#head.next
    for (let steps = 0; this.#left > 0; steps++) {
      if (steps >= this.#options.stepsMax) return { kind: 'undecided' }
      if (entry !== null && !entry.returns) {
        const next = this.#operations[entry.operation]!.apply(this.#state)
        if (next !== null && this.#isNew(entry.operation, next)) {
          taken.push({ call: entry, state: this.#state })
          this.#state = next
          this.#lift(entry)
          entry = this.#head.next
        } else entry = entry.next
        continue
      }
      // An operation has ended that is not done yet: one that was done before it is in its place.
      this.#note()
      const last = taken.pop()
      if (last === undefined) return { kind: 'not', stuck: this.#stuck.next }
      this.#state = last.state
      this.#unlift(last.call)
      entry = last.call.next
    }
    return { kind: 'linearizable' }
  }

  #isNew(operation: number, state: State): boolean {
    this.#done[operation >> 4]! |= 1 << (operation & 15)
    const name = String.fromCharCode(...this.#done) + this.#options.nameOf(state)
    this.#done[operation >> 4]! &= ~(1 << (operation & 15))
    if (this.#reached.has(name)) return false
    this.#reached.add(name)
    return true
  }

  #note(): void {
    if (this.#left >= this.#stuck.left) return
    const next: number[] = []
    for (let entry = this.#head.next; entry !== null && !entry.returns; entry = entry.next) next.push(entry.operation)
    this.#stuck = { left: this.#left, next }
  }

  #lift(call: Entry): void {
    this.#done[call.operation >> 4]! |= 1 << (call.operation & 15)
    unlink(call)
    const end = this.#returns.get(call.operation)
    if (end === undefined) return
    unlink(end)
    this.#left--
  }

  #unlift(call: Entry): void {
    this.#done[call.operation >> 4]! &= ~(1 << (call.operation & 15))
    const end = this.#returns.get(call.operation)
    if (end !== undefined) {
      link(end)
      this.#left++
    }
    link(call)
  }
}

/** It remembers its place. */
function unlink(entry: Entry): void {
  entry.before!.next = entry.next
  if (entry.next !== null) entry.next.before = entry.before
}

/** In the reverse order of `unlink`. */
function link(entry: Entry): void {
  entry.before!.next = entry
  if (entry.next !== null) entry.next.before = entry
}
