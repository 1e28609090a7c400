// Promises: after a later backfill, rows of its slots whose stamp lies below its tenure's base are tombstones: the snapshot did not
// have them, so they were deleted while nobody listened (protocols.md, Forward sync; faults.md 55). Idempotent, and resumed part by
// part: a part counts as swept when all of its tombstones are durable. What has a higher stamp stays (INV-4).
import { setMaxListeners } from 'node:events'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import type { Stamp } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Mapping, TableName } from '../model/mapping.ts'
import type { Target } from '../model/target.ts'
import type { BatchLimits } from './batch-pump.ts'
import { createFolder } from './fold.ts'
import { ABORTED, nameOf, untilDone } from './retry.ts'
import { RowWriter } from './row-writer.ts'

/** Which parts are swept: a table's rows are divided into `segments` parts. */
export interface SweepJournal {
  isSwept(table: TableName, segment: number): Promise<boolean>
  swept(table: TableName, segment: number, tombstones: number): Promise<void>
}

export interface SweepProgress {
  readonly parts: number
  readonly partsDone: number
  readonly rowsSeen: number
  readonly tombstones: number
}

export interface SweepOptions {
  readonly target: Pick<Target, 'putRows' | 'scanRows'>
  readonly mapping: Mapping
  readonly journal: SweepJournal
  /** The base of the tenure of the aggregate's slot; null: not a slot of this backfill, its rows stay. */
  readonly stampOf: (key: AggregateKey) => Stamp | null
  readonly segments: number
  /** Parts that are scanned at once. */
  readonly scansMax: number
  readonly limits: BatchLimits
  readonly progress?: (progress: SweepProgress) => void
  readonly clock: Clock
  readonly random: Random
}

export interface SweepResult extends SweepProgress {
  readonly complete: boolean
  readonly retries: Readonly<Record<string, number>>
}

export const SWEEP_LIMITS: BatchLimits = {
  batchRowsMax: 100,
  batchesInFlightMax: 16,
  pendingRowsMax: 8_000,
  backoff: { firstMs: 10, capMs: 5_000 },
}

export function sweepBelowBase(options: SweepOptions, signal: AbortSignal): Promise<SweepResult> {
  return new Sweep(options, signal).run()
}

interface Part {
  readonly table: TableName
  readonly segment: number
  /** Over all tries. */
  rowsSeen: number
  tombstones: number
}

class Sweep {
  readonly #options: SweepOptions
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #writer: RowWriter
  readonly #rowId: ReturnType<typeof createFolder>['rowId']
  readonly #retries: Record<string, number> = {}
  #failure: { readonly error: unknown } | null = null
  #counts: SweepProgress

  constructor(options: SweepOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = AbortSignal.any([signal, this.#stop.signal])
    setMaxListeners(0, this.#signal)
    this.#rowId = createFolder(options.mapping).rowId
    this.#counts = { parts: options.mapping.tables.length * options.segments, partsDone: 0, rowsSeen: 0, tombstones: 0 }
    const { target, limits, clock, random } = options
    this.#writer = new RowWriter({ target, limits, clock, random, onFailure: (error) => this.#fail(error), signal: this.#signal })
  }

  async run(): Promise<SweepResult> {
    const { mapping, segments, scansMax } = this.#options
    const parts = mapping.tables.flatMap(({ name }) =>
      Array.from({ length: segments }, (_, segment): Part => ({ table: name, segment, rowsSeen: 0, tombstones: 0 })),
    )
    let next = 0
    const work = async () => {
      while (next < parts.length && !this.#signal.aborted) await this.#part(parts[next++]!).catch((error: unknown) => this.#fail(error))
    }
    await Promise.all(Array.from({ length: scansMax }, work))
    this.#stop.abort()
    await this.#writer.quiet()
    if (this.#failure !== null) throw this.#failure.error
    for (const [name, n] of Object.entries(this.#writer.counts().retries)) this.#retries[name] = (this.#retries[name] ?? 0) + n
    return { ...this.#counts, complete: this.#counts.partsDone === parts.length, retries: this.#retries }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#stop.abort()
  }

  async #part(part: Part): Promise<void> {
    const { journal, progress } = this.#options
    const before = await this.#retried(() => journal.isSwept(part.table, part.segment))
    if (before === ABORTED) return
    if (!before) {
      if ((await this.#retried(() => this.#scan(part))) === ABORTED || this.#signal.aborted) return
      if ((await this.#retried(() => journal.swept(part.table, part.segment, part.tombstones))) === ABORTED) return
    }
    const { partsDone, rowsSeen, tombstones } = this.#counts
    this.#counts = {
      ...this.#counts,
      partsDone: partsDone + 1,
      rowsSeen: rowsSeen + part.rowsSeen,
      tombstones: tombstones + part.tombstones,
    }
    progress?.(this.#counts)
  }

  /** Ends when every tombstone that it put is durable, also where the scan broke off: the next try does not find these again. */
  async #scan(part: Part): Promise<void> {
    const { target, segments, stampOf } = this.#options
    const { table, segment } = part
    const durable = new Signal()
    const waiter = { remaining: 1, onDurable: () => durable.notify() }
    const allDurable = durable.next(this.#signal)
    try {
      for await (const batch of target.scanRows({ table, segment, segments, signal: this.#signal })) {
        part.rowsSeen += batch.length
        for (const { key, clustering, values, stamp: found } of batch) {
          if (values === null) continue
          const stamp = stampOf(key)
          if (stamp === null || found >= stamp) continue
          await this.#writer.room()
          if (this.#signal.aborted) return
          part.tombstones++
          waiter.remaining++
          this.#writer.put(this.#rowId(table, key, clustering), { table, key, clustering, values: null, stamp, mark: false }, waiter)
        }
      }
    } finally {
      if (--waiter.remaining > 0) await allDurable
    }
  }

  #retried<T>(attempt: () => Promise<T>): Promise<T | typeof ABORTED> {
    const { clock, random, limits } = this.#options
    const onRetry = (error: unknown) => {
      this.#retries[nameOf(error)] = (this.#retries[nameOf(error)] ?? 0) + 1
    }
    return untilDone(attempt, { clock, random, backoff: limits.backoff, onRetry }, this.#signal)
  }
}

/** The highest stamp of the target's rows and tombstones of the aggregates that count: known only by looking, where WAL positions went back. */
export async function highestStamp(
  options: Pick<SweepOptions, 'target' | 'mapping' | 'segments'> & { readonly counts: (key: AggregateKey) => boolean },
  signal: AbortSignal,
): Promise<Stamp> {
  const { target, mapping, segments } = options
  let highest = 0n
  for (const { name: table } of mapping.tables) {
    for (let segment = 0; segment < segments; segment++) {
      for await (const batch of target.scanRows({ table, segment, segments, signal })) {
        for (const row of batch) if (row.stamp > highest && options.counts(row.key)) highest = row.stamp
      }
    }
  }
  return highest
}
