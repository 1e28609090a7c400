import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FenceGate } from '../../src/gateway/fence-gate.ts'
import { runParkReports } from '../../src/gateway/park-reports.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { ParkedTimes } from '../../src/model/control.ts'
import type { Owner } from '../../src/model/ids.ts'
import { type Phase, RoutingView } from '../../src/model/ownership.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const LIMITS = { parkedStatementsMax: 10, parkDeadlineMs: 1_000, queueBytesMax: 1_000 }
const NEVER = new AbortController().signal

function world() {
  const clock = new VirtualClock()
  const metrics: number[] = []
  const gate = new FenceGate({ clock, limits: LIMITS, unroutableReads: 'refuse', onParked: (ms) => metrics.push(ms) })
  const lease = { id: 'lease-1', holds: () => true }
  const row = (slot: number, owner: Owner, phase: Phase, epoch: number) => ({
    slot,
    owner,
    phase,
    readOnly: false,
    epoch,
    tenure: 1,
    base: 0n,
  })
  let view = new RoutingView({ epoch: 1, bindingEpoch: 1, rows: [1, 2, 3].map((slot) => row(slot, 'source', 'steady', 1)), pins: [] })
  gate.install(view, lease)
  const told: { readonly flips: readonly ParkedTimes[] }[] = []
  let refused = 0
  const stop = new AbortController()
  const control = {
    async parked(report: { readonly flips: readonly ParkedTimes[] }) {
      if (refused-- > 0) throw new Error('no answer')
      told.push(report)
    },
  }
  const ended = runParkReports({ gate, control, clock, random: seededRandom(1), failed: () => undefined, signal: stop.signal })
  return {
    clock,
    gate,
    /** What was told so far, one list a report. */
    told: () => told.map(({ flips }) => flips),
    metrics,
    refuse: (times: number) => {
      refused = times
    },
    change(slots: readonly number[], owner: Owner, phase: Phase): number {
      const epoch = view.epoch + 1
      view = view.with({ epoch, bindingEpoch: 1, rows: slots.map((slot) => row(slot, owner, phase, epoch)), pins: [] })
      gate.install(view, lease)
      return epoch
    },
    wait: (touch: number | 'all') => gate.admit({ touch, writes: true }, 1, NEVER),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await clock.advance(0)
      await ended
    },
  }
}

test('what a flip held back is told under its epoch after it, what gave up included, and a flip that held nothing back is told as such', async () => {
  await using w = world()
  w.change([1, 2], 'source', 'parking')
  const first = w.wait(1)
  await w.clock.advance(10)
  const rest = [w.wait(2), w.wait(1), w.wait('all')]
  await w.clock.advance(20)
  w.change([1, 2], 'source', 'fenced')
  await w.clock.advance(10)
  assert.deepEqual(w.told(), [])
  const epoch = w.change([1, 2], 'target', 'steady')
  await Promise.all([first, ...rest])
  await w.clock.advance(1_000)
  const [[{ p50Ms, ...times }]] = w.told() as [[ParkedTimes]]
  assert.deepEqual(times, { epoch, statements: 4, p99Ms: 40, maxMs: 40 })
  assert.ok(Math.abs(p50Ms - 30) < 0.3, `${p50Ms} ms`)
  assert.deepEqual(w.metrics.toSorted(), [30, 30, 30, 40])
  w.change([3], 'source', 'parking')
  const empty = w.change([3], 'target', 'steady')
  await w.clock.advance(1_000)
  assert.deepEqual(w.told().slice(1), [[{ epoch: empty, statements: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 }]])
})

test('a statement that gives up waiting is told under the epoch that held it', async () => {
  await using w = world()
  const parking = w.change([1], 'source', 'parking')
  const decision = await w.clock.run(w.wait(1))
  assert.equal(decision.kind === 'refuse' && decision.error.code, 'PARK_DEADLINE')
  const epoch = w.change([1], 'source', 'steady')
  await w.clock.advance(1_000)
  assert.deepEqual(
    w.told().flatMap((flips) => flips.map(({ epoch, statements, maxMs }) => [epoch, statements, maxMs])),
    [
      [parking, 1, 1_000],
      [epoch, 0, 0],
    ],
  )
})

test('nothing is told while a flip is under way; two flips seen as one view are told apart', async () => {
  await using w = world()
  w.change([1], 'source', 'parking')
  const one = w.wait(1)
  await w.clock.advance(5)
  const first = w.change([1], 'target', 'steady')
  w.change([2], 'source', 'parking')
  await one
  const two = w.wait(2)
  await w.clock.advance(500)
  assert.deepEqual(w.told(), [])
  const second = w.change([2], 'target', 'steady')
  await two
  await w.clock.advance(500)
  assert.deepEqual(
    w.told().flatMap((flips) => flips.map(({ epoch, statements, maxMs }) => [epoch, statements, maxMs])),
    [
      [first, 1, 5],
      [second, 1, 500],
    ],
  )
})

test('a report without an answer is sent again, whole', async () => {
  await using w = world()
  w.refuse(3)
  w.change([1], 'source', 'parking')
  const one = w.wait(1)
  await w.clock.advance(7)
  const epoch = w.change([1], 'target', 'steady')
  await one
  await w.clock.advance(20_000)
  assert.deepEqual(w.told(), [[{ epoch, statements: 1, p50Ms: 7, p99Ms: 7, maxMs: 7 }]])
})
