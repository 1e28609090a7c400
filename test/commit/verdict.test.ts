import assert from 'node:assert/strict'
import test from 'node:test'
import { nextHead } from '../../src/commit/head-cas.ts'
import { standing, type Verdict, verdict } from '../../src/commit/verdict.ts'
import type { Head, OutboxEntry } from '../../src/model/head.ts'
import { AT } from './gateway-fixture.ts'

const entry = (version: number, txnId: string, prev: string | null, tenure = 10): OutboxEntry => ({
  key: 'k',
  slot: 7,
  tenure,
  version,
  txnId,
  prev,
  changes: [],
})

function headAfter(count: number, tenure = 10): Head {
  let head: Head | null = null
  for (let i = 1; i <= count; i++) head = nextHead({ ...AT, tenure }, head, `t${i}`, [])
  return head!
}

test('where an entry stands follows from ownership and the recorded version alone', () => {
  const table = [
    [{ owner: 'target', tenure: 10 }, 4, 'next'],
    [{ owner: 'target', tenure: 10 }, 5, 'double'],
    [{ owner: 'target', tenure: 10 }, 9, 'double'],
    [{ owner: 'target', tenure: 10 }, 3, 'wait'],
    [{ owner: 'target', tenure: 11 }, 0, 'old'],
    [{ owner: 'source', tenure: 10 }, 4, 'old'],
  ] as const
  assert.deepEqual(
    table.map(([slot, applied]) => standing({ tenure: 10, version: 5 }, slot, applied)),
    table.map(([, , want]) => want),
  )
})

test('what an entry is follows from the head, its last 16, and what later entries name', () => {
  const others = [entry(5, 't5', 't4'), entry(5, 'lost', 't4'), entry(9, 't9', 't8', 9)]
  const cases: [string, OutboxEntry, Head | null, Verdict, Verdict][] = [
    // living lease, lease over
    ['no head yet', entry(1, 't1', null), null, 'wait', 'void'],
    ['a head of an older tenure', entry(1, 't1', null), headAfter(3, 9), 'wait', 'void'],
    ['a head not there yet', entry(4, 't4', 't3'), headAfter(3), 'wait', 'void'],
    ['the head itself', entry(4, 't4', 't3'), headAfter(4), 'committed', 'committed'],
    ['another has that version', entry(4, 'x', 't3'), headAfter(4), 'void', 'void'],
    ['the one before the head', entry(4, 't4', 't3'), headAfter(5), 'committed', 'committed'],
    ['another before the head', entry(4, 'x', 't3'), headAfter(5), 'void', 'void'],
    ['sixteenth from the end', entry(4, 't4', 't3'), headAfter(19), 'committed', 'committed'],
    ['another, sixteenth from the end', entry(4, 'x', 't3'), headAfter(19), 'void', 'void'],
    ['further back, named by the next entry, even a void one', entry(4, 't4', 't3'), headAfter(40), 'committed', 'committed'],
    ['further back, not named', entry(4, 'x', 't3'), headAfter(40), 'wait', 'wait'],
    ['named only in another tenure', entry(8, 't8', 't7'), headAfter(40), 'wait', 'wait'],
    ['a head of a later tenure', entry(4, 't4', 't3'), headAfter(40, 11), 'wait', 'wait'],
  ]
  const found = cases.map(([what, one, head]) => [
    what,
    verdict({ entry: one, head, leaseOver: false, others }),
    verdict({ entry: one, head, leaseOver: true, others }),
  ])
  assert.deepEqual(
    found,
    cases.map(([what, , , living, over]) => [what, living, over]),
  )
})
