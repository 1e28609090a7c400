import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../src/lib/prng.ts'
import { type Head, RECENT_TRANSACTIONS } from '../../src/model/head.ts'
import { standing, verdict } from '../../src/model/verdict.ts'
import { bucketsPast, OutboxTrack } from '../../src/sync/outbox-track.ts'

const entry = { tenure: 5, version: 3, txnId: 't3' }
const owned = { owner: 'target', tenure: 5 } as const

function headAt(version: number, names: (v: number) => string, tenure = 5): Head {
  const from = Math.max(1, version - RECENT_TRANSACTIONS + 1)
  const recent = Array.from({ length: version - from + 1 }, (_, i) => ({ version: from + i, txnId: names(from + i) }))
  return { tenure, version, txnId: names(version), prev: null, redo: [], lock: null, recent }
}

test('an entry is old, a double, next or waits, by its tenure and the version applied', () => {
  const table: [Parameters<typeof standing>[1], number, ReturnType<typeof standing>][] = [
    [owned, 3, 'double'],
    [owned, 4, 'double'],
    [owned, 2, 'next'],
    [owned, 1, 'wait'],
    [{ owner: 'source', tenure: 6 }, 2, 'old'],
    [{ owner: 'target', tenure: 7 }, 2, 'old'],
    // The view is behind the entry: nothing is known, so nothing is discarded (INV-10).
    [{ owner: 'source', tenure: 4 }, 2, 'ahead'],
    [undefined, 2, 'ahead'],
  ]
  assert.deepEqual(
    table.map(([ownership, applied]) => standing(entry, ownership, applied)),
    table.map(([, , wanted]) => wanted),
  )
})

test('an entry is committed if the head names it at its version, void if it names another there', () => {
  const says = (head: Head | null, more = {}) => verdict(entry, { head, leaseOver: false, namedByNext: false, ...more })
  assert.equal(says(headAt(3, (v) => `t${v}`)), 'committed')
  assert.equal(says(headAt(9, (v) => `t${v}`)), 'committed')
  assert.equal(says(headAt(9, (v) => `other${v}`)), 'void')
})

test('further back than the last 16, an entry is committed if one of the version after it names it as prev, else it waits', () => {
  const head = headAt(3 + RECENT_TRANSACTIONS, (v) => `t${v}`)
  assert.equal(verdict(entry, { head, leaseOver: false, namedByNext: true }), 'committed')
  assert.equal(verdict(entry, { head, leaseOver: false, namedByNext: false }), 'wait')
  assert.equal(verdict(entry, { head, leaseOver: true, namedByNext: false }), 'wait')
})

test('a head that is not there yet: wait while the lease lives, void once it is over', () => {
  for (const head of [null, headAt(2, (v) => `t${v}`), headAt(9, (v) => `t${v}`, 4)]) {
    assert.equal(verdict(entry, { head, leaseOver: false, namedByNext: false }), 'wait')
    assert.equal(verdict(entry, { head, leaseOver: true, namedByNext: false }), 'void')
  }
})

test('a head of a later tenure says nothing', () => {
  const head = headAt(9, (v) => `t${v}`, 6)
  assert.deepEqual(
    [true, false].map((leaseOver) => verdict(entry, { head, leaseOver, namedByNext: false })),
    ['wait', 'wait'],
  )
})

test('a position advances over a run without a hole only; a hole closes when the outbox is final (52)', () => {
  const track = new OutboxTrack<string>({ group: 0, lease: 'l' }, { sequence: 0, final: false })
  track.add(2, 'two')
  track.settle(2)
  track.settle(3)
  assert.deepEqual([track.position(), track.knownUpTo(), track.last], [0, 0, 3])
  track.add(1, 'one')
  assert.deepEqual([track.position(), track.knownUpTo()], [0, 3])
  track.settle(1)
  assert.deepEqual([track.position(), track.knownUpTo()], [3, 3])
  track.settle(6)
  track.add(5, 'five')
  assert.equal(track.finish(), 1)
  assert.deepEqual([track.position(), track.isSettled(4), track.isSettled(5), track.isSettled(6)], [4, true, false, true])
  track.settle(5)
  assert.equal(track.position(), 6)
})

test('whatever the order in which sequences settle, the position is the longest run from the start', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = seededRandom(seed)
    const start = random.int(5)
    const track = new OutboxTrack<string>({ group: 0, lease: 'l' }, { sequence: start, final: false })
    const settled = new Set<number>()
    for (let i = 0; i < 60; i++) {
      const sequence = 1 + random.int(40)
      if (sequence <= start) continue
      track.settle(sequence)
      settled.add(sequence)
      let wanted = start
      while (settled.has(wanted + 1)) wanted++
      assert.equal(track.position(), wanted, `seed ${seed}`)
      for (let s = 1; s <= 40; s++) assert.equal(track.isSettled(s), s <= start || settled.has(s), `seed ${seed}, sequence ${s}`)
    }
  }
})

test('only buckets that the durable position is past are deleted, of a final outbox the last one too', () => {
  assert.deepEqual(
    [511, 512, 1023, 1024].map((sequence) => bucketsPast({ sequence, final: false }, 5000, 512)),
    [0, 1, 1, 2],
  )
  assert.equal(bucketsPast({ sequence: 600, final: true }, 600, 512), 2)
  assert.equal(bucketsPast({ sequence: 600, final: true }, 601, 512), 1)
  assert.equal(bucketsPast({ sequence: 0, final: true }, 0, 512), 0)
})
