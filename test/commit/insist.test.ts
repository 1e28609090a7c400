import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attempt } from '../../src/commit/insist.ts'
import { DEFAULT_COMMIT_LIMITS } from '../../src/commit/limits.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function scene() {
  const clock = new VirtualClock(0)
  let holds = true
  const ctx = { clock, random: seededRandom(2), limits: { ...DEFAULT_COMMIT_LIMITS, commitDeadlineMs: 400 }, observer: { repeated() {} } }
  const read = (call: () => Promise<string>) =>
    attempt(ctx as unknown as Parameters<typeof attempt>[0], { id: 'lease', holds: () => holds }, 400, 'read of a head', call)
  return {
    clock,
    read,
    lapse: () => {
      holds = false
    },
  }
}

test('faults 9: one read without an answer does not outlast the deadline of its statement, however long the store lets it wait', async () => {
  const { clock, read } = scene()
  await assert.rejects(clock.run(read(() => clock.sleep(60_000).then(() => 'late'))), { code: 'TARGET_SILENT' })
  assert.equal(clock.nowMs(), 400)
})

test('INV-8: a read whose lease ends while it waits is answered by that, not by the silence of the target', async () => {
  const { clock, read, lapse } = scene()
  clock.after(100, lapse)
  await assert.rejects(clock.run(read(() => new Promise(() => undefined))), { code: 'LEASE_OVER' })
})

test('a read that failed is sent again until it is answered, and what the target refuses for good ends it', async () => {
  const { clock, read } = scene()
  let tries = 0
  const third = read(async () => {
    if (++tries < 3) throw new SwitchbackError('TARGET_UNKNOWN', { operation: 'read', reason: 'lost' })
    return 'there'
  })
  assert.equal(await clock.run(third), 'there')
  const refused = new SwitchbackError('TARGET_REFUSED', { operation: 'read', reason: 'no such table' })
  await assert.rejects(clock.run(read(() => Promise.reject(refused))), { code: 'TARGET_REFUSED' })
})
