// Promises: batches on their way to the target, so many in flight and no more, each until it is there (batch-sender.ts). What may not be
// retried ends the pump, once. What a batch is, and in which order they come, is its owner's.
import type { BackoffLimits } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import type { RowPut } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import { BatchSender } from './batch-sender.ts'

export interface BatchLimits {
  /** Rows a putRows call. */
  readonly batchRowsMax: number
  /** Calls in flight at once. */
  readonly batchesInFlightMax: number
  /** Rows that are not durable yet: above it, `room` waits. */
  readonly pendingRowsMax: number
  readonly backoff: BackoffLimits
}

export interface BatchPumpOptions {
  readonly target: Pick<Target, 'putRows'>
  readonly limits: BatchLimits
  readonly clock: Clock
  readonly random: Random
  /** Called once with what may not be retried. Nothing more is sent. */
  readonly onFailure: (error: unknown) => void
  readonly signal: AbortSignal
}

export interface Batch {
  readonly rows: readonly RowPut[]
  onDurable(): void
}

export class BatchPump {
  readonly sender: BatchSender
  readonly #options: BatchPumpOptions
  readonly #next: () => Batch | undefined
  readonly #changed = new Signal()
  #inFlight = 0
  #ended = false

  /** `next`: taken when another one may be sent; undefined: none waits. */
  constructor(options: BatchPumpOptions, next: () => Batch | undefined) {
    const { target, limits, clock, random, signal } = options
    this.#options = options
    this.#next = next
    this.sender = new BatchSender({ target, backoff: limits.backoff, clock, random, signal })
    signal.addEventListener('abort', () => this.#changed.notify(), { once: true })
  }

  pump(): void {
    while (!this.#over() && this.#inFlight < this.#options.limits.batchesInFlightMax) {
      const batch = this.#next()
      if (batch === undefined) return
      this.#inFlight++
      void this.sender
        .send(batch.rows)
        .then(
          (done) => {
            if (done) batch.onDurable()
          },
          (error: unknown) => this.#fail(error),
        )
        .finally(() => {
          this.#inFlight--
          this.#changed.notify()
          this.pump()
        })
    }
  }

  /** Resolves when it is so, looked at after each batch, or when the pump has ended. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#over()) await this.#changed.next()
  }

  /** No call is in flight any more; for the end. */
  async quiet(): Promise<void> {
    while (this.#inFlight > 0) await this.#changed.next()
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.onFailure(error)
    this.#changed.notify()
  }

  #over(): boolean {
    return this.#ended || this.#options.signal.aborted
  }
}
