// What keeps a move from being finalized: a word against the canary, or none at all (INV-10); not that it is not proven.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { againstCanary } from '../../src/app/judge-against.ts'
import { FRESH_JUDGE, type Judgement } from '../../src/canary/judge.ts'
import type { JudgeVerdict } from '../../src/canary/verdict.ts'

const JUDGED: Judgement = {
  state: { ...FRESH_JUDGE, step: 4096 },
  verdicts: [],
  holds: ['control has too few requests to compare with', 'baked for 12 of 600 s'],
  promote: false,
  levels: [{ detector: 'tail', statement: 'deposit', level: 3 }],
}
const VERDICT = { tMs: 1_800_000_000_000, act: 'rollback', detector: 'tail' } as JudgeVerdict
const ON = { enabled: true, rolledBack: null }

test('a canary of all keys that is not proven has nothing against it; a judge that is off says nothing', () => {
  assert.deepEqual(againstCanary(JUDGED, ON), [])
  assert.deepEqual(againstCanary({ ...JUDGED, state: { ...JUDGED.state, silentMs: 4_000 } }, ON), [])
  assert.deepEqual(againstCanary(null, { enabled: false, rolledBack: null }), [])
})

test('evidence above chance, no number, a key that saturates, silence, no judgement and a verdict are each said', () => {
  const risen = [100, Number.NaN].map((level) => ({ detector: 'error-limit', statement: 'deposit', level }) as const)
  const said = 'The judge sees more than chance in error-limit of deposit.'
  assert.deepEqual(againstCanary({ ...JUDGED, levels: risen }, ON), [said, said])
  const saturated = ['warn key-1', 'block key-2']
  assert.deepEqual(againstCanary({ ...JUDGED, state: { ...JUDGED.state, saturated } }, ON), ['Key key-2 saturates on the target.'])
  const silent = { ...JUDGED, state: { ...JUDGED.state, silentMs: 6_000 }, holds: ['no metrics came, for 6 s'] }
  assert.deepEqual(againstCanary(silent, ON), ['The judge knows nothing of the canary: no metrics came, for 6 s.'])
  assert.deepEqual(againstCanary(null, ON), ['The judge has not judged anything yet.'])
  assert.deepEqual(againstCanary(JUDGED, { enabled: false, rolledBack: VERDICT }), [
    'The judge turned the traffic back at 2027-01-15T08:00:00.000Z (tail): see `judge report`.',
  ])
})
