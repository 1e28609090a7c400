// Promises: PostgreSQL's committed changes on the target, each with the stamp of its own tenure, in order row by row, and a position
// that is acknowledged only when the target durably holds everything before it (INV-3). Our own origins are dropped by name (INV-5).
// A change of an application in a tenure of the target is never applied: it is reported, durably, before the position passes it
// (INV-1's alarm). A marker is reported as passed only when everything before it is durable.
import { setMaxListeners } from 'node:events'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { SourceTransaction } from '../model/change.ts'
import { SwitchbackError } from '../model/errors.ts'
import { formatLsn, type Lsn, NO_LSN, type SlotId, type Stamp } from '../model/ids.ts'
import type { Mapping } from '../model/mapping.ts'
import type { ChangeStream } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import type { BatchLimits } from './batch-pump.ts'
import type { RefusedRow } from './batch-sender.ts'
import { createFolder, type FoldedTransaction, type Folder } from './fold.ts'
import { createLagMeter } from './lag-meter.ts'
import { ABORTED, nameOf, untilDone } from './retry.ts'
import { RowWriter, type Waiter } from './row-writer.ts'
import { type AuthorityViolation, forwardStamp, type TenureHistory } from './stamps.ts'
import type { TenureReader } from './tenure-reader.ts'
import { truncatedRows } from './truncate.ts'

/** Messages with this prefix in the WAL are Switchback's own. */
export const MARKER_PREFIX = 'switchback'

export interface ForwardLimits extends BatchLimits {
  /** Transactions that are read and not acknowledged yet. */
  readonly transactionsPendingMax: number
  readonly progressMs: number
  readonly truncateSegments: number
}

export const FORWARD_LIMITS: ForwardLimits = {
  batchRowsMax: 200,
  batchesInFlightMax: 8,
  pendingRowsMax: 20_000,
  transactionsPendingMax: 50_000,
  backoff: { firstMs: 5, capMs: 2_000 },
  progressMs: 1_000,
  truncateSegments: 4,
}

export interface ForwardProgress {
  readonly acknowledgedLsn: Lsn
  readonly serverLsn: Lsn
  /** Bytes of WAL between what the server has told of and what is acknowledged. */
  readonly lagBytes: bigint
  /** Age of the oldest transaction that is not durable on the target; 0 where none is. */
  readonly lagMs: number
  /** From commit to durable on the target, of the last transactions. Undefined: none yet. */
  readonly appliedLagMs: { readonly p50: number | undefined; readonly p99: number | undefined }
  readonly transactions: number
  readonly changes: number
  readonly ownOriginDropped: number
  readonly transactionsPending: number
  readonly rowsPending: number
  readonly rowsMerged: number
  readonly retries: Readonly<Record<string, number>>
  readonly refused: readonly RefusedRow[]
  readonly frozenSlots: readonly SlotId[]
}

export interface ForwardOptions {
  readonly stream: ChangeStream
  readonly target: Pick<Target, 'putRows' | 'scanRows'>
  readonly mapping: Mapping
  readonly tenures: TenureReader
  /** Names of the replication origins of our own reverse appliers. */
  readonly ownOrigins: ReadonlySet<string>
  /** Content of a message of Switchback's own, when everything before it is durable. */
  readonly onMarker: (content: string) => void
  /** Must have recorded the violation durably when it resolves; tried again until it has. */
  readonly onViolation: (violation: AuthorityViolation) => Promise<void>
  readonly progress?: (progress: ForwardProgress) => void
  readonly limits?: Partial<ForwardLimits>
  readonly clock: Clock
  readonly random: Random
}

interface PendingTransaction extends Waiter {
  readonly endLsn: Lsn
  readonly committedAtMs: number
  readonly markers: readonly string[]
}

/** Runs until the signal aborts or the stream ends; rejects with what stops it by name. */
export async function runForward(options: ForwardOptions, signal: AbortSignal): Promise<void> {
  const sync = new ForwardRun(options, signal)
  await sync.run()
}

class ForwardRun {
  readonly #options: ForwardOptions
  readonly #limits: ForwardLimits
  readonly #folder: Folder
  readonly #writer: RowWriter
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #lag = createLagMeter()
  readonly #retries: Record<string, number> = {}
  readonly #frozen = new Set<SlotId>()
  #failure: { readonly error: unknown } | null = null
  #pending: PendingTransaction[] = []
  #pendingFrom = 0
  #acknowledged = NO_LSN
  #transactions = 0
  #changes = 0
  #ownOriginDropped = 0

  constructor(options: ForwardOptions, signal: AbortSignal) {
    this.#options = options
    this.#limits = { ...FORWARD_LIMITS, ...options.limits }
    this.#folder = createFolder(options.mapping)
    this.#signal = AbortSignal.any([signal, this.#stop.signal])
    // Every batch in flight listens to it.
    setMaxListeners(0, this.#signal)
    this.#writer = new RowWriter({
      target: options.target,
      limits: this.#limits,
      clock: options.clock,
      random: options.random,
      onFailure: (error) => this.#fail(error),
      signal: this.#signal,
    })
  }

  async run(): Promise<void> {
    const stopProgress = this.#startProgress()
    try {
      for await (const transaction of this.#options.stream.transactions(this.#signal)) {
        await this.#admit(transaction)
        if (this.#signal.aborted) break
      }
      await this.#writer.settled()
    } catch (error) {
      this.#fail(error)
    } finally {
      stopProgress()
      this.#stop.abort()
      await this.#writer.quiet()
      this.#options.progress?.(this.#progress())
    }
    if (this.#failure !== null) throw this.#failure.error
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#stop.abort()
  }

  async #admit(transaction: SourceTransaction): Promise<void> {
    await this.#writer.room()
    while (this.#pendingCount() >= this.#limits.transactionsPendingMax && !this.#signal.aborted) {
      await this.#options.clock.sleep(this.#limits.backoff.firstMs, this.#signal)
    }
    if (this.#signal.aborted) return
    const own = transaction.origin !== null && this.#options.ownOrigins.has(transaction.origin)
    // INV-5: what the reverse sync applied never flows back; a marker in between still counts.
    const folded = this.#folder.fold(
      own ? transaction.changes.filter((c) => c.kind === 'message') : transaction.changes,
      transaction.commitLsn,
    )
    if (own) this.#ownOriginDropped++
    this.#transactions++
    this.#changes += transaction.changes.length
    const pending: PendingTransaction = {
      endLsn: transaction.endLsn,
      committedAtMs: transaction.committedAtMs,
      markers: folded.messages.filter((m) => m.prefix === MARKER_PREFIX).map((m) => m.content),
      // One for the admission itself, so that it cannot be durable before all of its rows are put.
      remaining: 1,
      onDurable: () => this.#durable(pending),
    }
    this.#pending.push(pending)
    if (folded.rows.length > 0 || folded.truncated.length > 0) {
      const history = await this.#historyFor(transaction.commitLsn)
      if (history === null) return
      if (folded.truncated.length > 0) await this.#truncate(transaction, folded, history, pending)
      for (const row of folded.rows) {
        const stamp = await this.#stampOf(transaction, history, row.table, row.key)
        if (stamp === null) continue
        if (this.#signal.aborted) return
        this.#put(row.id, { table: row.table, key: row.key, clustering: row.clustering, values: row.values, stamp, mark: false }, pending)
        if (pending.remaining > this.#limits.batchRowsMax) await this.#writer.room()
      }
    }
    if (!this.#signal.aborted && --pending.remaining === 0) pending.onDurable()
  }

  #put(id: string, put: Parameters<RowWriter['put']>[1], pending: PendingTransaction): void {
    pending.remaining++
    this.#writer.put(id, put, pending)
  }

  /** A history that knows every tenure in which this commit may lie; null: aborted. */
  async #historyFor(commitLsn: Lsn): Promise<TenureHistory | null> {
    const { tenures } = this.#options
    let history = tenures.current()
    while (history.completeBelow <= commitLsn) {
      const fresh = await this.#retried(() => tenures.refresh())
      if (fresh === ABORTED) return null
      history = fresh
      // The LSN that was read lies beyond a commit that the stream has sent, unless the source was replaced: then others stop us.
      if (history.completeBelow <= commitLsn) await this.#options.clock.sleep(this.#limits.backoff.firstMs, this.#signal)
      if (this.#signal.aborted) return null
    }
    return history
  }

  /** Null: not to be applied, and that is on record. */
  async #stampOf(transaction: SourceTransaction, history: TenureHistory, table: string, key: string): Promise<Stamp | null> {
    const slot = history.slotOf(key)
    const record = history.tenureAt(slot, transaction.commitLsn)
    if (record === undefined) throw new SwitchbackError('TENURE_UNKNOWN', { slot, lsn: formatLsn(transaction.commitLsn) })
    if (record.owner === 'source') return forwardStamp(record, transaction.endLsn)
    await this.#violated({ slot, tenure: record.tenure, table, key, commitLsn: transaction.commitLsn })
    return null
  }

  async #violated(violation: AuthorityViolation): Promise<void> {
    this.#frozen.add(violation.slot)
    await this.#retried(() => this.#options.onViolation(violation))
  }

  /** TRUNCATE: what the target holds of the source's slots becomes tombstones, once everything before it is durable. */
  async #truncate(
    transaction: SourceTransaction,
    folded: FoldedTransaction,
    history: TenureHistory,
    pending: PendingTransaction,
  ): Promise<void> {
    const { clock, random, target } = this.#options
    await this.#writer.settled()
    for (const slot of history.slots()) {
      const record = history.tenureAt(slot, transaction.commitLsn)
      if (record?.owner === 'target') {
        for (const table of folded.truncated)
          await this.#violated({ slot, tenure: record.tenure, table, key: null, commitLsn: transaction.commitLsn })
      }
    }
    await truncatedRows(
      {
        target,
        folder: this.#folder,
        folded,
        segments: this.#limits.truncateSegments,
        stampOf: (key) => {
          const record = history.tenureAt(history.slotOf(key), transaction.commitLsn)
          return record?.owner === 'source' ? forwardStamp(record, transaction.endLsn) : null
        },
        put: async (id, put) => {
          await this.#writer.room()
          if (!this.#signal.aborted) this.#put(id, put, pending)
        },
        retry: { clock, random, backoff: this.#limits.backoff, onRetry: (error) => this.#counted(error) },
      },
      this.#signal,
    )
  }

  #durable(transaction: PendingTransaction): void {
    this.#lag.record(Math.max(0, this.#options.clock.nowMs() - transaction.committedAtMs))
    // INV-3: only the contiguous prefix. What is durable behind a hole waits for it.
    let moved = false
    while (this.#pendingFrom < this.#pending.length && this.#pending[this.#pendingFrom]!.remaining === 0) {
      const done = this.#pending[this.#pendingFrom++]!
      for (const content of done.markers) this.#options.onMarker(content)
      this.#acknowledged = done.endLsn
      moved = true
    }
    if (!moved) return
    if (this.#pendingFrom === this.#pending.length || this.#pendingFrom > 8192) {
      this.#pending = this.#pending.slice(this.#pendingFrom)
      this.#pendingFrom = 0
    }
    this.#options.stream.acknowledge(this.#acknowledged)
  }

  #pendingCount(): number {
    return this.#pending.length - this.#pendingFrom
  }

  async #retried<T>(attempt: () => Promise<T>): Promise<T | typeof ABORTED> {
    const { clock, random } = this.#options
    return untilDone(attempt, { clock, random, backoff: this.#limits.backoff, onRetry: (error) => this.#counted(error) }, this.#signal)
  }

  #counted(error: unknown): void {
    const name = nameOf(error)
    this.#retries[name] = (this.#retries[name] ?? 0) + 1
  }

  #startProgress(): () => void {
    const { progress, clock } = this.#options
    if (progress === undefined) return () => undefined
    let cancel = () => {}
    const tick = () => {
      progress(this.#progress())
      cancel = clock.after(this.#limits.progressMs, tick)
    }
    cancel = clock.after(this.#limits.progressMs, tick)
    return () => cancel()
  }

  #progress(): ForwardProgress {
    const counts = this.#writer.counts()
    const oldest = this.#pending[this.#pendingFrom]
    const serverLsn = this.#options.stream.serverLsn()
    const retries: Record<string, number> = { ...this.#retries }
    for (const [name, n] of Object.entries(counts.retries)) retries[name] = (retries[name] ?? 0) + n
    return {
      acknowledgedLsn: this.#acknowledged,
      serverLsn,
      lagBytes: serverLsn > this.#acknowledged ? serverLsn - this.#acknowledged : 0n,
      lagMs: oldest === undefined ? 0 : Math.max(0, this.#options.clock.nowMs() - oldest.committedAtMs),
      appliedLagMs: { p50: this.#lag.quantile(0.5), p99: this.#lag.quantile(0.99) },
      transactions: this.#transactions,
      changes: this.#changes,
      ownOriginDropped: this.#ownOriginDropped,
      transactionsPending: this.#pendingCount(),
      rowsPending: counts.pendingRows,
      rowsMerged: counts.rowsMerged,
      retries,
      refused: counts.refused,
      frozenSlots: [...this.#frozen],
    }
  }
}
