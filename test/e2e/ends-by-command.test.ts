// A move by the commands that a user types, each a process with --json: a write past the guard freezes its slot, a repair is planned and
// applied, the move is finalized; another one is called off and uninstalled.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { applierRoleOf } from '../../src/app/names.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { eventually } from '../support/eventually.ts'
import { ACCOUNTS, objectOf, type Place, place } from './cli-place.ts'

const ROWS = `${ACCOUNTS}
  insert into public.accounts select n, 'account ' || n from generate_series(1, 30) n;
  insert into public.entries select n, 1, 10 from generate_series(1, 30) n;`
/** Nobody asks for the keys that move here, and one is made wrong on purpose: the judge would take both home. */
const MORE = `controller: { port: 0, slotsPerFlip: 4096 }, gateway: { port: 0 }, judge: { enabled: false }`

interface Outcome {
  readonly exitCode: number | null
  readonly [field: string]: unknown
}

/** As a process, to its end. */
async function command(at: Place, line: string): Promise<Outcome> {
  const ended = await at.process([...line.split(' '), '--json'])
  return { ...objectOf(ended), exitCode: ended.exitCode }
}

/** What has been a process before. */
async function again(at: Place, line: string): Promise<Outcome> {
  const ended = await at.run([...line.split(' '), '--json'])
  return { ...objectOf(ended), exitCode: ended.exitCode }
}

async function ready(at: Place): Promise<void> {
  await eventually(async () => (await again(at, 'status'))['readyForCanary'] === true, 'ready for a canary', 30_000)
}

test('a write past the guard freezes its slot until a repair, planned and then applied, has settled it; finalize is asked for by name', {
  timeout: 230_000,
}, async () => {
  await using target = await serveMemoryTarget()
  await using at = await place(ROWS, { target: `{ kind: 'memory', port: ${target.port} }`, more: MORE })
  const name = at.db.name
  assert.equal((await command(at, 'init'))['installed'], true)
  const gateway = at.start(['gateway'])
  const controller = at.start(['controller'])
  const backfill = await command(at, 'backfill')
  assert.deepEqual([backfill.exitCode, backfill['rows']], [0, 60])
  await ready(at)
  const slot = hashSlotOf('1')
  assert.equal((await command(at, 'canary start --key 1')).exitCode, 0)
  // With leases bound and the guard on, as after an update of Switchback.
  assert.equal((await again(at, 'init')).exitCode, 0)

  // The one login that the guard lets pass, used by somebody else.
  const rogue = await at.db.connect()
  await rogue.query(`set session authorization ${applierRoleOf(name)}`)
  await rogue.query(`update public.accounts set name = 'rogue' where id = 1`)
  const frozen = async () => ((await again(at, 'status'))['frozenSlots'] as { slot: number }[]).map((one) => one.slot)
  await eventually(async () => (await frozen()).join() === String(slot), 'its slot is frozen')
  const status = await command(at, 'status')
  assert.deepEqual([status.exitCode, status['violations'], status['readyForCanary']], [0, 1, false])

  const plan = await command(at, 'parity --repair')
  const steps = (plan['repair'] as { plan: { key: string; owner: string }[]; applied: unknown }).plan
  assert.deepEqual([plan.exitCode, plan['differences'], steps.map(({ key, owner }) => `${key} ${owner}`)], [1, 1, ['1 target']])
  assert.deepEqual(await frozen(), [slot], 'a plan settles nothing')
  // What holds the way out holds no way home; then the frozen slot stays there.
  assert.equal((await command(at, `rollback --slots ${slot}-${slot}`)).exitCode, 0)
  const refused = await again(at, 'canary start --key 1')
  assert.equal(refused.exitCode, 1)
  assert.match((refused['error'] as { message: string }).message, new RegExp(`Slot ${slot} is frozen: PostgreSQL took a write to it at`))
  assert.equal((await again(at, 'canary start --key 2')).exitCode, 0)

  // PostgreSQL owns the row again, so its value is the one that is copied.
  const repaired = await again(at, 'parity --repair --apply')
  assert.deepEqual(
    [repaired.exitCode, repaired['differences'], (repaired['repair'] as { applied: { repaired: number } }).applied.repaired],
    [0, 0, 1],
  )
  assert.deepEqual(await frozen(), [])
  assert.equal((await command(at, 'canary advance 100%')).exitCode, 0)
  const [row] = await target.target.readRows([{ table: 'public.accounts', key: '1', clustering: [] }])
  assert.equal(row?.values?.[1], 'rogue')

  for (const [line, code] of [
    ['finalize', 'USAGE'],
    ['finalize --confirm other', 'CONFIRM_MISMATCH'],
  ] as const) {
    const { exitCode, error } = await again(at, line)
    assert.deepEqual([exitCode, (error as { code: string }).code], [2, code])
  }
  const final = await command(at, `finalize --confirm ${name}`)
  assert.deepEqual([final.exitCode, final['slots']], [0, 4096])
  await assert.rejects(at.db.query(`update public.accounts set name = 'late' where id = 2`), {
    code: '55000',
    message: /its move to another store is final/,
  })
  for (const { child } of [gateway, controller]) child.kill('SIGTERM')
  assert.deepEqual([(await gateway.ended).exitCode, (await controller.ended).exitCode], [0, 0])
})

test('uninstall says what still serves, also when that is the same process, and then shows that everything is gone', {
  timeout: 120_000,
}, async () => {
  await using target = await serveMemoryTarget()
  await using at = await place(ROWS, { target: `{ kind: 'memory', port: ${target.port} }`, more: MORE })
  const name = at.db.name
  await at.run(['init'])
  const up = at.start(['up'])
  await up.says(/This controller leads/)
  assert.equal((await at.run(['backfill'])).exitCode, 0)
  // Another move on this server is none of this one's business.
  await using other = await place(ROWS)
  await other.db.connect({ application_name: 'switchback leader 1 control' })
  const refused = await again(at, `uninstall --confirm ${name}`)
  assert.equal(refused.exitCode, 2)
  assert.match((refused['error'] as { message: string }).message, /gateways still serve.*A controller still runs/s)
  up.child.kill('SIGINT')
  assert.equal((await up.ended).exitCode, 0)
  const gone = await command(at, `uninstall --confirm ${name} --target-rows`)
  assert.deepEqual([gone.exitCode, (gone['removed'] as string[]).length], [0, 6])
  assert.deepEqual(await at.left(), [])
  assert.equal((await at.db.query(`update public.accounts set name = 'free'`)).rowCount, 30)
  // As if it had never been: the same move can be planned again.
  assert.equal((await at.run(['init'])).exitCode, 0)
})
