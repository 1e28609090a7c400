// Promises: all detectors of one statement, led through the same spans: one state, one list of levels. Pure; the state is plain JSON.
import type { Arms } from './arm-counts.ts'
import { type DenseCounts, quantileMs, totalOf } from './dense-counts.ts'
import { type EDetector, levelOf } from './e-detector.ts'
import { errorStep, FRESH_ERRORS } from './errors.ts'
import { countFrom, countOf, firstBucketFrom } from './latencies.ts'
import { errorLimit, FRESH_LIMIT, limitStep, SLO_LIMIT } from './limits.ts'
import { FRESH_PROMOTION, type PromotionTest, promotionStep, withinSloStep } from './promotion.ts'
import { FRESH_QUANTILE, type QuantileState, quantileEvidence, quantileStep } from './quantile-test.ts'
import { FRESH_TAIL, type JudgedBlock, type TailConfig, type TailState, tailResized, tailStep } from './tail.ts'
import type { ArmSummary, DetectorName, VerdictEvidence } from './verdict.ts'

export interface StatementConfig extends TailConfig {
  /** Of the canary's requests that may fail. */
  readonly errorShare: number
}

export interface StatementState {
  readonly tail: TailState
  readonly errors: EDetector
  readonly errorLimit: EDetector
  readonly sloLimit: EDetector
  readonly quantile: QuantileState
  readonly promotion: PromotionTest
  /** The canary's, since the step began. */
  readonly requests: number
  /** What the last span counted. */
  readonly last: { readonly errors: number; readonly requests: number; readonly controlErrors: number; readonly controlRequests: number }
  /** Why its tail is not judged. */
  readonly hold: string | null
}

export const FRESH_STATEMENT: StatementState = {
  tail: FRESH_TAIL,
  errors: FRESH_ERRORS,
  errorLimit: FRESH_LIMIT,
  sloLimit: FRESH_LIMIT,
  quantile: FRESH_QUANTILE,
  promotion: FRESH_PROMOTION,
  requests: 0,
  last: { errors: 0, requests: 0, controlErrors: 0, controlRequests: 0 },
  hold: null,
}

export function statementStep(before: StatementState, arms: Arms, spanMs: number, config: StatementConfig): StatementState {
  const { canary, control } = arms
  const tail = tailStep(before.tail, arms, spanMs, config)
  const failed = { a: canary.errors, n: canary.requests, k: control.errors, m: control.requests }
  return {
    tail: tail.state,
    errors: errorStep(before.errors, arms, spanMs),
    errorLimit: limitStep(before.errorLimit, errorLimit(config.errorShare), failed, spanMs),
    sloLimit: config.sloMs === null ? before.sloLimit : limitStep(before.sloLimit, SLO_LIMIT, overSlo(arms, config.sloMs), spanMs),
    quantile: quantileStep(before.quantile, arms, spanMs),
    promotion: tail.judged === null ? before.promotion : promoted(before.promotion, tail.judged, config),
    requests: before.requests + canary.requests,
    last: { errors: canary.errors, requests: canary.requests, controlErrors: control.errors, controlRequests: control.requests },
    hold: tail.hold,
  }
}

function promoted(before: PromotionTest, block: JudgedBlock, { sloMs }: TailConfig): PromotionTest {
  const test = promotionStep(before, block)
  return sloMs !== null && block.x0Ms <= sloMs ? withinSloStep(test, block) : test
}

function overSlo({ canary, control }: Arms, sloMs: number) {
  const bucket = firstBucketFrom(sloMs)
  return {
    a: countFrom(canary.latencies, bucket),
    n: countOf(canary.latencies),
    k: countFrom(control.latencies, bucket),
    m: countOf(control.latencies),
  }
}

/** Another share of the keys is out: what asks how this step does begins anew, what watches for harm goes on. */
export function resized(state: StatementState): StatementState {
  return { ...state, tail: tailResized(state.tail), quantile: FRESH_QUANTILE, promotion: FRESH_PROMOTION, requests: 0 }
}

/** A canary after one that was rolled back: only what is known of control stays. */
export function begunAgain({ tail }: StatementState): StatementState {
  return { ...FRESH_STATEMENT, tail: { ...tailResized(tail), detector: FRESH_TAIL.detector } }
}

export interface Level {
  readonly detector: DetectorName
  readonly statement: string
  readonly level: number
}

export function levelsOf(statement: string, state: StatementState): Level[] {
  return [
    { detector: 'tail', statement, level: levelOf(state.tail.detector) },
    { detector: 'errors', statement, level: levelOf(state.errors) },
    { detector: 'error-limit', statement, level: levelOf(state.errorLimit) },
    { detector: 'slo-limit', statement, level: levelOf(state.sloLimit) },
  ]
}

/** Since the step began. */
export function armsOf({ quantile }: StatementState): NonNullable<VerdictEvidence['arms']> {
  return { canary: armSummary(quantile.canary), control: armSummary(quantile.control) }
}

/** What a report says of the arms and of what each detector saw last. */
export function summaryOf(state: StatementState): Pick<VerdictEvidence, 'arms' | 'numbers' | 'quantileTest'> {
  const { tail, quantile, last } = state
  const block = tail.last
  return {
    arms: armsOf(state),
    numbers: {
      ...(block === null
        ? {}
        : { x0Ms: block.x0Ms, blockMs: block.spanMs, canaryOver: block.a, canaryAll: block.n, controlOver: block.k, controlAll: block.m }),
      canaryErrors: last.errors,
      canaryRequests: last.requests,
      controlErrors: last.controlErrors,
      controlRequests: last.controlRequests,
    },
    quantileTest: quantileEvidence(quantile),
  }
}

function armSummary(counts: DenseCounts): ArmSummary {
  return { requests: totalOf(counts), p50Ms: quantileMs(counts, 0.5), p99Ms: quantileMs(counts, 0.99) }
}
