// What `reconcile` concludes from what it saw on the target (protocols.md, Durable control; faults.md 49).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeKey, type KeySeen, reasonsAgainst } from '../../src/model/reconcile.ts'

const HOME = { owner: 'source', tenure: 5, base: 1_000n } as const
const AWAY = { owner: 'target', tenure: 9, base: 1_000n } as const

function judge(seen: Partial<KeySeen>, entries: readonly number[] = []) {
  const usual = { slot: 1, key: 'k', owned: AWAY, stamp: 1_000n, head: null, applied: 0, ceiling: 1_500n }
  return judgeKey({ ...usual, hasEntry: (version) => entries.includes(version), ...seen })
}

test('what the target holds is judged key by key, and what is not proved is refused (49)', () => {
  const head = { tenure: 9, version: 4 }
  // Of the target's keys: applied, or in an outbox without a gap from there on.
  assert.equal(judge({}), null)
  assert.equal(judge({ head, stamp: 1_004n, applied: 4 }), null)
  assert.equal(judge({ head, stamp: 1_004n, applied: 2 }, [3, 4]), null)
  assert.equal(judge({ head, stamp: 1_004n, applied: 2 }, [4]), 'entry gone')
  assert.equal(judge({ head, stamp: 1_004n, applied: 2 }, [3]), 'entry gone')
  assert.equal(judge({ head: { tenure: 9, version: 5 }, stamp: 1_004n, applied: 4 }), null) // no rows: nobody saw it
  assert.equal(judge({ head, stamp: 1_005n, applied: 4 }, [5]), 'row unknown')
  assert.equal(judge({ head: null, stamp: 1_001n }, [1]), 'row unknown')
  assert.equal(judge({ head: { tenure: 7, version: 4 }, stamp: 1_001n }, [1]), 'row unknown')
  // A flip that is not here.
  assert.equal(judge({ head: { tenure: 10, version: 1 } }), 'tenure unknown')
  assert.equal(judge({ owned: HOME, head: { tenure: 6, version: 1 } }), 'tenure unknown')
  assert.equal(judge({ owned: HOME, head: { tenure: 4, version: 9 } }), null)
  // PostgreSQL's own keys: beyond where the timelines part.
  assert.equal(judge({ owned: HOME, stamp: 1_500n }), null)
  assert.equal(judge({ owned: HOME, stamp: 1_501n }), 'write lost')
  assert.equal(judge({ owned: HOME, stamp: 1_501n, ceiling: null }), null)
})

test('only a later timeline of the same system, with nothing unknown on the target, may take it over', () => {
  const item = { systemIdentifier: '7', timeline: 2, epoch: 40 }
  const nothing = { 'tenure unknown': 0, 'row unknown': 0, 'entry gone': 0, 'write lost': 0 }
  const count = (here: Partial<typeof item>, found: Partial<typeof nothing> = {}, debts = 0) =>
    reasonsAgainst(item, { ...item, ...here }, { ...nothing, ...found }, { debts }).length
  assert.equal(count({ timeline: 3 }), 0)
  assert.equal(count({ timeline: 3, epoch: 39 }), 0)
  assert.equal(count({ timeline: 3 }, { 'write lost': 3 }), 0)
  assert.equal(count({ timeline: 1, epoch: 41 }), 1)
  assert.equal(count({ epoch: 39 }), 1)
  assert.equal(count({ systemIdentifier: '8', timeline: 3 }), 1)
  assert.equal(count({ timeline: 3 }, {}, 1), 1)
  for (const kind of ['tenure unknown', 'row unknown', 'entry gone'] as const) assert.equal(count({ timeline: 3 }, { [kind]: 1 }), 1)
})
