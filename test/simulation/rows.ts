// Promises: the rows of the model of PostgreSQL: their versions, as a snapshot sees them and as they have become, and who holds them.
import type { Backend, Transaction, Version, WrittenRow } from './postgres-parts.ts'

export class Rows {
  readonly versions = new Map<string, Version<WrittenRow>[]>()
  readonly #locks = new Map<string, Transaction>()

  newest(id: string): WrittenRow {
    return this.versions.get(id)!.at(-1)!.value
  }

  isThere({ key, pot }: WrittenRow): boolean {
    return this.newest(key + pot).values !== null
  }

  visible(id: string, snapshot: number): Version<WrittenRow> {
    return this.versions.get(id)!.findLast(({ seq }) => seq <= snapshot)!
  }

  /** Where a row that was there at `seq` is by now: its key may have been changed. Null: it is gone, and what has its key now is another. */
  whereabouts(id: string, seq: number): string | null {
    const left = this.versions.get(id)!.find((version) => version.seq > seq && (version.value.values === null || version.value.fresh))
    if (left === undefined) return id
    let { to } = left.value
    for (;;) {
      if (to === undefined) return null
      const { values, to: on } = this.visible(to, left.seq).value
      if (values !== null && on === undefined) return this.whereabouts(to, left.seq)
      to = on
    }
  }

  become(rows: readonly WrittenRow[], seq: number): void {
    for (const row of rows) this.versions.get(row.key + row.pot)!.push({ seq, value: row })
  }

  lock(transaction: Transaction, id: string): boolean {
    const holder = this.#locks.get(id)
    if (holder !== undefined && holder !== transaction) return false
    this.#locks.set(id, transaction)
    transaction.locked.add(id)
    return true
  }

  /** Whether an index entry of that key would wait: somebody has written there who has not ended. Who only locks a row changes no index. */
  isFree(transaction: Transaction, id: string): boolean {
    const holder = this.#locks.get(id)
    return holder === undefined || holder === transaction || (!holder.writes.has(id) && this.newest(id).values !== null)
  }

  holder(id: string): Backend {
    return this.#locks.get(id)!.backend
  }

  unlock(transaction: Transaction, id: string): void {
    if (this.#locks.get(id) === transaction) this.#locks.delete(id)
    transaction.locked.delete(id)
  }
}
