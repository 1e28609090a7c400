import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runAckLoop } from '../../src/gateway/ack-loop.ts'
import { FenceGate } from '../../src/gateway/fence-gate.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { type Ownership, type Phase, RoutingView } from '../../src/model/ownership.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

for (const phase of ['steady', 'parking'] as const satisfies readonly Phase[]) {
  test(`a gateway that opens a lease after a lapse acks under it, though the epoch is the one it knew: slots are ${phase} (6)`, async () => {
    const clock = new VirtualClock()
    const gate = new FenceGate({
      clock,
      limits: { parkedStatementsMax: 2, parkDeadlineMs: 1_000, queueBytesMax: 100 },
      unroutableReads: 'refuse',
    })
    const row: Ownership = { slot: 1, owner: 'target', phase, readOnly: false, epoch: 5, tenure: 1, base: 0n }
    const view = new RoutingView({ epoch: 5, bindingEpoch: 1, rows: [row], pins: [] })
    const acks: string[] = []
    const stop = new AbortController()
    const running = runAckLoop({
      gate,
      control: { ack: async ({ lease, epoch }) => void acks.push(`${lease} ${epoch}`) } as Parameters<typeof runAckLoop>[0]['control'],
      executor: { nextSequences: () => new Map() },
      excuses: async () => [],
      clock,
      random: seededRandom(1),
      failed: () => undefined,
      signal: stop.signal,
    })
    await clock.run(
      (async () => {
        gate.install(view, { id: 'before', holds: () => true })
        await clock.sleep(10)
        assert.deepEqual(acks, ['before 5'])
        gate.lapse()
        await clock.sleep(10)
        gate.install(view, { id: 'after', holds: () => true })
        await clock.sleep(10)
        assert.deepEqual(acks, ['before 5', 'after 5'])
        stop.abort()
        await running
      })(),
    )
  })
}
