// Promises: since when what a rollback was decided by had been there, as far as the recorded evidence tells: the beginning of the first span
// after which the detector's evidence never came back to what chance does alone. An estimate for people; no decision depends on it. Pure.
import { type Evidence, type JudgeConfig, type JudgeState, judge } from './judge.ts'
import type { JudgeVerdict } from './verdict.ts'

/** R rises by about one a step while nothing is wrong, and falls back; over so much is a beginning. */
export const CHANCE_LEVEL = 100

export interface RecordedEvidence {
  readonly config: JudgeConfig
  readonly state: JudgeState
  readonly spans: readonly Evidence[]
}

/** Spans that are judged again at a stretch: some tens of milliseconds of many statements. */
const SPANS_AT_ONCE = 16

/** Null: the evidence does not reach back so far, or has no such detector. `breathe` lets others go on in between. */
export async function onsetMs(verdict: JudgeVerdict, recorded: RecordedEvidence, breathe: () => Promise<void>): Promise<number | null> {
  const { detector, evidence, tMs } = verdict
  if (detector === 'silence') return tMs - evidence.level
  if (detector === 'wrong-write' || detector === 'saturation') return null
  let state = recorded.state
  let onset: number | null = null
  let known = Object.hasOwn(state.statements, evidence.statement ?? '')
  for (const [i, span] of recorded.spans.entries()) {
    if (i % SPANS_AT_ONCE === SPANS_AT_ONCE - 1) await breathe()
    const judged = judge(state, span, recorded.config)
    state = judged.state
    const now = judged.levels.find((level) => level.detector === detector && level.statement === evidence.statement)
    if (now === undefined) continue
    if (now.level < CHANCE_LEVEL) onset = span.tMs
    // Harmed from the first request on.
    else if (!known) onset = span.tMs - span.spanMs
    known = true
  }
  return onset
}
