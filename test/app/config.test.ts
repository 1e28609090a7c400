import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeSettings } from '../../src/app/judge-settings.ts'
import { checkConfig, rampSettings } from '../../src/app/load-config.ts'
import { JUDGE_DEFAULTS } from '../../src/canary/judge.ts'
import { RAMP_DEFAULTS } from '../../src/canary/ramp.ts'

const CONFIG = {
  migration: 'm',
  source: { urlEnv: 'URL' },
  target: { kind: 'memory', port: 1 },
  tables: { 'public.t': { partitionKey: 'id' } },
}

test('a key that the configuration does not have is refused by its name and place, a known one without effect is not', () => {
  const problem = (more: object) => {
    try {
      checkConfig({ ...CONFIG, ...more }, 'switchback.config.ts')
      return 'accepted'
    } catch (error) {
      return (error as Error).message
    }
  }
  assert.equal(problem({ source: { urlEnv: 'URL', standbyLostMs: 30_000 } }), 'accepted')
  assert.match(problem({ gateway: { adminPort: 9_000 } }), /switchback\.config\.ts is not valid: gateway: .*"adminPort"/)
  assert.match(problem({ gateway: { limits: { parkedMax: 1 } } }), /gateway\.limits: .*"parkedMax"/)
  assert.match(problem({ targets: {} }), /the default export: .*"targets"/)
})

test('a ramp that cannot be is refused by its field or by what is wrong with its steps; what is left out is the default', () => {
  const problem = (ramp: object) => {
    try {
      return rampSettings(checkConfig({ ...CONFIG, ramp }, 'switchback.config.ts'))
    } catch (error) {
      return (error as Error).message
    }
  }
  const steps = [{ percent: 1, bakeMs: 1_000 }]
  assert.deepEqual(problem({ steps, observeMs: 5_000 }), { steps, observeMs: 5_000, distanceMax: 0.1, overshootMax: 1.25 })
  assert.deepEqual(problem({}), { ...RAMP_DEFAULTS, observeMs: 600_000 })
  assert.match(String(problem({ steps: [{ percent: 5, bakeMs: 1 }, ...steps] })), /ramp: step 2 \(1 %\) is not larger than the one before/)
  assert.match(String(problem({ steps: [] })), /ramp: it has no step/)
  assert.match(String(problem({ distanceMax: 2 })), /ramp: distanceMax is 2/)
  assert.match(String(problem({ observeMs: 0 })), /ramp\.observeMs: /)
  assert.match(String(problem({ steps: [{ percent: 1, bake: 1 }] })), /ramp\.steps\.0/)
})

test('bounds of the judge that cannot be are refused by their place, and what is left out has its default', () => {
  const problem = (judge: object) => {
    try {
      checkConfig({ ...CONFIG, judge }, 'switchback.config.ts')
      return 'accepted'
    } catch (error) {
      return (error as Error).message
    }
  }
  assert.equal(problem({ sloMs: 250, showKeys: true, promotion: { bakeMs: 0 } }), 'accepted')
  for (const [judge, place] of [
    [{ errorShare: 1 }, 'judge.errorShare: must be a share, below 1'],
    [{ errorShare: 0 }, 'judge.errorShare: '],
    [{ silenceMs: 500 }, 'judge.silenceMs: '],
    [{ stepsPerFalseAlarm: 1 }, 'judge.stepsPerFalseAlarm: '],
    [{ sloMs: Number.NaN }, 'judge.sloMs: '],
    [{ evidenceFilesMax: 0 }, 'judge.evidenceFilesMax: '],
    [{ promotion: { lagFreshMs: 100 } }, 'judge.promotion.lagFreshMs: must be at least 2000'],
    [{ promotion: { bake: 1 } }, 'judge.promotion: '],
  ] as const)
    assert.ok(problem(judge).includes(place), `${JSON.stringify(judge)}: ${problem(judge)}`)
  const { config, growth, evidenceFilesMax, showKeys } = judgeSettings({ judge: { errorShare: 0.02, promotion: { leastRequests: 7 } } })
  assert.deepEqual([growth, evidenceFilesMax, showKeys], [1, 20, false])
  assert.deepEqual(config, { ...JUDGE_DEFAULTS, errorShare: 0.02, promotion: { ...JUDGE_DEFAULTS.promotion, leastRequests: 7 } })
})
