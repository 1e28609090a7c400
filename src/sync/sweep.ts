// Promises: after a second backfill, rows of source-owned slots whose stamp lies below the new tenure's base are tombstones: the
// snapshot did not have them, so they were deleted while nobody listened (protocols.md, Forward sync; faults.md 55). Idempotent; a
// row that the stream writes meanwhile has a higher stamp and stays (INV-4).
import { setMaxListeners } from 'node:events'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { SlotId, Stamp } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Mapping } from '../model/mapping.ts'
import type { Target } from '../model/target.ts'
import { createFolder } from './fold.ts'
import { ABORTED, nameOf, untilDone } from './retry.ts'
import { RowWriter, type RowWriterLimits } from './row-writer.ts'

export interface SweepOptions {
  readonly target: Pick<Target, 'putRows' | 'scanRows'>
  readonly mapping: Mapping
  readonly slotOf: (key: AggregateKey) => SlotId
  /** The new tenure's base; null: the target owns the slot, its rows stay. */
  readonly stampOf: (slot: SlotId) => Stamp | null
  readonly segments: number
  readonly limits: RowWriterLimits
  readonly clock: Clock
  readonly random: Random
}

export interface SweepResult {
  readonly complete: boolean
  readonly rowsSeen: number
  readonly tombstones: number
  readonly retries: Readonly<Record<string, number>>
}

export async function sweepBelowBase(options: SweepOptions, signal: AbortSignal): Promise<SweepResult> {
  const stop = new AbortController()
  const inner = AbortSignal.any([signal, stop.signal])
  setMaxListeners(0, inner)
  const retries: Record<string, number> = {}
  let failure: { readonly error: unknown } | null = null
  let rowsSeen = 0
  let tombstones = 0
  const { target, mapping, limits, clock, random } = options
  const { rowId } = createFolder(mapping)
  const fail = (error: unknown) => {
    failure ??= { error }
    stop.abort()
  }
  const writer = new RowWriter({ target, limits, clock, random, onFailure: fail, signal: inner })
  const onRetry = (error: unknown) => {
    retries[nameOf(error)] = (retries[nameOf(error)] ?? 0) + 1
  }
  const sweep = async (table: string, segment: number): Promise<void> => {
    for await (const batch of target.scanRows({ table, segment, segments: options.segments, signal: inner })) {
      rowsSeen += batch.length
      for (const row of batch) {
        if (row.values === null) continue
        const stamp = options.stampOf(options.slotOf(row.key))
        if (stamp === null || row.stamp >= stamp) continue
        await writer.room()
        if (inner.aborted) return
        tombstones++
        const put = { table, key: row.key, clustering: row.clustering, values: null, stamp, mark: false }
        writer.put(rowId(table, row.key, row.clustering), put, { remaining: 1, onDurable: () => undefined })
      }
    }
  }
  const jobs = mapping.tables.flatMap((table) => Array.from({ length: options.segments }, (_, segment) => ({ table: table.name, segment })))
  let complete = true
  for (const { table, segment } of jobs) {
    const outcome = await untilDone(() => sweep(table, segment), { clock, random, backoff: limits.backoff, onRetry }, inner).catch(fail)
    if (outcome === ABORTED || inner.aborted) complete = false
  }
  await writer.settled()
  if (inner.aborted) complete = false
  stop.abort()
  await writer.quiet()
  if (failure !== null) throw (failure as { readonly error: unknown }).error
  for (const [name, n] of Object.entries(writer.counts().retries)) retries[name] = (retries[name] ?? 0) + n
  return { complete, rowsSeen, tombstones, retries }
}
