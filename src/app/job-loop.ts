// Promises: the leader takes orders one after the other, as they come. A rollback does not wait behind a move to the target: that one
// has been held, and its flip is cancelled or completed first.
import type { Logger } from 'pino'
import { systemClock } from '../lib/clock.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Job, Jobs } from '../store/jobs.ts'
import { type MoveParts, runMoveJob } from './move-runner.ts'
import { setReadOnly } from './read-only.ts'

export interface JobLoopParts extends MoveParts {
  finalize(signal: AbortSignal): Promise<Readonly<Record<string, unknown>>>
  /** Whether the judge lets it be carried out. @throws CANARY_ROLLED_BACK */
  admit(job: Job): Promise<void>
}

const LOOK_MS = 50
const HELD_LOOK_MS = 100

/** Runs until the signal aborts; rejects with what ends the lead. */
export async function runJobs(parts: JobLoopParts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const [job] = await parts.jobs.open()
    if (job === undefined) await systemClock.sleep(LOOK_MS, signal)
    else if (!signal.aborted) await runJob(parts, job, signal)
  }
}

async function runJob(parts: JobLoopParts, job: Job, signal: AbortSignal): Promise<void> {
  const { jobs, token, log } = parts
  log.info({ job: job.id, order: job.arguments.kind }, 'an order is taken up')
  const held = watchHeld(jobs, job, signal, log)
  try {
    await jobs.begin(job.id, token)
    await carryOut(parts, job, held.signal)
  } catch (error) {
    if (hasCode(error, 'TOKEN_STALE', 'CONTROL_UNREACHABLE', 'FLIP_UNROUTED')) throw error
    if (hasCode(error, 'JOB_OVER') || held.signal.aborted) return
    const because =
      error instanceof SwitchbackError ? `${error.message} ${error.remedy}` : error instanceof Error ? error.message : String(error)
    log.error({ job: job.id, because }, 'an order failed')
    await jobs.end(job.id, token, 'failed', { because }).catch((end: unknown) => {
      if (!hasCode(end, 'JOB_OVER')) throw end
    })
  } finally {
    await held.stop()
  }
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

/** Aborts when somebody holds the order. */
function watchHeld(jobs: Jobs, job: Job, signal: AbortSignal, log: Logger): { readonly signal: AbortSignal; stop(): Promise<void> } {
  const stop = new AbortController()
  const end = new AbortController()
  const onAbort = () => stop.abort()
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const watching = (async () => {
    while (!end.signal.aborted && !stop.signal.aborted) {
      const now = await jobs.read(job.id).catch(() => null)
      if (now?.state === 'held') {
        log.info({ job: job.id }, 'the order is held')
        stop.abort()
      }
      await systemClock.sleep(HELD_LOOK_MS, end.signal)
    }
  })()
  return {
    signal: stop.signal,
    async stop() {
      end.abort()
      await watching
      signal.removeEventListener('abort', onAbort)
    },
  }
}
