// Promises: who owns a slot, in which phase, since when; and the view of it that a gateway routes by.
import type { Epoch, Lsn, Owner, SlotId, Stamp, Tenure } from './ids.ts'
import { type AggregateKey, groupOfHashSlot, hashSlotOf } from './key.ts'

export type Phase = 'steady' | 'parking' | 'fenced'

/** One row of switchback.ownership. */
export interface Ownership {
  readonly slot: SlotId
  readonly owner: Owner
  readonly phase: Phase
  readonly readOnly: boolean
  readonly epoch: Epoch
  readonly tenure: Tenure
  readonly base: Stamp
}

/** One row of switchback.tenure. Rows of a slot in order are its history. */
export interface TenureRecord {
  readonly slot: SlotId
  readonly tenure: Tenure
  readonly owner: Owner
  readonly base: Stamp
  /** A commit at or above it belongs to this tenure (until the next one's). */
  readonly firstLsn: Lsn
}

/** A hot key that is a slot of its own. */
export interface Pin {
  readonly key: AggregateKey
  readonly slot: SlotId
  /** The hash slot it was split from: its group for ever. */
  readonly parent: SlotId
}

/** What a gateway routes by: immutable, replaced as a whole when a renewal brings changes. */
export class RoutingView {
  readonly epoch: Epoch
  /** INV-8 binds from here on: the first canary has started. Null while nothing may move. */
  readonly bindingEpoch: Epoch | null
  readonly #rows: ReadonlyMap<SlotId, Ownership>
  readonly #pins: ReadonlyMap<AggregateKey, Pin>
  readonly #pinParents: ReadonlyMap<SlotId, SlotId>

  /** `rows` as a map is kept, not copied: the caller changes it no more. */
  constructor(view: {
    epoch: Epoch
    bindingEpoch: Epoch | null
    rows: Iterable<Ownership> | ReadonlyMap<SlotId, Ownership>
    pins: Iterable<Pin>
  }) {
    this.epoch = view.epoch
    this.bindingEpoch = view.bindingEpoch
    this.#rows = isMap(view.rows) ? view.rows : new Map([...view.rows].map((row) => [row.slot, row]))
    const pins = [...view.pins]
    this.#pins = new Map(pins.map((pin) => [pin.key, pin]))
    this.#pinParents = new Map(pins.map((pin) => [pin.slot, pin.parent]))
  }

  slotOf(key: AggregateKey): SlotId {
    return this.#pins.get(key)?.slot ?? hashSlotOf(key)
  }

  groupOf(slot: SlotId): number {
    return groupOfHashSlot(this.#pinParents.get(slot) ?? slot)
  }

  ownership(slot: SlotId): Ownership | undefined {
    return this.#rows.get(slot)
  }

  rows(): Iterable<Ownership> {
    return this.#rows.values()
  }

  pins(): Iterable<Pin> {
    return this.#pins.values()
  }

  /** The same view with the rows that changed since; `bindingEpoch` and pins as newly read. */
  with(change: { epoch: Epoch; bindingEpoch: Epoch | null; rows: readonly Ownership[]; pins: Iterable<Pin> }): RoutingView {
    if (change.rows.length === 0) return new RoutingView({ ...change, rows: this.#rows })
    const rows = new Map(this.#rows)
    for (const row of change.rows) rows.set(row.slot, row)
    return new RoutingView({ ...change, rows })
  }
}

function isMap(rows: Iterable<Ownership> | ReadonlyMap<SlotId, Ownership>): rows is ReadonlyMap<SlotId, Ownership> {
  return rows instanceof Map
}
