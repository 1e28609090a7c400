// Promises: the keys that weigh most, of any number, in the memory of a thousand; each with bounds that hold whatever came in, also after
// sketches of several gateways are merged. Pure.
// Formula: Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT 2005).
// A key that is not among the `capacity` kept takes the place of the one with the least count c: count = c + weight, error = c. So for
// each key kept, count - error <= its true weight <= count; a key that is not kept weighs at most the least count, `absentMax`; and
// absentMax <= total / capacity, so whoever weighs more is kept.
// Merge: Agarwal et al., "Mergeable summaries", PODS 2012; Cafaro, Pulimeno, Tempesta, "A parallel space saving algorithm", Information
// Sciences 329, 2016. A key that one side does not keep counts there with absentMax, as count and as error; the `capacity` largest stay.
// Halving is exact (a power of two), so all of this holds for weights that fade.
import { createHmac } from 'node:crypto'
import { assert } from '../lib/assert.ts'
import type { Owner } from '../model/ids.ts'

export const HOT_KEYS_KEPT = 1_024
export const HOT_KEYS_HALVED_EVERY_MS = 60_000
/** A key that has faded to this is let go: a sketch without traffic empties. */
const FADED = 2 ** -10
/** More than this in one record is no measurement (eleven days of queueing). */
const WEIGHT_MAX = 1e9

export interface HotKey {
  readonly key: string
  /** At most so much. */
  readonly count: number
  /** At least `count - error`. */
  readonly error: number
}

/** As JSON: the heaviest first. */
export interface HotKeysPlain {
  readonly capacity: number
  readonly total: number
  /** A key that is not listed weighs at most so much. */
  readonly absentMax: number
  readonly refused: number
  readonly keys: readonly (readonly [key: string, count: number, error: number])[]
}

export class HotKeys {
  readonly capacity: number
  /** By entry. */
  readonly #keys: string[] = []
  readonly #counts: Float64Array
  readonly #errors: Float64Array
  readonly #entries = new Map<string, number>()
  /**
   * A min-heap of entries by what their count was when they were last looked at. Counts only rise, so a record of a key that is kept
   * leaves the heap alone; who needs the least count brings its top up to date first.
   */
  readonly #heap: Int32Array
  readonly #known: Float64Array
  #size = 0
  /** What was let go weighed at most so much. */
  #floor = 0
  #total = 0
  #refused = 0

  constructor({ capacity = HOT_KEYS_KEPT }: { readonly capacity?: number } = {}) {
    assert(Number.isInteger(capacity) && capacity > 0, 'a sketch keeps at least one key')
    this.capacity = capacity
    this.#counts = new Float64Array(capacity)
    this.#errors = new Float64Array(capacity)
    this.#heap = new Int32Array(capacity)
    this.#known = new Float64Array(capacity)
  }

  record(key: string, weight = 1): void {
    if (!(weight > 0 && weight <= WEIGHT_MAX)) {
      // Nothing of a weight of zero is worth a word.
      if (weight !== 0) this.#refused++
      return
    }
    this.#total += weight
    const entry = this.#entries.get(key)
    if (entry !== undefined) this.#counts[entry]! += weight
    else this.#enter(key, weight)
  }

  /** All weights that came in, faded as the counts are. */
  get total(): number {
    return this.#total
  }

  /** Records that were no weight: NaN, negative, beyond any measurement. */
  get refused(): number {
    return this.#refused
  }

  get size(): number {
    return this.#size
  }

  /** The most that a key which is not kept can weigh. */
  get absentMax(): number {
    return this.#size < this.capacity ? this.#floor : this.#least()
  }

  /** The heaviest first; of equal ones in the order of their names. */
  top(most: number): HotKey[] {
    const least = this.#leastOf(most)
    const top: HotKey[] = []
    for (const [entry, key] of this.#keys.entries()) {
      const count = this.#counts[entry]!
      if (count >= least) top.push({ key, count, error: this.#errors[entry]! })
    }
    return top.sort(heavierFirst).slice(0, most)
  }

  /** The count that so many keys have at least: numbers sort much sooner than keys. */
  #leastOf(most: number): number {
    if (most >= this.#size) return 0
    if (most <= 0) return Number.POSITIVE_INFINITY
    return this.#counts.slice(0, this.#size).sort()[this.#size - most]!
  }

  /** Everything counts half as much, `times` over. */
  halve(times = 1): void {
    const factor = 0.5 ** times
    const kept = this.top(this.#size)
    this.#total *= factor
    this.#floor *= factor
    this.#rebuild(kept.map(({ key, count, error }) => ({ key, count: count * factor, error: error * factor })))
  }

  merge(other: HotKeys): void {
    const [here, there] = [this.absentMax, other.absentMax]
    const merged = new Map<string, HotKey>()
    for (const { key, count, error } of this.top(this.#size)) merged.set(key, { key, count: count + there, error: error + there })
    for (const { key, count, error } of other.top(other.#size)) {
      const both = merged.get(key)
      if (both === undefined) merged.set(key, { key, count: count + here, error: error + here })
      else merged.set(key, { key, count: both.count - there + count, error: both.error - there + error })
    }
    this.#total += other.#total
    this.#refused += other.#refused
    this.#floor = here + there
    this.#rebuild([...merged.values()].sort(heavierFirst))
  }

  /** `most` keys, under the names that they are to be seen by. */
  toPlain({ most, nameOf }: { readonly most: number; readonly nameOf: (key: string) => string }): HotKeysPlain {
    const all = this.top(most + 1)
    const keys = all.slice(0, most).map(({ key, count, error }) => [nameOf(key), count, error] as const)
    const absentMax = Math.max(this.absentMax, all[most]?.count ?? 0)
    return { capacity: this.capacity, total: this.#total, absentMax, refused: this.#refused, keys }
  }

  /** Null: it is none, so nothing of it is known. */
  static fromPlain(plain: unknown): HotKeys | null {
    if (!isPlain(plain)) return null
    const made = new HotKeys({ capacity: plain.capacity })
    made.#total = plain.total
    made.#refused = plain.refused
    made.#floor = plain.absentMax
    made.#rebuild(plain.keys.map(([key, count, error]) => ({ key, count, error })))
    return made.#entries.size === plain.keys.length ? made : null
  }

  #enter(key: string, weight: number): void {
    if (this.#size < this.capacity) {
      const entry = this.#size++
      this.#put(entry, key, this.#floor + weight, this.#floor)
      this.#heap[entry] = entry
      this.#known[entry] = this.#counts[entry]!
      this.#rise(entry)
      return
    }
    const least = this.#least()
    const entry = this.#heap[0]!
    this.#entries.delete(this.#keys[entry]!)
    this.#put(entry, key, least + weight, least)
  }

  #put(entry: number, key: string, count: number, error: number): void {
    this.#keys[entry] = key
    this.#counts[entry] = count
    this.#errors[entry] = error
    this.#entries.set(key, entry)
  }

  /** Of all that are kept; its entry is at the top of the heap then. */
  #least(): number {
    for (;;) {
      const count = this.#counts[this.#heap[0]!]!
      if (count === this.#known[0]) return count
      this.#known[0] = count
      this.#sink()
    }
  }

  #sink(): void {
    const [heap, known, size] = [this.#heap, this.#known, this.#size]
    const [entry, count] = [heap[0]!, known[0]!]
    let at = 0
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && known[child + 1]! < known[child]!) child++
      if (known[child]! >= count) break
      heap[at] = heap[child]!
      known[at] = known[child]!
      at = child
    }
    heap[at] = entry
    known[at] = count
  }

  #rise(from: number): void {
    const [heap, known] = [this.#heap, this.#known]
    const [entry, count] = [heap[from]!, known[from]!]
    let at = from
    for (let parent = (at - 1) >> 1; at > 0 && known[parent]! > count; parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!
      known[at] = known[parent]!
      at = parent
    }
    heap[at] = entry
    known[at] = count
  }

  /** Keeps those for which there is room and that have not faded; `sorted`, the heaviest first. */
  #rebuild(sorted: readonly HotKey[]): void {
    this.#entries.clear()
    this.#keys.length = 0
    this.#size = 0
    const kept = sorted.slice(0, this.capacity).filter(({ count }) => count > FADED)
    const heaviestGone = sorted[kept.length]?.count ?? 0
    this.#floor = Math.max(this.#floor, heaviestGone)
    for (const { key, count, error } of kept.reverse()) {
      const entry = this.#size++
      this.#put(entry, key, count, error)
      // Lightest first is a heap already.
      this.#heap[entry] = entry
      this.#known[entry] = count
    }
  }
}

const WEIGHTS = ['requests', 'casRetries', 'queueMs'] as const
export type HotKeyWeight = (typeof WEIGHTS)[number]

/** The sketches of one gateway: one an arm and weight, halved each minute. */
export class HotKeyBoard {
  readonly #sketches: Readonly<Record<Owner, Readonly<Record<HotKeyWeight, HotKeys>>>>
  #minuteFromMs: number

  constructor({ nowMs, capacity }: { readonly nowMs: number; readonly capacity?: number }) {
    const make = () => new HotKeys(capacity === undefined ? {} : { capacity })
    const arm = () => ({ requests: make(), casRetries: make(), queueMs: make() })
    this.#sketches = { source: arm(), target: arm() }
    this.#minuteFromMs = nowMs
  }

  of(arm: Owner, weight: HotKeyWeight): HotKeys {
    return this.#sketches[arm][weight]
  }

  /** It is `nowMs` by a monotonic clock: halves once for each minute that has passed. A clock that was set back begins a minute anew. */
  pass(nowMs: number): void {
    if (!Number.isFinite(nowMs)) return
    const minutes = Math.floor((nowMs - this.#minuteFromMs) / HOT_KEYS_HALVED_EVERY_MS)
    if (minutes < 0) this.#minuteFromMs = nowMs
    if (minutes < 1) return
    this.#minuteFromMs += minutes * HOT_KEYS_HALVED_EVERY_MS
    for (const arm of Object.values(this.#sketches)) for (const sketch of Object.values(arm)) sketch.halve(minutes)
  }
}

/** Bytes of the secret below which names could be tried out. */
const SECRET_BYTES_MIN = 16
const PSEUDONYM_HEX = 16

/**
 * Names under which keys may be seen by people who may not see the keys: the same for the same key and secret, and no way back without
 * the secret (HMAC-SHA-256, 64 bits of it; two of a million keys share a name with a chance of 3 in 10^8).
 */
export function pseudonyms(secret: Uint8Array): (key: string) => string {
  assert(secret.byteLength >= SECRET_BYTES_MIN, `a secret has at least ${SECRET_BYTES_MIN} bytes`)
  return (key) => `key-${createHmac('sha256', secret).update(key).digest('hex').slice(0, PSEUDONYM_HEX)}`
}

/** `key: 1200 ± 3`; the truth is not above the count. */
export function tellHotKey({ key, count, error }: HotKey): string {
  return `${key}: ${Math.round(count)} ± ${Math.ceil(error)}`
}

function heavierFirst(a: HotKey, b: HotKey): number {
  return b.count - a.count || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)
}

function isPlain(plain: unknown): plain is HotKeysPlain {
  if (typeof plain !== 'object' || plain === null) return false
  const { capacity, total, absentMax, refused, keys } = plain as Partial<HotKeysPlain>
  if (!Number.isInteger(capacity) || capacity! < 1 || capacity! > CAPACITY_MAX) return false
  if (![total, absentMax, refused].every(isWeight) || !Array.isArray(keys) || keys.length > capacity!) return false
  let before = Number.POSITIVE_INFINITY
  for (const one of keys as readonly unknown[]) {
    if (!Array.isArray(one) || one.length !== 3 || typeof one[0] !== 'string') return false
    const [count, error] = [one[1] as unknown, one[2] as unknown]
    if (!isWeight(count) || !isWeight(error) || error > count || count > before || count < absentMax!) return false
    before = count
  }
  return true
}

/** A gateway does not make the controller hold more. */
const CAPACITY_MAX = 65_536

function isWeight(value: unknown): value is number {
  return Number.isFinite(value) && (value as number) >= 0
}
