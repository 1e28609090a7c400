import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeSettings } from '../../src/app/judge-settings.ts'
import { checkConfig } from '../../src/app/load-config.ts'
import { JUDGE_DEFAULTS } from '../../src/canary/judge.ts'

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
