// Promises: the leader takes orders one after the other, as they come, but the order of a verdict first. It waits behind none: a move to the
// target has been held, and so has a finalize that had not announced the end; any other order under way stops before its next flip and is
// taken up again after the way home. A flip under way is cancelled or completed first (INV-7).
import type { Logger } from 'pino'
import { systemClock } from '../lib/clock.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Job, Jobs } from '../store/jobs.ts'
import { lookOrWait, type Waits } from './look-or-wait.ts'
import { type MoveParts, runMoveJob } from './move-runner.ts'
import { setReadOnly } from './read-only.ts'

export interface JobLoopParts extends MoveParts {
  finalize(signal: AbortSignal): Promise<Readonly<Record<string, unknown>>>
  /** Resolves when an order may have been placed. */
  readonly nextOrder: Waits['nextOrder']
  /** Whether the judge lets it be carried out. @throws CANARY_ROLLED_BACK */
  admit(job: Job): Promise<void>
}

const STOPPED_LOOK_MS = 100

/** Runs until the signal aborts; rejects with what ends the lead. */
export async function runJobs(parts: JobLoopParts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const waits = { clock: systemClock, nextOrder: parts.nextOrder }
    const job = await lookOrWait(async () => (await parts.jobs.open())[0] ?? null, waits, signal)
    if (job !== null && !signal.aborted) await runJob(parts, job, signal)
  }
}

async function runJob(parts: JobLoopParts, job: Job, signal: AbortSignal): Promise<void> {
  const { jobs, token, log } = parts
  log.info({ job: job.id, order: job.arguments.kind }, 'an order is taken up')
  const stopping = watchStopped(jobs, job, signal, log)
  try {
    await jobs.begin(job.id, token)
    await carryOut(parts, job, stopping.signal)
    await tellBehind(parts, job, stopping.behind())
  } catch (error) {
    if (hasCode(error, 'TOKEN_STALE', 'CONTROL_UNREACHABLE', 'FLIP_UNROUTED')) throw error
    if (hasCode(error, 'JOB_OVER')) return
    if (stopping.signal.aborted) return await tellBehind(parts, job, stopping.behind())
    const because =
      error instanceof SwitchbackError ? `${error.message} ${error.remedy}` : error instanceof Error ? error.message : String(error)
    log.error({ job: job.id, because }, 'an order failed')
    await jobs.end(job.id, token, 'failed', { because }).catch((end: unknown) => {
      if (!hasCode(end, 'JOB_OVER')) throw end
    })
  } finally {
    await stopping.stop()
  }
}

/** To whoever follows it: it is not over. */
async function tellBehind({ jobs, token }: JobLoopParts, { id }: Job, home: number | null): Promise<void> {
  if (home === null) return
  const { state, progress } = await jobs.read(id)
  if (state !== 'running') return
  const step = `the judge turned the traffic back: order ${home} goes first, then this one goes on`
  await jobs.progress(id, token, { slotsDone: 0, slotsTotal: 0, ...progress, step }).catch((over: unknown) => {
    if (!hasCode(over, 'JOB_OVER')) throw over
  })
}

async function carryOut(parts: JobLoopParts, job: Job, signal: AbortSignal): Promise<void> {
  const { jobs, token } = parts
  const args = job.arguments
  await parts.admit(job)
  if (args.kind === 'move') return runMoveJob(parts, job, args, signal)
  if (args.kind === 'read_only') {
    const startedMs = systemClock.monotonicMs()
    const view = await parts.flips.control.view()
    const slots = args.slots ?? [...view.rows()].map((row) => row.slot)
    const { epoch } = await setReadOnly(parts.flips, slots, args.on, signal)
    return jobs.end(job.id, token, 'done', { epoch, inForceMs: Math.round(systemClock.monotonicMs() - startedMs) })
  }
  return jobs.end(job.id, token, 'done', await parts.finalize(signal))
}

interface Stopping {
  readonly signal: AbortSignal
  /** The order of a verdict that goes first; null: none does. */
  behind(): number | null
  stop(): Promise<void>
}

/** Aborts when somebody holds the order, or the order of a verdict goes first. */
function watchStopped(jobs: Jobs, job: Job, signal: AbortSignal, log: Logger): Stopping {
  const stop = new AbortController()
  const end = new AbortController()
  let behind: number | null = null
  const onAbort = () => stop.abort()
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const watching = (async () => {
    while (!end.signal.aborted && !stop.signal.aborted) {
      const stopped = await jobs.stopped(job.id).catch(() => null)
      if (stopped !== null && !end.signal.aborted) {
        if (stopped === 'held') log.info({ job: job.id }, 'the order is held')
        else {
          behind = stopped.behind
          log.warn({ job: job.id, behind }, 'the order stops: the way home by verdict goes first')
        }
        stop.abort()
      }
      await systemClock.sleep(STOPPED_LOOK_MS, end.signal)
    }
  })()
  return {
    signal: stop.signal,
    behind: () => behind,
    async stop() {
      end.abort()
      await watching
      signal.removeEventListener('abort', onAbort)
    },
  }
}
