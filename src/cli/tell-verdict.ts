// Promises: a verdict as people read it: when, what is done, by which detector, and the numbers that it can be argued with.

import type { ArmSummary, JudgeVerdict } from '../canary/verdict.ts'
import { significant } from '../lib/significant.ts'

/** Times from here on are of the calendar, in milliseconds since 1970. */
const CALENDAR_FROM_MS = 1e11

const WOULD: Readonly<Record<JudgeVerdict['act'], string>> = {
  rollback: 'the traffic would have gone back to PostgreSQL',
  block: 'the canary would have grown no further',
  warn: 'somebody would have been told',
}

const DID: typeof WOULD = {
  rollback: 'the traffic was ordered back to PostgreSQL',
  block: 'the canary grows no further',
  warn: 'nothing but this was done',
}

/** Several lines. `startMs`: of the history that was judged; null: it was said live. */
export function tellVerdict({ tMs, act, detector, key, evidence }: JudgeVerdict, startMs: number | null): string {
  const about = key ?? evidence.statement
  const when = startMs === null ? new Date(tMs).toISOString() : timeOf(tMs, startMs)
  const done = (startMs === null ? DID : WOULD)[act]
  const lines = [`${when}: ${act} by ${detector}${about === null ? '' : ` of ${about}`}: ${done}.`]
  lines.push(`evidence ${significant(evidence.level, 3)} of ${significant(evidence.threshold, 3)}`)
  const { x0Ms, blockMs, canaryOver, canaryAll, controlOver, controlAll } = evidence.numbers
  if (detector === 'tail' && x0Ms !== undefined && blockMs !== undefined) {
    const over = `${canaryOver} of ${canaryAll} requests of the canary, ${controlOver} of ${controlAll} of control`
    lines.push(`last block, ${Math.round(blockMs / 1_000)} s: over ${tellMs(x0Ms)} were ${over}`)
  }
  const { arms } = evidence
  // A tail that began just now hardly moves quantiles of the whole step.
  if (arms !== null) lines.push(`since the step began: canary ${tellArm(arms.canary)}; control ${tellArm(arms.control)}`)
  return lines.join('\n    ')
}

function timeOf(tMs: number, startMs: number): string {
  const into = `${Math.round((tMs - startMs) / 1_000)} s in`
  return tMs >= CALENDAR_FROM_MS ? `${into} (${new Date(tMs).toISOString()})` : into
}

export function tellArm({ requests, p50Ms, p99Ms }: ArmSummary): string {
  return `${Math.round(requests)} requests, p50 ${tellMs(p50Ms)}, p99 ${tellMs(p99Ms)}`
}

function tellMs(ms: number | null): string {
  return ms === null ? 'unknown' : `${significant(ms, 3)} ms`
}
