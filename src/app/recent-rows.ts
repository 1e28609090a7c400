// Promises: which rows changed last and have not been seen equal on both sides since, so that a flip compares these and not everything
// (protocols.md, The flip, 5). Bounded: the oldest are forgotten and counted.
import type { SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { RowKey } from '../model/row.ts'

export interface RecentRow {
  readonly key: RowKey
  readonly slot: SlotId
  /** Which change of it this was. */
  readonly change: number
}

export class RecentRows {
  readonly #rows = new Map<string, RecentRow>()
  readonly #slotOf: (key: AggregateKey) => SlotId
  readonly #max: number
  #changes = 0
  #forgotten = 0

  constructor(options: { readonly max: number; readonly slotOf: (key: AggregateKey) => SlotId }) {
    this.#max = options.max
    this.#slotOf = options.slotOf
  }

  changed({ table, key, clustering }: RowKey): void {
    const id = idOf({ table, key, clustering })
    this.#rows.delete(id)
    this.#rows.set(id, { key: { table, key, clustering }, slot: this.#slotOf(key), change: ++this.#changes })
    if (this.#rows.size <= this.#max) return
    this.#rows.delete(this.#rows.keys().next().value!)
    this.#forgotten++
  }

  /** The longest unchecked, at most so many. */
  oldest(count: number): readonly RecentRow[] {
    const rows: RecentRow[] = []
    for (const row of this.#rows.values()) {
      if (rows.length >= count) break
      rows.push(row)
    }
    return rows
  }

  /** Newest first, of these slots, at most so many; `left` is how many more there are. */
  of(slots: ReadonlySet<SlotId>, cap: number): { readonly rows: readonly RecentRow[]; readonly left: number } {
    const all = [...this.#rows.values()].filter((row) => slots.has(row.slot))
    return { rows: all.slice(-cap).reverse(), left: Math.max(0, all.length - cap) }
  }

  /** Seen equal on both sides; counts only if it has not changed since it was taken. */
  settled(row: RecentRow): void {
    const id = idOf(row.key)
    if (this.#rows.get(id)?.change === row.change) this.#rows.delete(id)
  }

  /** Nobody compares the rows of these slots until they change again. */
  forget(which: (slot: SlotId) => boolean): void {
    for (const [id, row] of this.#rows) if (which(row.slot)) this.#rows.delete(id)
  }

  get unchecked(): number {
    return this.#rows.size
  }

  get forgotten(): number {
    return this.#forgotten
  }
}

function idOf({ table, key, clustering }: RowKey): string {
  return `${table}\n${key}\n${clustering.join('\n')}`
}
