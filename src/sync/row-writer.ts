// Promises: rows on their way to the target: batched over aggregates and transactions, several batches in flight, never two puts of
// one row in flight at once, so that a put with unchanged TOAST cells finds the row's earlier put there. What waits for the same row
// is merged into the newest. A waiter is told when all of its rows are durable. Nothing is given up: throttled, unknown and refused
// puts are counted by name and tried again until they are there (faults.md 9-12); only what may not be retried ends the writer.
import { assert } from '../lib/assert.ts'
import type { BackoffLimits } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import { hasCode } from '../model/errors.ts'
import type { RowPut } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import { filled } from './fold.ts'
import { ABORTED, nameOf, untilDone } from './retry.ts'

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

export interface RefusedRow {
  readonly table: string
  readonly key: string
  readonly clustering: readonly string[]
  readonly because: string
}

export interface RowWriterCounts {
  readonly pendingRows: number
  readonly putsDurable: number
  readonly rowsMerged: number
  /** By error name. */
  readonly retries: Readonly<Record<string, number>>
  /** Rows that the target refuses for good, still being tried: the position waits for them. */
  readonly refused: readonly RefusedRow[]
}

export interface RowWriter {
  /** `waiter.remaining` was counted up for it by the caller. */
  put(id: string, put: RowPut, waiter: Waiter): void
  /** Resolves when another row may be put, or when the writer has ended. */
  room(): Promise<void>
  /** Resolves when everything put so far is durable, or when the writer has ended. */
  settled(): Promise<void>
  /** No call is in flight any more; for the end. */
  quiet(): Promise<void>
  counts(): RowWriterCounts
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

const REFUSED_LISTED_MAX = 20

export function createRowWriter(options: RowWriterOptions): RowWriter {
  const { target, limits, clock, random, signal } = options
  const states = new Map<string, RowState>()
  let ready: Pending[] = []
  let readyFrom = 0
  let inFlight = 0
  let pendingRows = 0
  let putsDurable = 0
  let rowsMerged = 0
  let scheduled = false
  let ended = false
  const retries: Record<string, number> = {}
  const refused = new Map<string, RefusedRow>()
  const changed = new Signal()
  signal.addEventListener('abort', () => changed.notify(), { once: true })
  const over = () => ended || signal.aborted

  const onRetry = (error: unknown) => {
    const name = nameOf(error)
    retries[name] = (retries[name] ?? 0) + 1
  }

  function put(id: string, row: RowPut, waiter: Waiter): void {
    const state = states.get(id)
    if (state?.next) {
      merge(state.next, row, waiter)
      return
    }
    const pending: Pending = { id, put: row, waiters: [waiter] }
    pendingRows++
    if (state === undefined) {
      states.set(id, { inFlight: false, next: pending })
      ready.push(pending)
      schedule()
    } else state.next = pending
  }

  function merge(pending: Pending, row: RowPut, waiter: Waiter): void {
    assert(row.stamp >= pending.put.stamp, `a put of ${row.table} ${row.key} with a stamp below the one before it`)
    rowsMerged++
    pending.waiters.push(waiter)
    const before = pending.put.values
    if (row.values === null) pending.put = row
    else {
      assert(before !== null || row.values.indexOf(undefined) < 0, `an update of ${row.table} ${row.key} after its delete`)
      pending.put = { ...row, values: filled(row.values, before) }
    }
  }

  function schedule(): void {
    if (scheduled) return
    scheduled = true
    // One turn later, so that the rows of one transaction, and of those that arrived with it, share a batch.
    queueMicrotask(() => {
      scheduled = false
      pump()
    })
  }

  function pump(): void {
    while (!over() && inFlight < limits.batchesInFlightMax && readyFrom < ready.length) {
      const batch = ready.slice(readyFrom, readyFrom + limits.batchRowsMax)
      readyFrom += batch.length
      if (readyFrom > 4096 || readyFrom === ready.length) {
        ready = ready.slice(readyFrom)
        readyFrom = 0
      }
      for (const pending of batch) {
        const state = states.get(pending.id)!
        state.inFlight = true
        state.next = null
      }
      inFlight++
      void send(batch)
        .then(
          (done) => {
            if (done) for (const pending of batch) complete(pending)
          },
          (error: unknown) => fail(error),
        )
        .finally(() => {
          inFlight--
          changed.notify()
          pump()
        })
    }
  }

  /** True once all are durable; false: aborted. A refused batch is halved until the refused row is alone. */
  async function send(batch: readonly Pending[]): Promise<boolean> {
    const outcome = await untilDone(() => attempt(batch), { clock, random, backoff: limits.backoff, onRetry }, signal)
    if (outcome === ABORTED) return false
    if (outcome === 'durable') return true
    const middle = batch.length >> 1
    const halves = await Promise.all([send(batch.slice(0, middle)), send(batch.slice(middle))])
    return halves.every(Boolean)
  }

  async function attempt(batch: readonly Pending[]): Promise<'durable' | 'refused'> {
    const rows = batch.map((pending) => pending.put)
    for (;;) {
      try {
        await target.putRows(rows)
        if (refused.size > 0) for (const pending of batch) refused.delete(pending.id)
        return 'durable'
      } catch (error) {
        if (!hasCode(error, 'TARGET_REFUSED') || signal.aborted) throw error
        onRetry(error)
        if (batch.length > 1) return 'refused'
        noteRefused(batch[0]!, error.message)
        await clock.sleep(limits.backoff.capMs, signal)
      }
    }
  }

  function noteRefused(pending: Pending, because: string): void {
    if (refused.size >= REFUSED_LISTED_MAX && !refused.has(pending.id)) return
    const { table, key, clustering } = pending.put
    refused.set(pending.id, { table, key, clustering, because })
  }

  function complete(pending: Pending): void {
    pendingRows--
    putsDurable++
    const state = states.get(pending.id)!
    if (state.next === null) states.delete(pending.id)
    else {
      state.inFlight = false
      ready.push(state.next)
    }
    for (const waiter of pending.waiters) if (--waiter.remaining === 0) waiter.onDurable()
  }

  function fail(error: unknown): void {
    if (ended) return
    ended = true
    options.onFailure(error)
    changed.notify()
  }

  async function until(condition: () => boolean): Promise<void> {
    while (!condition() && !over()) {
      const next = changed.next()
      if (condition() || over()) return
      await next
    }
  }

  return {
    put,
    room: () => until(() => pendingRows < limits.pendingRowsMax),
    settled: () => until(() => pendingRows === 0),
    async quiet() {
      while (inFlight > 0) await changed.next()
    },
    counts: () => ({ pendingRows, putsDurable, rowsMerged, retries: { ...retries }, refused: [...refused.values()] }),
  }
}
