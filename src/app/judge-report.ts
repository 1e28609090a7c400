// Promises: what is told after a rollback by verdict: when it began, was seen and was over; what the move home did; whether a write was lost,
// and by what that is known. Only what was measured; what is not known is null, and says so (INV-10). Pure.
import type { JudgeVerdict } from '../canary/verdict.ts'
import type { FlipParked } from '../model/control.ts'
import type { VerdictRow } from '../store/judging.ts'

export interface HomeFlip {
  readonly id: string
  readonly slots: number
  readonly state: string
  readonly parked: FlipParked | null
}

/** What PostgreSQL says of the way home. */
export interface HomeFacts {
  readonly flips: readonly HomeFlip[]
  /** Slots that the target still owns, with the reason where the order gave one. */
  readonly left: number
  readonly leftBecause: readonly string[]
  /** The last flip routed; null: none. By PostgreSQL's clock, as the verdict's own time. */
  readonly lastOff: { readonly at: string; readonly afterVerdictMs: number } | null
  /** Slots that went back while the target did not answer. */
  readonly debts: number
  /** Writes that reached PostgreSQL while the target owned their keys. */
  readonly violations: number
}

export type ComparedAfter =
  | {
      readonly rowsCompared: number
      /** Of the rows of both stores. */
      readonly share: number
      readonly differences: number
      readonly rowsNotChecked: number
    }
  | { readonly notCompared: string }

export interface RollbackReport {
  /** Nothing is added any more. */
  readonly whole: boolean
  readonly onsetMs: number | null
  readonly onsetToVerdictMs: number | null
  readonly verdictToOffMs: number | null
  readonly slotsHome: number
  readonly slotsLeft: number
  readonly leftBecause: readonly string[]
  readonly flips: readonly HomeFlip[]
  readonly writesLost: { readonly known: number | null; readonly because: readonly string[] }
  readonly debts: number
  /** Null: it is being compared. */
  readonly parity: ComparedAfter | null
}

export function rollbackReport(
  { verdict }: Pick<VerdictRow, 'verdict'>,
  found: { readonly facts: HomeFacts; readonly onset: number | null; readonly parity: ComparedAfter | null; readonly whole: boolean },
): RollbackReport {
  const { facts, onset, parity, whole } = found
  const home = facts.flips.filter(({ state }) => state === 'routed')
  return {
    whole,
    onsetMs: onset,
    onsetToVerdictMs: onset === null ? null : Math.max(0, Math.round(verdict.tMs - onset)),
    verdictToOffMs: facts.left > 0 ? null : (facts.lastOff?.afterVerdictMs ?? null),
    slotsHome: home.reduce((sum, { slots }) => sum + slots, 0),
    slotsLeft: facts.left,
    leftBecause: facts.leftBecause,
    flips: facts.flips,
    writesLost: writesLost(verdict, facts, parity),
    debts: facts.debts,
    parity,
  }
}

function writesLost({ detector }: JudgeVerdict, facts: HomeFacts, parity: ComparedAfter | null): RollbackReport['writesLost'] {
  const compared = parity !== null && 'differences' in parity
  const differ = compared ? parity.differences : 0
  const because: string[] = []
  if (facts.left > 0) because.push(`${facts.left} slots are still on the target, with whatever PostgreSQL does not have yet`)
  if (detector === 'wrong-write') because.push('the verdict itself was that a write is lost or wrong')
  if (facts.violations > 0) because.push(`${facts.violations} writes reached PostgreSQL while the target owned their keys`)
  if (differ > 0) because.push(`${differ} rows differ between the stores`)
  if (because.length > 0) return { known: null, because }
  const drained = 'each flip committed only once PostgreSQL held every entry of its slots, in order (INV-2, INV-6)'
  const seen = compared
    ? `afterwards ${parity.rowsCompared} rows of both stores were compared, and none differs`
    : 'the stores have not been compared since'
  const owed =
    facts.debts > 0 ? [`${facts.debts} slots went back by the gateways' own copies, and are compared when the target answers`] : []
  return { known: 0, because: [drained, ...owed, seen] }
}
