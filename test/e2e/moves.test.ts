// What an order to move tells of its flips, and of the time in which nobody could write.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { slotNameOf } from '../../src/app/names.ts'
import { placeOrder } from '../../src/app/place-order.ts'
import { readStatus } from '../../src/app/status.ts'
import type { FlipParked } from '../../src/model/control.ts'
import type { Owner } from '../../src/model/ids.ts'
import { HASH_SLOTS } from '../../src/model/key.ts'
import type { Job } from '../../src/store/jobs.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { objectOf, startCommand } from './cli-place.ts'

const TABLES = { 'public.notes': { partitionKey: 'account' } }
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`

test('the record of a flip says how many statements the gateways held back and for how long, in the order and in the status', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES, gateways: 2 })
  const [open, parked] = [await move.client(0), await move.client(1)]
  const slots = [move.slotOf('1')]
  const order = () =>
    placeOrder(move.session, { kind: 'move', to: 'target', slots, readOnlyFirst: false }, () => undefined, AbortSignal.timeout(30_000))
  await move.move('target', ['2']) // from here on only what touched the key is waited for
  await open.query('begin')
  await open.query('update notes set n = n + 1 where account = 1')
  // The flip waits for the open transaction, and what begins meanwhile for the flip.
  const ordered = order()
  await eventually(() => inFlip(move), 'the flip parks')
  const write = parked.query('update notes set n = n + 10 where account = 1')
  await eventually(() => move.gateways[1]!.gateway.status().parked.statements === 1, 'a statement is parked')
  const parkedAtMs = performance.now()
  await open.query('commit')
  await write
  const waitedMs = performance.now() - parkedAtMs
  const job = await ordered
  const [flip] = job.result!['flips'] as [{ id: string; parked: FlipParked }]
  assert.deepEqual([job.state, flip.parked.gateways, flip.parked.statements], ['done', 2, 1])
  assert.ok(flip.parked.maxMs > 0 && flip.parked.p50Ms <= flip.parked.maxMs, `${JSON.stringify(flip.parked)}, waited ${waitedMs} ms`)
  const { lastFlips } = await readStatus(move.session, slotNameOf(move.database.name))
  assert.deepEqual(
    lastFlips.slice(0, 1).map(({ id, to, state, slots: n, parked: seen }) => ({ id, to, state, n, seen })),
    [{ id: flip.id, to: 'target', state: 'routed', n: 1, seen: flip.parked }],
  )
})

function rollbackReadOnly(move: Move): Promise<Job> {
  const slots = Array.from({ length: HASH_SLOTS }, (_, slot) => slot)
  const order = { kind: 'move', to: 'source', slots, readOnlyFirst: true } as const
  return placeOrder(move.session, order, () => undefined, AbortSignal.timeout(60_000))
}

/** What the order that is under way says of itself. */
async function steps(move: Move): Promise<string> {
  const { jobs } = await readStatus(move.session, slotNameOf(move.database.name))
  return String((jobs[0]?.progress as { step?: string } | undefined)?.step)
}

async function flipsTo(move: Move, to: Owner): Promise<string[]> {
  return (await move.session.query('select state from switchback.flip where owner_to = $1', [to])).map((row) => row.state!)
}

/** The reverse sync stands still: somebody holds a row that it must write. Until disposed. */
async function holdReverseSync(direct: pg.Client): Promise<AsyncDisposable> {
  await direct.query('begin')
  await direct.query('select 1 from notes where account = 1 for update')
  return {
    async [Symbol.asyncDispose]() {
      await direct.query('rollback')
    },
  }
}

async function stateOf(work: Promise<unknown>, sqlstate: string): Promise<boolean> {
  const state = await work.then(
    () => 'none',
    (error: { code?: string }) => error.code,
  )
  return state === sqlstate
}

async function inFlip(move: Move): Promise<boolean> {
  const [row] = await move.session.query(`select count(*) as n from switchback.ownership where phase <> 'steady'`)
  return Number(row!['n']) > 0
}

test('a rollback with --read-only and a backlog first stops writes, then waits with reads going on and nothing parked, then flips', {
  timeout: 90_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target')
  const [client, direct] = [await move.client(), await move.database.connect()]
  await using backlog = await holdReverseSync(direct)
  for (let i = 0; i < 5; i++) await client.query('update notes set n = n + 1 where account = 1')
  const ordered = rollbackReadOnly(move)
  await eventually(async () => (await steps(move)).includes('applies what was written'), 'the order waits for the backlog')
  // Longer than many looks of the reverse sync, and nothing of a flip has begun.
  for (let i = 0; i < 20; i++) {
    assert.deepEqual((await client.query('select n from notes where account = 1')).rows, [{ n: 5 }])
    assert.equal(await stateOf(client.query('insert into notes values (2, 2)'), '25006'), true)
  }
  assert.deepEqual(await flipsTo(move, 'source'), [])
  await backlog[Symbol.asyncDispose]()
  const job = await ordered
  const { entriesApplied, backlogMs, totalMs } = job.result!['readOnly'] as Record<string, number>
  assert.deepEqual([job.state, entriesApplied, totalMs! >= backlogMs!, backlogMs! > 0], ['done', 5, true, true])
  assert.ok((await flipsTo(move, 'source')).every((state) => state === 'routed'))
  await client.query('update notes set n = n + 1 where account = 1')
  assert.deepEqual((await direct.query('select n from notes where account = 1')).rows, [{ n: 6 }])
})

test('readonly off lets writes go on while a rollback with --read-only still waits, and holds that rollback', {
  timeout: 90_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target')
  const [client, direct] = [await move.client(), await move.database.connect()]
  await using backlog = await holdReverseSync(direct)
  await client.query('update notes set n = n + 1 where account = 1')
  const ordered = rollbackReadOnly(move)
  await eventually(async () => (await steps(move)).includes('applies what was written'), 'the order waits for the backlog')
  const off = await startCommand(['readonly', 'off', '--json', '--config', move.configPath], '.', { ...process.env, ...move.env }).ended
  assert.deepEqual([off.exitCode, objectOf(off)['readOnly']], [0, false])
  assert.equal((await ordered).state, 'held')
  await client.query('update notes set n = n + 1 where account = 1')
  assert.deepEqual(await flipsTo(move, 'source'), [])
  await backlog[Symbol.asyncDispose]()
  await move.move('source')
  assert.deepEqual((await direct.query('select n from notes where account = 1')).rows, [{ n: 2 }])
})
