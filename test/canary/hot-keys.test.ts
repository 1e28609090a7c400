import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { zipfPicker } from '../../examples/ledger/zipf.ts'
import { HOT_KEYS_HALVED_EVERY_MS, HotKeyBoard, HotKeys, pseudonyms, tellHotKey } from '../../src/canary/hot-keys.ts'
import { BugError } from '../../src/lib/assert.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const CAPACITY = 8
/** Weights that add up exactly. */
const weight = fc.integer({ min: 1, max: 64 }).map((n) => n / 4)
const records = fc.array(fc.tuple(fc.integer({ min: 0, max: 30 }).map(String), weight), { maxLength: 300 })

const of = (all: readonly (readonly [string, number])[], capacity = CAPACITY): HotKeys => {
  const sketch = new HotKeys({ capacity })
  for (const [key, weight] of all) sketch.record(key, weight)
  return sketch
}
const truthOf = (all: readonly (readonly [string, number])[]): ReadonlyMap<string, number> => {
  const truth = new Map<string, number>()
  for (const [key, weight] of all) truth.set(key, (truth.get(key) ?? 0) + weight)
  return truth
}
const same = (key: string) => key

/** What the sketch promises, of every key. `slack`: what was let go as faded. */
function assertBounds(sketch: HotKeys, truth: ReadonlyMap<string, number>, factor = 1): void {
  const kept = new Map(sketch.top(sketch.size).map((one) => [one.key, one]))
  for (const [key, weight] of truth) {
    const one = kept.get(key)
    if (one === undefined) assert.ok(weight * factor <= sketch.absentMax, `${key} of ${weight} was let go`)
    else assert.ok(one.count - one.error <= weight * factor && weight * factor <= one.count, `${key}: ${tellHotKey(one)}, not ${weight}`)
  }
  for (const { key, count, error } of kept.values()) assert.ok(truth.has(key) || count - error <= 0)
  assert.ok(sketch.absentMax <= sketch.total / sketch.capacity + 2 ** -9, `${sketch.absentMax} of ${sketch.total}`)
  assert.equal(sketch.total, [...truth.values()].reduce((sum, weight) => sum + weight, 0) * factor)
  assert.ok(sketch.size <= sketch.capacity)
}

test('whatever came in, each key lies within its bounds, and who weighs more than total / capacity is kept', () => {
  fc.assert(
    fc.property(records, (all) => assertBounds(of(all), truthOf(all))),
    { seed: SEED },
  )
})

test('the bounds hold after halving, and of what came in since', () => {
  fc.assert(
    fc.property(records, records, fc.integer({ min: 1, max: 3 }), (before, after, times) => {
      const sketch = of(before)
      sketch.halve(times)
      assertBounds(sketch, truthOf(before), 0.5 ** times)
      for (const [key, weight] of after) sketch.record(key, weight)
      const faded = before.map(([key, weight]) => [key, weight * 0.5 ** times] as const)
      assertBounds(sketch, truthOf([...faded, ...after]))
    }),
    { seed: SEED },
  )
})

test('merged, two keep the bounds for the traffic of both, in either order, and go on', () => {
  fc.assert(
    fc.property(records, records, records, (a, b, after) => {
      const [ab, ba] = [of(a), of(b)]
      ab.merge(of(b))
      ba.merge(of(a))
      assertBounds(ab, truthOf([...a, ...b]))
      assert.deepEqual(ab.top(CAPACITY), ba.top(CAPACITY))
      for (const [key, weight] of after) ab.record(key, weight)
      assertBounds(ab, truthOf([...a, ...b, ...after]))
    }),
    { seed: SEED },
  )
})

test('the part that travels keeps the bounds, under other names, and merges like the whole', () => {
  fc.assert(
    fc.property(records, records, fc.integer({ min: 0, max: CAPACITY }), (a, b, most) => {
      const named = (key: string) => `<${key}>`
      const back = HotKeys.fromPlain(JSON.parse(JSON.stringify(of(a).toPlain({ most, nameOf: named }))))!
      const kept = new Map(back.top(CAPACITY).map((one) => [one.key, one]))
      for (const [key, weight] of truthOf(a)) {
        const one = kept.get(named(key))
        assert.ok(one === undefined ? weight <= back.absentMax : one.count - one.error <= weight && weight <= one.count)
      }
      assert.equal(kept.size, Math.min(most, of(a).size))
      const whole = of(b)
      whole.merge(HotKeys.fromPlain(of(a).toPlain({ most: CAPACITY, nameOf: same }))!)
      assertBounds(whole, truthOf([...a, ...b]))
      const part = of(b)
      part.merge(HotKeys.fromPlain(of(a).toPlain({ most, nameOf: same }))!)
      const known = new Map(part.top(CAPACITY).map((one) => [one.key, one]))
      for (const [key, weight] of truthOf([...a, ...b])) assert.ok(weight <= (known.get(key)?.count ?? part.absentMax))
    }),
    { seed: SEED },
  )
})

test('the twenty heaviest of a hundred thousand keys are the twenty shown, for Zipf 0.8, 1.0 and 1.2', () => {
  for (const s of [0.8, 1, 1.2]) {
    const { shown, truth, twentieth } = zipfStream(s, 1)
    assert.deepEqual(
      shown.filter(({ key }) => truth.get(key)! < twentieth),
      [],
      `Zipf ${s}: the twentieth weighs ${twentieth}`,
    )
  }
})

test('of any stream, a key that is shown in the place of a heavier one is within its error of it', () => {
  for (const s of [0.8, 1, 1.2]) {
    const { shown, truth, twentieth } = zipfStream(s, SEED)
    const wrong = shown.filter(({ key, error }) => truth.get(key)! + error < twentieth)
    assert.deepEqual(wrong, [], `seed ${SEED}, Zipf ${s}: the twentieth weighs ${twentieth}`)
  }
})

function zipfStream(s: number, seed: number) {
  const random = seededRandom(seed)
  const pick = zipfPicker(100_000, s, () => random.next())
  const truth = new Map<string, number>()
  const sketch = new HotKeys()
  for (let i = 0; i < 200_000; i++) {
    const key = String(pick())
    truth.set(key, (truth.get(key) ?? 0) + 1)
    sketch.record(key)
  }
  return { shown: sketch.top(20), truth, twentieth: [...truth.values()].toSorted((a, b) => b - a)[19]! }
}

test('without traffic a sketch fades to nothing', () => {
  const sketch = of([
    ['a', 100],
    ['b', 0.5],
  ])
  sketch.halve(10)
  assert.deepEqual(sketch.top(9), [{ key: 'a', count: 100 / 1_024, error: 0 }])
  assert.ok(sketch.absentMax >= 0.5 / 1_024)
  sketch.record('b', 1)
  assert.ok(sketch.top(1)[0]!.count >= 1 + 0.5 / 1_024)
  for (let i = 0; i < 30; i++) sketch.halve()
  assert.equal(sketch.size, 0)
  assert.ok(sketch.absentMax < 1e-9 && sketch.total < 1e-6)
})

test('what is no weight is refused and counted, and nothing is lost by it', () => {
  const sketch = new HotKeys()
  for (const none of [Number.NaN, -1, Number.POSITIVE_INFINITY, 1e10]) sketch.record('a', none)
  sketch.record('a', 0)
  assert.deepEqual([sketch.refused, sketch.size, sketch.total, sketch.absentMax], [4, 0, 0, 0])
})

test('what came over the line and is no sketch is nothing', () => {
  const plain = of([
    ['a', 3],
    ['b', 2],
  ]).toPlain({ most: 2, nameOf: same })
  assert.notEqual(HotKeys.fromPlain(plain), null)
  for (const broken of [
    null,
    [],
    { ...plain, capacity: 1 },
    { ...plain, capacity: 1e9 },
    { ...plain, total: null },
    { ...plain, absentMax: 2.5 },
    { ...plain, refused: -1 },
    { ...plain, keys: [...plain.keys].reverse() },
    { ...plain, keys: [['a', 3, 4]] },
    { ...plain, keys: [['a', Number.NaN, 0]] },
    { ...plain, keys: [[1, 3, 0]] },
    {
      ...plain,
      keys: [
        ['a', 3, 0],
        ['a', 3, 0],
      ],
    },
  ])
    assert.equal(HotKeys.fromPlain(broken), null, JSON.stringify(broken))
  assert.throws(() => new HotKeys({ capacity: 0 }), BugError)
})

test('a board halves each minute that passed, once, on every arm; a clock that is set back or is none halves nothing', () => {
  const board = new HotKeyBoard({ nowMs: 1_000 })
  const counts = () => [board.of('source', 'requests'), board.of('target', 'queueMs')].map((sketch) => sketch.top(1)[0]?.count)
  board.of('source', 'requests').record('a', 64)
  board.of('target', 'queueMs').record('a', 32)
  board.pass(1_000 + HOT_KEYS_HALVED_EVERY_MS - 1)
  assert.deepEqual(counts(), [64, 32])
  board.pass(1_000 + HOT_KEYS_HALVED_EVERY_MS)
  board.pass(1_000 + HOT_KEYS_HALVED_EVERY_MS)
  assert.deepEqual(counts(), [32, 16])
  board.pass(1_500 + 3 * HOT_KEYS_HALVED_EVERY_MS)
  assert.deepEqual(counts(), [8, 4])
  for (const none of [Number.NaN, Number.POSITIVE_INFINITY, -1e9]) board.pass(none)
  assert.deepEqual(counts(), [8, 4])
  // A minute counts from the time it was set back to.
  board.pass(-1e9 + HOT_KEYS_HALVED_EVERY_MS)
  assert.deepEqual(counts(), [4, 2])
  // A machine that slept for years.
  board.pass(1e14)
  assert.deepEqual(counts(), [undefined, undefined])
})

test('keys are shown under names that are the same for the same secret, tell nothing without it, and need one that cannot be guessed', () => {
  const secret = Buffer.alloc(16, 1)
  const name = pseudonyms(secret)
  assert.equal(name('42'), pseudonyms(secret)('42'))
  assert.match(name('42'), /^key-[0-9a-f]{16}$/)
  assert.notEqual(name('42'), name('43'))
  assert.notEqual(name('42'), pseudonyms(Buffer.alloc(16, 2))('42'))
  assert.throws(() => pseudonyms(Buffer.alloc(15)), BugError)
  assert.equal(tellHotKey({ key: '42', count: 1_200, error: 2.5 }), '42: 1200 ± 3')
})
