// Promises: how long statements were parked, by the flip that parked them: those that it let go, and those that gave up before it did.
// Bounded: of the newest flips, a distribution each.
import { Histogram } from '../lib/histogram.ts'
import type { ParkedTimes } from '../model/control.ts'
import type { Epoch } from '../model/ids.ts'

/** Flips whose times are kept; of those that could not be told by then the log has the failures. */
const FLIPS_KEPT_MAX = 64

interface Times {
  readonly histogram: Histogram
  /** Told up to so many statements; -1: not yet. */
  told: number
}

export class ParkTimes {
  readonly #flips = new Map<Epoch, Times>()

  /** A flip that ended at this epoch held statements back here, none perhaps: there is something to tell. */
  flipEnded(epoch: Epoch): void {
    this.#of(epoch)
  }

  record(epoch: Epoch, ms: number): void {
    this.#of(epoch).histogram.record(ms)
  }

  /** Flips of which more is known than was told. */
  untold(): ParkedTimes[] {
    const untold: ParkedTimes[] = []
    for (const [epoch, { histogram, told }] of this.#flips) {
      if (histogram.count <= told) continue
      const [p50Ms, p99Ms, maxMs] = [histogram.quantile(0.5), histogram.quantile(0.99), histogram.max].map(tenths) as [
        number,
        number,
        number,
      ]
      untold.push({ epoch, statements: histogram.count, p50Ms, p99Ms, maxMs })
    }
    return untold
  }

  told({ epoch, statements }: ParkedTimes): void {
    const times = this.#flips.get(epoch)
    if (times !== undefined) times.told = Math.max(times.told, statements)
  }

  #of(epoch: Epoch): Times {
    const known = this.#flips.get(epoch)
    if (known !== undefined) return known
    const times: Times = { histogram: new Histogram(), told: -1 }
    this.#flips.set(epoch, times)
    if (this.#flips.size > FLIPS_KEPT_MAX) this.#flips.delete(this.#flips.keys().next().value!)
    return times
  }
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10
}
