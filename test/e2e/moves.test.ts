// What an order to move tells of its flips, and of the time in which nobody could write.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { slotNameOf } from '../../src/app/names.ts'
import { placeOrder } from '../../src/app/place-order.ts'
import { readStatus } from '../../src/app/status.ts'
import type { FlipParked } from '../../src/model/control.ts'
import { eventually } from '../support/eventually.ts'
import { startMove } from '../support/move.ts'

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

async function inFlip(move: { readonly session: Parameters<typeof readStatus>[0] }): Promise<boolean> {
  const [row] = await move.session.query(`select count(*) as n from switchback.ownership where phase <> 'steady'`)
  return Number(row!['n']) > 0
}
