// Promises: what a repair would do, as a plan first: each row is copied from the store that owns it (protocols.md, Parity). Pure.
import type { Owner } from '../model/ids.ts'
import type { RowKey } from '../model/row.ts'
import type { Difference } from './settle.ts'

export interface RepairStep extends RowKey {
  readonly owner: Owner
  readonly act: 'put on the target' | 'delete on the target' | 'put on PostgreSQL' | 'delete on PostgreSQL'
  /** How, for an operator. */
  readonly how: string
}

const VIA_STREAM = 'written again in PostgreSQL, so that the forward sync carries it'
const VIA_OUTBOX = 'written again on the target by a transaction, so that the reverse sync carries it'

export function planRepair(differences: readonly Difference[]): readonly RepairStep[] {
  return differences.map(({ table, key, clustering, owner, kind }) => {
    const row = { table, key, clustering, owner }
    if (owner === 'source') {
      return { ...row, act: kind === 'extra on the target' ? 'delete on the target' : 'put on the target', how: VIA_STREAM }
    }
    return { ...row, act: kind === 'missing on the target' ? 'delete on PostgreSQL' : 'put on PostgreSQL', how: VIA_OUTBOX }
  })
}

export interface RepairOutcome {
  readonly repaired: number
  /** Rows that were left as they were. */
  readonly left: readonly (RowKey & { readonly because: string })[]
}
