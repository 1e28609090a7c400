// The pure decisions of the engine, as tables.
import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { DUTY, dutyOf, presenceOf } from '../../src/commit/finish.ts'
import { judgeHead, nextHead } from '../../src/commit/head-cas.ts'
import { checkTransaction, DEFAULT_COMMIT_LIMITS } from '../../src/commit/limits.ts'
import { fold } from '../../src/commit/rows.ts'
import type { Head } from '../../src/model/head.ts'
import type { RowChange, StampedRow } from '../../src/model/row.ts'
import { drop, POTS, put } from './fake-plans.ts'
import { AT } from './gateway-fixture.ts'

const after = (head: Head | null, txnId: string, tenure = 10) => nextHead({ ...AT, tenure }, head, txnId, [])

function chain(head: Head | null, count: number, tenure = 10): Head {
  for (let i = 0; i < count; i++) head = after(head, `later${i}`, tenure)
  return head!
}

test('a head counts from 1 in its tenure, names the one before it, and remembers the last 16', () => {
  assert.deepEqual(after(chain(null, 5, 9), 'a'), {
    tenure: 10,
    version: 1,
    txnId: 'a',
    prev: null,
    redo: [],
    lock: null,
    recent: [{ version: 1, txnId: 'a' }],
  })
  const head = chain(null, 20)
  assert.deepEqual(
    [head.version, head.txnId, head.prev, head.recent.length, head.recent[0], head.recent.at(-1)],
    [20, 'later19', 'later18', 16, { version: 5, txnId: 'later4' }, { version: 20, txnId: 'later19' }],
  )
})

test('an observed head says what became of a compare-and-set', () => {
  const expected = chain(null, 3)
  const mine = after(expected, 'mine')
  const theirs = after(expected, 'theirs')
  const old = chain(null, 2, 9)
  const first = after(old, 'first')
  const table: [string, Head | null, Head | null, Head, string][] = [
    ['still what was expected', expected, expected, mine, 'open'],
    ['locked by a spanning transaction', { ...expected, lock: 's' }, expected, mine, 'open'],
    ['mine', mine, expected, mine, 'won'],
    ['mine, gone on', chain(mine, 15), expected, mine, 'won'],
    ['mine, gone on beyond 16', chain(mine, 16), expected, mine, 'gone'],
    ['theirs', theirs, expected, mine, 'lost'],
    ['theirs, gone on', chain(theirs, 15), expected, mine, 'lost'],
    ['theirs, gone on beyond 16', chain(theirs, 16), expected, mine, 'gone'],
    ['no head, as expected', null, null, after(null, 'mine'), 'open'],
    ['no head any more', null, expected, mine, 'gone'],
    ['still the head of the older tenure', old, old, first, 'open'],
    ['a late head of the older tenure', after(old, 'late', 9), old, first, 'lost'],
    ['a head of a later tenure', chain(null, 1, 11), expected, mine, 'gone'],
  ]
  assert.deepEqual(
    table.map(([what, observed, from, to]) => [what, judgeHead(observed, from, to)]),
    table.map(([what, , , , want]) => [what, want]),
  )
})

test('only an unfinished head of this tenure is looked at, and any row of it says that its entry is there', () => {
  const head = chain(null, 4)
  const rowOf = (stamp: bigint): StampedRow => ({ table: POTS, key: 'k', clustering: ['x'], values: null, stamp, mark: true })
  assert.deepEqual([dutyOf(null, 10, 0), dutyOf(head, 11, 0), dutyOf(head, 10, 4), dutyOf(head, 10, 3)], ['none', 'none', 'none', 'look'])
  assert.deepEqual(
    [
      presenceOf([rowOf(4n), rowOf(9n)], 4n),
      presenceOf([rowOf(4n), undefined], 4n),
      presenceOf([rowOf(3n), undefined], 4n),
      presenceOf([], 4n),
    ],
    ['all', 'some', 'none', 'all'],
  )
  assert.deepEqual(DUTY, { all: { entry: false, rows: false }, some: { entry: false, rows: true }, none: { entry: true, rows: true } })
})

test('whatever a transaction did to a row, its last change is what is left, and deletes go first', () => {
  const change = fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.option(fc.integer({ min: 0, max: 9 })))
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (list) => {
      const changes: RowChange[] = list.map(([pot, amount]) => (amount === null ? drop(pot) : put('k', pot, amount, 0)))
      const folded = fold(changes)
      const last = new Map(changes.map((one) => [one.clustering[0], one]))
      assert.deepEqual(new Map(folded.map((one) => [one.clustering[0], one])), last)
      assert.equal(folded.length, last.size)
      const firstPut = folded.findIndex((one) => one.values !== null)
      if (changes.length > 1 && firstPut >= 0) assert.ok(folded.slice(firstPut).every((one) => one.values !== null))
    }),
  )
})

test('a transaction that the store could not take is refused by the name of the limit, counted in bytes of its text', () => {
  const capabilities = { name: 'fake', maxEntryBytes: 10_000, maxRowBytes: 5_000, strongestRead: 'x' }
  const bounds = { limits: { ...DEFAULT_COMMIT_LIMITS, transactionRowsMax: 3 }, target: { capabilities }, tables: new Set([POTS]) }
  const row = (text: string): RowChange => ({ table: POTS, clustering: [text.slice(0, 3)], values: ['k', text, '1', '1'] })
  const refused = (changes: RowChange[]) => {
    try {
      checkTransaction(changes, bounds)
      return null
    } catch (error) {
      return (error as { details: { limitName: string } }).details.limitName
    }
  }
  assert.equal(refused([row('x'.repeat(4_000))]), null)
  assert.equal(refused([row('é'.repeat(2_600))]), 'maxRowBytes of the target')
  assert.equal(refused(['a', 'b', 'c'].map((text) => row(text.repeat(2_500)))), 'maxEntryBytes of the target')
  assert.equal(refused(['a', 'b', 'c', 'd'].map(row)), 'transactionRowsMax')
  assert.throws(() => checkTransaction([{ table: 'other', clustering: [], values: [] }], bounds), { name: 'BugError' })
})
