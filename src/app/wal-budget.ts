// Promises: the WAL that PostgreSQL keeps for our replication slot is watched for as long as this controller leads. Near its budget and past
// it are alarms, in the log, the journal and `status`; past it the operator's policy holds: none but the alarm, or the slot goes, so that
// PostgreSQL keeps its disk and goes on taking writes. That the forward sync is lost is on record before the slot is gone, so that a crash in
// between ends the same way (faults.md 14).
import type { Logger } from 'pino'
import type { Clock } from '../lib/clock.ts'
import type { MigrationConfig } from '../model/migration.ts'
import { readBackfillFacts, stopForward } from '../store/backfills.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import type { Session } from '../store/session.ts'
import { dropSlotAbove, readRetainedBytes } from '../store/wal-retained.ts'

export interface WalBudget {
  readonly budgetBytes: number
  readonly pastBudget: 'alarm' | 'drop slot'
}

export type WalStanding = 'within' | 'near' | 'past'

export interface WalBudgetOptions extends WalBudget {
  readonly session: Session
  readonly control: Pick<PostgresLeaderControl, 'token' | 'journal'>
  readonly slotName: string
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn' | 'error' | 'info'>
}

const BUDGET_BYTES = 8 * 1024 ** 3
const LOOK_MS = 1_000
const NEAR_RATIO = 0.8
/** An alarm ends below this: WAL goes by whole segments, up and down. */
const WITHIN_RATIO = 0.7
export const WAL_JOURNAL = { within: 'WAL within its budget', near: 'WAL near its budget', past: 'WAL past its budget' } as const

export function walBudgetOf(source: Pick<MigrationConfig['source'], 'walBudgetBytes' | 'pastWalBudget'>): WalBudget {
  return { budgetBytes: source.walBudgetBytes ?? BUDGET_BYTES, pastBudget: source.pastWalBudget ?? 'alarm' }
}

export function walStanding(retainedBytes: number, budgetBytes: number, before: WalStanding): WalStanding {
  if (retainedBytes > budgetBytes) return 'past'
  if (retainedBytes > budgetBytes * NEAR_RATIO) return 'near'
  // From past its budget it comes back through near, which says that it gets better.
  return before !== 'within' && retainedBytes > budgetBytes * WITHIN_RATIO ? 'near' : 'within'
}

/** Until the signal aborts, or the lead ends. */
export async function watchWalBudget(options: WalBudgetOptions, signal: AbortSignal): Promise<void> {
  const { session, control, slotName, budgetBytes, pastBudget, clock, log } = options
  let standing: WalStanding = 'within'
  while (!signal.aborted) {
    const retainedBytes = await readRetainedBytes(session, slotName)
    const now = walStanding(retainedBytes, budgetBytes, standing)
    if (now !== standing) {
      const seen = { slot: slotName, retainedBytes, budgetBytes, pastBudget }
      if (now === 'past') log.error(seen, 'ALARM: PostgreSQL keeps more WAL for the forward sync than its budget')
      else if (now === 'near') log.warn(seen, 'the WAL that PostgreSQL keeps for the forward sync is near its budget')
      else log.info(seen, 'the WAL that PostgreSQL keeps for the forward sync is within its budget again')
      await control.journal(WAL_JOURNAL[now], seen)
      standing = now
    }
    if (now === 'past' && pastBudget === 'drop slot') await dropSlot(options)
    await clock.sleep(LOOK_MS, signal)
  }
}

async function dropSlot({ session, control, slotName, budgetBytes, log }: WalBudgetOptions): Promise<void> {
  const { backfill, ending } = await readBackfillFacts(session, slotName)
  // finalize drops it by itself.
  if (ending) return
  const because = `PostgreSQL kept more than source.walBudgetBytes (${budgetBytes}) for it, and source.pastWalBudget is "drop slot"`
  if (backfill !== null) await stopForward(session, control.token, { backfill: backfill.id, because, lost: true })
  if (await dropSlotAbove(session, slotName, budgetBytes)) log.error({ slot: slotName, because }, 'the replication slot was dropped')
}
