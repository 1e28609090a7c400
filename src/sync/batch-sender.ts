// Promises: rows put on the target in one call, tried again until they are there, counted by the error's name (faults.md 9-12). A batch
// that the target refuses is halved until the refused row is alone; that one is named and tried on. Only what may not be retried throws.
import type { BackoffLimits } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import { hasCode } from '../model/errors.ts'
import type { RowPut } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import { ABORTED, nameOf, untilDone } from './retry.ts'

export interface RefusedRow {
  readonly table: string
  readonly key: string
  readonly clustering: readonly string[]
  readonly because: string
}

export interface BatchSenderOptions {
  readonly target: Pick<Target, 'putRows'>
  readonly backoff: BackoffLimits
  readonly clock: Clock
  readonly random: Random
  readonly signal: AbortSignal
}

const REFUSED_LISTED_MAX = 20

export class BatchSender {
  readonly #options: BatchSenderOptions
  readonly #retries: Record<string, number> = {}
  readonly #refused = new Map<string, RefusedRow>()

  constructor(options: BatchSenderOptions) {
    this.#options = options
  }

  /** By error name. */
  get retries(): Readonly<Record<string, number>> {
    return { ...this.#retries }
  }

  /** Rows that the target refuses for good, still being tried: the position waits for them. */
  get refused(): readonly RefusedRow[] {
    return [...this.#refused.values()]
  }

  /** True once all are durable; false: aborted. */
  async send(rows: readonly RowPut[]): Promise<boolean> {
    const { clock, random, backoff, signal } = this.#options
    const outcome = await untilDone(() => this.#attempt(rows), { clock, random, backoff, onRetry: this.#count }, signal)
    if (outcome === ABORTED) return false
    if (outcome === 'durable') return true
    const middle = rows.length >> 1
    const halves = await Promise.all([this.send(rows.slice(0, middle)), this.send(rows.slice(middle))])
    return halves.every(Boolean)
  }

  async #attempt(rows: readonly RowPut[]): Promise<'durable' | 'refused'> {
    const { target, clock, backoff, signal } = this.#options
    for (;;) {
      try {
        await target.putRows(rows)
        if (this.#refused.size > 0) for (const row of rows) this.#refused.delete(idOf(row))
        return 'durable'
      } catch (error) {
        if (!hasCode(error, 'TARGET_REFUSED') || signal.aborted) throw error
        this.#count(error)
        if (rows.length > 1) return 'refused'
        this.#noteRefused(rows[0]!, error.message)
        await clock.sleep(backoff.capMs, signal)
      }
    }
  }

  readonly #count = (error: unknown): void => {
    const name = nameOf(error)
    this.#retries[name] = (this.#retries[name] ?? 0) + 1
  }

  #noteRefused(row: RowPut, because: string): void {
    const id = idOf(row)
    if (this.#refused.size >= REFUSED_LISTED_MAX && !this.#refused.has(id)) return
    this.#refused.set(id, { table: row.table, key: row.key, clustering: row.clustering, because })
  }
}

function idOf({ table, key, clustering }: RowPut): string {
  return JSON.stringify([table, key, clustering])
}
