import assert from 'node:assert/strict'
import { test } from 'node:test'
import { summed } from './report.ts'
import type { RoundReport } from './round.ts'

const ROUND: RoundReport = {
  seed: 1,
  killed: [],
  linesBroken: 2,
  stopped: 1,
  acknowledgedWrites: 100,
  unknownWrites: 1,
  lost: [],
  doubled: [],
  parityDifferences: 0,
  violations: [],
  notRecovered: [],
  flips: 4,
  judge: null,
}
const killed = (recoveryMs: number | null, at = 'commit: before act') => ({ who: 'gateway-1', at, recoveryMs })

test('rounds are summed, recoveries ranked, kills counted by where they were', () => {
  const report = summed(
    [
      { ...ROUND, killed: [killed(300), killed(100), killed(null, 'backfill: after act')] },
      { ...ROUND, seed: 2, killed: [killed(200, 'outside')] },
    ],
    [],
  )
  assert.deepEqual([report.rounds, report.kills, report.acknowledgedWrites, report.unknownWrites, report.flips], [2, 4, 200, 2, 8])
  assert.deepEqual(report.recoveryMs, { p50: 200, p99: 300, max: 300 })
  assert.deepEqual(report.points, { 'backfill: after act': 1, 'commit: before act': 2, 'gateway-1, outside': 1 })
  assert.deepEqual(report.failures, [])
})

test('whatever is wrong is counted and named with its seed, a round that did not end included', () => {
  const wrong: [Partial<RoundReport>, RegExp][] = [
    [{ lost: ['op'] }, /^seed 1: lost: op$/],
    [{ doubled: ['op'] }, /^seed 1: doubled: op$/],
    [{ parityDifferences: 3 }, /^seed 1: 3 differences/],
    [{ violations: ['a flip is open'] }, /^seed 1: a flip is open$/],
    [{ notRecovered: ['target'] }, /^seed 1: not recovered: target$/],
  ]
  for (const [what, says] of wrong) {
    const { failures } = summed([{ ...ROUND, ...what }], [])
    assert.equal(failures.length, 1)
    assert.match(failures[0]!, says)
  }
  const report = summed([], [{ seed: 9, because: 'it hung' }])
  assert.deepEqual([report.notRecovered, report.failures, report.recoveryMs.max], [1, ['seed 9: the round did not end: it hung'], 0])
})
