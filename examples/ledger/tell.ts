// Promises: the demo's evidence in sentences. Pure.
import type { DemoReport } from './demo.ts'
import type { Percentiles } from './report.ts'
import { tellRound } from './tell-incident.ts'

export function tellReport(report: DemoReport): string[] {
  const { flips, rollback, parity } = report
  return [
    '',
    `${report.acknowledgedWrites} writes acknowledged (${report.acknowledgedOnTarget} of them on the store), ${report.refusedWrites} refused, ${report.unknownWrites} unknown.`,
    `${report.lostWrites} lost, ${report.doubledWrites} doubled, ${report.staleReads} stale reads, ${report.halfReads} reads of half a transaction.`,
    ...flips.map((flip) => `${flip.from} -> ${flip.to}: ${flip.slots} slots, ${took(flip)}.`),
    `Rollback: ${rollback.durationMs} ms for all keys under load; ${took(rollback)}.`,
    `The judge's rollback. ${tellRound(report.judged)}`,
    `Read-only for ${report.readonlyMs} ms. Parity: ${parity.rowsCompared} rows compared, ${parity.differences} differences.`,
    ...report.kills.map((kill) => `kill -9 of ${kill.process}: ${kill.step}.`),
    `${(report.durationMs / 1000).toFixed(1)} s in all.`,
    report.ok ? 'Nothing was lost, nothing happened twice.' : `NOT OK: ${report.failures.join('; ')}.`,
  ]
}

/** Of the writes on keys that were just moving. */
function took({ writes, pauseMs: { p50, p99, max } }: { readonly writes: number; readonly pauseMs: Percentiles }): string {
  if (writes === 0) return 'no write came meanwhile'
  return `${writes} ${writes === 1 ? 'write' : 'writes'} came meanwhile and took p50 ${p50} ms, p99 ${p99} ms, at most ${max} ms`
}
