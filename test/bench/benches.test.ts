// Promises: every bench works: a quick run prints one object, with figures that were measured and goals that were judged.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MAIN = fileURLToPath(new URL('../../bench/main.ts', import.meta.url))

/** The figures that have a goal, and that goal. */
const GOALS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  commit: { ratioToRawCalls: '<= 1.25', memoryRatioToRawCalls: '<= 1.25', dynaliteRatioToRawCalls: '<= 1.25' },
  backfill: {
    ratioToConditionalInsert: '>= 0.8',
    memoryRatioToConditionalInsert: '>= 0.8',
    dynaliteRatioToConditionalInsert: '>= 0.8',
    rssMiB: '<= 300',
    rssGrowth: '<= 1.25',
  },
  sync: { forwardLagP99Ms: '<= 100', reverseLagP99Ms: '<= 100', ratioToStore: '>= 0.6' },
  parity: { rowsPerSecond: '>= 200000', ratioToScan: '>= 0.7' },
  judge: {
    tail50MedianS: '<= 60',
    tail50P95S: '<= 120',
    tail20MedianS: '<= 150',
    tail20P95S: '<= 210',
    tail200MedianS: '<= 30',
    tail200P95S: '<= 60',
    lateOnsetRatio: '<= 1.2',
    errors50MedianS: '<= 10',
    falseRollbacksIn30Days: '<= 0.1',
    aaDays: '>= 900',
    histogramRecordNs: '<= 15',
    hotKeyRecordNs: '<= 300',
    hotKeyRecallAt20: '>= 1',
    hotKeyKilobytes: '<= 256',
    saturationNamedMedianS: '<= 300',
    saturationNamedP95S: '<= 300',
    saturationFalseBlocks: '<= 0',
    backtestRequestsPerSecond: '>= 250000',
    throughputWithJudge: '>= 0.97',
    blockDrawsAlike: '>= 0.001',
  },
  flip: { pauseP99Ms: '<= 50', pauseMaxMs: '<= 500' },
}

interface Report {
  readonly bench: string
  readonly machine: Readonly<Record<string, unknown>>
  readonly rounds: number
  readonly figures: Readonly<
    Record<string, { readonly value: number; readonly unit: string; readonly goal: string | null; readonly holds: boolean | null }>
  >
  readonly peers: Readonly<Record<string, { readonly value: number; readonly unit: string }>>
}

for (const [name, goals] of Object.entries(GOALS)) {
  test(`bench ${name} --quick prints one object whose figures were measured`, { timeout: 180_000 }, async () => {
    const { stdout } = await run(process.execPath, ['--import', 'tsx', MAIN, name, '--json', '--quick', '--rounds', '1'], {
      maxBuffer: 1 << 20,
    })
    assert.deepEqual([stdout.trim().split('\n').length, stdout.endsWith('\n')], [1, true])
    const report = JSON.parse(stdout) as Report
    assert.deepEqual([report.bench, report.rounds], [name, 1])
    assert.deepEqual(Object.keys(report.machine), ['cores', 'model', 'memoryGiB', 'node'])
    const judged = Object.entries(report.figures).filter(([, { goal }]) => goal !== null)
    assert.deepEqual(Object.fromEntries(judged.map(([figure, { goal }]) => [figure, goal])), goals)
    for (const [figure, { value, goal, holds }] of Object.entries(report.figures)) {
      assert.ok(Number.isFinite(value), figure)
      assert.equal(typeof holds, goal === null ? 'object' : 'boolean', figure)
    }
    assert.ok(Object.values(report.peers).every(({ value }) => Number.isFinite(value) && value > 0))
  })
}

test('a bench that does not exist ends with 2 and says which do', async () => {
  const failed = await run(process.execPath, ['--import', 'tsx', MAIN, 'nothing', '--json']).then(
    () => assert.fail('it ended with 0'),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )
  assert.deepEqual([failed.code, failed.stdout], [2, ''])
  assert.match(failed.stderr, /commit, backfill, sync, parity, flip/)
})
