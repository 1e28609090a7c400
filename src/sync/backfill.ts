// Promises: every row of the mapped tables that the source owns, copied at the slot's snapshot and stamped with its consistent point
// (offset 0 of the tenure), by many readers, resumable range by range, in flat memory. The exported snapshot dies with its
// connection: a range that goes on later reads a later snapshot, still stamped with the consistent point, and says below which LSN
// that snapshot lies, so that parity can wait for the stream (faults.md 16, 55). After a second backfill, what lies below its base was
// deleted meanwhile and becomes a tombstone.
import { setMaxListeners } from 'node:events'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Lsn, SlotId, Stamp } from '../model/ids.ts'
import { type AggregateKey, canonicalKey } from '../model/key.ts'
import type { Mapping, TableMapping } from '../model/mapping.ts'
import { tableOf } from '../model/mapping.ts'
import type { Row, RowPut } from '../model/row.ts'
import type { SnapshotReader, Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import type { BackfillJournal, BackfillRange, BackfillTotals } from './backfill-journal.ts'
import { createFolder } from './fold.ts'
import { nameOf, untilDone } from './retry.ts'
import { createRowPacer, type RowPacer } from './row-pacer.ts'
import { createRowWriter, type RefusedRow, type RowWriter, type RowWriterLimits } from './row-writer.ts'

export interface BackfillLimits extends RowWriterLimits {
  /** Readers, each a connection. */
  readonly workers: number
  /** Rows a read. */
  readonly readRows: number
  readonly rangesPerTable: number
  /** Null: as fast as the stores go. */
  readonly rowsPerSecondMax: number | null
  readonly progressMs: number
  /** How often a worker that finds no open range looks again while others are at work. */
  readonly claimPollMs: number
}

export const BACKFILL_LIMITS: BackfillLimits = {
  workers: 4,
  readRows: 500,
  rangesPerTable: 64,
  rowsPerSecondMax: null,
  batchRowsMax: 100,
  batchesInFlightMax: 16,
  pendingRowsMax: 8_000,
  backoff: { firstMs: 10, capMs: 5_000 },
  progressMs: 1_000,
  claimPollMs: 500,
}

export interface BackfillProgress {
  readonly totals: BackfillTotals
  readonly rows: number
  readonly bytes: number
  /** Since this process began. */
  readonly rowsPerSecond: number
  /** The planner's estimate of all rows; null: not known. */
  readonly estimatedRows: number | null
  readonly etaMs: number | null
  /** Rows of slots that the target owns: not copied. */
  readonly rowsSkipped: number
  readonly retries: Readonly<Record<string, number>>
  readonly refused: readonly RefusedRow[]
}

export interface BackfillOptions {
  readonly source: Pick<Source, 'snapshotReader' | 'keyRanges' | 'estimatedRows' | 'currentWalLsn'>
  readonly target: Pick<Target, 'putRows'>
  readonly mapping: Mapping
  readonly journal: BackfillJournal
  /** The slot's exported snapshot; null where its connection is gone. */
  readonly snapshot: string | null
  readonly slotOf: (key: AggregateKey) => SlotId
  /** The stamp of rows of a slot: its tenure's base. Null: the target owns it, its rows are not copied. */
  readonly stampOf: (slot: SlotId) => Stamp | null
  /** Names this process among those that share the journal. */
  readonly worker: string
  readonly limits?: Partial<BackfillLimits>
  readonly progress?: (progress: BackfillProgress) => void
  readonly clock: Clock
  readonly random: Random
}

export interface BackfillResult extends BackfillTotals {
  readonly complete: boolean
  readonly rowsSkipped: number
}

export async function runBackfill(options: BackfillOptions, signal: AbortSignal): Promise<BackfillResult> {
  const run = new BackfillRun(options, signal)
  return run.run()
}

class BackfillRun {
  readonly #options: BackfillOptions
  readonly #limits: BackfillLimits
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #writer: RowWriter
  readonly #pacer: RowPacer
  readonly #rowId: ReturnType<typeof createFolder>['rowId']
  readonly #retries: Record<string, number> = {}
  readonly #began: number
  #failure: { readonly error: unknown } | null = null
  #exportedAlive: boolean
  #rows = 0
  #bytes = 0
  #rowsSkipped = 0
  #estimatedRows: number | null = null

  constructor(options: BackfillOptions, signal: AbortSignal) {
    this.#options = options
    this.#limits = { ...BACKFILL_LIMITS, ...options.limits }
    this.#signal = AbortSignal.any([signal, this.#stop.signal])
    // Every batch in flight listens to it.
    setMaxListeners(0, this.#signal)
    this.#exportedAlive = options.snapshot !== null
    this.#began = options.clock.monotonicMs()
    this.#rowId = createFolder(options.mapping).rowId
    this.#pacer = createRowPacer({ rowsPerSecondMax: this.#limits.rowsPerSecondMax, clock: options.clock })
    this.#writer = createRowWriter({
      target: options.target,
      limits: this.#limits,
      clock: options.clock,
      random: options.random,
      onFailure: (error) => this.#fail(error),
      signal: this.#signal,
    })
  }

  async run(): Promise<BackfillResult> {
    const { journal, clock } = this.#options
    const ticking = this.#tick()
    try {
      await this.#plan()
      await Promise.all(
        Array.from({ length: this.#limits.workers }, (_, i) => this.#work(`${this.#options.worker}#${i}`).catch((e) => this.#fail(e))),
      )
    } catch (error) {
      this.#fail(error)
    }
    const finished = !this.#signal.aborted
    this.#stop.abort()
    await this.#writer.quiet()
    await ticking
    if (this.#failure !== null) throw this.#failure.error
    const totals = await journal.totals()
    this.#options.progress?.(this.#progressOf(totals, clock.monotonicMs()))
    return { ...totals, complete: finished && totals.done === totals.ranges, rowsSkipped: this.#rowsSkipped }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#stop.abort()
  }

  async #plan(): Promise<void> {
    const { source, mapping, journal } = this.#options
    let estimate = 0
    for (const table of mapping.tables) {
      await this.#retried(async () => {
        if (!(await journal.isPlanned(table.name)))
          await journal.plan(table.name, await source.keyRanges(table, this.#limits.rangesPerTable))
        estimate += await source.estimatedRows(table)
      })
    }
    this.#estimatedRows = estimate
  }

  async #work(worker: string): Promise<void> {
    const { journal, clock } = this.#options
    const held: { reader: SnapshotReader | null; exported: boolean } = { reader: null, exported: false }
    try {
      while (!this.#signal.aborted) {
        const claimed = await this.#retried(() => journal.claim(worker))
        if (this.#signal.aborted) return
        if (claimed === null) {
          const totals = await this.#retried(() => journal.totals())
          if (totals === undefined || totals.done === totals.ranges) return
          await clock.sleep(this.#limits.claimPollMs, this.#signal)
          continue
        }
        await this.#copyRange(worker, claimed as BackfillRange, held)
      }
    } finally {
      await held.reader?.close().catch(() => undefined)
    }
  }

  /** Copies what is left of a range, over as many readers as it takes. */
  async #copyRange(worker: string, claimed: BackfillRange, held: { reader: SnapshotReader | null; exported: boolean }): Promise<void> {
    const { journal, source, mapping } = this.#options
    const table = tableOf(mapping, claimed.range.table)
    if (table === undefined) throw new SwitchbackError('STREAM_TABLE_UNKNOWN', { table: claimed.range.table, columns: 0, lsn: 'backfill' })
    const copied = { after: claimed.range.from, rows: claimed.rows, bytes: claimed.bytes }
    // Who copied the part before, and at which snapshot, is not known to this process: it counts as a later one.
    let later = claimed.resumed
    let claimLost = false
    await this.#retried(async () => {
      try {
        held.reader ??= await this.#openReader(held)
        later ||= !held.exported
        const range = { ...claimed.range, from: copied.after }
        for await (const batch of held.reader.rows(range, this.#limits.readRows, this.#signal)) {
          if (this.#signal.aborted) return
          await this.#copyBatch(table, batch, copied)
          if (!(await journal.progress(claimed.id, worker, { after: copied.after ?? [], rows: copied.rows, bytes: copied.bytes }))) {
            claimLost = true
            return
          }
        }
      } catch (error) {
        await held.reader?.close().catch(() => undefined)
        held.reader = null
        throw error
      }
    })
    if (claimLost) return
    if (this.#signal.aborted) {
      await journal.release(claimed.id, worker).catch(() => undefined)
      return
    }
    await this.#retried(async () => {
      // Read after the last row was: every snapshot that showed a row of this range lies below it.
      const snapshotLsn: Lsn | null = later ? await source.currentWalLsn() : null
      await journal.done(claimed.id, worker, { rows: copied.rows, bytes: copied.bytes, snapshotLsn })
    })
  }

  async #openReader(held: { exported: boolean }): Promise<SnapshotReader> {
    const { source, snapshot } = this.#options
    if (this.#exportedAlive) {
      try {
        const reader = await source.snapshotReader(snapshot)
        held.exported = true
        return reader
      } catch (error) {
        // Its connection may be gone for good: from here on every reader takes a snapshot of its own, and says so.
        this.#counted(error)
        this.#exportedAlive = false
      }
    }
    held.exported = false
    return source.snapshotReader(null)
  }

  /** Resolves when the batch is durable on the target: the journal never runs ahead of it (faults.md 11). */
  async #copyBatch(
    table: TableMapping,
    batch: readonly Row[],
    copied: { after: readonly string[] | null; rows: number; bytes: number },
  ): Promise<void> {
    await this.#pacer.take(batch.length, this.#signal)
    await this.#writer.room()
    if (this.#signal.aborted) return
    const durable = new Signal()
    const waiter = { remaining: 1, onDurable: () => durable.notify() }
    const done = durable.next(this.#signal)
    let bytes = 0
    for (const row of batch) {
      for (const cell of row) if (cell !== null) bytes += cell.length
      const put = this.#putOf(table, row)
      if (put === null) {
        this.#rowsSkipped++
        continue
      }
      waiter.remaining++
      this.#writer.put(this.#rowId(put.table, put.key, put.clustering), put, waiter)
    }
    if (--waiter.remaining > 0) await done
    if (this.#signal.aborted) return
    const last = batch[batch.length - 1]
    if (last !== undefined) copied.after = primaryKeyOf(table, last)
    copied.rows += batch.length
    copied.bytes += bytes
    this.#rows += batch.length
    this.#bytes += bytes
  }

  #putOf(table: TableMapping, row: Row): RowPut | null {
    const key = canonicalKey(this.#options.mapping.keyType, row[table.partition]!)
    const stamp = this.#options.stampOf(this.#options.slotOf(key))
    if (stamp === null) return null
    return { table: table.name, key, clustering: table.clustering.map((column) => row[column]!), values: row, stamp, mark: false }
  }

  async #retried<T>(attempt: () => Promise<T>): Promise<T | undefined> {
    const { clock, random } = this.#options
    const outcome = await untilDone(
      attempt,
      { clock, random, backoff: this.#limits.backoff, onRetry: (e) => this.#counted(e) },
      this.#signal,
    )
    return typeof outcome === 'symbol' ? undefined : outcome
  }

  #counted(error: unknown): void {
    const name = nameOf(error)
    this.#retries[name] = (this.#retries[name] ?? 0) + 1
  }

  async #tick(): Promise<void> {
    const { clock, journal, progress } = this.#options
    if (progress === undefined) return
    for (;;) {
      await clock.sleep(this.#limits.progressMs, this.#signal)
      if (this.#signal.aborted) return
      const totals = await journal.totals().catch((error: unknown) => {
        this.#counted(error)
        return undefined
      })
      if (totals !== undefined && !this.#signal.aborted) progress(this.#progressOf(totals, clock.monotonicMs()))
    }
  }

  #progressOf(totals: BackfillTotals, nowMs: number): BackfillProgress {
    const counts = this.#writer.counts()
    const seconds = Math.max(0.001, (nowMs - this.#began) / 1000)
    const rowsPerSecond = this.#rows / seconds
    const left = this.#estimatedRows === null ? null : Math.max(0, this.#estimatedRows - totals.rows)
    const retries: Record<string, number> = { ...this.#retries }
    for (const [name, n] of Object.entries(counts.retries)) retries[name] = (retries[name] ?? 0) + n
    return {
      totals,
      rows: this.#rows,
      bytes: this.#bytes,
      rowsPerSecond,
      estimatedRows: this.#estimatedRows,
      etaMs: left === null || rowsPerSecond === 0 ? null : (left / rowsPerSecond) * 1000,
      rowsSkipped: this.#rowsSkipped,
      retries,
      refused: counts.refused,
    }
  }
}

/** As KeyRange has it: the texts of the primary key's columns, in key order. */
export function primaryKeyOf(table: TableMapping, row: Row): readonly string[] {
  return [table.partition, ...table.clustering].map((column) => row[column]!)
}
