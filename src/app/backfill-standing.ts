// Promises: what a backfill is worth now, decided in one place for `backfill`, `parity`, `status`, the canary's precheck and the forward
// sync: whether the target is a copy that the forward sync keeps up to date (faults.md 13, 15). Unknown is not whole (INV-10).
import type { ErrorCode, SwitchbackError } from '../model/errors.ts'
import { type BackfillFacts, type BackfillState, readBackfillFacts } from '../store/backfills.ts'
import type { Session } from '../store/session.ts'

export type BackfillStanding =
  | { readonly kind: 'none' }
  /** Not all of it is on the target yet. */
  | { readonly kind: 'open' }
  /** Done, and what has changed since then can reach the target. */
  | { readonly kind: 'whole' }
  /** What changes on PostgreSQL does not reach the target any more. `lost`: only another backfill mends it. */
  | { readonly kind: 'stopped'; readonly because: string; readonly lost: boolean }
  /** The move has ended on the target: there is nothing to keep up to date. */
  | { readonly kind: 'ended' }

export function standingOf({ backfill, slotName, walStatus, server, ending }: BackfillFacts): BackfillStanding {
  if (backfill === null) return { kind: 'none' }
  if (ending && walStatus === null) return { kind: 'ended' }
  if (backfill.stopped?.lost) return { kind: 'stopped', ...backfill.stopped }
  const lost = (because: string): BackfillStanding => ({ kind: 'stopped', because, lost: true })
  const { madeFrom } = backfill
  if (madeFrom !== null && madeFrom.systemIdentifier !== server.systemIdentifier)
    return lost(`PostgreSQL is system ${server.systemIdentifier}, the backfill was made from ${madeFrom.systemIdentifier}`)
  if (madeFrom !== null && madeFrom.timeline !== server.timeline)
    return lost(`PostgreSQL is on timeline ${server.timeline}, the backfill was made on ${madeFrom.timeline}`)
  if (walStatus === null) return lost(`the replication slot ${slotName} is not there`)
  if (walStatus === 'lost') return lost(`the replication slot ${slotName} is lost: PostgreSQL has dropped WAL that it needed`)
  if (backfill.stopped !== null) return { kind: 'stopped', ...backfill.stopped }
  return { kind: backfill.done ? 'whole' : 'open' }
}

export async function readStanding(
  session: Session,
  slotName: string,
): Promise<{ readonly backfill: BackfillState | null; readonly standing: BackfillStanding; readonly facts: BackfillFacts }> {
  const facts = await readBackfillFacts(session, slotName)
  return { backfill: facts.backfill, standing: standingOf(facts), facts }
}

/** For people: what stopped, and what to do. */
export function stoppedSentence(because: string): string {
  return `The forward sync has stopped (${because}): run \`switchback backfill --again\`.`
}

/**
 * Errors of the stream at which the forward sync stands still while the rest of the lead goes on. `lost`: the WAL at that position stays
 * as it is, and what the target has from before may be of another shape, so only another backfill mends it. `retry`: a limit that is
 * raised or a newer Switchback may.
 */
const STREAM_STOPS: Partial<Record<ErrorCode, 'lost' | 'retry'>> = {
  KEY_CHANGE_UNCHANGED_TOAST: 'lost',
  ROW_KEY_MISSING: 'lost',
  STREAM_TABLE_UNKNOWN: 'lost',
  TABLE_CHANGED: 'lost',
  REPLICA_IDENTITY_CHANGED: 'lost',
  STREAM_INVALID: 'retry',
  STREAM_TEXT_INVALID: 'retry',
  SOURCE_TRANSACTION_TOO_LARGE: 'retry',
}

/** Null: weather, which ends the lead if it stays. */
export function stopsForward(error: SwitchbackError): 'lost' | 'retry' | null {
  return STREAM_STOPS[error.code] ?? null
}
