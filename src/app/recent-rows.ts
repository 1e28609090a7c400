// Promises: which rows changed last, so that a flip compares these and not everything (protocols.md, The flip, 5). Bounded: the
// oldest are forgotten and counted.
import type { SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { RowKey } from '../model/row.ts'

export class RecentRows {
  readonly #rows = new Map<string, { readonly key: RowKey; readonly slot: SlotId }>()
  readonly #slotOf: (key: AggregateKey) => SlotId
  readonly #max: number
  #forgotten = 0

  constructor(options: { readonly max: number; readonly slotOf: (key: AggregateKey) => SlotId }) {
    this.#max = options.max
    this.#slotOf = options.slotOf
  }

  changed(row: RowKey): void {
    const id = `${row.table}\n${row.key}\n${row.clustering.join('\n')}`
    this.#rows.delete(id)
    this.#rows.set(id, { key: { table: row.table, key: row.key, clustering: row.clustering }, slot: this.#slotOf(row.key) })
    if (this.#rows.size <= this.#max) return
    this.#rows.delete(this.#rows.keys().next().value!)
    this.#forgotten++
  }

  /** Newest first, of these slots, at most so many; `left` is how many more there are. */
  of(slots: ReadonlySet<SlotId>, cap: number): { readonly rows: readonly RowKey[]; readonly left: number } {
    const all = [...this.#rows.values()].filter((row) => slots.has(row.slot)).map((row) => row.key)
    return { rows: all.slice(-cap).reverse(), left: Math.max(0, all.length - cap) }
  }

  /** These have been compared. */
  settled(slots: ReadonlySet<SlotId>): void {
    for (const [id, row] of this.#rows) if (slots.has(row.slot)) this.#rows.delete(id)
  }

  get forgotten(): number {
    return this.#forgotten
  }
}
