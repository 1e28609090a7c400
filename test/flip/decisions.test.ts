import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { canaryOrder, canarySlots, inBatches } from '../../src/flip/batches.ts'
import { lookAtLeases } from '../../src/flip/lease-watch.ts'
import { precheck } from '../../src/flip/precheck.ts'
import { lease } from './fake-leader-control.ts'

const LIMITS = { lengthMs: 300, marginMs: 30 }

test('a larger canary contains every smaller one: a key that has moved stays moved', () => {
  assert.deepEqual(
    canaryOrder().toSorted((a, b) => a - b),
    Array.from({ length: 4096 }, (_, i) => i),
  )
  fc.assert(
    fc.property(fc.double({ min: 0.01, max: 100, noNaN: true }), fc.double({ min: 0.01, max: 100, noNaN: true }), (p, q) => {
      const [small, large] = [canarySlots(Math.min(p, q)), canarySlots(Math.max(p, q))]
      assert.deepEqual(large.slice(0, small.length), small)
    }),
  )
  assert.equal(canarySlots(100).length, 4096)
})

test('a small canary is spread over the slot groups', () => {
  assert.equal(new Set(canarySlots(100 / 64).map((slot) => slot >> 6)).size, 64)
})

test('batches keep order and lose nothing', () => {
  fc.assert(
    fc.property(fc.array(fc.nat()), fc.integer({ min: 1, max: 9 }), (items, size) => {
      const batches = inBatches(items, size)
      assert.deepEqual(batches.flat(), items)
      assert.ok(batches.every((batch) => batch.length > 0 && batch.length <= size))
    }),
  )
})

test('a lease is over only after the leader itself saw it unrenewed for its length and margin, from after the fence', () => {
  const first = lookAtLeases([lease('a')], new Map(), 5, 1_000, LIMITS)
  assert.deepEqual({ end: first.toEnd, next: first.nextLookInMs }, { end: [], next: 330 })
  const renewed = lookAtLeases([lease('a', { renewals: 2 })], first.sightings, 5, 1_329, LIMITS)
  assert.deepEqual({ end: renewed.toEnd, next: renewed.nextLookInMs }, { end: [], next: 330 })
  const silent = lookAtLeases([lease('a', { renewals: 2 })], renewed.sightings, 5, 1_659, LIMITS)
  assert.deepEqual(silent.toEnd, [{ lease: 'a', renewals: 2 }])
})

test('a lease that acked or is over is not waited for', () => {
  const look = lookAtLeases([lease('a', { ackedEpoch: 5 }), lease('b', { over: true })], new Map(), 5, 0, LIMITS)
  assert.deepEqual({ waiting: look.waiting, end: look.toEnd }, { waiting: [], end: [] })
})

test('poison keeps its slot on the target; the other slots go back (INV-11, faults.md 59)', () => {
  const row = (slot: number) => ({
    slot,
    owner: 'target' as const,
    phase: 'steady' as const,
    readOnly: false,
    epoch: 2,
    tenure: 2,
    base: 1n,
  })
  const checked = precheck(
    'source',
    {
      rows: [row(1), row(2)],
      leases: [],
      epoch: 2,
      forwardLagMs: undefined,
      backfillDone: true,
      forwardStopped: null,
      guardProblems: [],
      catalogUnchanged: undefined,
      wayBackProven: false,
      openFlips: [],
      debts: [],
      gates: [],
      standbysNotNamed: [],
      poison: [{ key: 'k', slot: 2, tenure: 2, version: 9, sqlstate: '23514', message: 'violates check', retrying: false }],
    },
    { forwardLagMaxMs: 1 },
  )
  assert.deepEqual(
    { blockers: checked.blockers, slots: checked.slots, held: checked.held.map((h) => h.slot) },
    { blockers: [], slots: [1], held: [2] },
  )
})
