// Promises: pages of rows on their way to the target, each row once, so in any order: cut into batches, several in flight. For a copy,
// whose rows carry one stamp a slot; row-writer.ts is for a stream.
import type { RowPut } from '../model/row.ts'
import { type Batch, BatchPump, type BatchPumpOptions } from './batch-pump.ts'
import type { RefusedRow } from './batch-sender.ts'

export class PageWriter {
  readonly #options: BatchPumpOptions
  readonly #pump: BatchPump
  readonly #ready: Batch[] = []
  #pendingRows = 0

  constructor(options: BatchPumpOptions) {
    this.#options = options
    this.#pump = new BatchPump(options, () => this.#ready.shift())
  }

  /** `onDurable` is called when all of them are; never where the writer ends first. */
  put(rows: readonly RowPut[], onDurable: () => void): void {
    if (rows.length === 0) return onDurable()
    const { batchRowsMax } = this.#options.limits
    let left = rows.length
    for (let from = 0; from < rows.length; from += batchRowsMax) {
      const batch = rows.slice(from, from + batchRowsMax)
      this.#ready.push({
        rows: batch,
        onDurable: () => {
          this.#pendingRows -= batch.length
          left -= batch.length
          if (left === 0) onDurable()
        },
      })
    }
    this.#pendingRows += rows.length
    this.#pump.pump()
  }

  /** Resolves when another page may be put, or when the writer has ended. */
  room(): Promise<void> {
    return this.#pump.until(() => this.#pendingRows < this.#options.limits.pendingRowsMax)
  }

  /** No call is in flight any more; for the end. */
  quiet(): Promise<void> {
    return this.#pump.quiet()
  }

  get retries(): Readonly<Record<string, number>> {
    return this.#pump.sender.retries
  }

  get refused(): readonly RefusedRow[] {
    return this.#pump.sender.refused
  }
}
