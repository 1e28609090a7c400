// Promises: which tenure a change of the source's stream belongs to, and which stamp its rows get. Pure.
// The tenure is found by the commit's LSN in the slot's history, never from current ownership, since a restarted sync sends old
// changes again (protocols.md, Aggregates; faults.md 55). A history says up to which commits it is complete: a change beyond that
// must not be stamped by it, or a flip there and back that it has not heard of would give the change too low a stamp (INV-4).
import { assert } from '../lib/assert.ts'
import { type Lsn, NO_LSN, type SlotId, type Stamp, type Tenure } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { TenureRecord } from '../model/ownership.ts'
import type { Tenures } from '../model/tenures.ts'

export interface TenureHistory {
  /** Every tenure is in here in which a commit record that begins below this LSN can have been written. */
  readonly completeBelow: Lsn
  slotOf(key: AggregateKey): SlotId
  /** Undefined: the slot is not known, or the commit is older than its first tenure. */
  tenureAt(slot: SlotId, commitLsn: Lsn): TenureRecord | undefined
  /** The newest tenure. */
  present(slot: SlotId): TenureRecord | undefined
  slots(): Iterable<SlotId>
}

export interface TenureFacts {
  readonly tenures: Tenures
  readonly slotOf: (key: AggregateKey) => SlotId
  readonly completeBelow: Lsn
}

export function tenureHistory(facts: TenureFacts): TenureHistory {
  const { tenures } = facts
  return {
    completeBelow: facts.completeBelow,
    slotOf: facts.slotOf,
    tenureAt(slot, commitLsn) {
      // Newest first: nearly every change belongs to the present tenure.
      for (const record of tenures.of(slot)) if (commitLsn >= record.firstLsn) return record
      return undefined
    },
    present: (slot) => tenures.newest(slot),
    slots: () => tenures.slots(),
  }
}

/** The same history, complete further: no tenure has begun since it was read. */
export function extendHistory(history: TenureHistory, completeBelow: Lsn): TenureHistory {
  return completeBelow > history.completeBelow ? { ...history, completeBelow } : history
}

/** Forward: base + (end of the commit record - first LSN of the tenure). Above base, since a record's end lies beyond its start. */
export function forwardStamp(record: TenureRecord, endLsn: Lsn): Stamp {
  // Without it the offset would be the whole WAL position: above every stamp to come, and the row frozen for good.
  assert(record.firstLsn !== NO_LSN, `tenure ${record.tenure} of slot ${record.slot} has no first LSN yet`)
  return record.base + (endLsn - record.firstLsn)
}

/** Rows of a transaction on the target. */
export function targetStamp(base: Stamp, version: number): Stamp {
  return base + BigInt(version)
}

/** INV-1's alarm: a change without our origin in a tenure of the target. */
export interface AuthorityViolation {
  readonly slot: SlotId
  readonly tenure: Tenure
  readonly table: string
  readonly key: AggregateKey | null
  readonly commitLsn: Lsn
}
