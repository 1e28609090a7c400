import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type FlipObservation, precheck } from '../../src/flip/precheck.ts'
import type { Owner } from '../../src/model/ids.ts'
import { READY } from './fake-leader-control.ts'

const LIMITS = { forwardLagMaxMs: 500 }

function observed(owner: Owner, more: Partial<FlipObservation> = {}): FlipObservation {
  const lease = { lease: 'l', gateway: 'g', renewals: 1, ackedEpoch: 4, over: false, nextSequences: new Map(), excused: [] }
  return {
    rows: [{ slot: 1, owner, phase: 'steady', readOnly: false, epoch: 4, tenure: 4, base: 1n }],
    leases: [lease],
    epoch: 4,
    ...READY,
    ...more,
  }
}

/** Each thing by itself, and the word of its sentence. */
const HOLDING: readonly (readonly [what: string, more: Partial<FlipObservation>, says: RegExp])[] = [
  ['a backfill that is not done', { backfillDone: false }, /backfill is not done/],
  ['a forward sync that stands still', { forwardStopped: 'The slot was lost: back it up.' }, /The slot was lost: back it up\./],
  ['a lag that is not known', { forwardLagMs: undefined }, /has not said how far/],
  ['a lag above the limit', { forwardLagMs: 501 }, /501 ms behind, more than 500 ms/],
  ['a lease that has not acked', { epoch: 5 }, /Gateway g has acked epoch 4, not yet 5/],
  ['no living gateway', { leases: [] }, /No gateway is running/],
  ['a guard that is not whole', { guardProblems: ['The guard is gone.'] }, /^The guard is gone\.$/],
  ['a catalog that is not known', { catalogUnchanged: undefined }, /as planned is not known/],
  ['a catalog that has changed', { catalogUnchanged: false }, /not as planned any more/],
  ['a way back that is not proven', { wayBackProven: false }, /way back has not been proven/],
  [
    'poison, wherever it is',
    { poison: [{ key: 'k', slot: 9, tenure: 2, version: 9, sqlstate: '23514', message: 'violates check', retrying: false }] },
    /Key k could not be written back.*23514/,
  ],
  ['an open flip', { openFlips: ['f1'] }, /Flip f1 is still open/],
  ['a debt', { debts: ['rows of slot 3'] }, /A debt is open: rows of slot 3/],
  ['a gate that does not hold', { gates: [{ name: 'p99', holds: false, because: 'no evidence' }] }, /Gate p99 does not hold: no evidence/],
  ['a standby that nobody named', { standbysNotNamed: ['s2'] }, /not named in the configuration: s2/],
]

test('nothing holds a flip to the target when all is known and well, and that no gate is configured is said', () => {
  const { blockers, notes, slots } = precheck('target', observed('source'), LIMITS)
  assert.deepEqual([blockers, notes, slots], [[], ['No gates are configured.'], [1]])
})

for (const [what, more, says] of HOLDING) {
  test(`${what} holds a flip to the target by one sentence, and never the way home (INV-10)`, () => {
    const { blockers } = precheck('target', observed('source', more), LIMITS)
    assert.equal(blockers.length, 1, blockers.join(' '))
    assert.match(blockers[0]!, says)
    const home = precheck('source', observed('target', more), LIMITS)
    assert.deepEqual([home.blockers, home.slots], [[], [1]])
  })
}
