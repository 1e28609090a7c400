// Promises: the judge's standing and a rollback's report as people read them, a sentence a line.

import type { RollbackReport } from '../app/judge-report.ts'
import type { JudgeStanding, KeyStanding, StatementStanding } from '../app/judge-standing.ts'
import { significant } from '../lib/significant.ts'
import type { VerdictRow } from '../store/judging.ts'
import { tellArm, tellVerdict } from './tell-verdict.ts'

const LEVELS_TOLD = 4
const STATEMENTS_TOLD = 8
const KEYS_TOLD = 5
/** Of the load that saturates less than this away. */
const GROWTH_TOLD_MAX = 100

export function tellStanding(standing: JudgeStanding): string[] {
  const { step, promote, holds, threshold, levels, statements, hotKeys } = standing
  return [
    `Judge: ${step} slots are out, ${promote ? 'and may grow' : `and it holds: ${holds.join('; ') || 'it has not said why'}`}.`,
    ...statements.slice(0, STATEMENTS_TOLD).map(tellStatement),
    ...levels
      .slice(0, LEVELS_TOLD)
      .map((one) => `  evidence of ${one.detector} for ${one.statement}: ${tellNumber(one.level)} of ${tellNumber(threshold)}`),
    ...hotKeys.slice(0, KEYS_TOLD).map(tellKey),
  ]
}

/** Gaps in what the judge knows, whether a canary is out or not: `canary run` plans by it. */
export function tellLost({ gateway, lostMs, lastMs }: JudgeStanding['lost'][number]): string {
  return `Measurements: of gateway ${gateway}, ${(lostMs / 1_000).toFixed(1)} s were lost in the last hour (last at ${new Date(lastMs).toISOString()}).`
}

function tellStatement({ statement, canary, control, controlKnown }: StatementStanding): string {
  const { known, watchedMs, neededMs } = controlKnown ?? { known: true, watchedMs: 0, neededMs: 0 }
  const learning = known ? '' : `; its tail is not judged yet (control watched for ${whole(watchedMs)} of ${whole(neededMs)} s)`
  return `  ${statement}, since the step began: canary ${tellArm(canary)}; control ${tellArm(control)}${learning}`
}

function whole(ms: number): number {
  return Math.floor(ms / 1_000)
}

function tellKey({ key, act, arrivalsPerSecond, rho, growthToBlock }: KeyStanding): string {
  const busy =
    rho === null
      ? 'how busy it keeps the target is not known'
      : `busy ${percent(rho.mean)} of the time (${percent(rho.low)} to ${percent(rho.high)})`
  const grows =
    growthToBlock === null || growthToBlock > GROWTH_TOLD_MAX ? '' : `, saturates at ${significant(growthToBlock, 2)} times the load`
  return `  hot: ${key}, ${arrivalsPerSecond.toFixed(1)} a second, ${busy}${grows}${act === 'warn' || act === 'block' ? `: ${act.toUpperCase()}` : ''}`
}

function percent(share: number | null): string {
  // What JSON could not carry was beyond all numbers.
  return share === null ? 'more' : `${(share * 100).toFixed(0)} %`
}

function tellNumber(value: number): string {
  return value >= 0.01 ? significant(value, 3) : value === 0 ? '0' : value.toExponential(1)
}

/** One line a verdict. */
export function tellRow({ id, verdict, offAt, job }: VerdictRow): string {
  const about = verdict.key ?? verdict.evidence.statement
  const said = `${id}  ${new Date(verdict.tMs).toISOString()}  ${verdict.act} by ${verdict.detector}${about === null ? '' : ` of ${about}`}`
  if (verdict.act !== 'rollback') return said
  if (offAt !== null) return `${said}, traffic home at ${offAt}`
  return job === null ? `${said}, too late: the end of the move had been announced` : `${said}, not home yet (order ${job})`
}

export function tellReport(row: VerdictRow, report: RollbackReport | null): string[] {
  const { verdict } = row
  const head = `Verdict ${row.id}, ${tellVerdict(verdict, null)}`
  if (row.job === null) return [head, 'Nothing was ordered back: the end of the move on the target had been announced before.']
  if (report === null) return [head, 'The traffic is on its way home; what came of it is not known yet.']
  const { onsetMs, onsetToVerdictMs, verdictToOffMs, slotsHome, slotsLeft, flips, writesLost, leftBecause, parity, debts } = report
  const lines = [head]
  lines.push(
    onsetMs === null
      ? 'Began: not known from the evidence that is kept.'
      : `Began: about ${new Date(onsetMs).toISOString()}, ${seconds(onsetToVerdictMs!)} before the verdict (the evidence rose from there on).`,
  )
  lines.push(
    verdictToOffMs === null
      ? `Traffic: NOT all of it is home: ${slotsLeft} slots are on the target${leftBecause.length === 0 ? '' : ` (${leftBecause.join('; ')})`}.`
      : `Traffic: off the canary ${seconds(verdictToOffMs)} after the verdict, ${slotsHome} slots in ${flips.length} flips.`,
  )
  lines.push(
    writesLost.known === null
      ? `Writes lost: NOT KNOWN: ${writesLost.because.join('; ')}.`
      : `Writes lost: none; ${writesLost.because.join('; ')}.`,
  )
  if (debts > 0) lines.push(`Debt: ${debts} slots are compared, and put on the target again where they differ, before the next move to it.`)
  lines.push(tellCompared(parity))
  return lines
}

function tellCompared(parity: RollbackReport['parity']): string {
  if (parity === null) return 'Parity: both stores are being compared.'
  if ('notCompared' in parity) return `Parity: not compared (${parity.notCompared}).`
  const share = parity.share < 1 ? ` (${significant(parity.share * 100, 2)} % of them all)` : ''
  return `Parity: ${parity.rowsCompared} rows compared${share}, ${parity.differences} differences, ${parity.rowsNotChecked} not checked.`
}

function seconds(ms: number): string {
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`
}
