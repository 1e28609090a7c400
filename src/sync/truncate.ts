// Promises: a TRUNCATE of the source as tombstones on the target, for the aggregates that the source owned at that commit
// (protocols.md, Forward sync; faults.md 18). What the same transaction wrote afterwards stays: its rows carry the same stamp, and of
// two puts with one stamp the first wins, so they get no tombstone.
import type { Stamp } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { RowPut } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import type { FoldedTransaction, Folder } from './fold.ts'
import { type RetryOptions, untilDone } from './retry.ts'

export interface TruncateOptions {
  readonly target: Pick<Target, 'scanRows'>
  readonly folder: Folder
  readonly folded: FoldedTransaction
  readonly segments: number
  /** Null: not the source's at that commit. */
  readonly stampOf: (key: AggregateKey) => Stamp | null
  readonly put: (id: string, put: RowPut) => Promise<void>
  readonly retry: RetryOptions
}

export async function truncatedRows(options: TruncateOptions, signal: AbortSignal): Promise<void> {
  const kept = new Set(options.folded.rows.map((row) => row.id))
  const scan = async (table: string, segment: number): Promise<void> => {
    // A scan that broke off begins again: a second tombstone with the same stamp changes nothing.
    for await (const batch of options.target.scanRows({ table, segment, segments: options.segments, signal })) {
      for (const row of batch) {
        if (row.values === null) continue
        const id = options.folder.rowId(table, row.key, row.clustering)
        const stamp = kept.has(id) ? null : options.stampOf(row.key)
        if (stamp === null || stamp <= row.stamp) continue
        await options.put(id, { table, key: row.key, clustering: row.clustering, values: null, stamp, mark: false })
      }
      if (signal.aborted) return
    }
  }
  for (const table of options.folded.truncated) {
    await Promise.all(
      Array.from({ length: options.segments }, (_, segment) => untilDone(() => scan(table, segment), options.retry, signal)),
    )
  }
}
