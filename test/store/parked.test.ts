import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readParked } from '../../src/store/parked.ts'
import { controlConnector, openSession } from '../../src/store/session.ts'
import { flipped } from '../guard/flips.ts'
import { controlWorld } from './fixture.ts'

test('each flip has what the gateways told of its epochs: statements added up, times the largest, sent twice as once, unknown left out', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateways = [world.gateway(), world.gateway()]
  const leases = await Promise.all(gateways.map((gateway, i) => gateway.openLease(`g${i}`)))
  const session = await openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'test' })
  const first = await flipped(leader, [1, 2])
  const second = await flipped(leader, [3])
  const cancelled = await leader.cancelFlip(
    await leader.setPhase(await leader.writeIntent({ to: 'target', slots: [4], deadlineMs: 20_000 }), 'parking'),
    'a test',
  )
  const tell = (i: number, epoch: number, statements: number, ms: number) =>
    gateways[i]!.parked({ lease: leases[i]!, flips: [{ epoch, statements, p50Ms: ms, p99Ms: ms + 1, maxMs: ms + 2 }] })
  await tell(0, first.epoch, 3, 10)
  await tell(0, first.epoch, 3, 10)
  await tell(1, first.epoch, 2, 12)
  await tell(0, first.epoch, 4, 20) // more of it is known
  await tell(0, first.epoch, 3, 10) // late
  await tell(0, cancelled.epoch - 1, 1, 500) // gave up while the flip was parking
  await tell(0, cancelled.epoch, 5, 7)
  assert.deepEqual(
    await readParked(session, [first.id, second.id, cancelled.id]),
    new Map([
      [first.id, { gateways: 2, statements: 6, p50Ms: 20, p99Ms: 21, maxMs: 22 }],
      [cancelled.id, { gateways: 1, statements: 6, p50Ms: 500, p99Ms: 501, maxMs: 502 }],
    ]),
  )
  await session.close()
})
