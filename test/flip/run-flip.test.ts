import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FlipParts, StepEvent } from '../../src/flip/parts.ts'
import type { FlipObservation } from '../../src/flip/precheck.ts'
import { resumeFlips, runFlip } from '../../src/flip/run-flip.ts'
import { describeFlip, STEPS } from '../../src/flip/steps.ts'
import type { WaitingWriter } from '../../src/model/control.ts'
import { hasCode, SwitchbackError } from '../../src/model/errors.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { type FakeWorld, fakeControl, fakeWorld, lease, READY } from './fake-leader-control.ts'

const never = new AbortController().signal

interface Scene {
  readonly clock: VirtualClock
  readonly parts: FlipParts
  readonly events: StepEvent[]
}

function scene(world: FakeWorld, more: Partial<FlipParts> = {}, observed: Partial<FlipObservation> = {}): Scene {
  const clock = new VirtualClock()
  const events: StepEvent[] = []
  const parts: FlipParts = {
    control: fakeControl(world),
    passed: async () => undefined,
    drain: async () => ({ drained: true, entriesApplied: 3, held: [], waitingFor: [] }),
    targetAnswers: async () => true,
    drainHeld: async ({ slots }) => ({ go: slots, stay: [] }),
    verify: async () => ({ rowsCompared: 2, differences: 0, notChecked: 0, firstDifference: null, differing: [] }),
    standbys: { any: () => false, awaitFlushed: async () => [] },
    recordOwner: async () => undefined,
    nextWake: (signal) => clock.sleep(3_600_000, signal),
    observe: async (_to, slots) => ({
      ...READY,
      rows: slots.map((slot) => world.rows.get(slot)!),
      leases: [lease('g', { ackedEpoch: world.epoch })],
      epoch: world.epoch,
      ...observed,
    }),
    onStep: (event) => events.push(event),
    clock,
    limits: { flipDeadlineMs: 1_000, forwardLagMaxMs: 500, lease: { lengthMs: 300, marginMs: 30 }, pollMs: 20, routeDeadlineMs: 5_000 },
    ...more,
  }
  return { clock, parts, events }
}

const owners = (world: FakeWorld) => [...world.rows.values()].map((row) => `${row.owner}/${row.phase}`)

test('a flip to the target runs its steps in order, and only the commit changes owner and tenure', async () => {
  const world = fakeWorld()
  const { clock, parts } = scene(world)
  const { flip, held } = await clock.run(runFlip(parts, 'target', [0, 1], never))
  assert.deepEqual(world.calls, ['intent', 'parking', 'fenced', 'marker', 'commit', 'finish'])
  assert.deepEqual(owners(world).slice(0, 3), ['target/steady', 'target/steady', 'source/steady'])
  assert.deepEqual(
    { state: flip?.state, tenure: world.rows.get(0)!.tenure, untouched: world.rows.get(2)!.epoch, held },
    { state: 'routed', tenure: 4, untouched: 1, held: [] },
  )
  // INV-4: above base 10 + (wal 400 - first 100).
  assert.equal(world.rows.get(0)!.base, 311n)
})

test('a flip to the source needs no fence in PostgreSQL, and its base lies above every version applied (INV-4)', async () => {
  const world = fakeWorld('target')
  const { clock, parts } = scene(world)
  await clock.run(runFlip(parts, 'source', [3], never))
  assert.deepEqual(world.calls, ['intent', 'parking', 'commit', 'finish'])
  assert.equal(world.rows.get(3)!.base, 18n)
})

test('the dry run prints exactly the steps that run (one list)', async () => {
  for (const to of ['target', 'source'] as const) {
    const world = fakeWorld(to === 'target' ? 'source' : 'target')
    const { clock, parts, events } = scene(world)
    await clock.run(runFlip(parts, to, [0], never))
    const ran = events
      .filter((event) => event.phase === 'end')
      .map((event) => event.step)
      .slice(2)
    assert.deepEqual(
      ran,
      STEPS[to].map((step) => step.name),
    )
    assert.deepEqual(
      describeFlip([0], to)
        .slice(0, -1)
        .map((line) => line.split(/[ :]+/)[1]),
      ran,
    )
  }
})

test('a flip waits for a silent lease until it is over, and not longer than its deadline (INV-8)', async () => {
  const world = fakeWorld()
  world.leases = [lease('dead')]
  const { clock, parts } = scene(world)
  const startMs = clock.nowMs()
  await clock.run(runFlip(parts, 'target', [0], never))
  assert.equal(world.leases[0]!.over, true)
  assert.ok(clock.nowMs() - startMs >= 330, "the lease and its margin have passed by the leader's own clock")
})

test('a lease that goes on renewing without an ack cancels the flip at its deadline; the old owner serves in its old tenure (INV-7, faults.md 27)', async () => {
  const world = fakeWorld()
  world.leases = [lease('stuck')]
  const { clock, parts } = scene(world, {
    nextWake: async (signal) => {
      world.leases = world.leases.map((row) => ({ ...row, renewals: row.renewals + 1 }))
      await clock.sleep(50, signal)
    },
  })
  await assert.rejects(
    clock.run(runFlip(parts, 'target', [0], never)),
    (error: unknown) => hasCode(error, 'FLIP_CANCELLED') && /stuck/.test(String(error.details['waitingFor'])),
  )
  assert.deepEqual(
    { row: world.rows.get(0), state: world.flips[0]!.state },
    {
      row: { slot: 0, owner: 'source', phase: 'steady', readOnly: false, epoch: 3, tenure: 1, base: 10n },
      state: 'cancelled',
    },
  )
})

test('a writer from before the fence cancels the flip at its deadline, by pid, age and query (faults.md 47)', async () => {
  const world = fakeWorld()
  const writer: WaitingWriter = {
    pid: 42,
    backendStart: '',
    virtualTransaction: '1/1',
    ageMs: 9_000,
    query: 'update accounts set note = 1',
    user: 'batch',
    gid: null,
  }
  world.writers = [writer]
  const { clock, parts } = scene(world)
  await assert.rejects(
    clock.run(runFlip(parts, 'target', [0], never)),
    (error: unknown) =>
      hasCode(error, 'FLIP_CANCELLED') && /pid 42 \(batch\), 9000 ms in: update accounts/.test(String(error.details['waitingFor'])),
  )
  assert.deepEqual(owners(world)[0], 'source/steady')
})

test('differences found on the way cancel the flip', async () => {
  const world = fakeWorld()
  const { clock, parts } = scene(world, {
    verify: async () => ({ rowsCompared: 5, differences: 1, notChecked: 0, firstDifference: 'accounts 7 balance', differing: [1] }),
  })
  await assert.rejects(
    clock.run(runFlip(parts, 'target', [0], never)),
    (error: unknown) => hasCode(error, 'FLIP_CANCELLED') && /accounts 7 balance/.test(error.message),
  )
  assert.equal(world.calls.includes('commit'), false)
})

test('a drain that ended before its end, as with the reverse sync, never lets a flip commit (INV-2)', async () => {
  const world = fakeWorld('target')
  const waitingFor = ['the reverse sync is not running']
  const { clock, parts } = scene(world, { drain: async () => ({ drained: false, entriesApplied: 3, held: [], waitingFor }) })
  await assert.rejects(
    clock.run(runFlip(parts, 'source', [0], never)),
    (error: unknown) => hasCode(error, 'FLIP_CANCELLED') && /the reverse sync is not running/.test(error.message),
  )
  assert.deepEqual([world.calls.includes('commit'), owners(world)[0]], [false, 'target/steady'])
})

test('a failed precheck changes nothing and says each reason as a sentence (INV-10)', async () => {
  const world = fakeWorld()
  const { clock, parts } = scene(world, {}, { forwardLagMs: undefined, wayBackProven: false })
  await assert.rejects(
    clock.run(runFlip(parts, 'target', [0], never)),
    (error: unknown) => hasCode(error, 'FLIP_NOT_READY') && (error.details['checks'] as string[]).length === 2,
  )
  assert.deepEqual(world.calls, [])
})

test('a commit whose reply was lost is completed, not cancelled (INV-7)', async () => {
  const world = fakeWorld()
  const control = fakeControl(world)
  const { clock, parts } = scene(world, {
    control: {
      ...control,
      commitFlip: async (flip, bases) => {
        await control.commitFlip(flip, bases)
        throw new Error('connection reset')
      },
    },
  })
  const { flip } = await clock.run(runFlip(parts, 'target', [0], never))
  assert.deepEqual(
    { state: flip?.state, owner: world.rows.get(0)!.owner, cancelled: world.calls.includes('cancel') },
    { state: 'routed', owner: 'target', cancelled: false },
  )
})

test("a leader that lost its token stops where it is: the journal is the next one's (INV-7, faults.md 5)", async () => {
  const world = fakeWorld()
  const { clock, parts } = scene(world, {
    passed: async () => {
      world.stale = true
    },
  })
  await assert.rejects(clock.run(runFlip(parts, 'target', [0], never)), { code: 'TOKEN_STALE' })
  assert.deepEqual(owners(world)[0], 'source/fenced')
})

test('the next leader cancels what had not committed and completes what had (faults.md 4)', async () => {
  const world = fakeWorld()
  const control = fakeControl(world)
  const early = await control.setPhase(await control.writeIntent({ to: 'target', slots: [0], deadlineMs: 1 }), 'parking')
  const late = await control.commitFlip(await control.writeIntent({ to: 'target', slots: [1], deadlineMs: 1 }), {
    newBase: 900n,
    held: false,
  })
  const { clock, parts } = scene(world)
  const resumed = await clock.run(resumeFlips(parts, never))
  assert.deepEqual(
    resumed.map((flip) => [flip.id, flip.state]),
    [
      [early.id, 'cancelled'],
      [late.id, 'routed'],
    ],
  )
  assert.deepEqual(owners(world).slice(0, 2), ['source/steady', 'target/steady'])
})

test('with a standby that may be promoted a commit is held: slots are steady only once it is there, and each fence counts only there (68)', async () => {
  const world = fakeWorld()
  const asked: string[] = []
  const { clock, parts } = scene(world, {
    standbys: {
      any: () => true,
      async awaitFlushed() {
        asked.push(`standbys at ${owners(world)[0]}`)
        return []
      },
    },
    async recordOwner() {
      asked.push(`item at ${owners(world)[0]}`)
    },
  })
  const { flip } = await clock.run(runFlip(parts, 'target', [0], never))
  assert.deepEqual(asked, ['standbys at source/fenced', 'standbys at target/fenced', 'item at target/fenced'])
  assert.deepEqual([owners(world)[0], world.rows.get(0)!.tenure, flip?.state], ['target/steady', 4, 'routed'])
})

test('a standby that lacks the fence at the deadline cancels; one that lacks the commit when the leader ends leaves it held, for the next (68, INV-7)', async () => {
  const world = fakeWorld()
  const ended = new AbortController()
  let lacks: 'fence' | 'commit' = 'fence'
  const { clock, parts } = scene(world, {
    standbys: {
      any: () => true,
      async awaitFlushed(signal) {
        const committed = world.rows.get(0)!.owner === 'target'
        if (committed) ended.abort()
        else if (lacks === 'fence') await clock.sleep(3_600_000, signal)
        return committed || lacks === 'fence' ? ['second'] : []
      },
    },
  })
  await assert.rejects(
    clock.run(runFlip(parts, 'target', [0], never)),
    (error: unknown) => hasCode(error, 'FLIP_CANCELLED') && /standby second/.test(String(error.details['waitingFor'])),
  )
  lacks = 'commit'
  await assert.rejects(clock.run(runFlip(parts, 'target', [0], ended.signal)), { code: 'FLIP_UNROUTED' })
  assert.equal(owners(world)[0], 'target/fenced')
  const next = scene(world)
  const [resumed] = await next.clock.run(resumeFlips(next.parts, never))
  assert.deepEqual([resumed!.state, owners(world)[0]], ['routed', 'target/steady'])
})

// ---- the target answers nothing (protocols.md, The flip)

const SILENT: Partial<FlipParts> = {
  targetAnswers: async () => false,
  drain: () => Promise.reject(new Error('it asks the target')),
  verify: () => Promise.reject(new Error('it asks the target')),
}

test('with the target silent, slots whose entries the gateways hold go back in debt, the others stay parked by name (26, 60)', async () => {
  const world = fakeWorld('target')
  const stay = [{ slot: 1, because: 'key 8: whether version 3 was committed is not known yet' }]
  const told: boolean[] = []
  const recordOwner: FlipParts['recordOwner'] = async (_, { targetSilent }) => void told.push(targetSilent)
  const { clock, parts } = scene(world, { ...SILENT, drainHeld: async () => ({ go: [0, 2], stay }), recordOwner })
  const { flip, steps, waiting } = await clock.run(runFlip(parts, 'source', [0, 1, 2], never))
  assert.deepEqual(world.calls, ['intent', 'parking', 'split', 'commit', 'finish'])
  assert.deepEqual(owners(world).slice(0, 4), ['source/steady', 'target/parking', 'source/steady', 'target/steady'])
  assert.deepEqual(
    { went: flip?.slots, debts: world.debts, parked: waiting?.flip.slots, stay: waiting?.stay },
    { went: [0, 2], debts: [0, 2], parked: [1], stay },
  )
  assert.match(steps.find(({ step }) => step === 'verify')!.detail, /skipped and owed/)
  assert.deepEqual(told, [true], 'nothing more is asked of it')
})

test('with the target silent and nothing whole, everything stays parked and no debt is made', async () => {
  const world = fakeWorld('target')
  const stay = [{ slot: 0, because: 'gateway g has not acked' }]
  const { clock, parts } = scene(world, { ...SILENT, drainHeld: async () => ({ go: [], stay }) })
  const { flip, waiting } = await clock.run(runFlip(parts, 'source', [0], never))
  assert.deepEqual(world.calls, ['intent', 'parking'])
  assert.deepEqual([flip, waiting?.flip.slots, owners(world)[0], world.debts], [null, [0], 'target/parking', []])
})

test('a gateway that a silent target keeps from acking gives its word, and that is enough for what the drain weighs; without silence it is not', async () => {
  const partial = { epoch: 3, busy: new Set([7]), nextSequences: new Map(), undecided: new Map() }
  for (const answers of [false, true]) {
    const world = fakeWorld('target')
    world.leases = [lease('stuck', { partial })]
    const seen: unknown[] = []
    const { clock, parts } = scene(world, {
      ...SILENT,
      targetAnswers: async () => answers,
      drainHeld: async ({ slots, epoch, leases }) => {
        seen.push(epoch, leases)
        return { go: slots, stay: [] }
      },
      nextWake: async (signal) => {
        world.leases = world.leases.map((row) => ({ ...row, renewals: row.renewals + 1 }))
        await clock.sleep(50, signal)
      },
    })
    const flipping = clock.run(runFlip(parts, 'source', [0], never))
    if (answers) await assert.rejects(flipping, { code: 'FLIP_CANCELLED' })
    else assert.equal((await flipping).flip?.state, 'routed')
    assert.equal(seen.length > 0, !answers)
  }
})

test('INV-2: a target that answers and refuses the comparison keeps no key from going home, which is a debt; to it, it cancels (30)', async () => {
  const verify = () => Promise.reject(new SwitchbackError('TARGET_REFUSED', { operation: 'BatchGetItem', reason: 'not authorized' }))
  const world = fakeWorld('target')
  const { clock, parts } = scene(world, { verify })
  const { flip, steps } = await clock.run(runFlip(parts, 'source', [0, 1], never))
  assert.deepEqual([flip?.state, owners(world)[0], world.debts], ['routed', 'source/steady', [0, 1]])
  assert.match(steps.find(({ step }) => step === 'verify')!.detail, /owed: .*not authorized/)
  const outward = fakeWorld('source')
  const there = scene(outward, { verify })
  await assert.rejects(there.clock.run(runFlip(there.parts, 'target', [0], never)), { code: 'FLIP_CANCELLED' })
  assert.deepEqual([owners(outward)[0], outward.debts], ['source/steady', []])
})

test('a comparison that fails for another reason than the target cancels the flip home as ever', async () => {
  const world = fakeWorld('target')
  const { clock, parts } = scene(world, { verify: () => Promise.reject(new Error('PostgreSQL is gone')) })
  await assert.rejects(clock.run(runFlip(parts, 'source', [0], never)), { code: 'FLIP_CANCELLED' })
  assert.deepEqual([owners(world)[0], world.debts], ['target/steady', []])
})
