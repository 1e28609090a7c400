import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Coverage } from './coverage.ts'
import { runSeed, SCENARIOS } from './scenario.ts'

const FULL = SCENARIOS['full']!
/** Of seeds that nobody has seen; each failure names its own. */
const BUDGET_MS = 60_000
const KNOWN_SEEDS = 20

test('the same seed gives the same trace twice', async () => {
  const first = await runSeed(7, FULL, { traced: true })
  const second = await runSeed(7, FULL, { traced: true })
  assert.ok(first.trace.length > 100)
  assert.deepEqual(first.trace, second.trace)
  const other = await runSeed(8, FULL, { traced: true })
  assert.notDeepEqual(first.trace, other.trace)
})

test('what a scenario promises happens: flips, one of them cancelled, and work on both stores', async () => {
  const coverage = new Coverage()
  const sums = { routed: 0, cancelled: 0, acked: 0, onTarget: 0, undecided: 0 }
  for (let seed = 1; seed <= KNOWN_SEEDS; seed++) {
    const report = await runSeed(seed, FULL, { traced: false })
    assert.deepEqual(report.violations, [], `seed ${seed}`)
    coverage.add(report.coverage)
    sums.routed += report.flips.routed
    sums.cancelled += report.flips.cancelled
    sums.acked += report.totals.acked
    sums.onTarget += report.aggregatesApplied
    sums.undecided += report.undecided
  }
  assert.ok(sums.routed >= KNOWN_SEEDS && sums.cancelled >= KNOWN_SEEDS / 2, JSON.stringify(sums))
  assert.ok(sums.acked >= 50 * KNOWN_SEEDS && sums.onTarget >= KNOWN_SEEDS, JSON.stringify(sums))
  assert.equal(sums.undecided, 0, 'an order was found, or ruled out, for each key')
  const hit = coverage.pairs().filter(({ hits }) => hits > 0).length
  assert.ok(hit > 100, `${hit} pairs of fault and step`)
})

test('INV-1 to INV-9 hold in fresh seeds, for as long as the budget lasts', async (t) => {
  const first = Math.floor(Date.now() / 1_000)
  const endMs = performance.now() + BUDGET_MS
  let seeds = 0
  for (; performance.now() < endMs; seeds++) {
    const { violations } = await runSeed(first + seeds, FULL, { traced: false })
    assert.deepEqual(violations, [], `again: npm run sim -- --seeds ${first + seeds}-${first + seeds} --trace`)
  }
  t.diagnostic(`seeds ${first}-${first + seeds - 1}`)
})
