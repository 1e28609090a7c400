// Promises: what an incident's story has shown, computed from evidence alone. Pure.
import type { LedgerReport } from './check.ts'
import type { DebtRound } from './debt-round.ts'
import { type Fault, type IncidentName, SEEN_BY } from './incidents.ts'
import type { LoadCounts, LoadSample } from './load.ts'
import type { Parity } from './stage.ts'
import type { RecordedVerdict } from './watch.ts'

export interface Round {
  readonly fault: Fault
  /** Wall clock, ms: when the fault began. */
  readonly onsetMs: number
  /** Null: none came in time. */
  readonly verdict: RecordedVerdict | null
  /** Wall clock: the last key was PostgreSQL's again. Null: not in time. */
  readonly offMs: number | null
  /** Wall clock: writes on those keys are acknowledged again. */
  readonly backMs: number | null
  /** Slots that wait, by name, for a store that is silent. */
  readonly parkedSlots: readonly number[]
  /** Statements on the canary's keys, answered between onset and verdict. */
  readonly canaryRequestsPerSecond: number
}

export interface IncidentEvidence {
  readonly incident: IncidentName
  readonly rounds: readonly Round[]
  /** Rollbacks by verdict in all: one more than rounds is one without a cause. */
  readonly rollbacks: number
  readonly samples: readonly LoadSample[]
  readonly counts: LoadCounts
  readonly source: LedgerReport
  /** Null: the store answers nothing. */
  readonly target: LedgerReport | null
  readonly parity: Parity | null
  /** Of a store that was dead and answers again. Null: none was, or the keys were not served without it. */
  readonly debt: DebtRound | null
  readonly durationMs: number
  /** Of whom each account is. */
  readonly slotOf: (account: number) => number
}

/** Onset to verdict, and verdict to traffic off, at most: what the demo holds itself to. */
export const VERDICT_GOAL_MS = 60_000
export const OFF_GOAL_MS = 1_000

export function incidentReport(evidence: IncidentEvidence) {
  const { incident, rounds, counts, source, target, parity, debt } = evidence
  const both = (of: 'lost' | 'doubled' | 'unbalanced') => new Set([...source[of], ...(target?.[of] ?? [])]).size
  const [lost, doubled] = [both('lost'), both('doubled') + both('unbalanced')]
  const outside = outsideWrites(evidence)
  const failures = [
    ...rounds.flatMap(roundFailures),
    ...fail(evidence.rollbacks > rounds.length, `the judge went back ${evidence.rollbacks} times for ${rounds.length} causes`),
    ...fail(lost > 0, `${lost} acknowledged writes are lost`),
    ...fail(doubled > 0, `${doubled} writes took effect twice, or although refused`),
    ...fail(counts.staleReads > 0, `${counts.staleReads} reads were stale`),
    ...fail(counts.halfReads > 0, `${counts.halfReads} reads saw half a transaction`),
    ...fail((parity?.differences ?? 0) > 0, `${parity?.differences} rows differ`),
    ...fail((parity?.notChecked ?? 0) > 0, `${parity?.notChecked} rows were not compared`),
    ...fail(debt !== null && debt.parkedHomeMs === null, 'what waited for the store did not go home when it answered again'),
    ...fail(debt !== null && debt.parkedHomeMs !== null && debt.debtPaidMs === null, 'the debt was not paid'),
    ...fail(outside > 0, `${outside} writes were refused or unknown while nothing was wrong`),
  ]
  const told = rounds.map(toldRound)
  return {
    incident,
    ok: failures.length === 0,
    failures,
    detector: told.find((round) => round.detector !== null)?.detector ?? null,
    onsetToVerdictMs: longest(told.map((round) => round.onsetToVerdictMs)),
    verdictToOffMs: longest(told.map((round) => round.verdictToOffMs)),
    lostWrites: lost,
    doubledWrites: doubled,
    /** Null: the store cannot be asked; PostgreSQL alone was held against the journal of acknowledged writes. */
    differences: parity?.differences ?? null,
    comparedWith: parity === null ? ('the journal alone' as const) : ('both stores' as const),
    rowsCompared: parity?.rowsCompared ?? null,
    rounds: told,
    parkedSlots: rounds.at(-1)?.parkedSlots.length ?? 0,
    debtSlots: debt?.debtSlots ?? 0,
    /** Both from when the store answered again; null: it was never dead, or not in time. */
    parkedHomeMs: debt?.parkedHomeMs ?? null,
    debtPaidMs: debt?.debtPaidMs ?? null,
    acknowledgedWrites: counts.acknowledgedWrites,
    refusedWrites: counts.refusedWrites,
    unknownWrites: counts.unknownWrites,
    staleReads: counts.staleReads,
    halfReads: counts.halfReads,
    durationMs: Math.round(evidence.durationMs),
  }
}

export type IncidentReport = ReturnType<typeof incidentReport>

export function toldRound({ fault, onsetMs, verdict, offMs, backMs, canaryRequestsPerSecond }: Round) {
  return {
    fault,
    detector: verdict?.detector ?? null,
    statement: verdict?.statement ?? null,
    onsetToVerdictMs: verdict === null ? null : Math.round(verdict.atMs - onsetMs),
    verdictToOffMs: verdict === null || offMs === null ? null : Math.max(0, Math.round(offMs - verdict.atMs)),
    onsetToBackMs: backMs === null ? null : Math.round(backMs - onsetMs),
    canaryRequestsPerSecond,
  }
}

export function roundFailures(round: Round): string[] {
  const { fault, detector, onsetToVerdictMs, verdictToOffMs, onsetToBackMs } = toldRound(round)
  if (detector === null || onsetToVerdictMs === null) return [`${fault}: no verdict came`]
  return [
    ...fail(!SEEN_BY[fault].includes(detector), `${fault}: the verdict is by ${detector}, which cannot have seen it`),
    ...fail(onsetToVerdictMs < 0, `${fault}: the verdict came before anything was wrong`),
    ...fail(onsetToVerdictMs > VERDICT_GOAL_MS, `${fault}: the verdict came after ${onsetToVerdictMs} ms, more than ${VERDICT_GOAL_MS}`),
    ...fail(verdictToOffMs === null, `${fault}: the traffic did not go back`),
    ...fail(onsetToBackMs === null, `${fault}: the keys were not served again`),
  ]
}

/** Of writes that no fault touched: all of them between the end of one and the onset of the next, but for keys that still wait for the store. */
function outsideWrites({ samples, rounds, slotOf }: IncidentEvidence): number {
  const touched = ({ intendedMs, latencyMs, account }: LoadSample) =>
    rounds.some(
      ({ onsetMs, backMs, parkedSlots }) =>
        intendedMs + latencyMs >= onsetMs && (backMs === null || intendedMs <= backMs || parkedSlots.includes(slotOf(account))),
    )
  return samples.filter((sample) => sample.kind === 'write' && sample.outcome !== 'acknowledged' && !touched(sample)).length
}

/** Null where one is. */
function longest(values: readonly (number | null)[]): number | null {
  return values.length === 0 || values.includes(null) ? null : Math.max(...(values as number[]))
}

function fail(failed: boolean, because: string): string[] {
  return failed ? [because] : []
}
