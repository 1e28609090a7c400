import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  FRESH_PROMOTION,
  PROMOTION_LEVEL,
  promotionHolds,
  promotionLevel,
  promotionStep,
  type Standing,
  withinSloStep,
} from '../../src/canary/promotion.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { coins } from './seen.ts'

const CONFIG = { bakeMs: 600_000, leastRequests: 10_000, parityFreshMs: 600_000, lagFreshMs: 10_000, lagMostMs: 1_000 }
const READY: Standing = {
  bakedMs: 600_000,
  requests: 10_000,
  levels: { deposit: 20 },
  control: 'compared',
  parity: { ageMs: 600_000, differences: 0 },
  lag: { ageMs: 10_000, ms: 1_000 },
}

function levelAfter(blocks: number, ratio: number, seed: number, base = 0.006): { readonly last: number; readonly most: number } {
  const random = seededRandom(seed)
  let test = FRESH_PROMOTION
  let most = 0
  for (let block = 0; block < blocks; block++) {
    test = promotionStep(test, { a: coins(random, 100, base * ratio), n: 100, k: coins(random, 900, base), m: 900, frozen: false })
    most = Math.max(most, promotionLevel(test))
  }
  return { last: promotionLevel(test), most }
}

test('a canary that is as good as control is proved so within half an hour', () => {
  for (let seed = 1; seed <= 10; seed++) assert.ok(levelAfter(900, 1, seed).most >= PROMOTION_LEVEL)
})

test('one with half as many slow requests again is promoted in at most one run of twenty, however long one looks', () => {
  let promoted = 0
  for (let seed = 1; seed <= 60; seed++) if (levelAfter(600, 1.5, seed).most >= PROMOTION_LEVEL) promoted++
  assert.ok(promoted <= 3, `${promoted} of 60`)
  assert.ok(levelAfter(900, 3, 1).last < 1e-3)
})

/** As an SLO's bound is x0: `share` of the canary's requests is over it, and of control's. */
function sloLevels(blocks: number, share: number, seed: number): { readonly last: number; readonly most: number } {
  const random = seededRandom(seed)
  let test = FRESH_PROMOTION
  let most = 0
  for (let i = 0; i < blocks; i++) {
    const block = { a: coins(random, 100, share), n: 100, k: coins(random, 900, share), m: 900, frozen: false }
    test = withinSloStep(promotionStep(test, block), block)
    most = Math.max(most, promotionLevel(test))
  }
  return { last: promotionLevel(test), most }
}

test('within the SLO a canary is proved so where hardly a request is slow; with its P99 at the bound in at most one run of twenty', () => {
  assert.ok(sloLevels(10, 0, 1).last >= PROMOTION_LEVEL)
  for (let seed = 1; seed <= 10; seed++) assert.ok(sloLevels(100, 0.002, seed).most >= PROMOTION_LEVEL, `seed ${seed}`)
  // Few requests prove nothing yet.
  assert.ok(sloLevels(2, 0, 1).last < PROMOTION_LEVEL)
  let promoted = 0
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(seed)
    let [test, most] = [FRESH_PROMOTION, 0]
    for (let i = 0; i < 600; i++) {
      // Half as slow again as control, and over the bound a hundredth of the time: bad by both.
      const block = { a: coins(random, 100, 0.01), n: 100, k: coins(random, 900, 0.01 / 1.5), m: 900, frozen: false }
      test = withinSloStep(promotionStep(test, block), block)
      most = Math.max(most, promotionLevel(test))
    }
    if (most >= PROMOTION_LEVEL) promoted++
  }
  assert.ok(promoted <= 3, `${promoted} of 60`)
})

test('a burst that slows both arms alike proves nothing of the canary', () => {
  let test = FRESH_PROMOTION
  for (let block = 0; block < 30; block++) test = promotionStep(test, { a: 20, n: 100, k: 180, m: 900, frozen: false })
  assert.equal(promotionLevel(test), 1)
})

test('INV-10: silence proves nothing: no traffic, an arm without requests, a control that is gone, blocks without a slow request', () => {
  for (const block of [
    { a: 0, n: 0, k: 5, m: 900, frozen: false },
    { a: 0, n: 100, k: 0, m: 0, frozen: false },
    { a: 0, n: 100, k: 9, m: 50, frozen: true },
    { a: 0, n: 100, k: 0, m: 900, frozen: false },
  ]) {
    let test = FRESH_PROMOTION
    for (let i = 0; i < 10_000; i++) test = promotionStep(test, block)
    assert.equal(promotionLevel(test), 1)
  }
})

test('INV-10: each thing that is missing, old, out of bounds or no number holds, and says so; all of it there promotes (faults.md 30)', () => {
  assert.deepEqual(promotionHolds(READY, CONFIG), [])
  const parts: readonly (readonly [Partial<Standing>, RegExp])[] = [
    [{ bakedMs: 599_999 }, /^baked/],
    [{ bakedMs: Number.NaN }, /^baked/],
    [{ requests: 9_999 }, /requests seen/],
    [{ levels: {} }, /no statement/],
    [{ levels: { deposit: 20, withdraw: 19.9 } }, /inconclusive.*withdraw/],
    [{ levels: { deposit: Number.NaN } }, /inconclusive/],
    [{ control: 'none' }, /nothing was compared with control yet/],
    [{ control: 'gone' }, /control has too few requests/],
    [{ parity: null }, /parity is not fresh/],
    [{ parity: { ageMs: 600_001, differences: 0 } }, /parity is not fresh/],
    [{ parity: { ageMs: -1, differences: 0 } }, /parity is not fresh/],
    [{ parity: { ageMs: 1, differences: 1 } }, /1 differences/],
    [{ parity: { ageMs: 1, differences: Number.NaN } }, /differences/],
    [{ lag: null }, /lag is not fresh/],
    [{ lag: { ageMs: 10_001, ms: 1 } }, /lag is not fresh/],
    [{ lag: { ageMs: 1, ms: Number.NaN } }, /lag/],
    [{ lag: { ageMs: 1, ms: 1_001 } }, /lag: 1001/],
  ]
  for (const [part, reason] of parts) {
    const holds = promotionHolds({ ...READY, ...part }, CONFIG)
    assert.equal(holds.length, 1, JSON.stringify(part))
    assert.match(holds[0]!, reason)
  }
})

test('the test stays a number through any counts', () => {
  const block = fc.record({
    n: fc.integer({ min: 0, max: 1e5 }),
    m: fc.integer({ min: 0, max: 1e6 }),
    p: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  fc.assert(
    fc.property(fc.array(block), (blocks) => {
      let test = FRESH_PROMOTION
      for (const { n, m, p } of blocks)
        test = promotionStep(test, { a: Math.floor(n * p), n, k: Math.floor(m * (1 - p)), m, frozen: false })
      assert.ok(Number.isFinite(promotionLevel(test)))
      assert.deepEqual(JSON.parse(JSON.stringify(test)), test)
    }),
  )
})
