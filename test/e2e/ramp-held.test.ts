// What holds a ramp over a whole move, and what ends it: no traffic, a person, a new leader (which does not), a verdict.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import { type Ended, objectOf, startCommand } from './cli-place.ts'
import { canary, leadAnew, onTarget, startRamping, statusOf, traffic } from './ramp-place.ts'

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
