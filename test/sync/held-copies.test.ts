import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LeaseRow, PartialAck } from '../../src/model/control.ts'
import { decideHeld, type HeldEvidence } from '../../src/sync/held-copies.ts'
import { leaseRow } from './fakes.ts'

/** Slots 0 to 3, two to a group; parked at epoch 9. Lease `a` has written three entries in group 0 and told them all. */
function evidence(
  more: Partial<HeldEvidence> & { readonly lost?: readonly number[]; readonly final?: readonly string[] } = {},
): HeldEvidence {
  return {
    slots: [0, 1, 2, 3],
    epoch: 9,
    groupOf: (slot) => slot >> 1,
    leases: [acked()],
    outbox: (group, lease) => ({
      final: more.final?.includes(`${group}/${lease}`) ?? false,
      missing: (upTo) => (group === 0 && lease === 'a' ? (more.lost ?? []).filter((sequence) => sequence <= upTo) : []),
    }),
    open: [],
    halted: new Map(),
    ...more,
  }
}

const acked = (more: Partial<LeaseRow> = {}) => leaseRow('a', { ackedEpoch: 9, nextSequences: new Map([[0, 4]]), ...more })
const word = (more: Partial<PartialAck> = {}): PartialAck => ({
  epoch: 9,
  busy: new Set(),
  nextSequences: new Map([[0, 4]]),
  undecided: new Map(),
  ...more,
})
const stays = (of: HeldEvidence) => decideHeld(of).stay.map(({ slot }) => slot)

test('slots whose entries are all at hand and applied go (60)', () => {
  assert.deepEqual(decideHeld(evidence()), { go: [0, 1, 2, 3], applying: [], stay: [], coming: [] })
})

test('what is known and not yet in PostgreSQL is waited for; what nobody has decided stays, by key', () => {
  const decision = decideHeld(
    evidence({
      open: [
        { slot: 0, key: '7', openBecause: null },
        { slot: 2, key: '8', openBecause: 'whether version 3 was committed is not known yet' },
        { slot: 2, key: '9', openBecause: null },
      ],
    }),
  )
  assert.deepEqual(decision, {
    go: [1, 3],
    applying: [0],
    stay: [{ slot: 2, because: 'key 8: whether version 3 was committed is not known yet' }],
    coming: [2],
  })
})

test('a living lease that has not acked the park holds every slot (INV-2)', () => {
  assert.deepEqual(stays(evidence({ leases: [acked({ ackedEpoch: 8 })] })), [0, 1, 2, 3])
  assert.deepEqual(
    stays(evidence({ leases: [acked({ ackedEpoch: 8, partial: word({ epoch: 8 }) })] })),
    [0, 1, 2, 3],
    'an older word says nothing',
  )
})

test('a partial word holds back the busy slots and those of undecided entries, no others', () => {
  const partial = word({ busy: new Set([3]), undecided: new Map([[0, new Map([[2, 1]])]]) })
  const decision = decideHeld(evidence({ leases: [acked({ ackedEpoch: 8, partial })], lost: [2] }))
  assert.deepEqual(decision.go, [0, 2])
  assert.match(decision.stay[0]!.because, /gateway a \(lease a\) does not know yet whether a transaction/)
  assert.match(decision.stay[1]!.because, /what became of its work/)
})

test('an entry that its gateway holds no more may be of any slot of its group: the group stays (INV-6)', () => {
  assert.deepEqual(stays(evidence({ lost: [3] })), [0, 1])
  const partial = word({ undecided: new Map([[0, new Map([[2, 1]])]]) })
  assert.deepEqual(stays(evidence({ leases: [acked({ ackedEpoch: 8, partial })], lost: [2, 3] })), [0, 1])
  assert.deepEqual(stays(evidence({ lost: [4] })), [], 'nothing was written beyond what it says')
})

test('only what a gateway may yet tell is worth waiting for: no work of its own, no outbox that nobody can read (60)', () => {
  const coming = (of: HeldEvidence) => decideHeld(of).coming
  const partial = word({ busy: new Set([0]), undecided: new Map([[1, new Map([[2, 3]])]]) })
  const stuck = acked({ ackedEpoch: 8, partial })
  assert.deepEqual([stays(evidence({ leases: [stuck] })), coming(evidence({ leases: [stuck] }))], [[0, 3], []])
  assert.deepEqual(coming(evidence({ leases: [stuck], lost: [3] })), [1], 'slot 0 stays whatever comes')
  const open = [0, 2].map((slot) => ({ slot, key: `${slot}`, openBecause: 'whether version 3 was committed is not known yet' }))
  assert.deepEqual(coming(evidence({ leases: [stuck], open })), [2])
  assert.deepEqual(coming(evidence({ leases: [acked(), leaseRow('b', { over: true, ackedEpoch: 9 })], open })), [])
  assert.deepEqual(coming(evidence({ leases: [acked({ ackedEpoch: 8 })] })), [], 'the word is of the park')
})

test('of a lease that is over only an outbox that was read to its final end is known (26, 60)', () => {
  const dead = leaseRow('b', { over: true, ackedEpoch: 9 })
  assert.deepEqual(stays(evidence({ leases: [acked(), dead] })), [0, 1, 2, 3])
  assert.deepEqual(stays(evidence({ leases: [acked(), dead], final: ['1/b'] })), [0, 1])
  assert.deepEqual(stays(evidence({ leases: [acked(), dead], final: ['0/b', '1/b'] })), [])
})

test('a halted aggregate holds its slot', () => {
  assert.deepEqual(decideHeld(evidence({ halted: new Map([[1, 'poison']]) })).stay, [{ slot: 1, because: 'poison' }])
})
