// `canary run` over a whole move: gateways that measure, a judge that judges, a ramp that goes on by its word alone.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeSettings } from '../../src/app/judge-settings.ts'
import { NO_COUNTS } from '../../src/canary/arm-counts.ts'
import { FRESH_JUDGE, type JudgeState, judge } from '../../src/canary/judge.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import { labelOf } from '../../src/sql/label.ts'
import type { Move } from '../support/move.ts'
import { ACCOUNTS, canary, JUDGE, leadAnew, onTarget, SLO_MS, startRamping, statusOf, traffic, UPDATE } from './ramp-place.ts'

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
