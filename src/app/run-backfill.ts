// Promises: `backfill` from the command's side: makes slot and target tables at the first run, copies what is open, goes on where a
// killed one stopped, and says when all is there. After the slot was lost, and only when asked to (`again`), it opens a new tenure for
// the slots that PostgreSQL owns, copies them once more, and turns into tombstones what was deleted meanwhile (protocols.md, Forward
// sync; faults.md 13, 55). Rollbacks go on all the while: slots of the target are not touched.
import { hostname } from 'node:os'
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Stamp } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import { backfillRanges, reopenClaims } from '../store/backfill-ranges.ts'
import { type BackfillRunLock, lockBackfillRun } from '../store/backfill-run.ts'
import { type BackfillState, endBackfill, slotsOfTenure, sweptParts, tombstonesOf } from '../store/backfills.ts'
import { readView } from '../store/read-view.ts'
import { controlConnector } from '../store/session.ts'
import { type BackfillProgress, runBackfill } from '../sync/backfill.ts'
import { SWEEP_LIMITS, type SweepProgress, sweepBelowBase } from '../sync/sweep.ts'
import { beginOrResume, SCAN_SEGMENTS } from './backfill-begin.ts'
import { readStanding } from './backfill-standing.ts'
import { slotNameOf } from './names.ts'
import type { Workspace } from './workspace.ts'

export interface BackfillRunOptions {
  readonly workspace: Workspace
  readonly source: Source
  readonly target: Target
  readonly workers: number
  readonly rowsPerSecondMax: number | null
  /** Begin another one, if what the one before copied is no longer kept up to date. */
  readonly again?: boolean
  /** Share the work of a run elsewhere instead of being refused. */
  readonly join?: boolean
  readonly onProgress: (progress: BackfillProgress) => void
  readonly onSweep?: (progress: SweepProgress) => void
  /** Sentences for people: what is about to be done, and why. */
  readonly onNote?: (text: string) => void
  /** For tests: instead of LATE_PUT_MS. */
  readonly latePutMs?: number
  readonly signal: AbortSignal
}

export interface BackfillOutcome {
  readonly rows: number
  readonly bytes: number
  readonly durationMs: number
  readonly resumed: boolean
  /** It was not the first one: what was deleted meanwhile is gone from the target. */
  readonly again: boolean
  readonly tombstones: number
  /** It shared the work of another run, which ends the backfill. */
  readonly joined: boolean
}

/** How often a run looks whether its slot is still there: hours of copying would be in vain. */
const SLOT_LOOK_MS = 2_000
/**
 * A put of the forward sync that lost its slot, or of a run that died, can land so late (twice a target's request timeout). A row that
 * it brings must be there for the sweep to find: one that was deleted since would stay for ever.
 */
const LATE_PUT_MS = 10_000
const SCANS_MAX = 4

/**
 * @throws BACKFILL_DONE, BACKFILL_LOST (not asked to begin again), BACKFILL_WHOLE (asked to, and nothing is wrong), BACKFILL_RUNNING,
 *   FLIP_OVERLAPS, INTERRUPTED_BACKFILL when the signal came: what was copied stays, another run goes on.
 */
export async function backfillNow(options: BackfillRunOptions): Promise<BackfillOutcome> {
  const { workspace, target } = options
  const lost = new AbortController()
  const run = await lockBackfillRun({
    connect: controlConnector({ connectionString: workspace.url }),
    name: `${hostname()}:${process.pid}`,
    join: options.join === true,
    onLost: (error) => lost.abort(error),
  })
  try {
    await target.prepare(workspace.mapping)
    const signal = AbortSignal.any([options.signal, lost.signal])
    return await backfillLocked({ ...options, signal }, run).catch((error: unknown) => {
      throw lost.signal.aborted ? lost.signal.reason : error
    })
  } finally {
    await run.close()
  }
}

async function backfillLocked(options: BackfillRunOptions, run: BackfillRunLock): Promise<BackfillOutcome> {
  const { workspace, signal } = options
  const startedMs = systemClock.monotonicMs()
  const begun = await beginOrResume(options, run)
  const { backfill } = begun
  if (begun.resumed && run.isMain && (await run.helpers()).length === 0) await reopenClaims(workspace.session, backfill.id)
  const watched = watchSlot(workspace, backfill, signal)
  try {
    const copying = { ...options, signal: watched.signal }
    await copy(copying, backfill, begun.snapshot).finally(() => begun.release())
    await watched.check()
    const totals = await backfillRanges(workspace.session, backfill.id).totals()
    if (totals.done < totals.ranges || watched.signal.aborted)
      throw new SwitchbackError('INTERRUPTED_BACKFILL', { done: totals.done, ranges: totals.ranges })
    const outcome = { rows: totals.rows, bytes: totals.bytes, resumed: begun.resumed, again: backfill.again, joined: !run.isMain }
    if (run.isMain) {
      if (backfill.again) await sweep(copying, backfill)
      await watched.check()
      await endBackfill(workspace.session, backfill.id)
    }
    const tombstones = backfill.again ? await tombstonesOf(workspace.session, backfill.id) : 0
    return { ...outcome, tombstones, durationMs: Math.round(systemClock.monotonicMs() - startedMs) }
  } finally {
    await watched.stop()
  }
}

async function copy(options: BackfillRunOptions, backfill: BackfillState, snapshot: string | null): Promise<void> {
  const { workspace, source, target, signal } = options
  await runBackfill(
    {
      source,
      target,
      mapping: workspace.mapping,
      journal: backfillRanges(workspace.session, backfill.id),
      snapshot,
      stampOf: await stampsOf(workspace, backfill),
      worker: `${hostname()}:${process.pid}`,
      limits: { workers: options.workers, rowsPerSecondMax: options.rowsPerSecondMax },
      progress: options.onProgress,
      clock: systemClock,
      random: systemRandom,
    },
    signal,
  )
}

/**
 * Null: the slot of the key is not one of this backfill's. By the slots that have the backfill's tenure, not by who owns them now: a slot that came back from the target since is complete there,
 * in a tenure of its own, and a run that copied only a part of it would sweep the rest away.
 */
async function stampsOf({ session }: Workspace, backfill: BackfillState): Promise<(key: AggregateKey) => Stamp | null> {
  // The view first: a pin that it knows has taken its parent's history.
  const view = await readView(session)
  const slots = await slotsOfTenure(session, backfill.tenure)
  const { base } = backfill
  // A first one has all of them, and a hash costs a twentieth of what a row costs.
  if ([...view.rows()].every(({ slot }) => slots.has(slot))) return () => base
  return (key) => (slots.has(view.slotOf(key)) ? base : null)
}

async function sweep(options: BackfillRunOptions, backfill: BackfillState): Promise<void> {
  const { workspace, target, signal } = options
  const { session, mapping } = workspace
  const { ageMs } = (await readStanding(session, slotNameOf(workspace.config.migration))).backfill ?? backfill
  await systemClock.sleep(Math.max(0, (options.latePutMs ?? LATE_PUT_MS) - ageMs), signal)
  const swept = await sweepBelowBase(
    {
      target,
      mapping,
      journal: sweptParts(session, backfill.id, SCAN_SEGMENTS),
      stampOf: await stampsOf(workspace, backfill),
      segments: SCAN_SEGMENTS,
      scansMax: SCANS_MAX,
      limits: SWEEP_LIMITS,
      ...(options.onSweep === undefined ? {} : { progress: options.onSweep }),
      clock: systemClock,
      random: systemRandom,
    },
    signal,
  )
  if (!swept.complete) throw new SwitchbackError('INTERRUPTED_SWEEP', { done: swept.partsDone, parts: swept.parts })
}

interface WatchedSlot {
  /** Aborts when the slot is lost. */
  readonly signal: AbortSignal
  /** @throws BACKFILL_LOST */
  check(): Promise<void>
  stop(): Promise<void>
}

/** Nobody reads the slot while the copy is made, so its WAL grows: it may be lost meanwhile (faults.md 13, lost during snapshot). */
function watchSlot(workspace: Workspace, backfill: BackfillState, signal: AbortSignal): WatchedSlot {
  const stop = new AbortController()
  const end = new AbortController()
  const onAbort = () => stop.abort()
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const check = async () => {
    const { backfill: newest, standing } = await readStanding(workspace.session, slotNameOf(workspace.config.migration))
    if (newest?.id !== backfill.id) throw new SwitchbackError('BACKFILL_SUPERSEDED', { backfill: backfill.id })
    if (standing.kind === 'stopped' && standing.lost) throw new SwitchbackError('BACKFILL_LOST', { because: standing.because })
  }
  const watching = (async () => {
    while (!end.signal.aborted && !stop.signal.aborted) {
      await systemClock.sleep(SLOT_LOOK_MS, end.signal)
      const standing = await check().catch((error: unknown) => error)
      // Weather says nothing of the slot: the next look does.
      if (standing instanceof SwitchbackError && standing.code.startsWith('BACKFILL_')) stop.abort()
    }
  })()
  return {
    signal: stop.signal,
    check,
    async stop() {
      end.abort()
      await watching
      signal.removeEventListener('abort', onAbort)
    },
  }
}
