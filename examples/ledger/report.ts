// Promises: the demo's verdict, computed from evidence alone. Pure.
import type { LedgerReport } from './check.ts'
import { type Round, roundFailures, toldRound } from './incident-report.ts'
import type { LoadCounts, LoadSample } from './load.ts'

export interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export interface FlipWindow {
  readonly from: string
  readonly to: string
  readonly slots: readonly number[]
  /** Wall clock, milliseconds. */
  readonly startMs: number
  readonly endMs: number
  readonly rollback: boolean
}

export interface Kill {
  readonly process: string
  readonly step: string
  /** Of a gateway: where its clients connect. */
  readonly port: number | null
  /** Wall clock, before the signal and when the process was seen to be gone. */
  readonly atMs: number
  readonly goneMs: number
}

export interface Evidence {
  readonly samples: readonly LoadSample[]
  readonly counts: LoadCounts
  readonly source: LedgerReport
  readonly target: LedgerReport
  readonly acknowledgedOnTarget: number
  readonly flips: readonly FlipWindow[]
  readonly kills: readonly Kill[]
  /** Wall clock windows in which refusals were asked for. */
  readonly readonlyWindows: readonly (readonly [fromMs: number, toMs: number])[]
  readonly rollbackDurationMs: number
  /** The last chapter: the judge goes back alone. */
  readonly judged: Round
  readonly parity: { readonly rowsCompared: number; readonly differences: number; readonly notChecked: number }
  readonly durationMs: number
  /** Of whom each account is. */
  readonly slotOf: (account: number) => number
}

const ACKNOWLEDGED_MIN = 5_000
const ON_TARGET_MIN = 1_000
/** Samples that a failure names. */
const SHOWN_MAX = 5

export function demoReport(evidence: Evidence) {
  const { counts, source, target, flips, judged } = evidence
  const lost = new Set([...source.lost, ...target.lost]).size
  const doubled = new Set([
    ...source.doubled,
    ...target.doubled,
    ...source.unbalanced.map((id) => `account ${id}`),
    ...target.unbalanced.map((id) => `account ${id}`),
  ]).size
  const refusing = [...evidence.readonlyWindows, [judged.onsetMs, judged.backMs ?? Number.POSITIVE_INFINITY] as const]
  const refusals = evidence.samples.filter(
    (sample) => sample.kind === 'write' && sample.outcome === 'refused' && !insideAny(sample, refusing),
  )
  const refusedElsewhere = refusals.length
  const refusedWith = [...new Set(refusals.map((sample) => sample.sqlstate))].join(', ')
  const unexplained = unexplainedUnknowns(evidence)
  const failures = [
    ...fail(
      counts.acknowledgedWrites < ACKNOWLEDGED_MIN,
      `only ${counts.acknowledgedWrites} writes were acknowledged, fewer than ${ACKNOWLEDGED_MIN}`,
    ),
    ...fail(
      evidence.acknowledgedOnTarget < ON_TARGET_MIN,
      `only ${evidence.acknowledgedOnTarget} of them on the target, fewer than ${ON_TARGET_MIN}`,
    ),
    ...fail(lost > 0, `${lost} acknowledged writes are lost`),
    ...fail(doubled > 0, `${doubled} writes took effect twice, or although refused`),
    ...fail(counts.staleReads > 0, `${counts.staleReads} reads were stale`),
    ...fail(counts.halfReads > 0, `${counts.halfReads} reads saw half a transaction`),
    ...fail(evidence.parity.differences > 0, `${evidence.parity.differences} rows differ`),
    ...fail(evidence.parity.notChecked > 0, `${evidence.parity.notChecked} rows were not compared`),
    ...fail(refusedElsewhere > 0, `${refusedElsewhere} writes were refused outside the read-only window and the incident (${refusedWith})`),
    ...fail(
      unexplained.length > 0,
      `${unexplained.length} writes have an unknown outcome on connections that no kill has broken: ${unexplained.slice(0, SHOWN_MAX).map(tellSample).join('; ')}`,
    ),
    ...roundFailures(judged),
  ]
  const slotted = flips.map((flip) => ({ flip, pauses: pausesOf(evidence, flip) }))
  const back = slotted.filter(({ flip }) => flip.rollback).flatMap(({ pauses }) => pauses)
  return {
    ok: failures.length === 0,
    failures,
    acknowledgedWrites: counts.acknowledgedWrites,
    acknowledgedOnTarget: evidence.acknowledgedOnTarget,
    unknownWrites: counts.unknownWrites,
    refusedWrites: counts.refusedWrites,
    lostWrites: lost,
    doubledWrites: doubled,
    staleReads: counts.staleReads,
    halfReads: counts.halfReads,
    kills: evidence.kills,
    flips: slotted
      .filter(({ flip }) => !flip.rollback)
      .map(({ flip, pauses }) => ({
        from: flip.from,
        to: flip.to,
        slots: flip.slots.length,
        writes: pauses.length,
        pauseMs: percentiles(pauses),
      })),
    readonlyMs: Math.round(evidence.readonlyWindows.reduce((sum, [from, to]) => sum + to - from, 0)),
    rollback: { writes: back.length, pauseMs: percentiles(back), durationMs: Math.round(evidence.rollbackDurationMs) },
    judged: toldRound(judged),
    parity: { rowsCompared: evidence.parity.rowsCompared, differences: evidence.parity.differences },
    durationMs: Math.round(evidence.durationMs),
  }
}

/** Of writes to moving slots whose span from intended send to reply overlaps the flip. */
function pausesOf({ samples, slotOf }: Evidence, flip: FlipWindow): number[] {
  const moving = new Set(flip.slots)
  return samples
    .filter(
      (sample) =>
        sample.kind === 'write' &&
        sample.intendedMs <= flip.endMs &&
        sample.intendedMs + sample.latencyMs >= flip.startMs &&
        moving.has(slotOf(sample.account)),
    )
    .map((sample) => sample.latencyMs)
}

/**
 * Only a kill may leave an outcome unknown, to whoever had a connection to the process that it ended: in flight then, or sent before
 * the client had noticed.
 */
function unexplainedUnknowns({ samples, kills }: Evidence): LoadSample[] {
  const broken = ({ port, connectedMs, intendedMs, latencyMs }: LoadSample) =>
    kills.some((kill) => kill.port !== null && kill.port === port && connectedMs! <= kill.goneMs && intendedMs + latencyMs >= kill.atMs)
  return samples.filter((sample) => sample.kind === 'write' && sample.outcome === 'unknown' && !broken(sample))
}

function tellSample({ account, sqlstate, intendedMs, latencyMs, port }: LoadSample): string {
  return `account ${account}, ${sqlstate}, sent ${new Date(intendedMs).toISOString()} to port ${port}, answered after ${Math.round(latencyMs)} ms`
}

function insideAny(sample: LoadSample, windows: readonly (readonly [fromMs: number, toMs: number])[]): boolean {
  return windows.some(([from, to]) => sample.intendedMs + sample.latencyMs >= from && sample.intendedMs <= to)
}

export function percentiles(values: readonly number[]): Percentiles {
  if (values.length === 0) return { p50: 0, p99: 0, max: 0 }
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number) => Math.round(sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]! * 100) / 100
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

function fail(failed: boolean, because: string): string[] {
  return failed ? [because] : []
}
