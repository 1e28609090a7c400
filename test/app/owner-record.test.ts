import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ITEM_OWED, ITEM_PAID, openOwnerRecord } from '../../src/app/owner-record.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { FlipRecord } from '../../src/model/control.ts'
import type { ControlItem } from '../../src/model/target.ts'
import { MemoryTarget } from '../../src/targets/memory/memory-target.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const HERE: ControlItem = { systemIdentifier: '7', timeline: 1, epoch: 3 }
const NEVER = new AbortController().signal
const ASKED = { targetSilent: false }
const LOG = { warn: () => undefined }

interface Scene {
  here: ControlItem
  silent: boolean
  readonly target: MemoryTarget
  readonly journal: string[]
  readonly clock: VirtualClock
}

function scene(): Scene {
  return { here: HERE, silent: false, target: new MemoryTarget(), journal: [], clock: new VirtualClock() }
}

/** A lead of its own. */
function lead(world: Scene) {
  const asked = <T>(work: () => Promise<T>) => (world.silent ? new Promise<T>(() => {}) : work())
  return openOwnerRecord({
    session: {
      async query(text: string) {
        if (text.includes('j.kind')) return world.journal.length === 0 ? [] : [{ kind: world.journal.at(-1)! }]
        const { systemIdentifier, timeline, epoch } = world.here
        return [{ system_identifier: systemIdentifier, timeline: String(timeline), epoch: String(epoch) }]
      },
      pid: () => null,
      close: async () => undefined,
    },
    control: { journal: async (kind: string) => void world.journal.push(kind) },
    target: {
      readControl: () => asked(() => world.target.readControl()),
      writeControl: (expected: ControlItem | null, next: ControlItem) => asked(() => world.target.writeControl(expected, next)),
    },
    clock: world.clock,
    random: seededRandom(1),
    log: LOG,
  } as unknown as Parameters<typeof openOwnerRecord>[0])
}

const flip = (epoch: number, to: FlipRecord['to']) => ({ id: `f${epoch}`, to, epoch }) as FlipRecord

test('before the first move nobody owns the target: a failover then concerns no lead; the first move writes whose it is', async () => {
  const world = scene()
  await lead(world).check()
  assert.equal(await world.target.readControl(), null)
  world.here = { ...HERE, timeline: 2 }
  const second = lead(world)
  await second.check()
  assert.deepEqual(await second.payDebt(), [])
  assert.deepEqual([await world.target.readControl(), world.journal], [world.here, [ITEM_PAID]])
})

test('another timeline, another system, or an epoch below what the target has seen ends a lead before it begins (15, 49)', async () => {
  const world = scene()
  await world.target.writeControl(null, HERE)
  for (const here of [
    { ...HERE, timeline: 2 },
    { ...HERE, systemIdentifier: '8' },
    { ...HERE, epoch: 2 },
  ]) {
    world.here = here
    await assert.rejects(lead(world).check(), { code: 'POSTGRES_CHANGED' })
  }
  world.here = { ...HERE, epoch: 9 }
  await lead(world).check()
})

test('each flip takes the item forward; one that the target does not take in time is owed, and paid before the next move to it', async () => {
  const world = scene()
  await world.target.writeControl(null, HERE)
  const record = lead(world)
  await record.check()
  await record.write(flip(5, 'target'), ASKED, NEVER)
  assert.equal((await world.target.readControl())!.epoch, 5)
  world.silent = true
  await world.clock.run(record.write(flip(6, 'source'), ASKED, NEVER))
  assert.deepEqual(world.journal, [ITEM_OWED])
  world.here = { ...HERE, epoch: 6 }
  // Also by the next lead, and while the target is silent.
  const next = lead(world)
  await world.clock.run(next.check())
  assert.equal((await world.clock.run(next.payDebt())).length, 1)
  world.silent = false
  assert.deepEqual(await world.clock.run(next.payDebt()), [])
  assert.deepEqual([(await world.target.readControl())!.epoch, world.journal.at(-1)], [6, ITEM_PAID])
})

test('a target that is known to be silent is not asked: the item is owed at once (60)', async () => {
  const world = scene()
  await world.target.writeControl(null, HERE)
  const record = lead(world)
  await record.check()
  world.silent = true
  await record.write(flip(6, 'source'), { targetSilent: true }, NEVER) // no clock runs
  assert.deepEqual(world.journal, [ITEM_OWED])
  world.silent = false
  world.here = { ...HERE, epoch: 6 }
  assert.deepEqual(await record.payDebt(), [])
  assert.equal((await world.target.readControl())!.epoch, 6)
})

test('a lead that began while the target was silent compares before the next move to it', async () => {
  const world = scene()
  await world.target.writeControl(null, { ...HERE, timeline: 2 })
  world.silent = true
  const record = lead(world)
  await world.clock.run(record.check())
  world.silent = false
  await assert.rejects(world.clock.run(record.payDebt()), { code: 'POSTGRES_CHANGED' })
})
