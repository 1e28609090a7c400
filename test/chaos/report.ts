// Promises: rounds summed up, for people and as the JSON of `npm run chaos -- --json`. Pure.
import { JUDGE_CHECKS, type JudgeCheck, type JudgeChecked } from './judge-check.ts'
import type { RoundReport } from './round.ts'

export interface Quantiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export interface JudgeReport extends Readonly<Record<JudgeCheck, number>> {
  /** Rollbacks by verdict. */
  readonly verdicts: number
  readonly ordersHome: number
  readonly movesHeld: number
  readonly restarts: number
  readonly verdictToOffMs: Quantiles
}

export interface ChaosReport {
  readonly seeds: readonly number[]
  readonly rounds: number
  readonly kills: number
  readonly acknowledgedWrites: number
  readonly unknownWrites: number
  readonly lostWrites: number
  readonly doubledWrites: number
  readonly parityDifferences: number
  readonly invariantViolations: number
  readonly recoveryMs: Quantiles
  readonly notRecovered: number
  readonly linesBroken: number
  readonly stopped: number
  readonly flips: number
  /** Null: it was off in all rounds. */
  readonly judge: JudgeReport | null
  /** How often was killed where. */
  readonly points: Readonly<Record<string, number>>
  /** Sentences, each with its round's seed. */
  readonly failures: readonly string[]
}

export function summed(
  rounds: readonly RoundReport[],
  broken: readonly { readonly seed: number; readonly because: string }[],
): ChaosReport {
  const killed = rounds.flatMap((round) => round.killed)
  const sum = (of: (round: RoundReport) => number) => rounds.reduce((n, round) => n + of(round), 0)
  const recoveries = killed.flatMap(({ recoveryMs }) => (recoveryMs === null ? [] : [recoveryMs]))
  const points: Record<string, number> = {}
  for (const { who, at } of killed) {
    const point = at === 'outside' ? `${who}, outside` : at
    points[point] = (points[point] ?? 0) + 1
  }
  return {
    seeds: rounds.map((round) => round.seed),
    rounds: rounds.length,
    kills: killed.length,
    acknowledgedWrites: sum((round) => round.acknowledgedWrites),
    unknownWrites: sum((round) => round.unknownWrites),
    lostWrites: sum((round) => round.lost.length),
    doubledWrites: sum((round) => round.doubled.length),
    parityDifferences: sum((round) => round.parityDifferences),
    invariantViolations: sum((round) => round.violations.length),
    recoveryMs: quantilesOf(recoveries),
    notRecovered: sum((round) => round.notRecovered.length) + broken.length,
    linesBroken: sum((round) => round.linesBroken),
    stopped: sum((round) => round.stopped),
    flips: sum((round) => round.flips),
    judge: judgeSummed(rounds.flatMap(({ judge }) => (judge === null ? [] : [judge]))),
    points: Object.fromEntries(Object.entries(points).sort(([a], [b]) => a.localeCompare(b))),
    failures: [
      ...rounds.flatMap((round) => failuresOf(round).map((what) => `seed ${round.seed}: ${what}`)),
      ...broken.map(({ seed, because }) => `seed ${seed}: the round did not end: ${because}`),
    ],
  }
}

export function failuresOf(round: RoundReport): readonly string[] {
  return [
    ...round.lost.map((write) => `lost: ${write}`),
    ...round.doubled.map((write) => `doubled: ${write}`),
    ...(round.parityDifferences > 0 ? [`${round.parityDifferences} differences between the stores`] : []),
    ...round.violations,
    ...round.notRecovered.map((what) => `not recovered: ${what}`),
  ]
}

function judgeSummed(rounds: readonly JudgeChecked[]): JudgeReport | null {
  if (rounds.length === 0) return null
  const sum = (of: (round: JudgeChecked) => number) => rounds.reduce((n, round) => n + of(round), 0)
  const failed = (check: JudgeCheck) => sum(({ failures }) => failures.filter((one) => one.check === check).length)
  return {
    verdicts: sum((round) => round.verdicts),
    ordersHome: sum((round) => round.ordersHome),
    movesHeld: sum((round) => round.movesHeld),
    restarts: sum((round) => round.restarts),
    verdictToOffMs: quantilesOf(rounds.flatMap((round) => round.verdictToOffMs)),
    ...(Object.fromEntries(JUDGE_CHECKS.map((check) => [check, failed(check)])) as Record<JudgeCheck, number>),
  }
}

function quantilesOf(values: readonly number[]): Quantiles {
  const sorted = values.toSorted((a, b) => a - b)
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), max: quantile(sorted, 1) }
}

/** Of sorted values, the nearest rank; 0 of none. */
function quantile(sorted: readonly number[], q: number): number {
  return Math.round(sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0)
}
