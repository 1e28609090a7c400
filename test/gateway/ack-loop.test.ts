import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runAckLoop } from '../../src/gateway/ack-loop.ts'
import { FenceGate } from '../../src/gateway/fence-gate.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { RoutingView } from '../../src/model/ownership.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

test('a lease that follows a lapse is acked, though nobody has changed an owner meanwhile: an order may wait for it (6)', async () => {
  const clock = new VirtualClock()
  const gate = new FenceGate({
    clock,
    limits: { parkedStatementsMax: 2, parkDeadlineMs: 1_000, queueBytesMax: 100 },
    unroutableReads: 'refuse',
  })
  const acked: string[] = []
  const stop = new AbortController()
  const running = runAckLoop({
    gate,
    control: { ack: async ({ lease, epoch }: { lease: string; epoch: number }) => void acked.push(`${lease} ${epoch}`) } as never,
    executor: { nextSequences: () => new Map() },
    excuses: async () => [],
    clock,
    random: seededRandom(1),
    failed: () => undefined,
    signal: stop.signal,
  })
  const view = new RoutingView({ epoch: 5, bindingEpoch: 1, rows: [], pins: [] })
  const lease = (id: string) => {
    const state = { id, over: false, holds: () => !state.over }
    return state
  }
  const [first, second] = [lease('first'), lease('second')]
  await clock.run(
    (async () => {
      gate.install(view, first)
      await clock.sleep(10)
      first.over = true
      gate.lapse()
      await clock.sleep(10)
      gate.install(view, second)
      await clock.sleep(10)
      // Renewed, and nothing is new.
      gate.install(view, second)
      await clock.sleep(10)
      stop.abort()
      await running
    })(),
  )
  assert.deepEqual(acked, ['first 5', 'second 5'])
})
