// Promises: a user's orders to the leader, durable before anything is done (observe, decide, record, act), so that they outlive the
// command that gave them and the leader that began them.

import { SwitchbackError } from '../model/errors.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import type { Session, TextRow } from './session.ts'

export type JobArguments =
  | {
      readonly kind: 'move'
      readonly to: Owner
      readonly slots: readonly SlotId[]
      readonly readOnlyFirst: boolean
      /** Absent: a person, by a command. */
      readonly by?: 'judge' | 'ramp'
      /** The judge's, which it carries out. */
      readonly verdict?: number
    }
  | { readonly kind: 'read_only'; readonly on: boolean; readonly slots: readonly SlotId[] | null }
  | { readonly kind: 'finalize' }

export type JobState = 'open' | 'running' | 'done' | 'failed' | 'held'

export interface JobProgress {
  readonly slotsDone: number
  readonly slotsTotal: number
  readonly step: string
  /** Of a move: what has been done so far, so that a new leader's report is whole. */
  readonly flips?: readonly unknown[]
}

export interface Job {
  readonly id: number
  readonly arguments: JobArguments
  readonly state: JobState
  readonly progress: Partial<JobProgress>
  /** The flips of a move, or what stopped it. */
  readonly result: Readonly<Record<string, unknown>> | null
}

/** Wakes the leader: an order or a ramp was placed, or has changed; the payload is the order, or 'ramp'. */
export const JOB_CHANNEL = 'switchback_job'

const COLUMNS = 'id, arguments, state, progress, result'

const OPEN = `
select kind, ${COLUMNS} from switchback.job
 where state in ('open', 'running') order by arguments ->> 'by' is not distinct from 'judge' desc, id`

/** The order of a verdict waits for none, nor for another one of its own. */
const STOPPED = `
select j.state, (select min(h.id) from switchback.job h
                  where h.state in ('open', 'running') and h.arguments ->> 'by' = 'judge'
                    and j.arguments ->> 'by' is distinct from 'judge') as behind
  from switchback.job j where j.id = $1`

export interface Jobs {
  order(args: JobArguments): Promise<Job>
  read(id: number): Promise<Job>
  /** As the leader takes them: the order of a verdict first, the others as they came. */
  open(): Promise<readonly Job[]>
  /** Why what is under way stops before its next flip: it is held or over, or the order of a verdict (its number) goes first. */
  stopped(id: number): Promise<'held' | { readonly behind: number } | null>
  begin(id: number, token: number): Promise<void>
  progress(id: number, token: number, progress: JobProgress): Promise<void>
  end(id: number, token: number, state: 'done' | 'failed' | 'held', result: Readonly<Record<string, unknown>>): Promise<void>
  /**
   * Holds open moves to an owner, or those that keep writes off: what is under way stops before its next flip. Of moves to the target a
   * ramp is stopped in the same transaction.
   */
  hold(which: Owner | 'read-only', because: string): Promise<{ readonly orders: number; readonly ramp: number | null }>
}

export function createJobs(session: Session): Jobs {
  const notify = (id: number) => session.query('select pg_notify($1, $2)', [JOB_CHANNEL, String(id)])
  /** Acts of the leader compare its token in the same statement. */
  const act = async (id: number, token: number, set: string, values: readonly unknown[]) => {
    const rows = await session.query(
      `update switchback.job set ${set} where id = $1 and state in ('open', 'running')
         and exists (select 1 from switchback.leader where token = $2) returning id`,
      [id, token, ...values],
    )
    if (rows.length === 0) {
      const [leader] = await session.query('select 1 from switchback.leader where token = $1', [token])
      if (leader === undefined) throw new SwitchbackError('TOKEN_STALE', { token })
      throw new SwitchbackError('JOB_OVER', { job: id })
    }
    await notify(id)
  }
  return {
    async order(args) {
      const { kind, ...rest } = args
      const [row] = await session.query(`insert into switchback.job (kind, arguments) values ($1, $2) returning kind, ${COLUMNS}`, [
        kind,
        JSON.stringify(rest),
      ])
      const job = jobOf(row!)
      await notify(job.id)
      return job
    },
    async read(id) {
      const [row] = await session.query(`select kind, ${COLUMNS} from switchback.job where id = $1`, [id])
      if (row === undefined) throw new SwitchbackError('JOB_OVER', { job: id })
      return jobOf(row)
    },
    open: async () => (await session.query(OPEN)).map(jobOf),
    async stopped(id) {
      const [row] = await session.query(STOPPED, [id])
      if (row === undefined || (row['state'] !== 'open' && row['state'] !== 'running')) return 'held'
      return row['behind'] == null ? null : { behind: Number(row['behind']) }
    },
    begin: (id, token) => act(id, token, `state = 'running'`, []),
    progress: (id, token, progress) => act(id, token, 'progress = $3', [JSON.stringify(progress)]),
    end: (id, token, state, result) =>
      act(id, token, 'state = $3, result = $4, ended_at = clock_timestamp()', [state, JSON.stringify(result, bigintText)]),
    async hold(which, because) {
      const [row] = await session.query('select cardinality(h.jobs) as n, h.ramp from switchback.hold_moves($1, $2) h', [which, because])
      return { orders: Number(row!['n']), ramp: row!['ramp'] == null ? null : Number(row!['ramp']) }
    },
  }
}

function jobOf(row: TextRow): Job {
  const args = { kind: row['kind'], ...(JSON.parse(row['arguments']!) as object) } as JobArguments
  return {
    id: Number(row['id']),
    arguments: args,
    state: row['state'] as JobState,
    progress: JSON.parse(row['progress']!) as Partial<JobProgress>,
    result: row['result'] == null ? null : (JSON.parse(row['result']) as Record<string, unknown>),
  }
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
