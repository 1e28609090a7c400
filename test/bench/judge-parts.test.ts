import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeParts, saturationNamedS } from '../../bench/judge-parts.ts'

test("the judge's parts are measured, each against its goal; what does not depend on the machine holds", async () => {
  const said: string[] = []
  const say = (text: string) => void said.push(text)
  const { figures, peers } = await judgeParts({ rounds: 1, quick: true, say, signal: new AbortController().signal })
  assert.deepEqual(Object.keys(figures), [
    'histogramRecordNs',
    'hotKeyRecordNs',
    'hotKeyRecallAt20',
    'hotKeyKilobytes',
    'saturationNamedMedianS',
    'saturationNamedP95S',
    'saturationFalseBlocks',
    'backtestRequestsPerSecond',
  ])
  assert.deepEqual(Object.keys(peers), ['jsonParsePerSecond'])
  for (const [name, { value }] of Object.entries({ ...figures, ...peers })) assert.ok(Number.isFinite(value) && value >= 0, name)
  assert.ok(Object.values(figures).every(({ goal }) => goal !== null))
  assert.equal(figures['saturationFalseBlocks']!.holds, true)
  assert.equal(figures['saturationNamedP95S']!.holds, true)
  assert.ok(said.includes('round 1 of 1: backtest'))
})

test('the hotter a key, the sooner it is named', () => {
  const seconds = [1, 2, 4].map((rho) => saturationNamedS(rho, 7))
  assert.deepEqual(
    seconds,
    seconds.toSorted((a, b) => b - a),
  )
  assert.ok(seconds[2]! < seconds[0]!)
})
