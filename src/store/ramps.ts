// Promises: ramps as the control schema keeps them (schema-ramp.ts). What a leader writes carries its token; what a ramp's configuration and
// plan are is the caller's.
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'
import { JOB_CHANNEL, type JobState } from './jobs.ts'
import type { Session, TextRow } from './session.ts'

/** Open until done (its last step is out, and has baked), stopped (by a person, or by an order that failed) or rolled back (by verdict). */
export type RampState = 'ordered' | 'arming' | 'observing' | 'running' | 'done' | 'stopped' | 'rolled back'

export interface HeldSlot {
  readonly slot: SlotId
  readonly because: string
}

/** A step that another one has followed. */
export interface PassedStep {
  readonly bakedMs: number
  readonly held: readonly HeldSlot[]
}

export interface Ramp<Config, Plan> {
  readonly id: number
  readonly state: RampState
  readonly config: Config
  /** Null: not chosen yet. */
  readonly plan: Plan | null
  /** The one that is out or on its way, from 0; -1: none. */
  readonly step: number
  /** Its order, or the one that arms. */
  readonly job: RampJob | null
  readonly observedMs: number
  readonly bakedMs: number
  /** By step; null where the ramp began with larger ones. */
  readonly passed: readonly (PassedStep | null)[]
  readonly heldBecause: readonly string[]
  /** Why it ended, where it did not end well. */
  readonly because: string | null
  readonly ended: boolean
  /** Since a leader said the last of this. */
  readonly toldAgeMs: number
}

export interface RampJob {
  readonly id: number
  readonly state: JobState
  readonly slotsDone: number
  readonly slotsTotal: number
  readonly held: readonly HeldSlot[]
  /** Why it was held, or failed. */
  readonly because: string | null
}

export interface Ramps<Config, Plan> {
  /** Null: one is open. */
  order(config: Config): Promise<number | null>
  open(): Promise<Ramp<Config, Plan> | null>
  /** The newest, open or not. */
  last(): Promise<Ramp<Config, Plan> | null>
  read(id: number): Promise<Ramp<Config, Plan>>
  /** Orders its next step, or with no slots what must stand before one. False: it was ended meanwhile. */
  step(id: number, token: number, next: NextStep<Plan>): Promise<boolean>
  /** Armed; from here on the traffic is observed. */
  observe(id: number, token: number): Promise<void>
  /** Its slots are chosen; `step`: what has moved already amounts to it. */
  plan(id: number, token: number, plan: Plan, step: number): Promise<void>
  tell(id: number, token: number, told: Pick<Ramp<Config, Plan>, 'observedMs' | 'bakedMs' | 'heldBecause'>): Promise<void>
  end(id: number, token: number, end: { readonly state: RampState; readonly because: string | null }): Promise<void>
  /** Whichever is open, by whoever may say so. */
  endOpen(state: RampState, because: string): Promise<void>
  /** Of one that no leader has taken up. False: one has. */
  withdraw(id: number, because: string): Promise<boolean>
}

export interface NextStep<Plan> {
  readonly state: RampState
  readonly plan: Plan | null
  readonly step: number
  readonly passed: readonly (PassedStep | null)[]
  readonly slots: readonly SlotId[]
}

const SELECT = `
  select r.id, r.state, r.config, r.plan, r.step, r.observed_ms, r.baked_ms, r.passed, r.held_because, r.because,
         r.ended_at is not null as ended, extract(epoch from clock_timestamp() - r.told_at) * 1000 as told_age_ms,
         j.id as job, j.state as job_state, j.progress as job_progress, j.result as job_result
    from switchback.ramp r left join switchback.job j on j.id = r.job`

export function createRamps<Config, Plan>(session: Session): Ramps<Config, Plan> {
  const one = async (where: string, values: readonly unknown[] = []) => {
    const [row] = await session.query(`${SELECT} ${where}`, values)
    return row === undefined ? null : rampOf<Config, Plan>(row)
  }
  /** Of the leader, on an open ramp; that it was ended meanwhile is seen at the next look. */
  const act = async (id: number, token: number, set: string, values: readonly unknown[]) => {
    const rows = await session.query(
      `update switchback.ramp set told_at = clock_timestamp(), ${set}
        where id = $1 and ended_at is null and exists (select 1 from switchback.leader where token = $2) returning id`,
      [id, token, ...values],
    )
    if (rows.length > 0) return
    const [leader] = await session.query('select 1 from switchback.leader where token = $1', [token])
    if (leader === undefined) throw new SwitchbackError('TOKEN_STALE', { token })
  }
  return {
    async order(config) {
      const [row] = await session.query('insert into switchback.ramp (config) values ($1) on conflict do nothing returning id', [
        JSON.stringify(config),
      ])
      if (row === undefined) return null
      await session.query('select pg_notify($1, $2)', [JOB_CHANNEL, 'ramp'])
      return Number(row['id'])
    },
    open: () => one('where r.ended_at is null'),
    last: () => one('order by r.id desc limit 1'),
    async read(id) {
      const ramp = await one('where r.id = $1', [id])
      if (ramp === null) throw new SwitchbackError('RAMP_GONE', { ramp: id })
      return ramp
    },
    async step(id, token, { state, plan, step, passed, slots }) {
      const planned = plan === null ? null : JSON.stringify(plan)
      const values = [token, id, state, planned, step, JSON.stringify(passed), JSON.stringify(slots)]
      const [row] = await session.query('select switchback.ramp_order($1, $2, $3, $4, $5, $6, $7) as job', values)
      return row!['job'] !== null
    },
    observe: (id, token) => act(id, token, `state = 'observing', observed_ms = 0`, []),
    plan: (id, token, plan, step) =>
      act(id, token, `state = 'running', plan = $3, step = $4, passed = $5, job = null, baked_ms = 0, held_because = '[]'`, [
        JSON.stringify(plan),
        step,
        JSON.stringify(new Array<null>(step + 1).fill(null)),
      ]),
    tell: (id, token, { observedMs, bakedMs, heldBecause }) =>
      act(id, token, 'observed_ms = $3, baked_ms = $4, held_because = $5', [
        Math.round(observedMs),
        Math.round(bakedMs),
        JSON.stringify(heldBecause),
      ]),
    end: (id, token, { state, because }) => act(id, token, 'state = $3, because = $4, ended_at = clock_timestamp()', [state, because]),
    async endOpen(state, because) {
      await session.query('select switchback.end_ramp($1, $2)', [state, because])
    },
    async withdraw(id, because) {
      const rows = await session.query(
        `update switchback.ramp set state = 'stopped', because = $2, ended_at = clock_timestamp()
          where id = $1 and state = 'ordered' and held_because = '[]' returning id`,
        [id, because],
      )
      return rows.length === 1
    },
  }
}

function rampOf<Config, Plan>(row: TextRow): Ramp<Config, Plan> {
  return {
    id: Number(row['id']),
    state: row['state'] as RampState,
    config: JSON.parse(row['config']!) as Config,
    plan: row['plan'] == null ? null : (JSON.parse(row['plan']) as Plan),
    step: Number(row['step']),
    job: jobOf(row),
    observedMs: Number(row['observed_ms']),
    bakedMs: Number(row['baked_ms']),
    passed: JSON.parse(row['passed']!) as (PassedStep | null)[],
    heldBecause: JSON.parse(row['held_because']!) as string[],
    because: row['because'] ?? null,
    ended: row['ended'] === 't',
    toldAgeMs: Number(row['told_age_ms']),
  }
}

function jobOf(row: TextRow): RampJob | null {
  if (row['job'] == null) return null
  const progress = JSON.parse(row['job_progress']!) as { slotsDone?: number; slotsTotal?: number }
  const result = JSON.parse(row['job_result'] ?? 'null') as { held?: HeldSlot[]; because?: string } | null
  return {
    id: Number(row['job']),
    state: row['job_state'] as JobState,
    slotsDone: progress.slotsDone ?? 0,
    slotsTotal: progress.slotsTotal ?? 0,
    held: result?.held ?? [],
    because: result?.because ?? null,
  }
}
