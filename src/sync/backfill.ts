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
import type { Lsn, Stamp } from '../model/ids.ts'
import { type AggregateKey, canonicalKey } from '../model/key.ts'
import type { Mapping, TableMapping } from '../model/mapping.ts'
import { tableOf } from '../model/mapping.ts'
import type { Row, RowPut } from '../model/row.ts'
import type { SnapshotReader, Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import type { BackfillJournal, BackfillRange, BackfillTotals } from './backfill-journal.ts'
import type { BatchLimits } from './batch-pump.ts'
import type { RefusedRow } from './batch-sender.ts'
import { PageWriter } from './page-writer.ts'
import { nameOf, untilDone } from './retry.ts'
import { createRowPacer, type RowPacer } from './row-pacer.ts'

export interface BackfillLimits extends BatchLimits {
  /** Readers, each a connection. */
  readonly workers: number
  /** Rows a read. */
  readonly readRows: number
  readonly rangesPerTable: number
  /** Null: as fast as the stores go. */
  readonly rowsPerSecondMax: number | null
  readonly progressMs: number
  /** Between two notes in the journal of how far a range is; at most so much is copied again after a crash. */
  readonly journalMs: number
  /** How often a worker that finds no open range looks again while others are at work. */
  readonly claimPollMs: number
}

export const BACKFILL_LIMITS: BackfillLimits = {
  workers: 4,
  readRows: 500,
  rangesPerTable: 64,
  rowsPerSecondMax: null,
  // A page each: with batches of 100 the store had answered before the next came, and stood still a sixth of the time. With twice as
  // many in flight a copy is a twentieth faster and the process half as large again.
  batchRowsMax: 500,
  batchesInFlightMax: 8,
  pendingRowsMax: 4_000,
  backoff: { firstMs: 10, capMs: 5_000 },
  progressMs: 1_000,
  journalMs: 250,
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
  /** The stamp of an aggregate's rows: the base of its slot's tenure. Null: the target owns the slot, its rows are not copied. */
  readonly stampOf: (key: AggregateKey) => Stamp | null
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
  readonly #writer: PageWriter
  readonly #pacer: RowPacer
  readonly #rangeEnded = new Signal()
  /** Notified when a page has become durable. */
  readonly #landed = new Signal()
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
    this.#pacer = createRowPacer({ rowsPerSecondMax: this.#limits.rowsPerSecondMax, clock: options.clock })
    this.#writer = new PageWriter({
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
    const { journal } = this.#options
    const held: { reader: SnapshotReader | null; exported: boolean } = { reader: null, exported: false }
    try {
      while (!this.#signal.aborted) {
        const ended = this.#rangeEnded.next(this.#signal)
        const claimed = await this.#retried(() => journal.claim(worker))
        if (this.#signal.aborted) return
        if (claimed === null) {
          const totals = await this.#retried(() => journal.totals())
          if (totals === undefined || totals.done === totals.ranges) return
          await this.#rangeToEnd(ended)
          continue
        }
        await this.#copyRange(worker, claimed as BackfillRange, held)
        this.#rangeEnded.notify()
      }
    } finally {
      await held.reader?.close().catch(() => undefined)
    }
  }

  /** One of this process has been told; those of other processes are looked for now and then. */
  async #rangeToEnd(ended: Promise<void>): Promise<void> {
    const enough = new AbortController()
    await Promise.race([ended, this.#options.clock.sleep(this.#limits.claimPollMs, AbortSignal.any([enough.signal, this.#signal]))])
    enough.abort()
  }

  /** Copies what is left of a range, over as many readers as it takes. */
  async #copyRange(worker: string, claimed: BackfillRange, held: { reader: SnapshotReader | null; exported: boolean }): Promise<void> {
    const { journal, source, mapping } = this.#options
    const table = tableOf(mapping, claimed.range.table)
    if (table === undefined) throw new SwitchbackError('STREAM_TABLE_UNKNOWN', { table: claimed.range.table, columns: 0, lsn: 'backfill' })
    const range = new CopiedRange(claimed)
    // Who copied the part before, and at which snapshot, is not known to this process: it counts as a later one.
    let later = claimed.resumed
    await this.#retried(async () => {
      try {
        range.restart()
        held.reader ??= await this.#openReader(held)
        later ||= !held.exported
        await this.#copyRows(worker, table, range, held.reader)
      } catch (error) {
        await this.#leaveReader(held)
        throw error
      }
    })
    if (this.#signal.aborted) {
      await this.#leaveReader(held)
      await journal.release(claimed.id, worker).catch(() => undefined)
      return
    }
    // Another worker has the range: the rest of it is theirs.
    if (range.claimLost) return this.#leaveReader(held)
    await this.#retried(async () => {
      // Read after the last row was: every snapshot that showed a row of this range lies below it.
      const snapshotLsn: Lsn | null = later ? await source.currentWalLsn() : null
      await journal.done(claimed.id, worker, { rows: range.rows, bytes: range.bytes, snapshotLsn })
    })
  }

  /** Reading goes on while what was read becomes durable; the journal is told now and then, and never runs ahead of it (faults.md 11). */
  async #copyRows(worker: string, table: TableMapping, range: CopiedRange, reader: SnapshotReader): Promise<void> {
    const { journal, clock } = this.#options
    let toldMs = clock.monotonicMs()
    for await (const batch of reader.rows(range.left(), this.#limits.readRows, this.#signal)) {
      await this.#pacer.take(batch.length, this.#signal)
      await this.#writer.room()
      if (this.#signal.aborted) return
      range.pages.push(this.#putPage(table, batch))
      this.#advance(range)
      if (clock.monotonicMs() - toldMs < this.#limits.journalMs || range.after === null) continue
      toldMs = clock.monotonicMs()
      range.claimLost = !(await journal.progress(range.id, worker, { after: range.after, rows: range.rows, bytes: range.bytes }))
      if (range.claimLost) return
    }
    while (!this.#signal.aborted && range.pages.length > 0) {
      const landed = this.#landed.next(this.#signal)
      this.#advance(range)
      if (range.pages.length > 0) await landed
    }
  }

  #advance(range: CopiedRange): void {
    for (const page of range.takeDurable()) {
      this.#rows += page.rows
      this.#bytes += page.bytes
    }
  }

  async #leaveReader(held: { reader: SnapshotReader | null }): Promise<void> {
    const { reader } = held
    held.reader = null
    await reader?.close().catch(() => undefined)
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

  #putPage(table: TableMapping, batch: readonly Row[]): Page {
    const page: Page = { durable: false, after: primaryKeyOf(table, batch.at(-1)!), rows: batch.length, bytes: 0 }
    const puts: RowPut[] = []
    for (const row of batch) {
      for (const cell of row) if (cell !== null) page.bytes += cell.length
      const put = this.#putOf(table, row)
      if (put === null) this.#rowsSkipped++
      else puts.push(put)
    }
    this.#writer.put(puts, () => {
      page.durable = true
      this.#landed.notify()
    })
    return page
  }

  #putOf(table: TableMapping, row: Row): RowPut | null {
    const key = canonicalKey(this.#options.mapping.keyType, row[table.partition]!)
    const stamp = this.#options.stampOf(key)
    if (stamp === null) return null
    return { table: table.name, key, clustering: clusteringOf(table, row), values: row, stamp, mark: false }
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
    const seconds = Math.max(0.001, (nowMs - this.#began) / 1000)
    const rowsPerSecond = this.#rows / seconds
    const left = this.#estimatedRows === null ? null : Math.max(0, this.#estimatedRows - totals.rows)
    const retries: Record<string, number> = { ...this.#retries }
    for (const [name, n] of Object.entries(this.#writer.retries)) retries[name] = (retries[name] ?? 0) + n
    return {
      totals,
      rows: this.#rows,
      bytes: this.#bytes,
      rowsPerSecond,
      estimatedRows: this.#estimatedRows,
      etaMs: left === null || rowsPerSecond === 0 ? null : (left / rowsPerSecond) * 1000,
      rowsSkipped: this.#rowsSkipped,
      retries,
      refused: this.#writer.refused,
    }
  }
}

/** Rows that were read together. */
interface Page {
  /** All its rows are on the target. */
  durable: boolean
  /** Its last key. */
  readonly after: readonly string[]
  readonly rows: number
  bytes: number
}

/** How far a range is copied: what is durable, and what was read after that, in order. */
class CopiedRange {
  readonly id: number
  readonly #range: BackfillRange['range']
  after: readonly string[] | null
  rows: number
  bytes: number
  pages: Page[] = []
  claimLost = false

  constructor(claimed: BackfillRange) {
    this.id = claimed.id
    this.#range = claimed.range
    this.after = claimed.range.from
    this.rows = claimed.rows
    this.bytes = claimed.bytes
  }

  left(): BackfillRange['range'] {
    return { ...this.#range, from: this.after }
  }

  /** Reads again from what is durable: pages on their way land twice, which is harmless (INV-4), and count once. */
  restart(): void {
    this.pages = []
  }

  /** The durable pages that no page on its way comes before. */
  takeDurable(): readonly Page[] {
    const open = this.pages.findIndex((page) => !page.durable)
    const taken = this.pages.splice(0, open < 0 ? this.pages.length : open)
    for (const page of taken) {
      this.after = page.after
      this.rows += page.rows
      this.bytes += page.bytes
    }
    return taken
  }
}

const NO_CLUSTERING: readonly string[] = []

function clusteringOf(table: TableMapping, row: Row): readonly string[] {
  return table.clustering.length === 0 ? NO_CLUSTERING : table.clustering.map((column) => row[column]!)
}

/** As KeyRange has it: the texts of the primary key's columns, in key order. */
export function primaryKeyOf(table: TableMapping, row: Row): readonly string[] {
  return [table.partition, ...table.clustering].map((column) => row[column]!)
}
