// Promises: an incident's evidence in sentences. Pure.
import { type IncidentReport, OFF_GOAL_MS, VERDICT_GOAL_MS } from './incident-report.ts'

export function tellIncident(report: IncidentReport): string[] {
  return [
    '',
    ...report.rounds.map(tellRound),
    `${report.acknowledgedWrites} writes acknowledged, ${report.refusedWrites} refused, ${report.unknownWrites} unknown.`,
    `${report.lostWrites} lost, ${report.doubledWrites} doubled, ${report.staleReads} stale reads, ${report.halfReads} reads of half a transaction.`,
    ...tellDebt(report),
    tellParity(report),
    `${(report.durationMs / 1_000).toFixed(1)} s in all.`,
    report.ok ? 'The judge went back alone, and nothing was lost.' : `NOT OK: ${report.failures.join('; ')}.`,
  ]
}

export function tellRound(round: IncidentReport['rounds'][number]): string {
  const { fault, detector, statement, onsetToVerdictMs, verdictToOffMs, onsetToBackMs, canaryRequestsPerSecond } = round
  if (detector === null || onsetToVerdictMs === null) return `${fault}: the judge has said nothing.`
  const about = statement === null ? '' : ` of "${statement}"`
  const verdict = `verdict by ${detector}${about} ${seconds(onsetToVerdictMs)} after its onset (goal: ${seconds(VERDICT_GOAL_MS)})`
  const off = verdictToOffMs === null ? 'traffic not off' : `traffic off after another ${verdictToOffMs} ms (goal: ${OFF_GOAL_MS} ms)`
  const back = onsetToBackMs === null ? 'not served again' : `served again ${seconds(onsetToBackMs)} after the onset`
  return `${fault}: ${verdict}, ${off}, ${back}. The canary answered ${canaryRequestsPerSecond} requests a second meanwhile.`
}

function tellParity({ comparedWith, rowsCompared, differences }: IncidentReport): string {
  if (comparedWith === 'both stores') return `Parity: ${rowsCompared} rows compared, ${differences} differences.`
  return 'The store cannot be asked: PostgreSQL alone was held against the journal of acknowledged writes.'
}

function tellDebt({ rounds, parkedSlots, debtSlots, parkedHomeMs, debtPaidMs }: IncidentReport): string[] {
  if (!rounds.some(({ fault }) => fault === 'no answers')) return []
  const waited = `${parkedSlots} slots had to wait for the store, because it alone knew what became of a write of theirs`
  const home = parkedHomeMs === null ? 'they wait still' : `they were home ${seconds(parkedHomeMs)} after it answered again`
  const paid =
    debtPaidMs === null ? 'that is owed still' : `both stores were compared and put right ${seconds(debtPaidMs)} after it answered again`
  return [`${waited}; ${home}. ${debtSlots} went home without it; ${paid}.`]
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
