// Promises: pages of rows on their way to the target, each row once, so in any order: cut into batches, several in flight. For a copy,
// whose rows carry one stamp a slot; row-writer.ts is for a stream.
import type { BackoffLimits } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import type { RowPut } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import { BatchSender, type RefusedRow } from './batch-sender.ts'

export interface PageWriterLimits {
  /** Rows a putRows call. */
  readonly batchRowsMax: number
  /** Calls in flight at once. */
  readonly batchesInFlightMax: number
  /** Rows that are not durable yet: above it, `room` waits. */
  readonly pendingRowsMax: number
  readonly backoff: BackoffLimits
}

export interface PageWriterOptions {
  readonly target: Pick<Target, 'putRows'>
  readonly limits: PageWriterLimits
  readonly clock: Clock
  readonly random: Random
  /** Called once with what may not be retried. The writer sends nothing more. */
  readonly onFailure: (error: unknown) => void
  readonly signal: AbortSignal
}

interface Batch {
  readonly rows: readonly RowPut[]
  readonly page: { batchesLeft: number; readonly onDurable: () => void }
}

export class PageWriter {
  readonly #limits: PageWriterLimits
  readonly #onFailure: (error: unknown) => void
  readonly #signal: AbortSignal
  readonly #sender: BatchSender
  readonly #changed = new Signal()
  readonly #ready: Batch[] = []
  #inFlight = 0
  #pendingRows = 0
  #ended = false

  constructor(options: PageWriterOptions) {
    const { target, limits, clock, random, signal } = options
    this.#limits = limits
    this.#onFailure = options.onFailure
    this.#signal = signal
    this.#sender = new BatchSender({ target, backoff: limits.backoff, clock, random, signal })
    signal.addEventListener('abort', () => this.#changed.notify(), { once: true })
  }

  /** `onDurable` is called when all of them are; never where the writer ends first. */
  put(rows: readonly RowPut[], onDurable: () => void): void {
    if (rows.length === 0) return onDurable()
    const { batchRowsMax } = this.#limits
    const page = { batchesLeft: Math.ceil(rows.length / batchRowsMax), onDurable }
    for (let from = 0; from < rows.length; from += batchRowsMax) this.#ready.push({ rows: rows.slice(from, from + batchRowsMax), page })
    this.#pendingRows += rows.length
    this.#pump()
  }

  /** Resolves when another page may be put, or when the writer has ended. */
  async room(): Promise<void> {
    while (this.#pendingRows >= this.#limits.pendingRowsMax && !this.#over()) await this.#changed.next()
  }

  /** No call is in flight any more; for the end. */
  async quiet(): Promise<void> {
    while (this.#inFlight > 0) await this.#changed.next()
  }

  get retries(): Readonly<Record<string, number>> {
    return this.#sender.retries
  }

  get refused(): readonly RefusedRow[] {
    return this.#sender.refused
  }

  #pump(): void {
    while (!this.#over() && this.#inFlight < this.#limits.batchesInFlightMax) {
      const batch = this.#ready.shift()
      if (batch === undefined) return
      this.#inFlight++
      void this.#sender
        .send(batch.rows)
        .then(
          (done) => {
            if (done) this.#complete(batch)
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

  #complete({ rows, page }: Batch): void {
    this.#pendingRows -= rows.length
    if (--page.batchesLeft === 0) page.onDurable()
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
}
