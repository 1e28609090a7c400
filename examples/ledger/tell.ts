// Promises: the demo's evidence in sentences. Pure.
import type { DemoReport } from './demo.ts'

export function tellReport(report: DemoReport): string[] {
  const { flips, rollback, parity } = report
  return [
    '',
    `${report.acknowledgedWrites} writes acknowledged (${report.acknowledgedOnTarget} of them on the store), ${report.refusedWrites} refused, ${report.unknownWrites} unknown.`,
    `${report.lostWrites} lost, ${report.doubledWrites} doubled, ${report.staleReads} stale reads, ${report.halfReads} reads of half a transaction.`,
    ...flips.map(
      (flip) =>
        `${flip.from} -> ${flip.to}: ${flip.slots} slots, writes on them took p50 ${flip.pauseMs.p50} ms, p99 ${flip.pauseMs.p99} ms, at most ${flip.pauseMs.max} ms.`,
    ),
    `Rollback: ${rollback.durationMs} ms for all keys under load; writes on moving keys took p50 ${rollback.pauseMs.p50} ms, p99 ${rollback.pauseMs.p99} ms, at most ${rollback.pauseMs.max} ms.`,
    `Read-only for ${report.readonlyMs} ms. Parity: ${parity.rowsCompared} rows compared, ${parity.differences} differences.`,
    ...report.kills.map((kill) => `kill -9 of ${kill.process}: ${kill.step}.`),
    `${(report.durationMs / 1000).toFixed(1)} s in all.`,
    report.ok ? 'Nothing was lost, nothing happened twice.' : `NOT OK: ${report.failures.join('; ')}.`,
  ]
}
