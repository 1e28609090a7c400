// Promises: what a rollback with the target silent left owing is paid before any slot goes to the target again (protocols.md, The flip,
// "Target unreachable"): both stores are compared whole, the rows of the slots in debt that differ are written again by their owner,
// PostgreSQL, so that the forward sync puts them on the target with newer stamps, and the debt goes only when a comparison finds none
// that differs. What was written there late, under the old tenure, has lower stamps (INV-4): seen equal once, it stays equal.
import type { Logger } from 'pino'
import type { DebtRecord } from '../model/control.ts'
import type { Target } from '../model/target.ts'
import { planRepair } from '../parity/repair.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import { openSource } from './open-parts.ts'
import { parityNow } from './run-parity.ts'
import { repairNow } from './run-repair.ts'
import { reopenWorkspace, type Workspace } from './workspace.ts'

export interface DebtParts {
  readonly workspace: Workspace
  readonly control: Pick<PostgresLeaderControl, 'debts' | 'settleDebts' | 'view'>
  readonly target: Target
  readonly log: Pick<Logger, 'info' | 'warn'>
}

/** Comparisons before what still differs is left to people. */
const ROUNDS_MAX = 3
const SLOTS_NAMED_MAX = 8

/** What is not paid stays recorded, and holds every flip to the target by its precheck. */
export async function payDebts(parts: DebtParts, signal: AbortSignal): Promise<void> {
  const { control, log } = parts
  const debts = await control.debts()
  if (debts.length === 0) return
  log.info({ slots: debts.length }, 'a debt is being paid: both stores are compared')
  const workspace = await reopenWorkspace(parts.workspace)
  try {
    for (let round = 1; round <= ROUNDS_MAX && !signal.aborted; round++) {
      const owing = await compareAndRepair({ ...parts, workspace }, debts, signal)
      if (signal.aborted) return
      if (owing.size < debts.length) await control.settleDebts(debts.filter(({ slot }) => !owing.has(slot)))
      if (owing.size === 0) return log.info({ slots: debts.length }, 'the debt is paid')
    }
    log.warn('a debt could not be paid: rows that PostgreSQL owns still differ on the target')
  } catch (error) {
    log.warn({ error: String(error) }, 'a debt could not be paid')
  } finally {
    await workspace.close()
  }
}

/** Slots whose rows differed, or could not all be compared. */
async function compareAndRepair(parts: DebtParts, debts: readonly DebtRecord[], signal: AbortSignal): Promise<ReadonlySet<number>> {
  const { workspace, target, control } = parts
  const source = openSource(workspace)
  const { report } = await parityNow({ workspace, source, target, share: 1, certificate: false, onProgress: () => undefined, signal })
  const view = await control.view()
  const indebted = new Set(debts.map(({ slot }) => slot))
  const different = report.listed.filter(({ key, owner }) => owner === 'source' && indebted.has(view.slotOf(key)))
  if (different.length > 0) await repairNow({ workspace, target, steps: planRepair(different), onProgress: () => undefined, signal })
  // Of rows that are not listed, or that changed each time, the slot is not known.
  if (report.differences > report.listed.length || report.notChecked.some(({ rows }) => rows > 0)) return indebted
  return new Set(different.map(({ key }) => view.slotOf(key)))
}

/** One a flip, for people. */
export function debtSentences(debts: readonly DebtRecord[]): string[] {
  const flips = new Map<string, number[]>()
  for (const { flip, slot } of debts) flips.set(flip, [...(flips.get(flip) ?? []), slot])
  return [...flips].map(([flip, slots]) => {
    const named = slots.slice(0, SLOTS_NAMED_MAX).join(', ') + (slots.length > SLOTS_NAMED_MAX ? ', ...' : '')
    return `${slots.length} slots (${named}) went back to PostgreSQL in flip ${flip} while the target did not answer, and their rows have not been compared since`
  })
}
