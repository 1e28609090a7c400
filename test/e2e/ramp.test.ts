// `canary run` over a whole move: gateways that measure, a judge that judges, a ramp that goes on by its word alone.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeSettings } from '../../src/app/judge-settings.ts'
import { savedState } from '../../src/app/judge-state.ts'
import { slotNameOf } from '../../src/app/names.ts'
import { readStatus, type Status } from '../../src/app/status.ts'
import { NO_COUNTS } from '../../src/canary/arm-counts.ts'
import { FRESH_JUDGE, type JudgeState, judge } from '../../src/canary/judge.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import type { SlotId } from '../../src/model/ids.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { labelOf } from '../../src/sql/label.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, type MoveOptions, startMove } from '../support/move.ts'
import { type Ended, objectOf, type Running, startCommand } from './cli-place.ts'

const ACCOUNTS = 400
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, ${ACCOUNTS}) a;
`
const UPDATE = 'update notes set n = n + 1 where account = $1'
const SLO_MS = 250
const JUDGE: JudgeOptions = {
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

const startRamping = (more: Partial<MoveOptions> = {}) =>
  startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    judge: JUDGE,
    ramp: { observeMs: 2_000, steps: STEPS },
    ...more,
  })

const canary = (move: Move, ...args: string[]): Running =>
  startCommand(['canary', ...args, '--config', move.configPath], '.', { ...process.env, ...move.env })

const statusOf = (move: Move): Promise<Status> => readStatus(move.session, slotNameOf(move.database.name))

/** Clients that write one account after the other, until stopped; one of them is hot. Counts what failed. */
async function traffic(move: Move) {
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
async function leadAnew(move: Move, state: JudgeState | null = null): Promise<void> {
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

/** As after ten minutes of control: what an earlier leader has seen of this statement on PostgreSQL. */
function watchedControl(nowMs: number): JudgeState {
  const { config } = judgeSettings({ judge: JUDGE })
  const requests = 200
  const control = { ...NO_COUNTS, requests, latencies: { ...latenciesOf([5]), counts: [requests] } }
  const statements = { [labelOf(UPDATE)]: { canary: NO_COUNTS, control } }
  let state = FRESH_JUDGE
  for (let second = 620; second > 0; second--) {
    const evidence = { tMs: nowMs - second * 1_000, spanMs: 1_000, step: 0, statements, parity: null, lag: null, saturation: [] }
    state = judge(state, evidence, config).state
  }
  return state
}

async function onTarget(move: Move): Promise<readonly SlotId[]> {
  const rows = await move.session.query(`select slot from switchback.ownership where owner = 'target' order by slot`)
  return rows.map((row) => Number(row.slot))
}

/** PostgreSQL keeps one of its own keys waiting for longer than the SLO allows, again and again: a tail that the canary has not. */
async function slowControl(move: Move, signal: AbortSignal): Promise<void> {
  const [client, direct] = [await move.client(), await move.database.connect()]
  for (let account = 2; !signal.aborted; account = 2 + (account % (ACCOUNTS - 1))) {
    const taken = new Set(await onTarget(move))
    if (taken.has(move.slotOf(String(account)))) continue
    await direct.query('begin')
    await direct.query('select 1 from notes where account = $1 for update', [account])
    const slow = client.query(UPDATE, [account])
    await direct.query('select pg_sleep($1)', [(SLO_MS * 1.3) / 1_000])
    await direct.query('commit')
    await slow.catch(() => undefined)
  }
}

test('a ramp plans by the traffic, and goes to all of it, each step promoted by the judge; nothing fails on the way', {
  timeout: 220_000,
}, async () => {
  await using move = await startRamping()
  await move.move('target', ['7'])
  await move.move('source', ['7']) // armed: the gateways measure
  const load = await traffic(move)
  await leadAnew(move, watchedControl(Date.now()))
  const stop = new AbortController()
  const slow = slowControl(move, stop.signal)
  const run = canary(move, 'run')
  await run.says(/Step 1 of 3, 40 %: \d+ more slots, then \d+ of 4096, [\d.]+ % of all requests/, 60_000)
  await run.says(/hottest keys that it adds: /)
  await run.says(/Step 1 of 3 \(40 %\) is out/, 60_000)
  const first = await onTarget(move)
  assert.equal((await statusOf(move)).ramp!.percent, 40)
  await run.says(/Step 2 of 3 \(70 %\): its slots move/, 60_000)
  await run.says(/Step 2 of 3 \(70 %\) is out/, 60_000)
  const second = await onTarget(move)
  assert.ok(first.length < second.length && first.every((slot) => second.includes(slot)), 'a larger step contains the smaller one')
  await run.says(/Done: the last step, 100 %, is out and has baked/, 90_000)
  stop.abort()
  await slow
  const { exitCode } = await run.ended
  assert.deepEqual([exitCode, (await onTarget(move)).length], [0, 4_096])
  await load.stop()
  assert.deepEqual(load.failures, [])
})

test('INV-10: without traffic a ramp holds and says so, its dry run tells that it knows nothing; a hold by a person stops it', {
  timeout: 120_000,
}, async () => {
  await using move = await startRamping()
  const dry = objectOf(await canary(move, 'run', '1%,100%', '--dry-run', '--json').ended)
  assert.deepEqual([dry['basis'], dry['requests']], ['slot order', null])
  const run = canary(move, 'run', '--json')
  await eventually(
    async () => (await statusOf(move)).ramp?.heldBecause.join().includes('no gateway has told of a request'),
    'it holds',
    30_000,
  )
  const refused = await canary(move, 'start', '1%', '--json').ended
  assert.deepEqual([refused.exitCode, codeOf(refused)], [2, 'RAMP_OPEN'])
  const other = await canary(move, 'run', '5%', '--json').ended
  assert.deepEqual([other.exitCode, codeOf(other)], [2, 'RAMP_OPEN'])
  const held = objectOf(await canary(move, 'hold', '--json').ended)
  const ended = await run.ended
  const result = objectOf(ended)
  assert.deepEqual(
    [ended.exitCode, result['state'], result['because'], result['ramp']],
    [1, 'stopped', 'held by `switchback canary hold`', held['ramp']],
  )
  assert.deepEqual(await onTarget(move), [])
})

test('a new leader goes on with the step that is out; a verdict ends the ramp and says why; a new ramp starts the judge again, and a rollback stops it', {
  timeout: 220_000,
}, async () => {
  await using move = await startRamping({
    ramp: {
      observeMs: 1_000,
      steps: [
        { percent: 20, bakeMs: 600_000 },
        { percent: 50, bakeMs: 0 },
      ],
    },
  })
  let load = await traffic(move)
  const run = canary(move, 'run')
  await run.says(/Step 1 of 2 \(20 %\) is out/, 60_000)
  const out = await onTarget(move)
  await leadAnew(move)
  const baked = (await statusOf(move)).ramp!.bakedMs
  await eventually(
    async () => {
      const { ramp } = await statusOf(move)
      return ramp!.state !== 'stopped' && ramp!.step === 1 && ramp!.bakedMs > baked + 500
    },
    'the new leader bakes on',
    30_000,
  )
  assert.deepEqual(await onTarget(move), out)
  await load.stop()
  await run.says(/ROLLED BACK: the judge turned the traffic back: silence/, 60_000)
  assert.equal((await run.ended).exitCode, 1)
  await eventually(async () => (await onTarget(move)).length === 0 && (await statusOf(move)).jobs.length === 0, 'all is home', 30_000)
  load = await traffic(move)
  const again = canary(move, 'run', '20%:10m')
  await again.says(/Step 1 of 1 \(20 %\) is out/, 60_000)
  const dry = objectOf(await canary(move, 'run', '--dry-run', '--json').ended)
  assert.deepEqual([dry['basis'], dry['moved']], ['profile', (await onTarget(move)).length])
  const back = await startCommand(['rollback', '--json', '--config', move.configPath], '.', { ...process.env, ...move.env }).ended
  assert.equal(back.exitCode, 0)
  await again.says(/Stopped: held by `switchback rollback`/)
  assert.deepEqual([(await again.ended).exitCode, await onTarget(move)], [1, []])
  await load.stop()
  assert.deepEqual(load.failures, [])
})

function codeOf({ stdout }: Ended): string {
  return (JSON.parse(stdout) as { error: { code: string } }).error.code
}
