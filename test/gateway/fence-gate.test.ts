import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FenceGate } from '../../src/gateway/fence-gate.ts'
import type { SwitchbackError } from '../../src/model/errors.ts'
import type { LeaseHandle } from '../../src/model/executor.ts'
import type { Owner } from '../../src/model/ids.ts'
import { type Ownership, type Phase, type Pin, RoutingView } from '../../src/model/ownership.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const LIMITS = { parkedStatementsMax: 2, parkDeadlineMs: 1_000, queueBytesMax: 100 }
const NEVER = new AbortController().signal

function world(unroutableReads: 'refuse' | 'stale-ok' = 'refuse') {
  const clock = new VirtualClock()
  const gate = new FenceGate({ clock, limits: LIMITS, unroutableReads })
  const lease = { id: 'lease-1', over: false, holds: () => !lease.over }
  let epoch = 1
  let view = new RoutingView({ epoch, bindingEpoch: 1, rows: [1, 2, 3].map((slot) => row(slot, 'source', 'steady', 1, 1)), pins: [] })
  gate.install(view, lease)
  gate.seal(1)
  return {
    clock,
    gate,
    lease: lease as LeaseHandle & { over: boolean },
    /** Changes one slot and installs the view; its epoch. */
    change(slot: number, owner: Owner, phase: Phase, more: { readOnly?: boolean; pins?: Pin[]; newTenure?: boolean } = {}): number {
      const before = view.ownership(slot)
      epoch++
      const tenure = before?.owner === owner && !more.newTenure ? before.tenure : epoch
      const changed = { ...row(slot, owner, phase, epoch, tenure), readOnly: more.readOnly ?? false }
      view = view.with({ epoch, bindingEpoch: 1, rows: [changed], pins: more.pins ?? [] })
      gate.install(view, lease)
      return epoch
    },
  }
}

function row(slot: number, owner: Owner, phase: Phase, epoch: number, tenure: number): Ownership {
  return { slot, owner, phase, readOnly: false, epoch, tenure, base: 0n }
}

const write = (touch: number | 'all') => ({ touch, writes: true })
const read = (touch: number | 'all') => ({ touch, writes: false })
const code = (error: SwitchbackError | null) => error?.code ?? null

test('work begins where the slot lives, waits while it is in flip, and is refused without a lease', async () => {
  const { gate, change, lease } = world()
  assert.deepEqual(gate.decide(write(1)), { kind: 'source' })
  change(1, 'source', 'parking')
  assert.deepEqual(gate.decide(read(1)), { kind: 'park' })
  assert.deepEqual(gate.decide(read(2)), { kind: 'source' })
  change(1, 'target', 'steady')
  assert.deepEqual(gate.decide(read(1)), { kind: 'target', row: row(1, 'target', 'steady', 3, 3) })
  lease.over = true
  const refused = gate.decide(read(2))
  assert.equal(refused.kind === 'refuse' && refused.error.code, 'NO_LEASE')
})

test('parked statements run on the new owner, in a queue bounded by number, bytes and time, each limit named', async () => {
  const { gate, change, clock } = world()
  change(1, 'source', 'parking')
  const first = gate.admit(write(1), 40, NEVER)
  const second = gate.admit(write(1), 40, NEVER)
  const third = await gate.admit(write(1), 1, NEVER)
  assert.equal(third.kind === 'refuse' && third.error.message.includes('parkedStatementsMax'), true)
  const aborted = new AbortController()
  assert.deepEqual(gate.parked, { statements: 2, bytes: 80 })
  await clock.advance(600)
  change(2, 'source', 'parking')
  assert.deepEqual(
    (await clock.run(Promise.all([first, second]))).map((one) => one.kind === 'refuse' && one.error.code),
    ['PARK_DEADLINE', 'PARK_DEADLINE'],
  )
  const big = await gate.admit(write(1), 101, NEVER)
  assert.equal(big.kind === 'refuse' && big.error.message.includes('queueBytesMax'), true)
  const moving = gate.admit(write(1), 1, NEVER)
  const canceled = gate.admit(write(1), 1, aborted.signal)
  aborted.abort()
  change(1, 'target', 'steady')
  assert.equal((await moving).kind, 'target')
  const late = await canceled
  assert.equal(late.kind === 'refuse' && late.error.code, 'STATEMENT_CANCELED')
  assert.deepEqual(gate.parked, { statements: 0, bytes: 0 })
})

test('an ack waits for writes and target work begun under the older view, not for plain reads on PostgreSQL or later work', () => {
  const { gate, change } = world()
  const writer = gate.beginSource({ explicit: false })
  gate.touch(writer, write(1))
  const reader = gate.beginSource({ explicit: false })
  gate.touch(reader, read(1))
  const elsewhere = gate.beginSource({ explicit: true })
  gate.touch(elsewhere, write(2))
  const epoch = change(1, 'source', 'parking')
  assert.equal(gate.ackable(), null)
  assert.deepEqual(gate.waitsFor(), [{ slot: 1, works: 1, flights: 0 }])
  writer.end()
  assert.equal(gate.ackable(), epoch)
  gate.flights.enter(1)
  assert.equal(gate.ackable(), null)
  gate.flights.leave(1)
  assert.equal(gate.ackable(), epoch)
  gate.seal(epoch)
  assert.equal(gate.ackable(), null)
})

test('a statement of an open PostgreSQL transaction runs before the ack and gets 40001 after it', () => {
  const { gate, change } = world()
  const open = gate.beginSource({ explicit: true })
  gate.touch(open, write(2))
  const epoch = change(1, 'source', 'parking')
  assert.equal(gate.excusable(open), true)
  assert.equal(gate.join(open, write(1)), null)
  gate.seal(epoch)
  assert.equal(code(gate.join(open, write(1))), 'KEY_MOVED')
  assert.equal(code(gate.join(open, write(2))), null)
  change(1, 'target', 'steady')
  assert.equal(code(gate.join(open, read(1))), 'KEY_MOVED')
  const younger = gate.beginSource({ explicit: true })
  assert.equal(code(gate.join(younger, read(1))), 'CROSSES_OWNERS')
})

test('a transaction that has touched the slot holds the ack and is never excused; one open before INV-8 bound touches all', () => {
  const { gate, change } = world()
  const old = gate.beginSource({ explicit: true, began: -1 })
  gate.touch(old, write('all'))
  const epoch = change(3, 'source', 'parking')
  assert.equal(gate.excusable(old), false)
  assert.equal(gate.ackable(), null)
  old.end()
  assert.equal(gate.ackable(), epoch)
})

test('an open target transaction is interrupted by a fence, and its end lets the ack go', () => {
  const { gate, change } = world()
  change(1, 'target', 'steady')
  const told: string[] = []
  const work = gate.beginTarget({
    slot: 1,
    writes: true,
    explicit: true,
    interrupt: (because) => {
      told.push(because.code)
      work.end()
    },
  })
  const epoch = change(1, 'target', 'parking')
  assert.deepEqual(told, ['KEY_MOVED'])
  assert.equal(gate.ackable(), epoch)
})

test('a read on the target holds the ack, since it may help a transaction through', () => {
  const { gate, change } = world()
  gate.seal(change(1, 'target', 'steady'))
  const work = gate.beginTarget({ slot: 1, writes: false, explicit: false, interrupt: null })
  const epoch = change(1, 'target', 'parking')
  assert.equal(gate.ackable(), null)
  work.end()
  assert.equal(gate.ackable(), epoch)
})

test('a cancelled flip frees what it waited for', () => {
  const { gate, change } = world()
  const writer = gate.beginSource({ explicit: true })
  gate.touch(writer, write(1))
  change(1, 'source', 'parking')
  assert.equal(gate.ackable(), null)
  const epoch = change(1, 'source', 'steady')
  assert.equal(gate.ackable(), epoch)
  assert.equal(gate.join(writer, write(1)), null)
})

test('read-only refuses writes, and is acked when the writes before it have ended', () => {
  const { gate, change } = world()
  const writer = gate.beginSource({ explicit: false })
  gate.touch(writer, write(1))
  const epoch = change(1, 'source', 'steady', { readOnly: true })
  const refused = gate.decide(write(1))
  assert.equal(refused.kind === 'refuse' && refused.error.sqlstate, '25006')
  assert.equal(gate.decide(read(1)).kind, 'source')
  assert.equal(gate.ackable(), null)
  writer.end()
  assert.equal(gate.ackable(), epoch)
})

test('a pin is acked when work on its parent slot has ended', () => {
  const { gate, change } = world()
  const writer = gate.beginSource({ explicit: false })
  gate.touch(writer, write(1))
  const epoch = change(4096, 'source', 'steady', { pins: [{ key: 'hot', slot: 4096, parent: 1 }] })
  assert.equal(gate.ackable(), null)
  writer.end()
  assert.equal(gate.ackable(), epoch)
})

test('a snapshot older than a way back does not read PostgreSQL for keys that came back', () => {
  const { gate, change } = world()
  change(1, 'target', 'steady')
  const snapshot = gate.beginSource({ explicit: true, snapshot: true })
  const committed = gate.beginSource({ explicit: true })
  change(1, 'source', 'steady')
  assert.equal(code(gate.join(snapshot, read(1))), 'KEY_MOVED')
  assert.equal(code(gate.join(committed, read(1))), null)
})

test('what touches any slot waits for flips, is refused once something has moved, and reads stale only by policy', () => {
  const { gate, change } = world()
  assert.equal(gate.decide(write('all')).kind, 'source')
  change(1, 'source', 'parking')
  assert.equal(gate.decide(write('all')).kind, 'park')
  change(1, 'target', 'steady')
  const refused = gate.decide({ ...write('all'), because: 'it names no key', wouldRoute: 'it named one' })
  assert.equal(refused.kind === 'refuse' && refused.error.code, 'UNROUTABLE')
  const stale = world('stale-ok')
  stale.change(1, 'target', 'steady')
  assert.equal(stale.gate.decide(read('all')).kind, 'source')
  assert.equal(stale.gate.decide(write('all')).kind, 'refuse')
})

test('a new tenure of PostgreSQL, as another backfill opens it, waits for no open transaction: a rollback of other slots is not held up', () => {
  const { gate, change } = world()
  const open = gate.beginSource({ explicit: true })
  gate.touch(open, write(1))
  const again = change(1, 'source', 'steady', { newTenure: true })
  assert.equal(gate.ackable(), again)
  gate.seal(again)
  assert.equal(code(gate.join(open, write(1))), null)
  // A flip still waits for it, also when a new tenure comes in between.
  change(1, 'source', 'parking')
  change(2, 'source', 'steady', { newTenure: true })
  assert.equal(gate.ackable(), null)
  open.end()
  assert.notEqual(gate.ackable(), null)
})
