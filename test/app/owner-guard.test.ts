import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ownedConnector } from '../../src/app/owner-guard.ts'
import type { ControlItem } from '../../src/model/target.ts'
import type { Connect } from '../../src/store/session.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const HERE: ControlItem = { systemIdentifier: '7', timeline: 1, epoch: 3 }

/** A PostgreSQL that says who it is, and a target that says whose it is, refuses or hangs. */
function scene() {
  const world = { here: HERE, item: null as ControlItem | null, target: 'answers' as 'answers' | 'refuses' | 'hangs', open: 0 }
  const clock = new VirtualClock()
  const connect = (async () => {
    world.open++
    return {
      query: async () => ({
        rows: [{ system_identifier: world.here.systemIdentifier, timeline: String(world.here.timeline), epoch: String(world.here.epoch) }],
      }),
      end: async () => void world.open--,
    }
  }) as unknown as Connect
  const readControl = async () => {
    if (world.target === 'refuses') throw new Error('refused')
    return world.target === 'hangs' ? new Promise<never>(() => {}) : world.item
  }
  const owned = ownedConnector(connect, { readControl }, clock)
  const connects = async () => {
    const result = owned('test').then(
      () => 'connected',
      (error: { code?: string }) => error.code ?? String(error),
    )
    return clock.run(result)
  }
  return { world, connects }
}

test('row 49: a connection is one with the PostgreSQL that the target belongs to', async () => {
  const { world, connects } = scene()
  world.item = HERE
  assert.equal(await connects(), 'connected')
  world.here = { ...HERE, timeline: 2 }
  assert.equal(await connects(), 'POSTGRES_CHANGED')
  world.here = { ...HERE, epoch: 2 }
  assert.equal(await connects(), 'POSTGRES_CHANGED')
  assert.equal(world.open, 1, 'what was refused is closed')
  world.item = { ...HERE, timeline: 2 }
  world.here = world.item
  assert.equal(await connects(), 'connected', 'adopted')
})

for (const silence of ['refuses', 'hangs'] as const) {
  test(`row 49: with a target that ${silence}, only the PostgreSQL of before is connected to, also where no item was there before`, async () => {
    for (const item of [null, HERE]) {
      const { world, connects } = scene()
      world.target = silence
      assert.equal(await connects(), 'POSTGRES_UNCOMPARED')
      world.target = 'answers'
      world.item = item
      assert.equal(await connects(), 'connected')
      world.target = silence
      world.here = { ...HERE, epoch: 5 }
      assert.equal(await connects(), 'connected', 'the same one: a silent target stops no service of PostgreSQL')
      world.here = { ...HERE, epoch: 6, timeline: 2 }
      assert.equal(await connects(), 'POSTGRES_CHANGED', 'promoted')
      world.here = { ...HERE, epoch: 4 }
      assert.equal(await connects(), 'POSTGRES_CHANGED', 'behind')
      assert.equal(world.open, 2)
    }
  })
}

test('row 49: before the first move a failover concerns no gateway', async () => {
  const { world, connects } = scene()
  assert.equal(await connects(), 'connected')
  world.here = { ...HERE, timeline: 2 }
  assert.equal(await connects(), 'connected')
})
