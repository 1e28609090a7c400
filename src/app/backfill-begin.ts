// Promises: which backfill a run works for: the one that is open, a first one, or, when asked to and only when what was copied is no
// longer kept up to date, another. Observed, decided, recorded, done: that the old slot is given up is on record before it is dropped,
// so that no crash in between lets a new slot pass for the old one.
import { systemClock } from '../lib/clock.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Stamp } from '../model/ids.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import type { BackfillRunLock } from '../store/backfill-run.ts'
import { type BackfillFacts, type BackfillState, beginBackfill, presentToken, stopForward } from '../store/backfills.ts'
import { readEpoch, readView } from '../store/read-view.ts'
import { isLockRefusal } from '../store/session.ts'
import { highestStamp } from '../sync/sweep.ts'
import { type BackfillStanding, readStanding } from './backfill-standing.ts'
import { slotNameOf } from './names.ts'
import type { Workspace } from './workspace.ts'

/** Parts of a scan of the target. */
export const SCAN_SEGMENTS = 16
/** Owners change while the slot is made (a rollback's flips): so often another slot is made. */
const BEGIN_TRIES_MAX = 5
const ROWS_TRIES_MAX = 100
const ROWS_WAIT_MS = 100
const MAIN_LOOKS_MAX = 100
const MAIN_LOOK_MS = 100

export interface BeginOptions {
  readonly workspace: Workspace
  readonly source: Source
  readonly target: Target
  readonly again?: boolean
  readonly onNote?: (text: string) => void
  readonly signal: AbortSignal
}

export interface Begun {
  readonly backfill: BackfillState
  readonly resumed: boolean
  /** The slot's exported snapshot, alive until `release`; null: its connection is gone. */
  readonly snapshot: string | null
  release(): Promise<void>
}

export type Decision = { readonly act: 'begin' | 'resume' } | { readonly act: 'begin again'; readonly because: string }

/** Pure. @throws BACKFILL_DONE, BACKFILL_LOST, BACKFILL_WHOLE */
export function decideBackfill(standing: BackfillStanding, again: boolean): Decision {
  switch (standing.kind) {
    case 'none':
      if (again) throw new SwitchbackError('BACKFILL_WHOLE', { because: 'no backfill has begun yet' })
      return { act: 'begin' }
    case 'open':
      return { act: 'resume' }
    case 'whole':
      if (again)
        throw new SwitchbackError('BACKFILL_WHOLE', { because: 'the replication slot is whole, and the forward sync has not stopped' })
      throw new SwitchbackError('BACKFILL_DONE')
    case 'stopped':
      if (!again) throw new SwitchbackError('BACKFILL_LOST', { because: standing.because })
      return { act: 'begin again', because: standing.because }
    case 'ended':
      throw new SwitchbackError('BACKFILL_WHOLE', { because: 'the move has ended on the target' })
  }
}

export async function beginOrResume(options: BeginOptions, run: BackfillRunLock): Promise<Begun> {
  const { workspace, signal } = options
  const { session, config } = workspace
  for (let tries = 1; ; tries++) {
    const { backfill, standing, facts } = await readStanding(session, slotNameOf(config.migration))
    const decision = decideBackfill(standing, options.again === true)
    if (decision.act === 'resume') return { backfill: backfill!, resumed: true, snapshot: null, release: async () => undefined }
    if (!run.isMain) {
      await awaitMain(tries, signal)
      continue
    }
    if (decision.act === 'begin again') {
      await refuseMeanwhile(options, run)
      options.onNote?.(`${decision.because[0]!.toUpperCase()}${decision.because.slice(1)}. ${WHAT_IT_DOES}`)
      const stop = { backfill: backfill!.id, because: decision.because, lost: true }
      await underPresentToken(options, (token) => stopForward(session, token, stop))
    }
    const begun = await begin(options, facts)
    if (begun !== null) return begun
    if (tries >= BEGIN_TRIES_MAX || signal.aborted) throw new SwitchbackError('OWNERS_CHANGING', { tries })
  }
}

/** The run whose work is to be shared has not recorded its beginning yet. */
async function awaitMain(tries: number, signal: AbortSignal): Promise<void> {
  if (tries > MAIN_LOOKS_MAX || signal.aborted)
    throw new SwitchbackError('BACKFILL_RUNNING', { who: 'one that has not recorded its beginning yet' })
  await systemClock.sleep(MAIN_LOOK_MS, signal)
}

/** The leader may change, and transactions of clients hold ownership rows for as long as they are open (Guard, Old snapshots). */
async function underPresentToken<T>({ workspace, signal }: BeginOptions, act: (token: number) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await act(await presentToken(workspace.session))
    } catch (error) {
      if (!(isLockRefusal(error) || hasCode(error, 'TOKEN_STALE')) || signal.aborted) throw error
      if (tries >= ROWS_TRIES_MAX) throw isLockRefusal(error) ? new SwitchbackError('ROWS_HELD', { holders: HOLDERS }, error) : error
      await systemClock.sleep(ROWS_WAIT_MS, signal)
    }
  }
}

const HOLDERS = 'open REPEATABLE READ or SERIALIZABLE transactions that wrote mapped tables'
const WHAT_IT_DOES =
  'A new replication slot takes its place; every row that PostgreSQL owns is copied once more, and what was deleted meanwhile is removed from the target. Keys that the target owns are left alone.'

/** Before anything is changed. The transaction that begins the backfill looks at open flips once more. */
async function refuseMeanwhile({ workspace }: BeginOptions, run: BackfillRunLock): Promise<void> {
  const helpers = await run.helpers()
  if (helpers.length > 0) throw new SwitchbackError('BACKFILL_RUNNING', { who: helpers.join(', ') })
  const [flip] = await workspace.session.query(
    `select id, state from switchback.flip where state not in ('cancelled', 'routed') order by number limit 1`,
  )
  if (flip !== undefined) throw new SwitchbackError('FLIP_OVERLAPS', { flip: flip['id']!, state: flip['state']! })
}

/**
 * Slot first, then tenure and record in one transaction: a crash in between leaves a slot that nobody has recorded, which is dropped
 * and made again. Null: an owner changed meanwhile.
 */
async function begin(options: BeginOptions, facts: BackfillFacts): Promise<Begun | null> {
  const { workspace, source } = options
  const { session } = workspace
  const epoch = await readEpoch(session)
  const highest = await stampAfterFailover(options, facts)
  await source.dropSlot()
  const point = await source.createSlot()
  try {
    const begun = { consistentPoint: point.consistentPoint, epoch, server: facts.server, ...highest }
    const id = await underPresentToken(options, (token) => beginBackfill(session, { token, ...begun }))
    if (id !== null) {
      const { backfill } = await readStanding(session, slotNameOf(workspace.config.migration))
      return { backfill: backfill!, resumed: false, snapshot: point.snapshot, release: () => point.release() }
    }
  } catch (error) {
    await point.release()
    // A slot that nobody reads keeps WAL; but a reply that was lost may have recorded it.
    if (!hasCode(error, 'CONTROL_UNREACHABLE')) await source.dropSlot().catch(() => undefined)
    throw error
  }
  await point.release()
  return null
}

/** On another timeline or system, what was stamped may lie above what its WAL says. */
async function stampAfterFailover(
  { workspace, target, signal }: BeginOptions,
  { backfill, server }: BackfillFacts,
): Promise<{ highestStamp?: Stamp }> {
  const from = backfill?.madeFrom
  if (from == null || (from.systemIdentifier === server.systemIdentifier && from.timeline === server.timeline)) return {}
  const view = await readView(workspace.session)
  const isHome = (key: string) => view.ownership(view.slotOf(key))?.owner === 'source'
  const scanned = { target, mapping: workspace.mapping, segments: SCAN_SEGMENTS, counts: isHome }
  return { highestStamp: await highestStamp(scanned, signal) }
}
