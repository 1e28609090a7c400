// Promises: rows on their way to the target: batched over aggregates and transactions, several batches in flight, never two puts of
// one row in flight at once, so that a put with unchanged TOAST cells finds the row's earlier put there. What waits for the same row
// is merged into the newest. A waiter is told when all of its rows are durable. Nothing is given up (batch-sender.ts); only what may
// not be retried ends the writer.
import { assert } from '../lib/assert.ts'
import type { BackoffLimits } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import type { RowPut } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import { BatchSender, type RefusedRow } from './batch-sender.ts'
import { filled } from './fold.ts'

export interface RowWriterLimits {
  /** Rows a putRows call. */
  readonly batchRowsMax: number
  /** Calls in flight at once. */
  readonly batchesInFlightMax: number
  /** Rows that are not durable yet: above it, `room` waits. */
  readonly pendingRowsMax: number
  readonly backoff: BackoffLimits
}

/** Something that waits for rows: a transaction. */
export interface Waiter {
  remaining: number
  onDurable(): void
}

export interface RowWriterCounts {
  readonly pendingRows: number
  readonly putsDurable: number
  readonly rowsMerged: number
  /** By error name. */
  readonly retries: Readonly<Record<string, number>>
  readonly refused: readonly RefusedRow[]
}

export interface RowWriterOptions {
  readonly target: Pick<Target, 'putRows'>
  readonly limits: RowWriterLimits
  readonly clock: Clock
  readonly random: Random
  /** Called once with what may not be retried. The writer sends nothing more. */
  readonly onFailure: (error: unknown) => void
  readonly signal: AbortSignal
}

interface Pending {
  readonly id: string
  put: RowPut
  readonly waiters: Waiter[]
}

interface RowState {
  inFlight: boolean
  next: Pending | null
}

/** Taken rows are cut off the list of ready ones now and then. */
const READY_CUT = 4_096

export class RowWriter {
  readonly #limits: RowWriterLimits
  readonly #onFailure: (error: unknown) => void
  readonly #signal: AbortSignal
  readonly #sender: BatchSender
  readonly #states = new Map<string, RowState>()
  readonly #changed = new Signal()
  #ready: Pending[] = []
  #readyFrom = 0
  #inFlight = 0
  #pendingRows = 0
  #putsDurable = 0
  #rowsMerged = 0
  #scheduled = false
  #ended = false

  constructor(options: RowWriterOptions) {
    const { target, limits, clock, random, signal } = options
    this.#limits = limits
    this.#onFailure = options.onFailure
    this.#signal = signal
    this.#sender = new BatchSender({ target, backoff: limits.backoff, clock, random, signal })
    signal.addEventListener('abort', () => this.#changed.notify(), { once: true })
  }

  /** `waiter.remaining` was counted up for it by the caller. */
  put(id: string, row: RowPut, waiter: Waiter): void {
    const state = this.#states.get(id)
    if (state?.next) return this.#merge(state.next, row, waiter)
    const pending: Pending = { id, put: row, waiters: [waiter] }
    this.#pendingRows++
    if (state === undefined) {
      this.#states.set(id, { inFlight: false, next: pending })
      this.#ready.push(pending)
      this.#schedule()
    } else state.next = pending
  }

  /** Resolves when another row may be put, or when the writer has ended. */
  room(): Promise<void> {
    return this.#until(() => this.#pendingRows < this.#limits.pendingRowsMax)
  }

  /** Resolves when everything put so far is durable, or when the writer has ended. */
  settled(): Promise<void> {
    return this.#until(() => this.#pendingRows === 0)
  }

  /** No call is in flight any more; for the end. */
  async quiet(): Promise<void> {
    while (this.#inFlight > 0) await this.#changed.next()
  }

  counts(): RowWriterCounts {
    return {
      pendingRows: this.#pendingRows,
      putsDurable: this.#putsDurable,
      rowsMerged: this.#rowsMerged,
      retries: this.#sender.retries,
      refused: this.#sender.refused,
    }
  }

  #merge(pending: Pending, row: RowPut, waiter: Waiter): void {
    assert(row.stamp >= pending.put.stamp, `a put of ${row.table} ${row.key} with a stamp below the one before it`)
    this.#rowsMerged++
    pending.waiters.push(waiter)
    const before = pending.put.values
    if (row.values === null) pending.put = row
    else {
      assert(before !== null || row.values.indexOf(undefined) < 0, `an update of ${row.table} ${row.key} after its delete`)
      pending.put = { ...row, values: filled(row.values, before) }
    }
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    // One turn later, so that the rows of one transaction, and of those that arrived with it, share a batch.
    queueMicrotask(() => {
      this.#scheduled = false
      this.#pump()
    })
  }

  #pump(): void {
    while (!this.#over() && this.#inFlight < this.#limits.batchesInFlightMax && this.#readyFrom < this.#ready.length) {
      const batch = this.#takeBatch()
      this.#inFlight++
      void this.#sender
        .send(batch.map((pending) => pending.put))
        .then(
          (done) => {
            if (done) for (const pending of batch) this.#complete(pending)
          },
          (error: unknown) => this.#fail(error),
        )
        .finally(() => {
          this.#inFlight--
          this.#changed.notify()
          this.#pump()
        })
    }
  }

  #takeBatch(): readonly Pending[] {
    const batch = this.#ready.slice(this.#readyFrom, this.#readyFrom + this.#limits.batchRowsMax)
    this.#readyFrom += batch.length
    if (this.#readyFrom > READY_CUT || this.#readyFrom === this.#ready.length) {
      this.#ready = this.#ready.slice(this.#readyFrom)
      this.#readyFrom = 0
    }
    for (const pending of batch) {
      const state = this.#states.get(pending.id)!
      state.inFlight = true
      state.next = null
    }
    return batch
  }

  #complete(pending: Pending): void {
    this.#pendingRows--
    this.#putsDurable++
    const state = this.#states.get(pending.id)!
    if (state.next === null) this.#states.delete(pending.id)
    else {
      state.inFlight = false
      this.#ready.push(state.next)
    }
    for (const waiter of pending.waiters) if (--waiter.remaining === 0) waiter.onDurable()
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#onFailure(error)
    this.#changed.notify()
  }

  #over(): boolean {
    return this.#ended || this.#signal.aborted
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#over()) {
      const next = this.#changed.next()
      if (condition() || this.#over()) return
      await next
    }
  }
}
