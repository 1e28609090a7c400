// Promises: the absolute limits: a share of the canary's requests that fail, or that take longer than the SLO allows, which is too much
// whatever control does, and all there is to judge by where control is not known yet or gone. An e-detector (e-detector.ts) of a coin whose
// bias is at most the limit p:
//
//   LR_d = d^a ((1 - d p) / (1 - p))^(n - a),   d = {2, 4, 8},   R_d = (R_d + 1) LR_d
//
// Its mean is at most 1 for every bias up to p. Where control itself is at more than half of the limit in the same span, p is twice (errors)
// or one and a half times (latency) its share: what both arms suffer is no reason to go back. Pure; the state is plain JSON.
import { advanced, CLIP, type Clip, type EDetector, freshDetector, rested } from './e-detector.ts'

const RATIOS = [2, 4, 8]
/** A coin of the alternative is never surer than this, so that one request that is well has a likelihood. */
const MOST_SHARE = 0.98
/** Fewer of control's requests in a span tell no share. */
const CONTROL_LEAST_REQUESTS = 100

export interface Limit {
  /** Of the canary's requests. */
  readonly share: number
  /** Times control's share, where that is more. */
  readonly timesControl: number
  readonly clip: Clip
}

/** Errors gain 12 nats in five seconds at most, which no threshold is as low as: a target that fails for less than those is not out yet. */
export const errorLimit = (share: number): Limit => ({ share, timesControl: 2, clip: { nats: 12, windowMs: 5_000 } })

/** A P99 that the SLO allows is one of which a hundredth of the requests is over. */
export const SLO_LIMIT: Limit = { share: 0.01, timesControl: 1.5, clip: CLIP }

export const FRESH_LIMIT: EDetector = freshDetector(RATIOS.length)

/** `a` of the canary's `n` requests were over, `k` of control's `m`. */
export function limitStep(
  detector: EDetector,
  limit: Limit,
  { a, n, k, m }: { readonly a: number; readonly n: number; readonly k: number; readonly m: number },
  spanMs: number,
): EDetector {
  const p = m >= CONTROL_LEAST_REQUESTS ? Math.max(limit.share, (limit.timesControl * k) / m) : limit.share
  if (n === 0 || p >= MOST_SHARE) return rested(detector, spanMs, limit.clip)
  const ratios = RATIOS.map((ratio) => {
    const d = Math.min(ratio, MOST_SHARE / p)
    return a * Math.log(d) + (n - a) * Math.log((1 - d * p) / (1 - p))
  })
  return advanced(detector, ratios, spanMs, limit.clip)
}
