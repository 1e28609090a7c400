import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { categoryOf, logFactorial, splitChances } from '../../src/canary/splits.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const block = fc
  .record({
    n: fc.integer({ min: 1, max: 5_000 }),
    m: fc.integer({ min: 100, max: 50_000 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ n, m, share }) => ({ n, m, k: Math.floor(share ** 3 * m) }))

test('the chances of a pseudo-canary are chances, for every canary and control', () => {
  fc.assert(
    fc.property(block, ({ n, k, m }) => {
      const chances = splitChances(n, k, m)
      assert.ok(chances.every((chance) => chance >= 0 && chance <= 1 + 1e-9))
      assert.ok(Math.abs(chances.reduce((a, b) => a + b, 0) - 1) < 1e-7, String(chances))
    }),
  )
  assert.deepEqual(splitChances(100, 0, 1_000), [1, 0, 0, 0, 0])
})

test('they are those of control split at random, request by request', () => {
  const random = seededRandom(7)
  const [n, m, k] = [100, 300, 9]
  const drawn = [0, 0, 0, 0, 0]
  const rounds = 40_000
  for (let round = 0; round < rounds; round++) {
    let [a, left] = [0, (k * (n + m)) / m]
    for (let i = 0; i < n; i++) {
      if (random.next() >= left / (n + m - i)) continue
      a++
      left--
    }
    drawn[categoryOf(a, n, left, m)]!++
  }
  splitChances(n, k, m).forEach((chance, i) => {
    assert.ok(
      Math.abs(drawn[i]! / rounds - chance) < 4 * Math.sqrt(chance / rounds) + 1e-4,
      `category ${i}: ${drawn[i]} of ${rounds}, ${chance}`,
    )
  })
})

test('control that stands for a part of a slow request more is shared out to both whole numbers', () => {
  // One slow of 150 is 1 2/3 of all 250: none of one falls to the canary with 150/250, none of two with 150/250 * 149/249.
  const [none] = splitChances(100, 1, 150)
  assert.ok(Math.abs(none! - (0.6 / 3 + ((0.6 * 149) / 249) * (2 / 3))) < 1e-9, String(none))
})

test('a block’s category rises with the canary’s slow requests and falls with control’s', () => {
  fc.assert(
    fc.property(block, fc.nat(), ({ n, k, m }, some) => {
      const a = some % n
      const category = categoryOf(a, n, k, m)
      assert.ok([0, 1, 2, 3, 4].includes(category))
      assert.ok(categoryOf(a + 1, n, k, m) >= category)
      assert.ok(categoryOf(a, n, Math.min(m, k + 1), m) <= category)
    }),
  )
  assert.deepEqual(
    [categoryOf(0, 100, 0, 0), categoryOf(3, 100, 0, 0), categoryOf(3, 100, 9, 300), categoryOf(99, 100, 0, 300), categoryOf(0, 0, 0, 300)],
    [0, 2, 1, 4, 0],
  )
})

test('the logarithm of a factorial is the same on both sides of the table’s end', () => {
  for (const n of [1_023, 1_024, 5_000, 1e6]) {
    assert.ok(Math.abs(logFactorial(n) - logFactorial(n - 1) - Math.log(n)) < 1e-8 * Math.log(n), String(n))
  }
  assert.ok(Math.abs(logFactorial(10) - Math.log(3_628_800)) < 1e-12)
})
