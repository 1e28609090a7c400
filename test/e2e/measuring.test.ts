// What the gateways of a whole move tell its leader of the statements that they answered.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MeasurementBook } from '../../src/app/measurement-book.ts'
import { type Arms, mergeCounts } from '../../src/canary/arm-counts.ts'
import { countFrom, firstBucketFrom } from '../../src/canary/latencies.ts'
import { eventually } from '../support/eventually.ts'
import { startMove } from '../support/move.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`
const ADD = 'update notes set n = n + ? where account = ?'
const SLOW_MS = 25
const AT_ONCE = 8

test('the leader hears of each statement on both stores, of both gateways; queueing for a key counts, and its holds name it', {
  timeout: 90_000,
}, async (t) => {
  const told = t.mock.method(MeasurementBook.prototype, 'report')
  let slow = false
  await using move = await startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    gateways: 2,
    faults: (operation) => (slow && operation === 'compareAndSetHead' ? { kind: 'delay', delayMs: SLOW_MS } : undefined),
  })
  await move.move('target', ['1'])
  const book = await eventually(() => told.mock.calls.at(-1)?.this as MeasurementBook | undefined, 'a report has come')
  const seen = new Map<string, Arms>()
  const look = () => {
    const { statements, silent } = book.takeSpan()
    assert.deepEqual(silent, [])
    for (const [label, { canary, control }] of Object.entries(statements!)) {
      const before = seen.get(label)
      const arms =
        before === undefined
          ? { canary, control }
          : { canary: mergeCounts(before.canary, canary), control: mergeCounts(before.control, control) }
      seen.set(label, arms)
    }
    return seen.get(ADD)
  }
  const clients = await Promise.all(Array.from({ length: AT_ONCE }, (_, n) => move.client(n % 2)))
  for (const db of clients) for (const account of [1, 2]) await db.query('update notes set n = n + 1 where account = $1', [account])
  await eventually(() => look()?.canary.requests === AT_ONCE && look()?.control.requests === AT_ONCE, 'each has come, once')
  assert.deepEqual([...seen.keys()], [ADD])
  await eventually(() => book.hotKeys().target.requests[0]?.key === '1', 'the key is named')
  // All of one gateway at once: the last one waits for the others.
  slow = true
  const one = clients.filter((_, n) => n % 2 === 0)
  await Promise.all(one.map((db) => db.query('update notes set n = n + 1 where account = 1')))
  slow = false
  await eventually(() => look()?.canary.requests === AT_ONCE + one.length, 'they have come')
  const { canary } = seen.get(ADD)!
  assert.equal(countFrom(canary.latencies, firstBucketFrom(SLOW_MS * one.length)) > 0, true, 'the last one waited for all others')
  assert.equal(canary.errors, 0)
  await eventually(() => book.hotKeys().target.queueMs[0]?.key === '1', 'it is named for its queue')
  const hot = book.saturation(1).find(({ key }) => key === '1')!
  assert.ok(hot.holdMs!.mean > SLOW_MS / 3 && hot.holdMs!.mean < 10 * SLOW_MS, `held for ${hot.holdMs!.mean} ms`)
  const profile = book.profile()
  assert.equal(profile.slots.get(move.slotOf('1')), AT_ONCE + one.length)
  // Back home, the same key is the other arm's.
  await move.move('source', ['1'])
  const before = seen.get(ADD)!.control.requests
  await clients[0]!.query('update notes set n = n + 1 where account = 1')
  await eventually(() => look()?.control.requests === before + 1, 'it has come home')
})
