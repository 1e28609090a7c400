// Promises: the history of every slot, immutable: newer records make a new one at the price of what is new and of the number of slots,
// not of how often they have moved.
import type { SlotId } from './ids.ts'
import type { TenureRecord } from './ownership.ts'

type BySlot = ReadonlyMap<SlotId, readonly TenureRecord[]>

export class Tenures {
  readonly #bySlot: BySlot

  /** `earlier` is kept, not copied by record. */
  constructor(records: Iterable<TenureRecord>, earlier?: Tenures) {
    this.#bySlot = earlier === undefined ? grouped(records) : joined(earlier.#bySlot, grouped(records))
  }

  /** Newest first; empty: the slot is not known. */
  of(slot: SlotId): readonly TenureRecord[] {
    return this.#bySlot.get(slot) ?? []
  }

  /** Its present tenure, or undefined. */
  newest(slot: SlotId): TenureRecord | undefined {
    return this.#bySlot.get(slot)?.[0]
  }

  slots(): Iterable<SlotId> {
    return this.#bySlot.keys()
  }
}

function grouped(records: Iterable<TenureRecord>): BySlot {
  const bySlot = new Map<SlotId, TenureRecord[]>()
  for (const record of records) {
    const list = bySlot.get(record.slot)
    if (list === undefined) bySlot.set(record.slot, [record])
    else list.push(record)
  }
  for (const list of bySlot.values()) list.sort(newestFirst)
  return bySlot
}

/** In any order of arrival: a pin brings its parent's older tenures along. */
function joined(earlier: BySlot, later: BySlot): BySlot {
  const bySlot = new Map(earlier)
  for (const [slot, records] of later) bySlot.set(slot, [...records, ...(earlier.get(slot) ?? [])].sort(newestFirst))
  return bySlot
}

function newestFirst(a: TenureRecord, b: TenureRecord): number {
  return b.tenure - a.tenure
}
