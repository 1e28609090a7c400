// Promises: an order placed with the leader and followed to its end. The order is durable before it is followed: Ctrl-C stops the
// following, not the work, and says so.

import { systemClock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { createJobs, type Job, type JobArguments, type JobProgress } from '../store/jobs.ts'
import type { Session } from '../store/session.ts'

const LOOK_MS = 30
/** Without a sign of a leader's life for so long nobody is there to take an order up. One that waits behind another is waited for. */
const LEADER_MISSING_MS = 15_000

/** @throws NO_CONTROLLER (the order was withdrawn), INTERRUPTED (the leader goes on with it), or returns the job's end. */
export async function placeOrder(
  session: Session,
  order: JobArguments,
  onProgress: (progress: Partial<JobProgress>) => void,
  signal: AbortSignal,
): Promise<Job> {
  const jobs = createJobs(session)
  return followJob(session, await jobs.order(order), onProgress, signal)
}

async function followJob(
  session: Session,
  placed: Job,
  onProgress: (progress: Partial<JobProgress>) => void,
  signal: AbortSignal,
): Promise<Job> {
  const jobs = createJobs(session)
  let seen = { beats: await beatsOf(session), atMs: systemClock.monotonicMs() }
  for (;;) {
    const job = await jobs.read(placed.id)
    onProgress(job.progress)
    if (job.state !== 'open' && job.state !== 'running') return job
    if (job.state === 'open' && systemClock.monotonicMs() - seen.atMs > LEADER_MISSING_MS) {
      const beats = await beatsOf(session)
      const lives = beats !== seen.beats
      seen = { beats, atMs: systemClock.monotonicMs() }
      if (!lives && (await withdraw(session, job.id))) throw new SwitchbackError('NO_CONTROLLER', { waitedMs: LEADER_MISSING_MS })
    }
    if (signal.aborted) throw new SwitchbackError('INTERRUPTED', { job: job.id })
    await systemClock.sleep(LOOK_MS, signal)
  }
}

/** A leader raises it several times a second. */
async function beatsOf(session: Session): Promise<string> {
  return (await session.query('select beats from switchback.heartbeat'))[0]!['beats']!
}

async function withdraw(session: Session, id: number): Promise<boolean> {
  const rows = await session.query(
    `update switchback.job set state = 'held', ended_at = clock_timestamp(), result = '{"because": "no controller took it up"}'
      where id = $1 and state = 'open' returning id`,
    [id],
  )
  return rows.length === 1
}
