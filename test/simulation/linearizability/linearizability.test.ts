import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isLinearizable } from './brute-force.ts'
import { linearize, type Operation } from './search.ts'
import { checkRegister, type Interval, type ValueInterval } from './zones.ts'

const UNKNOWN = Number.POSITIVE_INFINITY
const RUNS = 3_000
const at = (began: number, ended: number, value: number): ValueInterval => ({ began, ended, value })
const number = { nameOf: String, stepsMax: 100_000 }

const write = (value: number): Operation<number>['apply'] => {
  return () => value
}
const read = (value: number): Operation<number>['apply'] => {
  return (state) => (state === value ? state : null)
}
/** Told what it found. */
const cas = (expected: number, next: number, won: boolean): Operation<number>['apply'] => {
  return (state) => (won === (state === expected) ? (won ? next : state) : null)
}
/** Told the sum. */
const add = (amount: number, sum: number | null): Operation<number>['apply'] => {
  return (state) => (sum === null || state + amount === sum ? state + amount : null)
}

function registerOperations(writes: readonly ValueInterval[], reads: readonly ValueInterval[]): Operation<number>[] {
  return [
    ...writes.map(({ began, ended, value }) => ({ began, ended, apply: write(value) })),
    ...reads.map(({ began, ended, value }) => ({ began, ended, apply: read(value) })),
  ]
}

const REGISTERS: readonly {
  readonly name: string
  readonly writes: readonly ValueInterval[]
  readonly reads: readonly ValueInterval[]
  readonly refused: RegExp | null
}[] = [
  { name: 'nothing', writes: [], reads: [], refused: null },
  { name: 'a read of what was there', writes: [], reads: [at(1, 2, 0)], refused: null },
  { name: 'a read during its write', writes: [at(1, 5, 1)], reads: [at(2, 3, 1), at(4, 6, 1)], refused: null },
  {
    name: 'two writes at once, read in either order',
    writes: [at(1, 9, 1), at(1, 9, 2)],
    reads: [at(2, 3, 2), at(4, 5, 1)],
    refused: null,
  },
  { name: 'what only touches overlaps', writes: [at(1, 2, 1)], reads: [at(2, 3, 0)], refused: null },
  { name: 'an unknown write that is never seen', writes: [at(1, UNKNOWN, 1), at(2, 3, 2)], reads: [at(4, 5, 2)], refused: null },
  {
    name: 'an unknown write that is seen late',
    writes: [at(1, UNKNOWN, 1), at(2, 3, 2)],
    reads: [at(4, 5, 2), at(6, 7, 1)],
    refused: null,
  },
  { name: 'a stale read', writes: [at(1, 2, 1)], reads: [at(3, 4, 0)], refused: /0 was there all .*, in which 1 came and went/ },
  { name: 'a read that goes back', writes: [at(1, 9, 1)], reads: [at(2, 3, 1), at(4, 5, 0)], refused: /was there all/ },
  { name: 'a value that nobody wrote', writes: [], reads: [at(1, 2, 7)], refused: /which nobody wrote/ },
  { name: 'a read from the future', writes: [at(5, 6, 1)], reads: [at(1, 2, 1)], refused: /whose write began later/ },
  {
    name: 'a value that comes back',
    writes: [at(1, 2, 1), at(3, 4, 2)],
    reads: [at(5, 6, 1)],
    refused: /1 was there all .* 2 came and went/,
  },
  {
    name: 'two readers who disagree about the order',
    writes: [at(1, 2, 1), at(1, 2, 2)],
    reads: [at(3, 4, 1), at(5, 6, 2), at(7, 8, 1)],
    refused: /was there all/,
  },
  {
    name: 'an unknown write that is seen, and then not',
    writes: [at(1, UNKNOWN, 1), at(2, 3, 2)],
    reads: [at(4, 5, 2), at(6, 7, 1), at(8, 9, 2)],
    refused: /was there all/,
  },
]

test('registers: hand-made histories are taken or refused, by both checkers alike', () => {
  for (const { name, writes, reads, refused } of REGISTERS) {
    const because = checkRegister(0, writes, reads)
    if (refused === null) assert.equal(because, null, name)
    else assert.match(because ?? 'taken', refused, name)
    assert.equal(linearize(0, registerOperations(writes, reads), number).kind, refused === null ? 'linearizable' : 'not', name)
  }
})

const OBJECTS: readonly { readonly name: string; readonly history: readonly (Interval & Operation<number>)[]; readonly taken: boolean }[] =
  [
    { name: 'one of two compare-and-sets wins', taken: true, history: [op(1, 4, cas(0, 1, true)), op(2, 5, cas(0, 2, false))] },
    { name: 'both win', taken: false, history: [op(1, 4, cas(0, 1, true)), op(2, 5, cas(0, 2, true))] },
    { name: 'the later one wins first', taken: false, history: [op(1, 2, cas(5, 6, true)), op(3, 4, cas(0, 5, true))] },
    { name: 'sums that fit one order only', taken: true, history: [op(1, 9, add(3, 5)), op(1, 9, add(2, 2)), op(1, 9, add(4, 9))] },
    { name: 'a lost update', taken: false, history: [op(1, 3, add(3, 3)), op(2, 4, add(2, 2))] },
    { name: 'an unknown add that explains a sum', taken: true, history: [op(1, UNKNOWN, add(3, null)), op(5, 6, add(1, 4))] },
    {
      name: 'an unknown add that explains two sums',
      taken: false,
      history: [op(1, UNKNOWN, add(3, null)), op(5, 6, add(1, 4)), op(7, 8, add(3, 10))],
    },
    { name: 'an unknown add that had not begun', taken: false, history: [op(7, UNKNOWN, add(3, null)), op(5, 6, add(1, 4))] },
  ]

function op(began: number, ended: number, apply: Operation<number>['apply']): Operation<number> {
  return { began, ended, apply }
}

test('compare-and-set and counters: hand-made histories are taken or refused', () => {
  for (const { name, history, taken } of OBJECTS) {
    assert.equal(linearize(0, history, number).kind, taken ? 'linearizable' : 'not', name)
    assert.equal(isLinearizable(0, history), taken, `by brute force: ${name}`)
  }
})

test('a refusal names what could not come next, and a search has a limit', () => {
  const lost = [op(1, 3, add(3, 3)), op(4, 5, add(2, 2))]
  assert.deepEqual(linearize(0, lost, number), { kind: 'not', stuck: [1] })
  const wide = Array.from({ length: 40 }, (_, i) => op(1, 100, add(1, i === 0 ? 99 : null)))
  assert.deepEqual(linearize(0, wide, { ...number, stepsMax: 5_000 }), { kind: 'undecided' })
  // 8! orders of the same, 2^8 states.
  const alike = [...Array.from({ length: 8 }, () => op(1, 4, add(1, null))), op(5, 6, read(9))]
  assert.deepEqual(linearize(0, alike, { ...number, stepsMax: 5_000 }), { kind: 'not', stuck: [8] })
})

const interval = (unknown: boolean) =>
  fc
    .record({ began: fc.integer({ min: 0, max: 9 }), lasts: fc.integer({ min: 0, max: 6 }), lost: fc.integer({ min: 0, max: 3 }) })
    .map(({ began, lasts, lost }) => ({ began, ended: unknown && lost === 0 ? UNKNOWN : began + lasts }))

const registers = fc
  .tuple(fc.array(interval(true), { maxLength: 4 }), fc.array(fc.tuple(interval(false), fc.nat(4)), { maxLength: 4 }))
  .map(([writes, reads]) => ({
    writes: writes.map((one, i) => ({ ...one, value: i + 1 })),
    reads: reads.map(([one, value]) => ({ ...one, value: value % (writes.length + 1) })),
  }))

test('registers: zones, search and the definition agree on every small history', () => {
  const counts = { taken: 0, refused: 0 }
  fc.assert(
    fc.property(registers, ({ writes, reads }) => {
      const operations = registerOperations(writes, reads)
      const expected = isLinearizable(0, operations)
      counts[expected ? 'taken' : 'refused']++
      assert.equal(checkRegister(0, writes, reads) === null, expected)
      assert.equal(linearize(0, operations, number).kind === 'linearizable', expected)
    }),
    { numRuns: RUNS },
  )
  assert.ok(counts.taken > RUNS / 5 && counts.refused > RUNS / 5, JSON.stringify(counts))
})

const answers = fc.tuple(interval(true), fc.oneof(fc.constant('add'), fc.constant('cas'), fc.constant('read')), fc.nat(3), fc.nat(4))

test('compare-and-set and counters: search and the definition agree on every small history', () => {
  const counts = { taken: 0, refused: 0 }
  const applyOf = (kind: string, a: number, b: number, ended: number) => {
    if (kind === 'add') return add(a, ended === UNKNOWN ? null : b)
    if (kind === 'cas') return ended === UNKNOWN ? (state: number) => (state === a ? b : state) : cas(a, b, (a + b) % 2 === 0)
    return ended === UNKNOWN ? write(a) : read(b)
  }
  fc.assert(
    fc.property(fc.array(answers, { maxLength: 6 }), (list) => {
      const operations = list.map(([one, kind, a, b]) => ({ ...one, apply: applyOf(kind, a, b, one.ended) }))
      const expected = isLinearizable(0, operations)
      counts[expected ? 'taken' : 'refused']++
      assert.equal(linearize(0, operations, number).kind, expected ? 'linearizable' : 'not')
    }),
    { numRuns: RUNS },
  )
  assert.ok(counts.taken > RUNS / 5 && counts.refused > RUNS / 5, JSON.stringify(counts))
})
