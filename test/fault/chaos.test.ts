// A short run of `npm run chaos`: kill -9 at points of flip, commit, both syncs and the backfill, of both stores, with lines that break and a
// process that stands still, under load (faults.md 2, 3, 4, 5, 8, 45); nothing is lost, doubled or different, and nobody has to do anything.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { failuresOf } from '../chaos/report.ts'
import { type RoundOptions, runRound } from '../chaos/round.ts'

/** Another round each day; `npm run chaos -- --seed N` plays one again. */
async function round(t: TestContext, options: Pick<RoundOptions, 'kills' | 'lines' | 'stops' | 'verdicts'>) {
  const seed = Math.floor(Date.now() / 86_400_000)
  t.diagnostic(`seed ${seed}`)
  const report = await runRound({ ...options, seed, say: (text) => t.diagnostic(text), signal: new AbortController().signal })
  assert.deepEqual(failuresOf(report), [], `seed ${seed}`)
  return report
}

test('INV-1 to INV-9: a round of chaos: twelve kills, broken lines and a stopped process lose nothing, and service resumes by itself', {
  timeout: 400_000,
}, async (t) => {
  const report = await round(t, { kills: 12, lines: 3, stops: 1, verdicts: null })
  assert.ok(report.killed.length >= 12, `${report.killed.length} kills`)
  assert.ok(report.acknowledgedWrites > 300 && report.flips > 0, `${report.acknowledgedWrites} writes, ${report.flips} flips`)
})

test('INV-10: a round of chaos with the judge on: its verdicts, orders and reports survive kills in the midst of them, and it turns nothing out again', {
  timeout: 400_000,
}, async (t) => {
  const { judge } = await round(t, { kills: 2, lines: 0, stops: 0, verdicts: 3 })
  const { verdicts, ordersHome, restarts } = judge!
  assert.ok(verdicts >= 3 && ordersHome >= verdicts && restarts > 0, `${verdicts} verdicts, ${ordersHome} orders, ${restarts} restarts`)
})
