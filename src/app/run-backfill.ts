// Promises: `backfill` from the command's side: makes slot and target tables at the first run, copies what is open, goes on where a
// killed one stopped, and says when all is there. Many may run at once; each takes ranges.
import { hostname } from 'node:os'
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId, Stamp } from '../model/ids.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import { type BackfillState, backfillRanges, beginBackfill, endBackfill, newestBackfill } from '../store/backfill-ranges.ts'
import { readView } from '../store/read-view.ts'
import { openFirstTenure } from '../store/schema.ts'
import { type BackfillProgress, runBackfill } from '../sync/backfill.ts'
import type { Workspace } from './workspace.ts'

export interface BackfillRunOptions {
  readonly workspace: Workspace
  readonly source: Source
  readonly target: Target
  readonly workers: number
  readonly rowsPerSecondMax: number | null
  readonly onProgress: (progress: BackfillProgress) => void
  readonly signal: AbortSignal
}

export interface BackfillOutcome {
  readonly rows: number
  readonly bytes: number
  readonly durationMs: number
  readonly resumed: boolean
}

const BEGIN_LOCK = 0x5377_6266

/** @throws INTERRUPTED_BACKFILL when the signal came: what was copied stays, another run goes on. */
export async function backfillNow(options: BackfillRunOptions): Promise<BackfillOutcome> {
  const { workspace, source, target, signal } = options
  const startedMs = systemClock.monotonicMs()
  await target.prepare(workspace.mapping)
  const { before, fresh } = await beginOnce(workspace, source)
  if (before?.done) throw new SwitchbackError('BACKFILL_DONE')
  const begun = before ?? fresh!
  try {
    const view = await readView(workspace.session)
    const stampOf = (slot: SlotId): Stamp | null => {
      const row = view.ownership(slot)
      return row === undefined || row.owner === 'target' ? null : row.base
    }
    await runBackfill(
      {
        source,
        target,
        mapping: workspace.mapping,
        journal: backfillRanges(workspace.session, begun.id),
        snapshot: fresh?.snapshot ?? null,
        slotOf: (key) => view.slotOf(key),
        stampOf,
        worker: `${hostname()}:${process.pid}`,
        limits: { workers: options.workers, rowsPerSecondMax: options.rowsPerSecondMax },
        progress: options.onProgress,
        clock: systemClock,
        random: systemRandom,
      },
      signal,
    )
  } finally {
    await fresh?.release()
  }
  const totals = await backfillRanges(workspace.session, begun.id).totals()
  if (totals.done < totals.ranges || signal.aborted)
    throw new SwitchbackError('INTERRUPTED_BACKFILL', { done: totals.done, ranges: totals.ranges })
  await endBackfill(workspace.session, begun.id)
  return { rows: totals.rows, bytes: totals.bytes, durationMs: Math.round(systemClock.monotonicMs() - startedMs), resumed: before !== null }
}

/** Of several that start at once, one makes the slot, and the others join it. The lock ends with its connection at the latest. */
async function beginOnce(workspace: Workspace, source: Source): Promise<{ before: BackfillState | null; fresh: Begun | null }> {
  await workspace.admin.query('select pg_advisory_lock($1)', [BEGIN_LOCK])
  try {
    const before = await newestBackfill(workspace.session)
    return { before, fresh: before === null ? await begin(workspace, source) : null }
  } finally {
    await workspace.admin.query('select pg_advisory_unlock($1)', [BEGIN_LOCK])
  }
}

type Begun = BackfillState & { readonly snapshot: string; release(): Promise<void> }

/** Slot first, then the record of it: a crash in between leaves a slot that nobody has recorded, which is dropped and made again. */
async function begin(workspace: Workspace, source: Source): Promise<Begun> {
  if ((await source.slotState()) !== null) await source.dropSlot()
  const point = await source.createSlot()
  const [leader] = await workspace.session.query('select token from switchback.leader')
  await openFirstTenure(workspace.admin, { token: Number(leader?.['token'] ?? 0), consistentPoint: point.consistentPoint })
  return { ...(await beginBackfill(workspace.session, point.consistentPoint)), snapshot: point.snapshot, release: () => point.release() }
}
