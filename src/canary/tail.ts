// Promises: detector 1: a tail that grew on the canary and not on control, in seconds, whenever it begins. An e-detector (e-detector.ts) over
// categories of blocks:
//
//   x0  = max(1.25 * Q99(control, 5 min decay, past only), the SLO's bound if set)
//   B   = ceil(100 / canary_rps) s
//   cat = of a, n (canary's requests over x0, all) and k, m (control's): splits.ts
//   q[] = category frequencies of a control pseudo-canary, memory 7200 blocks
//   tilt(d)_i ~ q_i d^i ;  LR_j = tilt(delta_j)[cat] / tilt(1.5)[cat],  delta = {2.5, 4, 8, 16}
//
// and, lower of both, the same LR_j with the chances of this very block's pseudo-canary in the place of q: where latency wanders for minutes on
// both arms, q, which is of hours, knows too little of slow requests. Without it the simulator's harsh world has 2 false rollbacks in 70 days. A
// cap only lowers evidence, and what only the canary suffers is not in control's splits, so that it costs a second or two.
//
// The q_i of the seen category cancels: LR_j = (delta_j / 1.5)^cat * Z(1.5) / Z(delta_j) with Z(d) = sum_i q_i d^i, so a category that was
// never seen is no division by nothing. Everything that a block is judged by is older than the block. Time is the sum of the spans that were
// seen, so no clock can jump here. Pure; the state is plain JSON.
import type { Arms } from './arm-counts.ts'
import { added, type DenseCounts, NO_WEIGHTS, quantileMs } from './dense-counts.ts'
import { advanced, type EDetector, freshDetector, rested } from './e-detector.ts'
import { countFrom, countOf, firstBucketFrom } from './latencies.ts'
import { CATEGORIES, categoryOf, splitChances } from './splits.ts'

const DELTAS = [2.5, 4, 8, 16]
const TOLERATED = 1.5
const X0_FACTOR = 1.25
const CONTROL_DECAY_MS = 300_000
const SETTLED_DECAY_MS = 2 * 3_600_000
const RATE_DECAY_MS = 60_000
const BLOCK_REQUESTS = 100
const BLOCK_MOST_MS = 600_000
/** A block that was opened in silence is long: so many times the requests that it was made for end it sooner. */
const SURPRISE = 2
const MEMORY_BLOCKS = 7_200
const PRIOR_MS = 600_000
const PRIOR_LEAST_REQUESTS = 1_000
/** Fewer of control's requests in a block say nothing of a hundredth of them. */
const CONTROL_LEAST_REQUESTS = 100
/**
 * Blocks that no one has seen, by category, on top of q for good: where control never has a slow request, all tilts would be alike, each
 * LR 1, and R would grow by 1 a block until it is an alarm about nothing.
 */
const UNSEEN = [0, 0.5, 0.25, 0.125, 0.125]
/** A block that is so much larger or smaller than those of q has other frequencies: those of control's last ten minutes then. */
const RESIZED = 2

export interface TailState {
  readonly control: DenseCounts
  /** Of `control`, before the SLO's bound; null: nothing seen. */
  readonly x0Ms: number | null
  /** Control's last ten minutes: what q begins with, for a canary of any size. */
  readonly past: readonly Past[]
  readonly pastMs: number
  readonly controlRequests: number
  readonly q: CategoryMemory | null
  /** x0 before the SLO's bound, as a mean of its logarithm over hours: stands in for a control that is gone. */
  readonly settled: { readonly logSum: number; readonly weight: number }
  readonly rate: { readonly requests: number; readonly ms: number }
  readonly block: Block | null
  readonly detector: EDetector
  /** The last block that was judged. */
  readonly last: JudgedBlock | null
}

interface Past {
  readonly spanMs: number
  readonly k: number
  readonly m: number
}

interface CategoryMemory {
  readonly chances: readonly number[]
  readonly blocks: number
  /** Mean requests of a block. */
  readonly requests: number
}

interface Block {
  readonly x0Ms: number
  readonly lengthMs: number
  readonly mostRequests: number
  readonly spanMs: number
  readonly a: number
  readonly n: number
  readonly k: number
  readonly m: number
}

export interface JudgedBlock extends Block {
  readonly category: number
  /** Control had too few requests: x0 and q are those of before. */
  readonly frozen: boolean
}

export interface TailConfig {
  /** The latency that the user's SLO allows; null: none set. */
  readonly sloMs: number | null
}

export interface TailStep {
  readonly state: TailState
  /** The block that ended with this span. */
  readonly judged: JudgedBlock | null
  /** Why nothing is judged; null where it is, or where a block is under way. */
  readonly hold: string | null
}

export const FRESH_TAIL: TailState = {
  control: NO_WEIGHTS,
  x0Ms: null,
  past: [],
  pastMs: 0,
  controlRequests: 0,
  q: null,
  settled: { logSum: 0, weight: 0 },
  rate: { requests: 0, ms: 0 },
  block: null,
  detector: freshDetector(DELTAS.length),
  last: null,
}

/** One span, of counts that can be (arm-counts.ts). */
export function tailStep(before: TailState, arms: Arms, spanMs: number, config: TailConfig): TailStep {
  const n = countOf(arms.canary.latencies)
  const m = countOf(arms.control.latencies)
  const rate = {
    requests: before.rate.requests * decay(spanMs, RATE_DECAY_MS) + n,
    ms: before.rate.ms * decay(spanMs, RATE_DECAY_MS) + spanMs,
  }
  const seen = before.block ?? openBlock(before, config, m > 0)
  if (seen === null) return { state: withControl({ ...before, rate }, arms, spanMs, null), judged: null, hold: holdOf(before, n) }
  const x0Bucket = firstBucketFrom(seen.x0Ms)
  const k = countFrom(arms.control.latencies, x0Bucket)
  const block: Block = {
    ...seen,
    spanMs: seen.spanMs + spanMs,
    a: seen.a + countFrom(arms.canary.latencies, x0Bucket),
    n: seen.n + n,
    k: seen.k + k,
    m: seen.m + m,
  }
  const open: TailState = { ...before, rate, block }
  if (block.spanMs < block.lengthMs && block.n < block.mostRequests)
    return { state: withControl(open, arms, spanMs, k), judged: null, hold: holdOf(before, n) }
  const done = block.n === 0 ? { ...open, detector: rested(open.detector, block.spanMs) } : closeBlock(open, block)
  return {
    state: withControl({ ...done, block: null }, arms, spanMs, k),
    judged: done.last === before.last ? null : done.last,
    hold: holdOf(before, n),
  }
}

/** The share of the canary has changed: its rate and its q are others, and an open block mixes both. The evidence so far stays. */
export function tailResized(state: TailState): TailState {
  return { ...state, rate: FRESH_TAIL.rate, block: null, q: null }
}

/** What q begins from: until it is known, nothing is judged by this detector. */
export interface ControlKnown {
  readonly known: boolean
  readonly watchedMs: number
  readonly neededMs: number
}

export function controlKnown(state: TailState): ControlKnown {
  return { known: isReady(state), watchedMs: Math.min(state.pastMs, PRIOR_MS), neededMs: PRIOR_MS }
}

function holdOf(state: TailState, n: number): string | null {
  if (n === 0 || isReady(state)) return null
  if (state.settled.weight === 0) return 'tail: control has not been seen yet'
  return state.pastMs < PRIOR_MS
    ? `tail: control was watched for ${Math.round(state.pastMs / 1_000)} of ${PRIOR_MS / 1_000} s`
    : `tail: control had ${state.controlRequests} of ${PRIOR_LEAST_REQUESTS} requests`
}

function isReady(state: TailState): boolean {
  return state.pastMs >= PRIOR_MS && state.controlRequests >= PRIOR_LEAST_REQUESTS
}

/** Null while there is no x0 at all. */
function openBlock(state: TailState, config: TailConfig, hasControl: boolean): Block | null {
  const ownMs = hasControl && !isFrozen(state) ? state.x0Ms : settledX0Ms(state)
  if (ownMs === null) return null
  const perMs = state.rate.ms === 0 ? 0 : state.rate.requests / state.rate.ms
  const lengthMs = perMs === 0 ? 0 : Math.min(BLOCK_MOST_MS, Math.ceil(BLOCK_REQUESTS / (perMs * 1_000)) * 1_000)
  const mostRequests = SURPRISE * Math.max(BLOCK_REQUESTS, perMs * lengthMs)
  return { x0Ms: Math.max(ownMs, config.sloMs ?? 0), lengthMs, mostRequests, spanMs: 0, a: 0, n: 0, k: 0, m: 0 }
}

/** Control was too thin when last looked at: what it still says must not take the place of what it said in full. */
function isFrozen({ last }: TailState): boolean {
  return last?.frozen === true
}

function settledX0Ms({ settled }: TailState): number | null {
  return settled.weight === 0 ? null : Math.exp(settled.logSum / settled.weight)
}

function closeBlock(state: TailState, block: Block): TailState {
  // A length of 0: the rate was not known when the block began, so it says nothing but the rate.
  if (!isReady(state) || block.lengthMs === 0) return { ...state, detector: rested(state.detector, block.spanMs) }
  const frozen = block.m < CONTROL_LEAST_REQUESTS
  const { a, n } = block
  const [k, m] = frozen ? [0, 0] : [block.k, block.m]
  const memory = state.q ?? priorOf(state.past, n, block.spanMs)
  const q = n <= RESIZED * memory.requests && n * RESIZED >= memory.requests ? memory : priorOf(state.past, n, block.spanMs)
  const category = categoryOf(a, n, k, m)
  const splits = frozen ? q.chances : splitChances(n, k, m)
  return {
    ...state,
    q: frozen ? memory : remembered(memory, splits, n),
    detector: advanced(state.detector, cappedLogRatios(q, splits, category), block.spanMs),
    last: { ...block, category, frozen },
  }
}

/** The less of what `category` says by q and by the splits of its own block. */
function cappedLogRatios(q: CategoryMemory, splits: readonly number[], category: number): number[] {
  const now = logRatios({ ...q, chances: splits }, category)
  return logRatios(q, category).map((ratio, j) => Math.min(ratio, now[j]!))
}

function logRatios(q: CategoryMemory, category: number): number[] {
  const tolerated = Math.log(partition(q, TOLERATED))
  return DELTAS.map((delta) => category * Math.log(delta / TOLERATED) + tolerated - Math.log(partition(q, delta)))
}

/** Z(d), with the blocks that no one has seen. */
function partition({ chances, blocks }: CategoryMemory, d: number): number {
  let [sum, power] = [0, 1]
  for (let i = 0; i < CATEGORIES; i++) {
    sum += (chances[i]! * blocks + UNSEEN[i]!) * power
    power *= d
  }
  return sum / (blocks + 1)
}

function remembered(q: CategoryMemory, chances: readonly number[], n: number): CategoryMemory {
  const share = 1 / (Math.min(q.blocks, MEMORY_BLOCKS - 1) + 1)
  return {
    chances: q.chances.map((chance, i) => chance + (chances[i]! - chance) * share),
    blocks: Math.min(MEMORY_BLOCKS, q.blocks + 1),
    requests: q.requests + (n - q.requests) * share,
  }
}

/** What a canary of `n` requests in `blockMs` would have looked like in control's last ten minutes. */
function priorOf(past: readonly Past[], n: number, blockMs: number): CategoryMemory {
  let q: CategoryMemory = { chances: new Array<number>(CATEGORIES).fill(0), blocks: 0, requests: n }
  let [spanMs, k, m] = [0, 0, 0]
  for (const span of past) {
    spanMs += span.spanMs
    k += span.k
    m += span.m
    if (spanMs < blockMs) continue
    if (m >= CONTROL_LEAST_REQUESTS) q = remembered(q, splitChances(n, k, m), n)
    spanMs = k = m = 0
  }
  return q
}

/** Control's part of a span, after the block has been judged by what was before it. */
function withControl(state: TailState, { control }: Arms, spanMs: number, k: number | null): TailState {
  const m = countOf(control.latencies)
  if (m === 0 || isFrozen(state)) return state
  const next = added(state.control, control.latencies, decay(spanMs, CONTROL_DECAY_MS))
  const x0Ms = X0_FACTOR * quantileMs(next, 0.99)!
  const keep = decay(spanMs, SETTLED_DECAY_MS)
  const settled = { logSum: state.settled.logSum * keep + spanMs * Math.log(x0Ms), weight: state.settled.weight * keep + spanMs }
  const controlRequests = Math.min(Number.MAX_SAFE_INTEGER, state.controlRequests + m)
  if (k === null) return { ...state, control: next, x0Ms, settled, controlRequests }
  const past = [...state.past, { spanMs, k, m }]
  let pastMs = state.pastMs + spanMs
  let first = 0
  while (pastMs - past[first]!.spanMs >= PRIOR_MS) pastMs -= past[first++]!.spanMs
  return { ...state, control: next, x0Ms, settled, controlRequests, past: first === 0 ? past : past.slice(first), pastMs }
}

function decay(spanMs: number, decayMs: number): number {
  return Math.exp(-spanMs / decayMs)
}
