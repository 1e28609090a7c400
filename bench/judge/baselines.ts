// Promises: what others would have done on the same evidence: fixed thresholds, as Argo Rollouts and Flagger apply them, and a Mann-Whitney test
// looked at every minute, as Kayenta does it. Each with settings of their documentation or, where those would be absurd here, kinder ones.
import type { Arms } from '../../src/canary/arm-counts.ts'
import { added, type DenseCounts, NO_WEIGHTS, quantileMs } from '../../src/canary/dense-counts.ts'
import { normalQuantileAbove } from './draws.ts'
import type { Watcher } from './life.ts'

/** Half as much again as the usual P99; more than that would be blind to it until the P99 has doubled. */
const P99_MOST_MS = 1.5 * 45
const SUCCESS_LEAST = 0.99
/** Flagger's usual interval; Argo's failureLimit of its examples. */
const CHECK_MS = 60_000
const FAILED_CHECKS = 3

/** Goes back at the third failed check in a row. */
export class ThresholdWatcher implements Watcher {
  readonly name = 'thresholds'
  #seen: DenseCounts = NO_WEIGHTS
  #requests = 0
  #errors = 0
  #failed = 0

  see({ canary }: Arms, tMs: number, spanMs: number): string | null {
    this.#seen = added(this.#seen, canary.latencies)
    this.#requests += canary.requests
    this.#errors += canary.errors
    if (tMs % CHECK_MS >= spanMs) return null
    const slow = (quantileMs(this.#seen, 0.99) ?? 0) > P99_MOST_MS
    const failing = this.#errors > (1 - SUCCESS_LEAST) * this.#requests
    this.#failed = slow || failing ? this.#failed + 1 : 0
    this.#seen = NO_WEIGHTS
    this.#requests = this.#errors = 0
    if (this.#failed < FAILED_CHECKS) return null
    this.#failed = 0
    return slow ? 'p99' : 'errors'
  }
}

const POINT_MS = 10_000
const LOOKBACK_POINTS = 60
const CONFIDENCE = 0.98
const TOLERANCE = 0.25

interface Point {
  readonly p99Ms: number
  readonly errorShare: number
}

/**
 * Points of ten seconds, the last ten minutes of them compared every minute: "high" where the lower bound of the shift's confidence interval
 * (Hodges and Lehmann) is over a quarter of its estimate, as Kayenta's classifier has it.
 */
export class MannWhitneyWatcher implements Watcher {
  readonly name = 'mannWhitney'
  #seen = { canary: NO_WEIGHTS, control: NO_WEIGHTS }
  #counts = { canary: { requests: 0, errors: 0 }, control: { requests: 0, errors: 0 } }
  #points: { readonly canary: Point; readonly control: Point }[] = []

  see(arms: Arms, tMs: number, spanMs: number): string | null {
    for (const name of ['canary', 'control'] as const) {
      this.#seen[name] = added(this.#seen[name], arms[name].latencies)
      this.#counts[name].requests += arms[name].requests
      this.#counts[name].errors += arms[name].errors
    }
    if (tMs % POINT_MS < spanMs) this.#point()
    if (tMs % CHECK_MS >= spanMs || this.#points.length < LOOKBACK_POINTS) return null
    for (const metric of ['p99Ms', 'errorShare'] as const) {
      const { estimate, lower } = shift(
        this.#points.map(({ canary }) => canary[metric]),
        this.#points.map(({ control }) => control[metric]),
      )
      if (lower <= TOLERANCE * Math.abs(estimate) || lower <= 0) continue
      this.#points = []
      return metric
    }
    return null
  }

  #point(): void {
    const of = (name: 'canary' | 'control'): Point => {
      const { requests, errors } = this.#counts[name]
      return { p99Ms: quantileMs(this.#seen[name], 0.99) ?? 0, errorShare: requests === 0 ? 0 : errors / requests }
    }
    this.#points = [...this.#points.slice(-(LOOKBACK_POINTS - 1)), { canary: of('canary'), control: of('control') }]
    this.#seen = { canary: NO_WEIGHTS, control: NO_WEIGHTS }
    this.#counts = { canary: { requests: 0, errors: 0 }, control: { requests: 0, errors: 0 } }
  }
}

/** By how much `a` is over `b`: the median of all differences, and the lower end of its two-sided confidence interval. */
export function shift(a: readonly number[], b: readonly number[]): { readonly estimate: number; readonly lower: number } {
  const differences = new Float64Array(a.length * b.length)
  a.forEach((x, i) => {
    b.forEach((y, j) => {
      differences[i * b.length + j] = x - y
    })
  })
  differences.sort()
  const spread = Math.sqrt((a.length * b.length * (a.length + b.length + 1)) / 12)
  const rank = Math.floor(differences.length / 2 - normalQuantileAbove((1 - CONFIDENCE) / 2) * spread)
  return { estimate: differences[differences.length >> 1]!, lower: differences[Math.max(0, rank)]! }
}
