// Promises: heads and rows as this gateway's own commits left them, so that the next transaction may start without a read: its
// compare-and-set says whether they still stand (protocols.md, Commit protocol 1). Bounded by bytes.
//
// Right because: rows were read as of `head` before, the transaction's changes were applied to them, and the compare-and-set that
// made the new head compared the whole old one; so as long as the head stands nobody else has written the aggregate. What a
// transaction that changes nothing saw is proven by no compare-and-set: it reads afresh.
import type { AggregateAddress } from '../model/executor.ts'
import { type Head, sameHead } from '../model/head.ts'
import type { AggregateKey } from '../model/key.ts'
import type { RowChange } from '../model/row.ts'
import { type AggregateState, absorb, advance } from './rows.ts'

export interface RememberedAggregate {
  readonly head: Head
  readonly state: AggregateState
  /** False once it turned out stale: other gateways write the key too, and starting from memory would lose a round trip, not save one. */
  readonly alone: boolean
}

export interface Remembered {
  /** Taken out: what is in use by one transaction is not shared with another. */
  take(address: AggregateAddress): RememberedAggregate | undefined
  /** Back as it was: it did not cover, or could not prove, what the statement needs. */
  restore(address: AggregateAddress, was: RememberedAggregate): void
  /** After a commit: `state` as of `before` becomes, with the changes, the state as of `head`. */
  keep(
    address: AggregateAddress,
    kept: { readonly before: Head | null; readonly head: Head; readonly state: AggregateState; readonly changes: readonly RowChange[] },
  ): void
  /** What was taken turned out stale. */
  stale(address: AggregateAddress, was: RememberedAggregate): void
  readonly bytes: number
}

/** Beside the rows: the head, its redo, the map's own. */
const ENTRY_BYTES = 2_048

export function createRemembered(limits: { readonly rememberedBytesMax: number }): Remembered {
  const entries = new Map<AggregateKey, RememberedAggregate>()
  let bytes = 0
  const sizeOf = (entry: RememberedAggregate) => ENTRY_BYTES + entry.state.bytes
  const drop = (key: AggregateKey) => {
    const entry = entries.get(key)
    if (entry === undefined) return
    entries.delete(key)
    bytes -= sizeOf(entry)
  }
  const put = (key: AggregateKey, entry: RememberedAggregate) => {
    drop(key)
    if (sizeOf(entry) > limits.rememberedBytesMax) return
    entries.set(key, entry)
    bytes += sizeOf(entry)
    // Insertion order is use order, since use takes out and keeping puts back.
    for (const oldest of entries.keys()) {
      if (bytes <= limits.rememberedBytesMax) return
      drop(oldest)
    }
  }
  return {
    take(address) {
      const entry = entries.get(address.key)
      if (entry === undefined || !entry.alone || entry.head.tenure !== address.tenure) return undefined
      drop(address.key)
      return entry
    },
    keep(address, { before, head, state, changes }) {
      const entry = entries.get(address.key)
      const current = entry !== undefined && entry.head.tenure === address.tenure ? entry : undefined
      if (current !== undefined && current.head.version >= head.version) return
      const unmoved = current !== undefined && sameHead(current.head, before)
      // `current` is put away first: its size is counted by its state, which may be absorbed and changed here.
      drop(address.key)
      if (unmoved) absorb(state, current.state)
      advance(state, changes)
      put(address.key, { head, state, alone: current === undefined || current.alone || unmoved })
    },
    restore(address, was) {
      if (!entries.has(address.key)) put(address.key, was)
    },
    stale(address, was) {
      if (!entries.has(address.key)) put(address.key, { ...was, alone: false })
    },
    get bytes() {
      return bytes
    },
  }
}
