// Promises: detector 2: an answer with an exact guarantee to "is the canary's P99 more than `margin` over control's?", valid at every time
// that it is looked at; it stands in reports beside a verdict and moves nothing. Howard and Ramdas (Sequential estimation of quantiles with
// applications to A/B testing and best-arm identification, 2022), two-sample:
//
//   E = min over x of [ ln M_canary(x) + ln M_control(x / (1 + margin)) ],   reject at ln(1 / alpha)
//
// M_canary(x) is a test martingale's bound against "at most a share g = 1 - 0.99 of the canary's requests are over x", M_control(y) against
// "at least g of control's are over y", both mixed over a Beta(1, (1 - g) / g) prior on their side of g. If the canary's P99 is within the
// margin, both of these hold at x = (1 + margin) P99(control), so that the minimum over x is at most a product of two independent martingales.
// Between two buckets the less favourable of both is taken, so the buckets cost power, never the guarantee. Pure; the state is plain JSON.
import { logBeta, logBetaTails } from '../lib/beta.ts'
import type { QuantileEvidence } from '../model/judge-verdict.ts'
import type { Arms } from './arm-counts.ts'
import { added, type DenseCounts, NO_WEIGHTS, totalOf } from './dense-counts.ts'
import { bucketOf, floorMs } from './latencies.ts'

const QUANTILE = 0.99
const OVER = 1 - QUANTILE
const MARGIN = 0.25
const PRIOR_A = 1
const PRIOR_B = QUANTILE / OVER
/** Each hour is a test of its own: what went well for days must not outweigh what goes wrong now. */
const WINDOW_MS = 3_600_000

export interface QuantileState {
  readonly canary: DenseCounts
  readonly control: DenseCounts
  readonly windowMs: number
}

export const FRESH_QUANTILE: QuantileState = { canary: NO_WEIGHTS, control: NO_WEIGHTS, windowMs: 0 }

export function quantileStep(state: QuantileState, { canary, control }: Arms, spanMs: number): QuantileState {
  const from = state.windowMs >= WINDOW_MS ? FRESH_QUANTILE : state
  return {
    canary: added(from.canary, canary.latencies),
    control: added(from.control, control.latencies),
    windowMs: from.windowMs + spanMs,
  }
}

export function quantileEvidence({ canary, control, windowMs }: QuantileState): QuantileEvidence {
  const [n, m] = [totalOf(canary), totalOf(control)]
  // x below every latency, and above every one.
  let nats = Math.min(moreThanOver(n, n) + lessThanOver(m, m), moreThanOver(0, n) + lessThanOver(0, m))
  const top = Math.max(canary.from + canary.weights.length, control.from + control.weights.length)
  const bottom = Math.min(canary.from, control.from)
  let canaryOver = 0
  for (let bucket = top; bucket >= bottom; bucket--) {
    // x anywhere in this bucket: the canary's over it are at least those of the buckets above; control's over x / (1 + margin) at most those
    // from the bucket of the least such y on.
    const controlOver = overFrom(control, bucketOf(floorMs(bucket) / (1 + MARGIN)))
    nats = Math.min(nats, moreThanOver(canaryOver, n) + lessThanOver(controlOver, m))
    canaryOver += canary.weights[bucket - canary.from] ?? 0
  }
  return { nats, margin: MARGIN, windowMs }
}

function overFrom({ from, weights }: DenseCounts, bucket: number): number {
  let sum = 0
  for (let i = Math.max(0, bucket - from); i < weights.length; i++) sum += weights[i]!
  return sum
}

/** ln M against "a share of at most OVER is over": the mixture of the shares above it, over the likelihood at OVER. */
function moreThanOver(over: number, all: number): number {
  return mixture(over, all) + posterior(over, all).upper - PRIOR.upper
}

/** ln M against "a share of at least OVER is over". */
function lessThanOver(over: number, all: number): number {
  return mixture(over, all) + posterior(over, all).lower - PRIOR.lower
}

const PRIOR = logBetaTails(OVER, PRIOR_A, PRIOR_B)

function posterior(over: number, all: number) {
  return logBetaTails(OVER, PRIOR_A + over, PRIOR_B + all - over)
}

function mixture(over: number, all: number): number {
  return (
    logBeta(PRIOR_A + over, PRIOR_B + all - over) - logBeta(PRIOR_A, PRIOR_B) - over * Math.log(OVER) - (all - over) * Math.log(QUANTILE)
  )
}
