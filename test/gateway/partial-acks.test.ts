import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FenceGate } from '../../src/gateway/fence-gate.ts'
import { runPartialAcks } from '../../src/gateway/partial-acks.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { PartialAck } from '../../src/model/control.ts'
import { type Ownership, type Phase, RoutingView } from '../../src/model/ownership.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function world() {
  const clock = new VirtualClock()
  const gate = new FenceGate({
    clock,
    limits: { parkedStatementsMax: 2, parkDeadlineMs: 1_000, queueBytesMax: 100 },
    unroutableReads: 'refuse',
  })
  const row = (slot: number, phase: Phase, epoch: number): Ownership => {
    return { slot, owner: 'target', phase, readOnly: false, epoch, tenure: 1, base: 0n }
  }
  let view = new RoutingView({ epoch: 1, bindingEpoch: 1, rows: [1, 2, 3].map((slot) => row(slot, 'steady', 1)), pins: [] })
  const lease = { id: 'l', holds: () => true }
  gate.install(view, lease)
  gate.seal(1)
  const words: PartialAck[] = []
  const stop = new AbortController()
  let failing = 0
  const running = runPartialAcks({
    gate,
    control: {
      async ackPartly(_lease, partial) {
        if (failing-- > 0) throw new Error('PostgreSQL is away')
        words.push(partial)
      },
    },
    executor: { nextSequences: () => new Map([[0, 4]]), undecided: () => new Map([[0, new Map([[3, 1]])]]) },
    clock,
    random: seededRandom(1),
    failed: () => undefined,
    signal: stop.signal,
  })
  return {
    clock,
    gate,
    words,
    fail: (times: number) => {
      failing = times
    },
    park(slots: readonly number[]) {
      const epoch = view.epoch + 1
      view = view.with({ epoch, bindingEpoch: 1, rows: slots.map((slot) => row(slot, 'parking', epoch)), pins: [] })
      gate.install(view, lease)
    },
    async end() {
      stop.abort()
      await running
    },
  }
}

test('a gateway whose work on one slot does not end says which, once, with the entries that it knows nothing of (60)', async () => {
  const { clock, gate, words, park, end } = world()
  await clock.run(
    (async () => {
      gate.flights.enter(1)
      park([1, 2])
      await clock.sleep(150)
      assert.deepEqual(words, [], 'an ack may still say it all')
      await clock.sleep(100)
      const word = { epoch: 2, busy: new Set([1]), nextSequences: new Map([[0, 4]]), undecided: new Map([[0, new Map([[3, 1]])]]) }
      assert.deepEqual(words, [word])
      await clock.sleep(5_000)
      assert.equal(words.length, 1)
      // What is stuck stays so: the word for the next epoch comes at once, since the flip of other slots waits for it.
      park([3])
      await clock.sleep(10)
      assert.deepEqual(words.slice(1), [{ ...word, epoch: 3 }])
      await end()
    })(),
  )
})

test('work that ends in time is acked, and nothing is said before; a word that did not arrive is sent again', async () => {
  const { clock, gate, words, park, fail, end } = world()
  await clock.run(
    (async () => {
      gate.flights.enter(1)
      park([1, 2])
      await clock.sleep(100)
      gate.flights.leave(1)
      await clock.sleep(2_000)
      assert.deepEqual(words, [])
      gate.seal(2)
      fail(2)
      gate.flights.enter(3)
      park([3])
      await clock.sleep(5_000)
      assert.deepEqual(
        words.map(({ epoch, busy }) => [epoch, [...busy]]),
        [[3, [3]]],
      )
      await end()
    })(),
  )
})
