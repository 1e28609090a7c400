// Promises: how much of what each gateway measured never came to the leader, over a bounded window: what the gateway says that it let go, and
// reports that were lost with their connection, seen by the hole that they leave. INV-11: such a gap is counted and named.
import type { LeaseId } from '../model/ids.ts'
import type { MeasuredReport } from '../model/measured.ts'

export interface LostMeasurements {
  readonly gateway: string
  /** Within the window. */
  readonly lostMs: number
  /** When the last of it was found out, by the wall clock. */
  readonly lastMs: number
}

/** What is older is told no more. */
export const LOST_TOLD_MS = 3_600_000
const GATEWAYS_MAX = 256
/** Gaps of one gateway; the oldest become one. */
const GAPS_MAX = 64
/** Numbers that travelled as JSON, of a clock with fractions. */
const ROUNDING_MS = 1

interface Gap {
  readonly ms: number
  readonly atMs: number
  readonly monotonicMs: number
}

export class LostReports {
  readonly #gaps = new Map<string, Gap[]>()
  /** By lease: where its last report ended. */
  readonly #ended = new Map<LeaseId, number>()

  add(lease: LeaseId, gateway: string, { fromMs, overMs, lostMs }: MeasuredReport, now: { nowMs: number; monotonicMs: number }): void {
    const ended = this.#ended.get(lease)
    // What a gateway let go is in the hole too. A leader's first report of a lease has none before it here.
    const hole = ended === undefined || fromMs === null ? 0 : fromMs - ended
    if (fromMs !== null) this.#ended.set(lease, fromMs + overMs)
    const ms = Math.max(lostMs, hole)
    if (ms > ROUNDING_MS) this.#found(gateway, { ms, atMs: now.nowMs, monotonicMs: now.monotonicMs })
  }

  forget(lease: LeaseId): void {
    this.#ended.delete(lease)
  }

  /** The gateway that lost last first. */
  sums(monotonicMs: number): readonly LostMeasurements[] {
    const sums: LostMeasurements[] = []
    for (const [gateway, gaps] of this.#gaps) {
      const kept = gaps.filter((gap) => monotonicMs - gap.monotonicMs <= LOST_TOLD_MS)
      if (kept.length === 0) this.#gaps.delete(gateway)
      else {
        this.#gaps.set(gateway, kept)
        sums.push({ gateway, lostMs: kept.reduce((sum, { ms }) => sum + ms, 0), lastMs: kept.at(-1)!.atMs })
      }
    }
    return sums.sort((a, b) => b.lastMs - a.lastMs)
  }

  #found(gateway: string, gap: Gap): void {
    const gaps = this.#gaps.get(gateway) ?? []
    // The longest known is the one that nobody misses.
    if (gaps.length === 0 && this.#gaps.size >= GATEWAYS_MAX) this.#gaps.delete(this.#gaps.keys().next().value!)
    gaps.push(gap)
    if (gaps.length > GAPS_MAX) {
      const [first, second, ...rest] = gaps
      gaps.splice(0, gaps.length, { ...second!, ms: first!.ms + second!.ms }, ...rest)
    }
    this.#gaps.set(gateway, gaps)
  }
}
