// Promises: what the judge says of itself, for `status`: each detector's evidence against its threshold, both arms' latencies by statement,
// the hottest keys with their saturation, why it holds. Bounded, since it is written with every report of the leader.
import { type Evidence, type JudgeConfig, type Judgement, type Saturation, thresholdOf } from '../canary/judge.ts'
import type { KeySaturation } from '../canary/saturation.ts'
import { armsOf, type Level } from '../canary/statement.ts'
import { type ControlKnown, controlKnown } from '../canary/tail.ts'
import type { ArmSummary } from '../canary/verdict.ts'
import type { LostMeasurements } from './lost-reports.ts'

export interface JudgeStanding {
  /** Slots that the target owns. */
  readonly step: number
  readonly promote: boolean
  readonly holds: readonly string[]
  /** Of each level below. */
  readonly threshold: number
  /** The nearest to the threshold first. */
  readonly levels: readonly Level[]
  /** Since the step began, the busiest first. */
  readonly statements: readonly StatementStanding[]
  readonly hotKeys: readonly KeyStanding[]
  readonly saturation: readonly Saturation[]
  /** What gateways measured and the leader never heard, of the last hour: gaps in the evidence. */
  readonly lost: readonly LostMeasurements[]
  readonly rolledBack: { readonly tMs: number; readonly detector: string } | null
}

export interface StatementStanding {
  readonly statement: string
  readonly canary: ArmSummary
  readonly control: ArmSummary
  /** Whether `tail` judges it yet. Of a leader of an earlier version there is none. */
  readonly controlKnown?: ControlKnown
}

export interface KeyStanding {
  readonly key: string
  readonly act: KeySaturation['act']
  readonly arrivalsPerSecond: number
  readonly rho: KeySaturation['rho']
  readonly growthToBlock: number | null
}

const LEVELS_MOST = 16
const STATEMENTS_MOST = 16
const KEYS_MOST = 10
const LOST_MOST = 16

export function standingOf(
  { state, promote, holds, levels }: Judgement,
  evidence: Evidence,
  by: {
    readonly config: JudgeConfig
    /** Hottest first. */
    readonly keys: readonly KeySaturation[]
    keyName(key: string): string
    readonly lost: readonly LostMeasurements[]
  },
): JudgeStanding {
  const statements = Object.entries(state.statements).map(
    ([statement, one]): StatementStanding => ({ statement, ...armsOf(one), controlKnown: controlKnown(one.tail) }),
  )
  return {
    step: state.step,
    promote,
    holds,
    threshold: thresholdOf(state, by.config),
    levels: levels.toSorted((a, b) => b.level - a.level).slice(0, LEVELS_MOST),
    statements: statements
      .toSorted((a, b) => b.canary.requests + b.control.requests - a.canary.requests - a.control.requests)
      .slice(0, STATEMENTS_MOST),
    hotKeys: by.keys.slice(0, KEYS_MOST).map(({ key, act, arrivalsPerSecond, rho, growthToBlock }) => ({
      key: by.keyName(key),
      act,
      arrivalsPerSecond: arrivalsPerSecond.mean,
      rho,
      growthToBlock,
    })),
    saturation: evidence.saturation,
    lost: by.lost.slice(0, LOST_MOST),
    rolledBack: state.rolledBack === null ? null : { tMs: state.rolledBack.tMs, detector: state.rolledBack.detector },
  }
}
