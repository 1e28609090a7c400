// Promises: what is to be done about a canary, from what both arms did in one span of time: judge(state, evidence, config) is pure, its state
// is plain JSON, and so the same evidence gives the same verdict live, after a controller's restart, in `judge recheck` and in a backtest.
// INV-10: evidence that is missing, broken or out of time holds, and says so; with a canary out it holds for a bounded time, then goes back.
// A rollback is the last word: nothing but control is looked at any more until a person starts the canary again (`startedAgain`).
import { MEASURED_LABELS_MAX, OTHER_STATEMENTS } from '../model/measured.ts'
import { type Arms, mergeCounts, NO_COUNTS, unusableBecause } from './arm-counts.ts'
import { type PromotionConfig, promotionHolds, promotionLevel, type Standing } from './promotion.ts'
import {
  begunAgain,
  FRESH_STATEMENT,
  type Level,
  levelsOf,
  resized,
  type StatementConfig,
  type StatementState,
  statementStep,
  summaryOf,
} from './statement.ts'
import type { JudgeVerdict, VerdictEvidence } from './verdict.ts'

export interface JudgeConfig extends StatementConfig {
  /** Mean number of steps to a false alarm of all detectors together, at least. */
  readonly stepsPerFalseAlarm: number
  /** So long without evidence, and a canary that is out goes back. */
  readonly silenceMs: number
  readonly promotion: PromotionConfig
}

export const JUDGE_DEFAULTS = {
  sloMs: null,
  errorShare: 0.005,
  stepsPerFalseAlarm: 1e6,
  silenceMs: 60_000,
  promotion: { bakeMs: 600_000, leastRequests: 10_000, parityFreshMs: 600_000, lagFreshMs: 10_000, lagMostMs: 1_000 },
} as const satisfies JudgeConfig

/** What was seen in one span: one line of an evidence file. */
export interface Evidence {
  /** The span's end, by the controller's wall clock. */
  readonly tMs: number
  /** Its length, by the monotonic one. */
  readonly spanMs: number
  /** Which step of the ramp is out, 0: no canary. Another number is another share of the keys. */
  readonly step: number
  /** By statement; null: no metrics came. */
  readonly statements: Readonly<Record<string, Arms>> | null
  /** The last settled comparison of both stores, and how far the reverse sync is behind, with the wall clock's time of each. */
  readonly parity: { readonly tMs: number; readonly differences: number } | null
  readonly lag: { readonly tMs: number; readonly ms: number } | null
  /** Keys that saturate, or will (saturation.ts). */
  readonly saturation: readonly Saturation[]
}

export interface Saturation {
  readonly key: string
  readonly act: 'warn' | 'block'
  readonly rho: number
  readonly threshold: number
}

export interface JudgeState {
  readonly statements: Readonly<Record<string, StatementState>>
  readonly step: number
  readonly lastMs: number | null
  readonly silentMs: number
  readonly bakedMs: number
  /** What the last span said of saturation, so that each is a verdict once. */
  readonly saturated: readonly string[]
  readonly rolledBack: JudgeVerdict | null
}

export interface Judgement {
  readonly state: JudgeState
  /** New ones; at most one rollback, and then nothing after it. */
  readonly verdicts: readonly JudgeVerdict[]
  /** Why nothing is judged, or the next step not taken. */
  readonly holds: readonly string[]
  readonly promote: boolean
  /** Of each detector and statement; the threshold of all is `thresholdOf`. */
  readonly levels: readonly Level[]
}

export const FRESH_JUDGE: JudgeState = {
  statements: {},
  step: 0,
  lastMs: null,
  silentMs: 0,
  bakedMs: 0,
  saturated: [],
  rolledBack: null,
}

/** Why nothing is promoted while nothing is on the target: all that holds then, as long as the gateways tell of control. */
export const NO_CANARY = 'no canary is out'

/** Detectors that share the false alarms, of each statement: tail, errors, error-limit; slo-limit where a bound is set. */
const METRICS = 3
export const MOST_STATEMENTS = MEASURED_LABELS_MAX
const MOST_SPAN_MS = 60_000
/** What a span counts for whose length is no length. */
const NOMINAL_SPAN_MS = 1_000
/** A clock that is set a little, or a span that is a little late, is no jump. */
const CLOCK_SLACK_MS = 2_000
/** A statement with less of the canary's requests waits for no proof of its own. */
const COUNTING_SHARE = 0.05

export function judge(before: JudgeState, evidence: Evidence, config: JudgeConfig): Judgement {
  if (before.rolledBack !== null) {
    const holds = [`rolled back by ${before.rolledBack.detector}: off until a person starts the canary again`]
    return judgement(controlLearned(before, evidence, config), [], holds)
  }
  const wrong = wrongWriteVerdict(evidence)
  if (wrong !== null) return judgement({ ...before, rolledBack: wrong }, [wrong], [])
  const lastMs = Number.isFinite(evidence.tMs) ? evidence.tMs : before.lastMs
  const stepped = evidence.step === before.step || !isStep(evidence.step) ? before : nextStep(before, evidence.step)
  const unusable = unusableEvidence(before, evidence)
  if (unusable !== null) return silent({ ...stepped, lastMs }, evidence, unusable, config)
  const arms = grouped(stepped.statements, evidence.statements!)
  const state: JudgeState = { ...stepped, lastMs, statements: allStepped(stepped.statements, arms, evidence.spanMs, config) }
  const canaryRequests = Object.values(arms).reduce((sum, { canary }) => sum + canary.requests, 0)
  if (state.step === 0) return judgement(state, [], [NO_CANARY])
  if (canaryRequests === 0) return silent(state, evidence, 'the canary has no traffic', config)
  return judged({ ...state, silentMs: 0, bakedMs: state.bakedMs + evidence.spanMs }, evidence, config)
}

/** A person has decided: the evidence of before counts no more, what is known of control does. */
export function startedAgain(state: JudgeState): JudgeState {
  const statements = Object.fromEntries(Object.entries(state.statements).map(([name, one]) => [name, begunAgain(one)]))
  return { ...FRESH_JUDGE, lastMs: state.lastMs, statements }
}

/** While a canary is off, so that a next one is judged from its first minute. */
function controlLearned(state: JudgeState, evidence: Evidence, config: JudgeConfig): JudgeState {
  const lastMs = Number.isFinite(evidence.tMs) ? evidence.tMs : state.lastMs
  if (unusableEvidence(state, evidence) !== null) return { ...state, lastMs }
  const arms = grouped(state.statements, evidence.statements!)
  const alone = Object.fromEntries(Object.entries(arms).map(([name, { control }]) => [name, { canary: NO_COUNTS, control }]))
  return { ...state, lastMs, statements: allStepped(state.statements, alone, evidence.spanMs, config) }
}

function allStepped(
  before: Readonly<Record<string, StatementState>>,
  arms: Readonly<Record<string, Arms>>,
  spanMs: number,
  config: JudgeConfig,
): Record<string, StatementState> {
  // A statement may be called "constructor": what a plain object inherits is no state.
  const stateOf = (name: string) => (Object.hasOwn(before, name) ? before[name]! : FRESH_STATEMENT)
  const next = Object.entries(arms).map(([name, one]) => [name, statementStep(stateOf(name), one, spanMs, config)] as const)
  return Object.fromEntries([...Object.entries(before), ...next])
}

/** Statements past the limit are judged together. */
function grouped(known: Readonly<Record<string, unknown>>, statements: Readonly<Record<string, Arms>>): Readonly<Record<string, Arms>> {
  const names = new Set(Object.keys(known))
  for (const name of Object.keys(statements)) if (names.size < MOST_STATEMENTS) names.add(name)
  if (Object.keys(statements).every((name) => names.has(name))) return statements
  const arms = new Map<string, Arms>()
  for (const [statement, { canary, control }] of Object.entries(statements)) {
    const name = names.has(statement) ? statement : OTHER_STATEMENTS
    const more = arms.get(name) ?? { canary: NO_COUNTS, control: NO_COUNTS }
    arms.set(name, { canary: mergeCounts(more.canary, canary), control: mergeCounts(more.control, control) })
  }
  return Object.fromEntries(arms)
}

function judgement(state: JudgeState, verdicts: readonly JudgeVerdict[], holds: readonly string[]): Judgement {
  return { state, verdicts, holds, promote: false, levels: [] }
}

function judged(state: JudgeState, evidence: Evidence, config: JudgeConfig): Judgement {
  const levels = Object.entries(state.statements).flatMap(([statement, one]) => levelsOf(statement, one))
  const threshold = thresholdOf(state, config)
  const alarm = levels.find(({ level }) => level >= threshold)
  if (alarm !== undefined) {
    const verdict = alarmVerdict(alarm, state.statements[alarm.statement]!, { evidence, threshold })
    return { ...judgement({ ...state, rolledBack: verdict }, [verdict], []), levels }
  }
  const verdicts = saturationVerdicts(state, evidence)
  const saturated = evidence.saturation.map(saturationName)
  const blocked = evidence.saturation.filter(({ act }) => act === 'block').map(({ key }) => `key ${key} saturates`)
  const notJudged = Object.values(state.statements).flatMap(({ hold }) => (hold === null ? [] : [hold]))
  const holds = [...new Set([...notJudged, ...blocked, ...promotionHolds(standing(state, evidence), config.promotion)])]
  return { state: { ...state, saturated }, verdicts, holds, promote: holds.length === 0, levels }
}

export function thresholdOf(
  { statements }: Pick<JudgeState, 'statements'>,
  config: Pick<JudgeConfig, 'stepsPerFalseAlarm' | 'sloMs'>,
): number {
  const metrics = config.sloMs === null ? METRICS : METRICS + 1
  return config.stepsPerFalseAlarm * metrics * Math.max(1, Object.keys(statements).length)
}

/** Evidence of a canary that is out is missing. What a statement has gathered so far stays as it is. */
function silent(before: JudgeState, evidence: Evidence, because: string, config: JudgeConfig): Judgement {
  if (before.step === 0) return judgement({ ...before, silentMs: 0 }, [], [because, NO_CANARY])
  const { spanMs, tMs } = evidence
  const silentMs = before.silentMs + (isSpan(spanMs) ? spanMs : NOMINAL_SPAN_MS)
  const state = { ...before, silentMs }
  if (silentMs < config.silenceMs) return judgement(state, [], [`${because}, for ${Math.round(silentMs / 1_000)} s`])
  const atMs = Number.isFinite(tMs) ? tMs : (before.lastMs ?? 0)
  const verdict: JudgeVerdict = {
    tMs: atMs,
    act: 'rollback',
    detector: 'silence',
    evidence: plainEvidence(atMs, { level: silentMs, threshold: config.silenceMs, numbers: { silentMs } }),
  }
  return judgement({ ...state, rolledBack: verdict }, [verdict], [because])
}

function unusableEvidence({ lastMs }: JudgeState, { tMs, spanMs, step, statements }: Evidence): string | null {
  if (!isStep(step)) return `a step ${step} is none`
  if (statements === null) return 'no metrics came'
  if (!Number.isFinite(tMs)) return 'the evidence has no time'
  if (!isSpan(spanMs)) return `a span of ${spanMs} ms is none`
  if (lastMs !== null && tMs <= lastMs) return `the clock went back by ${lastMs - tMs} ms, or this was seen already`
  if (lastMs !== null && tMs - lastMs > spanMs + CLOCK_SLACK_MS) return `nothing is known of ${tMs - lastMs - spanMs} ms before this`
  for (const [statement, { canary, control }] of Object.entries(statements)) {
    const because = unusableBecause(canary) ?? unusableBecause(control)
    if (because !== null) return `${statement}: ${because}`
  }
  return null
}

function isStep(step: number): boolean {
  return Number.isSafeInteger(step) && step >= 0
}

function isSpan(ms: number): boolean {
  return ms > 0 && ms <= MOST_SPAN_MS
}

/** One confirmed lost or wrong write is enough, whatever else the evidence lacks. */
function wrongWriteVerdict(evidence: Evidence): JudgeVerdict | null {
  if (evidence.step === 0) return null
  for (const [statement, { canary }] of Object.entries(evidence.statements ?? {})) {
    if (!(canary.wrongWrites > 0)) continue
    const numbers = { wrongWrites: canary.wrongWrites }
    const told = plainEvidence(evidence.tMs, { level: canary.wrongWrites, threshold: 1, numbers })
    return { tMs: evidence.tMs, act: 'rollback', detector: 'wrong-write', evidence: { ...told, statement } }
  }
  return null
}

function nextStep(state: JudgeState, step: number): JudgeState {
  // From no canary or to none: another canary, that is not judged for what an earlier one did.
  const another = step === 0 || state.step === 0
  const change = another ? begunAgain : resized
  const statements = Object.fromEntries(Object.entries(state.statements).map(([name, one]) => [name, change(one)]))
  // One that grows batch by batch in a silence is as silent as one that stands (INV-10).
  return { ...state, step, statements, bakedMs: 0, silentMs: another ? 0 : state.silentMs }
}

function alarmVerdict(
  { detector, statement, level }: Level,
  state: StatementState,
  { evidence: { tMs }, threshold }: { readonly evidence: Evidence; readonly threshold: number },
): JudgeVerdict {
  const window = { fromMs: tMs - state.quantile.windowMs, toMs: tMs }
  const told = { statement, level, threshold, stepsPerFalseAlarm: threshold, window, ...summaryOf(state) }
  return { tMs, act: 'rollback', detector, evidence: told }
}

/** Of what needs no statistics. */
function plainEvidence(atMs: number, told: Pick<VerdictEvidence, 'level' | 'threshold' | 'numbers'>): VerdictEvidence {
  return { statement: null, ...told, stepsPerFalseAlarm: null, window: { fromMs: atMs, toMs: atMs }, arms: null, quantileTest: null }
}

/** Each key and act once, for as long as it is said without a break. */
function saturationVerdicts({ saturated }: JudgeState, evidence: Evidence): JudgeVerdict[] {
  return evidence.saturation
    .filter((one) => !saturated.includes(saturationName(one)))
    .map(({ key, act, rho, threshold }) => ({
      tMs: evidence.tMs,
      act,
      detector: 'saturation',
      key,
      evidence: plainEvidence(evidence.tMs, { level: rho, threshold, numbers: { rho } }),
    }))
}

function saturationName({ key, act }: Saturation): string {
  return `${act} ${key}`
}

function standing({ statements, bakedMs }: JudgeState, { tMs, parity, lag }: Evidence): Standing {
  const all = Object.entries(statements)
  const requests = all.reduce((sum, [, one]) => sum + one.requests, 0)
  const counting = all.filter(([, one]) => one.requests > 0 && one.requests >= COUNTING_SHARE * requests)
  return {
    bakedMs,
    requests,
    levels: Object.fromEntries(counting.map(([statement, { promotion }]) => [statement, promotionLevel(promotion)])),
    control: counting.some(([, { tail }]) => tail.last === null)
      ? 'none'
      : counting.some(([, { tail }]) => tail.last?.frozen)
        ? 'gone'
        : 'compared',
    parity: parity === null ? null : { ageMs: tMs - parity.tMs, differences: parity.differences },
    lag: lag === null ? null : { ageMs: tMs - lag.tMs, ms: lag.ms },
  }
}
