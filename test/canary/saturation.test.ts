import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Holds,
  holdsSince,
  type KeySaturation,
  mergeHolds,
  NO_HOLDS,
  poissonBound,
  type SaturationEvidence,
  saturation,
  withHold,
} from '../../src/canary/saturation.ts'
import { BugError } from '../../src/lib/assert.ts'
import { type Random, seededRandom } from '../../src/lib/prng.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)

const holdsOf = (values: readonly number[]): Holds => values.reduce(withHold, NO_HOLDS)
const exponential = (random: Random, mean: number) => -Math.log(1 - random.next()) * mean
const poisson = (random: Random, mean: number): number => {
  // Arrivals one after the other, as they come.
  let [count, at] = [0, exponential(random, 1)]
  for (; at < mean; at += exponential(random, 1)) count++
  return count
}

/** One hot key of all traffic, that a canary of 1 % does not hold; `seconds` of watching. */
function watched(options: {
  readonly random: Random
  readonly rho: number
  readonly seconds: number
  readonly spread?: number
  readonly queued?: boolean
}): KeySaturation {
  const { random, rho, seconds, spread = 1, queued = true } = options
  const holdMs = 40
  const hotPerSecond = (rho * 1_000) / holdMs
  // The hot key has a twentieth of all requests, the canary a hundredth.
  const canaryCommits = poisson(random, 20 * hotPerSecond * 0.01 * seconds)
  // Log-normal with the mean holdMs: a long tail.
  const normal = () => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
  const pool = holdsOf(Array.from({ length: canaryCommits }, () => holdMs * Math.exp(spread * normal() - spread ** 2 / 2)))
  const movedPerSecond = canaryCommits / 10 / seconds
  const evidence: SaturationEvidence = {
    windowMs: seconds * 1_000,
    queued,
    growth: 1,
    pool,
    keys: [
      { key: 'hot', arrivals: { count: poisson(random, hotPerSecond * seconds), error: 0 }, moved: null },
      ...Array.from({ length: 10 }, (_, i) => {
        const commits = Math.round(canaryCommits / 10)
        const retries = poisson(random, (commits * movedPerSecond * holdMs) / 1_000)
        return { key: `moved ${i}`, arrivals: { count: commits, error: 0 }, moved: { holds: NO_HOLDS, commits, retries } }
      }),
    ],
  }
  return saturation(evidence).find(({ key }) => key === 'hot')!
}

test('a key that would saturate at 100 % is named by a canary of 1 % that does not hold it, within five minutes', () => {
  const random = seededRandom(SEED)
  for (const rho of [2, 3, 5]) {
    for (let life = 0; life < 20; life++) {
      const hot = watched({ random, rho, seconds: 300 })
      assert.deepEqual([hot.act, hot.basis], ['block', 'holds of the moved keys'], `seed ${SEED}: ${JSON.stringify(hot)}`)
    }
  }
})

test('a key with rho 0.4 or less is never blocked, however long or short it was watched, with whatever tail', () => {
  const random = seededRandom(SEED)
  for (const seconds of [1, 10, 60, 300])
    for (const rho of [0.05, 0.2, 0.4])
      for (const spread of [0.2, 1, 1.6])
        for (const queued of [true, false])
          for (let life = 0; life < 10; life++) {
            const hot = watched({ random, rho, seconds, spread, queued })
            assert.ok(hot.act === 'none' || hot.act === 'unknown', `seed ${SEED}, ${rho}, ${seconds} s: ${JSON.stringify(hot)}`)
          }
})

test('the bounds hold the truth between them, and come closer as more is seen', () => {
  const random = seededRandom(SEED)
  const rho = 0.7
  let width = Number.POSITIVE_INFINITY
  for (const seconds of [30, 300, 3_000]) {
    const hot = watched({ random, rho, seconds })
    assert.ok(hot.rho!.low <= rho && rho <= hot.rho!.high, `seed ${SEED}: ${JSON.stringify(hot)}`)
    assert.ok(hot.rho!.high - hot.rho!.low < width)
    width = hot.rho!.high - hot.rho!.low
  }
})

test('without a queue the retries of moved keys name a key that has not moved', () => {
  const random = seededRandom(SEED)
  const hot = watched({ random, rho: 3, seconds: 1_200, queued: false })
  assert.deepEqual([hot.act, hot.basis], ['block', 'retries of the moved keys'], `seed ${SEED}: ${JSON.stringify(hot)}`)
  assert.ok(hot.rho!.low <= 3 && 3 <= hot.rho!.high)
})

const own = (retries: number, growth = 1) =>
  saturation({
    windowMs: 60_000,
    queued: false,
    growth,
    pool: NO_HOLDS,
    keys: [{ key: 'a', arrivals: { count: 10_000, error: 0 }, moved: { holds: NO_HOLDS, commits: 10_000, retries } }],
  })[0]!

test("a moved key's own retries say its rho, up to 0.8; beyond, that it is no less", () => {
  const at = own(6_000)
  assert.deepEqual([at.act, at.basis, at.rho!.mean], ['warn', 'own retries', 0.6])
  assert.ok(at.rho!.low > 0.5 && at.rho!.high < 0.7)
  assert.deepEqual([own(3_000).act, own(3_000, 3).act], ['none', 'block'])
  const beyond = own(50_000).rho!
  assert.deepEqual([beyond.low, beyond.high], [0.8, Number.POSITIVE_INFINITY])
  assert.equal(own(50_000).act, 'block')
})

test('a key with holds of its own is judged by them, and not by others', () => {
  const slow = holdsOf(Array.from({ length: 2_000 }, () => 100))
  const fast = holdsOf(Array.from({ length: 2_000 }, () => 1))
  const of = (holds: Holds) =>
    saturation({
      windowMs: 100_000,
      queued: true,
      growth: 1,
      pool: fast,
      keys: [{ key: 'a', arrivals: { count: 2_000, error: 0 }, moved: { holds, commits: holds.commits, retries: 0 } }],
    })[0]!
  assert.deepEqual([of(slow).act, of(slow).basis, of(slow).rho!.mean], ['block', 'own holds', 2])
  const few = holdsOf(Array.from({ length: 20 }, () => 100))
  assert.deepEqual([of(few).act, of(few).basis], ['none', 'holds of the moved keys'])
})

test('rho rises with arrivals, with holds and with growth; an error of the count lowers only what is certain', () => {
  const size = fc.integer({ min: 1, max: 5_000 })
  fc.assert(
    fc.property(size, size, size, fc.double({ min: 1, max: 10, noNaN: true }), (count, more, commits, times) => {
      const rho = (arrivals: { count: number; error: number }, holdMs: number, growth: number) =>
        saturation({
          windowMs: 60_000,
          queued: true,
          growth,
          pool: { commits, sumMs: commits * holdMs, sumSquaresMs: 2 * commits * holdMs ** 2, maxMs: 5 * holdMs },
          keys: [{ key: 'a', arrivals, moved: null }],
        })[0]!.rho!
      const base = rho({ count, error: 0 }, 10, 1)
      assert.ok(base.low <= base.mean && base.mean <= base.high)
      for (const up of [rho({ count: count + more, error: 0 }, 10, 1), rho({ count, error: 0 }, 10 * times, 1)])
        for (const bound of ['low', 'mean', 'high'] as const) assert.ok(up[bound] >= base[bound] * (1 - 1e-9))
      const grown = rho({ count, error: 0 }, 10, times)
      assert.ok(Math.abs(grown.low - base.low * times) <= 1e-9 * grown.low)
      const unsure = rho({ count, error: count / 2 }, 10, 1)
      assert.ok((unsure.low < base.low || base.low === 0) && unsure.high === base.high)
    }),
    { seed: SEED },
  )
})

test('the growth that a key can bear is told', () => {
  const [one] = saturation({
    windowMs: 100_000,
    queued: true,
    growth: 2,
    pool: holdsOf(Array.from({ length: 5_000 }, () => 10)),
    keys: [{ key: 'a', arrivals: { count: 1_000, error: 0 }, moved: null }],
  })
  assert.ok(Math.abs(one!.rho!.mean - 0.2) < 1e-9 && Math.abs(one!.growthToBlock! - 8) < 1e-9)
})

test('what is not known is unknown, not healthy (INV-10): no traffic, no holds, no window, NaN', () => {
  const pool = holdsOf(Array.from({ length: 1_000 }, () => 100))
  const traffic = { key: 'a', arrivals: { count: 10_000, error: 0 }, moved: null }
  const act = (change: Partial<SaturationEvidence>) =>
    saturation({ windowMs: 60_000, queued: true, growth: 1, pool, keys: [traffic], ...change }).map((one) => one.act)
  assert.deepEqual(act({}), ['block'])
  assert.deepEqual(act({ keys: [] }), [])
  assert.deepEqual(act({ keys: [{ ...traffic, arrivals: { count: 0, error: 0 } }] }), ['none'])
  for (const unknown of [
    { pool: NO_HOLDS },
    { pool: { ...pool, sumMs: Number.NaN } },
    { windowMs: 0 },
    { windowMs: -5_000 },
    { windowMs: Number.NaN },
    { queued: false },
    { keys: [{ ...traffic, arrivals: { count: Number.NaN, error: 0 } }] },
  ])
    assert.deepEqual(act(unknown), ['unknown'], JSON.stringify(unknown))
  for (const growth of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) assert.throws(() => act({ growth }), BugError)
})

test('the hottest key is told first, those of which nothing is known last', () => {
  const key = (name: string, count: number) => ({ key: name, arrivals: { count, error: 0 }, moved: null })
  const pool = holdsOf(Array.from({ length: 1_000 }, () => 10))
  const keys = [key('cold', 10), key('unknown', Number.NaN), key('hot', 9_000), key('warm', 900)]
  const told = saturation({ windowMs: 60_000, queued: true, growth: 1, pool, keys })
  assert.deepEqual(
    told.map((one) => one.key),
    ['hot', 'warm', 'cold', 'unknown'],
  )
})

test('holds merge in any order, and since an earlier reading there is what came after it, of a new life all of it', () => {
  const values = fc.array(fc.integer({ min: 0, max: 1_000 }), { maxLength: 30 })
  fc.assert(
    fc.property(values, values, (before, after) => {
      const all = holdsOf([...before, ...after])
      assert.deepEqual(mergeHolds(holdsOf(before), holdsOf(after)), all)
      assert.deepEqual(mergeHolds(holdsOf(after), holdsOf(before)), all)
      const since = holdsSince(all, holdsOf(before))
      assert.deepEqual({ ...since, maxMs: 0 }, { ...holdsOf(after), maxMs: 0 })
    }),
    { seed: SEED },
  )
  assert.deepEqual(holdsSince(holdsOf([3]), holdsOf([1, 1])), holdsOf([3]))
  assert.deepEqual(holdsOf([Number.NaN, -1, Number.POSITIVE_INFINITY]), NO_HOLDS)
})

test('a Poisson rate lies outside its bounds about never', () => {
  const random = seededRandom(SEED)
  assert.deepEqual([poissonBound(0, 'low'), Math.round(poissonBound(0, 'high') * 10) / 10], [0, 13.8])
  for (let i = 0; i < 2_000; i++) {
    const rate = exponential(random, 50)
    const n = poisson(random, rate)
    assert.ok(poissonBound(n, 'low') <= rate && rate <= poissonBound(n, 'high'), `seed ${SEED}: ${n} of ${rate}`)
    assert.ok(poissonBound(n, 'low') <= n && n <= poissonBound(n, 'high'))
  }
  // Known by another way: at n = 100 the Chernoff bounds of 1e-6 are about 100 +- 5.3 * 10.
  assert.ok(Math.abs(poissonBound(100, 'low') - 56) < 3 && Math.abs(poissonBound(100, 'high') - 162) < 3)
})
