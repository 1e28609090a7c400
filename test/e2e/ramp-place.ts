// Promises: a whole move with a ramp and a judge in its configuration, small enough for a test; clients that write; a leader that begins anew.
import { savedState } from '../../src/app/judge-state.ts'
import { slotNameOf } from '../../src/app/names.ts'
import { readStatus, type Status } from '../../src/app/status.ts'
import type { JudgeState } from '../../src/canary/judge.ts'
import type { SlotId } from '../../src/model/ids.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, type MoveOptions, startMove } from '../support/move.ts'
import { type Running, startCommand } from './cli-place.ts'

export const ACCOUNTS = 400
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, ${ACCOUNTS}) a;
`
export const UPDATE = 'update notes set n = n + 1 where account = $1'
export const SLO_MS = 250
export const JUDGE: JudgeOptions = {
  sloMs: SLO_MS,
  silenceMs: 10_000,
  showKeys: true,
  promotion: { bakeMs: 1_000, leastRequests: 50, parityFreshMs: 15_000, lagMostMs: 10_000 },
}
const STEPS = [
  { percent: 40, bakeMs: 1_000 },
  { percent: 70, bakeMs: 1_000 },
  { percent: 100, bakeMs: 500 },
]

export const startRamping = (more: Partial<MoveOptions> = {}) =>
  startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    judge: JUDGE,
    ramp: { observeMs: 2_000, steps: STEPS },
    ...more,
  })

export const canary = (move: Move, ...args: string[]): Running =>
  startCommand(['canary', ...args, '--config', move.configPath], '.', { ...process.env, ...move.env })

export const statusOf = (move: Move): Promise<Status> => readStatus(move.session, slotNameOf(move.database.name))

/** Clients that write one account after the other, until stopped; one of them is hot. Counts what failed. */
export async function traffic(move: Move) {
  const stop = new AbortController()
  const failures: unknown[] = []
  const clients = await Promise.all([move.client(), move.client(), move.client()])
  const working = clients.map(async (client, i) => {
    for (let n = i; !stop.signal.aborted; n += clients.length) {
      await client.query(UPDATE, [n % 10 === 0 ? 1 : 1 + (n % ACCOUNTS)]).catch((error: unknown) => failures.push(error))
    }
  })
  return {
    failures,
    async stop() {
      stop.abort()
      await Promise.all(working)
    },
  }
}

/** Leads anew, from what PostgreSQL has; what the judge had gathered is `state` then, where one is given. */
export async function leadAnew(move: Move, state: JudgeState | null = null): Promise<void> {
  const { leader } = await statusOf(move)
  const saved = state === null ? null : savedState(state)!
  await move.session.query(
    `with raised as (update switchback.leader set token = token + 1)
     update switchback.judge set format = coalesce($1, format), state = coalesce($2, state)`,
    [saved?.format ?? null, saved?.state ?? null],
  )
  await eventually(
    async () => {
      const now = await statusOf(move)
      return now.leader!.token > leader!.token + 1 && now.syncs !== null
    },
    'the controller leads again',
    30_000,
  )
}

export async function onTarget(move: Move): Promise<readonly SlotId[]> {
  const rows = await move.session.query(`select slot from switchback.ownership where owner = 'target' order by slot`)
  return rows.map((row) => Number(row.slot))
}
