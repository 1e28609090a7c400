// Promises: rows on their way to the target: batched over aggregates and transactions, several batches in flight, never two puts of
// one row in flight at once, so that a put with unchanged TOAST cells finds the row's earlier put there. What waits for the same row
// is merged into the newest. A waiter is told when all of its rows are durable. Nothing is given up (batch-sender.ts); only what may
// not be retried ends the writer.
import { assert } from '../lib/assert.ts'
import type { RowPut } from '../model/row.ts'
import { type Batch, BatchPump, type BatchPumpOptions } from './batch-pump.ts'
import type { RefusedRow } from './batch-sender.ts'
import { filled } from './fold.ts'

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

interface Pending {
  readonly id: string
  put: RowPut
  readonly waiters: Waiter[]
}

/** Of a row that waits or is in flight. */
interface RowState {
  /** What waits; null: only what is in flight. */
  next: Pending | null
}

/** Taken rows are cut off the list of ready ones now and then. */
const READY_CUT = 4_096

export class RowWriter {
  readonly #options: BatchPumpOptions
  readonly #pump: BatchPump
  readonly #states = new Map<string, RowState>()
  #ready: Pending[] = []
  #readyFrom = 0
  #pendingRows = 0
  #putsDurable = 0
  #rowsMerged = 0
  #scheduled = false

  constructor(options: BatchPumpOptions) {
    this.#options = options
    this.#pump = new BatchPump(options, () => this.#takeBatch())
  }

  /** `waiter.remaining` was counted up for it by the caller. */
  put(id: string, row: RowPut, waiter: Waiter): void {
    const state = this.#states.get(id)
    if (state?.next) return this.#merge(state.next, row, waiter)
    const pending: Pending = { id, put: row, waiters: [waiter] }
    this.#pendingRows++
    if (state === undefined) {
      this.#states.set(id, { next: pending })
      this.#ready.push(pending)
      this.#schedule()
    } else state.next = pending
  }

  /** Resolves when another row may be put, or when the writer has ended. */
  room(): Promise<void> {
    return this.#pump.until(() => this.#pendingRows < this.#options.limits.pendingRowsMax)
  }

  /** Resolves when everything put so far is durable, or when the writer has ended. */
  settled(): Promise<void> {
    return this.#pump.until(() => this.#pendingRows === 0)
  }

  /** No call is in flight any more; for the end. */
  quiet(): Promise<void> {
    return this.#pump.quiet()
  }

  counts(): RowWriterCounts {
    return {
      pendingRows: this.#pendingRows,
      putsDurable: this.#putsDurable,
      rowsMerged: this.#rowsMerged,
      retries: this.#pump.sender.retries,
      refused: this.#pump.sender.refused,
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
      this.#pump.pump()
    })
  }

  #takeBatch(): Batch | undefined {
    if (this.#readyFrom === this.#ready.length) return undefined
    const batch = this.#ready.slice(this.#readyFrom, this.#readyFrom + this.#options.limits.batchRowsMax)
    this.#readyFrom += batch.length
    if (this.#readyFrom > READY_CUT || this.#readyFrom === this.#ready.length) {
      this.#ready = this.#ready.slice(this.#readyFrom)
      this.#readyFrom = 0
    }
    for (const pending of batch) this.#states.get(pending.id)!.next = null
    return {
      rows: batch.map((pending) => pending.put),
      onDurable: () => {
        for (const pending of batch) this.#complete(pending)
      },
    }
  }

  #complete(pending: Pending): void {
    this.#pendingRows--
    this.#putsDurable++
    const state = this.#states.get(pending.id)!
    if (state.next === null) this.#states.delete(pending.id)
    else this.#ready.push(state.next)
    for (const waiter of pending.waiters) if (--waiter.remaining === 0) waiter.onDurable()
  }
}
