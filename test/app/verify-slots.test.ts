import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RecentRows } from '../../src/app/recent-rows.ts'
import { type VerifyParts, verifySlots } from '../../src/app/verify-slots.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { ParityReader } from '../../src/model/parity.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const NEVER = new AbortController().signal
const REFUSED = new SwitchbackError('TARGET_REFUSED', { operation: 'BatchGetItem', reason: 'not authorized' })

/** One row that changed, equal on both sides; the target refuses the first `refusals` reads. */
function scene(refusals: number) {
  const recent = new RecentRows({ max: 10, slotOf: () => 0 })
  recent.changed({ table: 'notes', key: '1', clustering: [] })
  let reads = 0
  const reader = (readRows: () => Promise<string[][]>) => ({ readRows }) as unknown as ParityReader
  const parts: VerifyParts = {
    mapping: { tables: [{ name: 'notes' }] } as unknown as Mapping,
    source: reader(async () => [['1', 'x']]),
    target: reader(async () => {
      if (++reads <= refusals) throw REFUSED
      return [['1', 'x']]
    }),
    recent,
  }
  const clock = new VirtualClock()
  return { verified: () => clock.run(verifySlots(parts, [0], clock, NEVER)), reads: () => reads }
}

test('a comparison of which the target refuses single requests is made again, and says what it found', async () => {
  const { verified, reads } = scene(7)
  assert.deepEqual(await verified(), { rowsCompared: 1, differences: 0, notChecked: 0, firstDifference: null, differing: [] })
  assert.equal(reads(), 8)
})

test('a target that refuses all of them is told so in bounded time', async () => {
  const { verified, reads } = scene(1_000)
  await assert.rejects(verified(), { code: 'TARGET_REFUSED' })
  assert.equal(reads(), 8)
})
