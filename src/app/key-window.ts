// Promises: requests by slot, and what was told of keys by name, summed over the last minutes, in slices of ten seconds that fall out one by
// one. Bounded by what one report may name times the slices that are kept.
import { type Holds, mergeHolds, NO_HOLDS } from '../canary/saturation.ts'
import type { SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { MeasuredKey, MeasuredReport } from '../model/measured.ts'

const SLICE_MS = 10_000
/** Of all gateways together, a slice. */
const KEYS_MAX = 10_000

export type KeySum = Omit<MeasuredKey, 'key'>

interface Slice {
  readonly fromMs: number
  readonly slots: Map<SlotId, number>
  readonly keys: Map<AggregateKey, KeySum>
  holds: Holds
}

export interface WindowSums {
  /** So long a time it is about; less than was asked for where the book is younger. */
  readonly windowMs: number
  readonly slots: ReadonlyMap<SlotId, number>
  readonly keys: ReadonlyMap<AggregateKey, KeySum>
  readonly holds: Holds
}

export class KeyWindow {
  readonly #keptMs: number
  /** The oldest first. */
  #slices: Slice[] = []
  /** Nothing is known from before. */
  #fromMs: number

  constructor({ nowMs, keptMs }: { readonly nowMs: number; readonly keptMs: number }) {
    this.#fromMs = nowMs
    this.#keptMs = keptMs
  }

  add(report: MeasuredReport, nowMs: number): void {
    const fromMs = nowMs - report.overMs
    this.#fromMs = Math.min(this.#fromMs, fromMs)
    // One that is late is about the time before.
    const slice = this.#slice((fromMs + nowMs) / 2)
    slice.holds = mergeHolds(slice.holds, report.holds)
    for (const [slot, requests] of report.slots) slice.slots.set(slot, (slice.slots.get(slot) ?? 0) + requests)
    for (const { key, ...sum } of report.keys) addKey(slice.keys, key, sum)
    this.#slices = this.#slices.filter((one) => one.fromMs > nowMs - this.#keptMs - SLICE_MS)
  }

  /** Of the slices that lie, at least in part, within the last `windowMs`. */
  sums(nowMs: number, windowMs: number): WindowSums {
    const slots = new Map<SlotId, number>()
    const keys = new Map<AggregateKey, KeySum>()
    let holds = NO_HOLDS
    const beginMs = Math.max(this.#fromMs, sliceFrom(nowMs - windowMs))
    for (const slice of this.#slices) {
      if (slice.fromMs < sliceFrom(nowMs - windowMs)) continue
      holds = mergeHolds(holds, slice.holds)
      for (const [slot, requests] of slice.slots) slots.set(slot, (slots.get(slot) ?? 0) + requests)
      for (const [key, sum] of slice.keys) addKey(keys, key, sum)
    }
    return { windowMs: Math.max(0, nowMs - beginMs), slots, keys, holds }
  }

  #slice(atMs: number): Slice {
    const fromMs = sliceFrom(atMs)
    const known = this.#slices.find((one) => one.fromMs === fromMs)
    if (known !== undefined) return known
    const slice: Slice = { fromMs, slots: new Map(), keys: new Map(), holds: NO_HOLDS }
    this.#slices.push(slice)
    this.#slices.sort((a, b) => a.fromMs - b.fromMs)
    return slice
  }
}

function sliceFrom(atMs: number): number {
  return Math.floor(atMs / SLICE_MS) * SLICE_MS
}

function addKey(keys: Map<AggregateKey, KeySum>, key: AggregateKey, more: KeySum): void {
  const before = keys.get(key)
  if (before === undefined) {
    if (keys.size < KEYS_MAX) keys.set(key, more)
    return
  }
  keys.set(key, {
    requests: before.requests + more.requests,
    commits: before.commits + more.commits,
    targetCommits: before.targetCommits + more.targetCommits,
    retries: before.retries + more.retries,
    holds: mergeHolds(before.holds, more.holds),
  })
}
