// Promises: which keys will be too hot for the target when all traffic is there, named before latency moves, and from one hundredth of the
// traffic: a small canary hides contention, but not what contention is made of. Pure; `assess` and `replay` may ask it too.
// Formula (canary.md, "What a small canary hides"): commits of one key stand in one line, so the key is a server with utilisation
//
//   rho_k(f) = arrivals of key k a second, on either arm, x seconds that a commit of it holds the key on the target x f
//
// where f is the growth of the load, 1 for today's. Warn over 0.5, block over 0.8. A key that has not moved is judged by the hold time of
// those that have. Where sessions do not queue (FIFO off) no hold is measured; lost compare-and-sets say the same: one key's retries a commit
// are its arrivals x the window, up to 0.8, and at least 0.8 beyond.
// Both factors have bounds, each wrong with a chance of at most ALPHA a look, and a warning or a block needs the lower bound of rho:
//   arrivals  Poisson, by Chernoff (Boucheron, Lugosi, Massart, Concentration Inequalities, 2013, 2.2): the rate l of n arrivals is no less
//             than where l - n + n ln(n / l) = ln(1 / ALPHA), and no more than where it is so on the other side
//   hold      lower: the mean of n values that are never negative is not below mean - sqrt(2 ln(1 / ALPHA) m2 / n), m2 their mean square
//             (Maurer, A bound on the deviation probability for sums of non-negative random variables, 2003), m2 as it was measured: a long
//             tail that was not seen yet is missing in the mean too. Upper: empirical Bernstein (Audibert, Munos, Szepesvari, 2009), the
//             longest hold seen as the range.
// The pool of moved keys has, for a key that is not in it, the mean hold of their commits: a key of other statements may differ from it.
import { assert } from '../lib/assert.ts'
import type { MeasuredHolds } from '../model/measured.ts'

export const SATURATION_WARN = 0.5
export const SATURATION_BLOCK = 0.8
const ALPHA = 1e-6
/** ln(1 / ALPHA) */
const NATS = -Math.log(ALPHA)
/** A key is judged by its own holds once it has so many. */
const OWN_HOLDS_MIN = 200
/** Retries a commit follow arrivals x window up to here. */
const RETRY_RATIO_LINEAR_MAX = 0.8
const HALVINGS = 60

/** How long commits held their key on the target. Of one key, or of all. */
export type Holds = MeasuredHolds

export const NO_HOLDS: Holds = { commits: 0, sumMs: 0, sumSquaresMs: 0, maxMs: 0 }

/** A hold that is no time is not counted. */
export function withHold(holds: Holds, heldMs: number): Holds {
  if (!(heldMs >= 0 && heldMs < Number.POSITIVE_INFINITY)) return holds
  return mergeHolds(holds, { commits: 1, sumMs: heldMs, sumSquaresMs: heldMs * heldMs, maxMs: heldMs })
}

export function mergeHolds(a: Holds, b: Holds): Holds {
  return {
    commits: a.commits + b.commits,
    sumMs: a.sumMs + b.sumMs,
    sumSquaresMs: a.sumSquaresMs + b.sumSquaresMs,
    maxMs: Math.max(a.maxMs, b.maxMs),
  }
}

/** What came in since an earlier reading; all of it where the counters began anew. The longest is that of the whole life. */
export function holdsSince(now: Holds, before: Holds): Holds {
  const since = {
    commits: now.commits - before.commits,
    sumMs: now.sumMs - before.sumMs,
    sumSquaresMs: now.sumSquaresMs - before.sumSquaresMs,
    maxMs: now.maxMs,
  }
  const anew = since.commits < 0 || since.sumMs < 0 || since.sumSquaresMs < 0 || now.maxMs < before.maxMs
  return anew ? now : since
}

export interface KeyTraffic {
  readonly key: string
  /** On either arm within the window, of a sketch: between count - error and count (hot-keys.ts). */
  readonly arrivals: { readonly count: number; readonly error: number }
  /** On the target within the window; null: the key has not moved. */
  readonly moved: { readonly holds: Holds; readonly commits: number; readonly retries: number } | null
}

export interface SaturationEvidence {
  readonly windowMs: number
  /** Whether sessions queue for a key (FIFO on): then holds are measured, else retries. */
  readonly queued: boolean
  readonly keys: readonly KeyTraffic[]
  /** Holds of all moved keys together. */
  readonly pool: Holds
  /** Growth of the load; 1 is today's. */
  readonly growth: number
}

export interface Bounds {
  readonly low: number
  readonly mean: number
  readonly high: number
}

export type SaturationBasis = 'own holds' | 'holds of the moved keys' | 'own retries' | 'retries of the moved keys'

export interface KeySaturation {
  readonly key: string
  /** Unknown: too little was seen for any bound; it is not healthy for that (INV-10). */
  readonly act: 'none' | 'warn' | 'block' | 'unknown'
  readonly basis: SaturationBasis | null
  readonly arrivalsPerSecond: Bounds
  /** Of a commit; null where nothing is known of it. */
  readonly holdMs: Bounds | null
  readonly rho: Bounds | null
  /** The growth at which rho, as it is most likely, comes to SATURATION_BLOCK; null where that is not known. */
  readonly growthToBlock: number | null
}

/** The hottest first; keys of which nothing is known last. */
export function saturation(evidence: SaturationEvidence): KeySaturation[] {
  const { windowMs, growth, keys } = evidence
  assert(growth > 0 && Number.isFinite(growth), 'the load grows by a number')
  // A window that is none (a clock that jumped) gives no rate: everything is unknown.
  const seconds = windowMs > 0 && Number.isFinite(windowMs) ? windowMs / 1_000 : 0
  const poolWindow = evidence.queued ? null : retryWindow(keys, seconds)
  return keys
    .map((traffic) => keySaturation(traffic, { evidence, seconds, poolWindow }))
    .sort((a, b) => (b.rho?.low ?? -1) - (a.rho?.low ?? -1) || (b.rho?.mean ?? -1) - (a.rho?.mean ?? -1) || (a.key < b.key ? -1 : 1))
}

interface Look {
  readonly evidence: SaturationEvidence
  readonly seconds: number
  /** Seconds, by the retries of the moved keys. */
  readonly poolWindow: Bounds | null
}

/** What a key's rho for today's load is made of. */
interface Made {
  readonly basis: SaturationBasis | null
  readonly holdSeconds: Bounds | null
  readonly rho: Bounds | null
}

const NOTHING: Made = { basis: null, holdSeconds: null, rho: null }

function keySaturation(traffic: KeyTraffic, look: Look): KeySaturation {
  const { growth } = look.evidence
  const arrivalsPerSecond = arrivalRate(traffic.arrivals, look.seconds)
  const known = look.seconds > 0 && arrivalsPerSecond.high < Number.POSITIVE_INFINITY
  const made = known ? (look.evidence.queued ? byHolds : byRetries)(traffic, arrivalsPerSecond, look) : NOTHING
  const rho = made.rho === null ? null : scaled(made.rho, growth)
  return {
    key: traffic.key,
    act: rho === null ? 'unknown' : rho.low >= SATURATION_BLOCK ? 'block' : rho.low >= SATURATION_WARN ? 'warn' : 'none',
    basis: made.basis,
    arrivalsPerSecond,
    holdMs: made.holdSeconds === null ? null : scaled(made.holdSeconds, 1_000),
    rho,
    growthToBlock: rho !== null && rho.mean > 0 ? (SATURATION_BLOCK * growth) / rho.mean : null,
  }
}

function arrivalRate({ count, error }: KeyTraffic['arrivals'], seconds: number): Bounds {
  if (seconds === 0 || !(count >= 0) || !(error >= 0)) return { low: 0, mean: 0, high: Number.POSITIVE_INFINITY }
  const least = Math.max(0, count - error)
  return scaled({ low: poissonBound(least, 'low'), mean: (least + count) / 2, high: poissonBound(count, 'high') }, 1 / seconds)
}

function byHolds({ moved }: KeyTraffic, arrivals: Bounds, { evidence }: Look): Made {
  const own = moved !== null && moved.holds.commits >= OWN_HOLDS_MIN
  const holdSeconds = meanHold(own ? moved.holds : evidence.pool)
  if (holdSeconds === null) return NOTHING
  return { basis: own ? 'own holds' : 'holds of the moved keys', holdSeconds, rho: product(arrivals, holdSeconds) }
}

function byRetries({ moved }: KeyTraffic, arrivals: Bounds, { poolWindow }: Look): Made {
  if (moved !== null && moved.commits >= OWN_HOLDS_MIN && moved.retries >= 0)
    return { basis: 'own retries', holdSeconds: null, rho: retryRatio(moved.retries, moved.commits) }
  if (poolWindow === null) return NOTHING
  return { basis: 'retries of the moved keys', holdSeconds: poolWindow, rho: product(arrivals, poolWindow) }
}

/** Seconds; null of nothing, or of what is no time. */
function meanHold({ commits, sumMs, sumSquaresMs, maxMs }: Holds): Bounds | null {
  if (!(commits > 0) || ![sumMs, sumSquaresMs, maxMs].every((value) => value >= 0 && value < Number.POSITIVE_INFINITY)) return null
  const mean = sumMs / commits
  const meanSquare = sumSquaresMs / commits
  const variance = Math.max(0, meanSquare - mean * mean)
  const low = Math.max(0, mean - Math.sqrt((2 * NATS * meanSquare) / commits))
  const high = mean + Math.sqrt((2 * NATS * variance) / commits) + (3 * NATS * maxMs) / commits
  return scaled({ low, mean, high }, 1 / 1_000)
}

/** Beyond where it follows rho it says only that rho is no less. */
function retryRatio(retries: number, commits: number): Bounds {
  const low = Math.min(RETRY_RATIO_LINEAR_MAX, poissonBound(retries, 'low') / commits)
  const high = poissonBound(retries, 'high') / commits
  return { low, mean: retries / commits, high: high > RETRY_RATIO_LINEAR_MAX ? Number.POSITIVE_INFINITY : high }
}

/**
 * The window that the moved keys' retries come from: sum of retries = sum of commits x arrivals x window, over keys whose ratio still follows
 * it.
 */
function retryWindow(keys: readonly KeyTraffic[], seconds: number): Bounds | null {
  if (seconds === 0) return null
  let [retries, exposure] = [0, 0]
  for (const { moved, arrivals } of keys) {
    if (moved === null || !(moved.commits > 0) || !(moved.retries >= 0) || !(arrivals.count > 0)) continue
    if (moved.retries / moved.commits > RETRY_RATIO_LINEAR_MAX) continue
    retries += moved.retries
    exposure += (moved.commits * arrivals.count) / seconds
  }
  if (exposure === 0) return null
  return scaled({ low: poissonBound(retries, 'low'), mean: retries, high: poissonBound(retries, 'high') }, 1 / exposure)
}

/** Where l - n + n ln(n / l) = ln(1 / ALPHA), below n or above it. */
export function poissonBound(n: number, side: 'low' | 'high'): number {
  if (n === 0) return side === 'low' ? 0 : NATS
  const far = (rate: number) => rate - n + n * Math.log(n / rate) >= NATS
  // At 0 it is infinite; above, this is far enough: l - n + n ln(n / l) >= (l - n)^2 / (2 l). What is returned is never inside.
  let [outside, inside] = side === 'low' ? [0, n] : [n + 2 * NATS + Math.sqrt(2 * NATS * n), n]
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (outside + inside) / 2
    if (middle === 0 || far(middle)) outside = middle
    else inside = middle
  }
  return outside
}

function product(a: Bounds, b: Bounds): Bounds {
  return { low: a.low * b.low, mean: a.mean * b.mean, high: a.high * b.high }
}

function scaled({ low, mean, high }: Bounds, by: number): Bounds {
  return { low: low * by, mean: mean * by, high: high * by }
}
