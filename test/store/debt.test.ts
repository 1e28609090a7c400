import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flipped } from '../guard/flips.ts'
import { controlWorld } from './fixture.ts'

test('with the target silent some slots of a parked flip go, in debt from the transaction that commits, and the others stay parked (60)', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  await flipped(leader, [1, 2, 3])
  const parked = await leader.setPhase(await leader.writeIntent({ to: 'source', slots: [1, 2, 3], deadlineMs: 20_000 }), 'parking')
  const split = await leader.splitFlip(parked, [1, 3])
  // A reply that was lost: the same again.
  assert.deepEqual(await leader.splitFlip(parked, [1, 3]), split)
  assert.deepEqual([split.go.id, split.go.slots, split.rest.slots, split.rest.state], [parked.id, [1, 3], [2], 'parking'])
  const newBase = (await leader.view()).ownership(1)!.base + 1n
  const committed = await leader.commitInDebt(split.go, { newBase, held: false })
  assert.equal((await leader.commitInDebt(split.go, { newBase, held: false })).epoch, committed.epoch)
  const debts = await leader.debts()
  assert.deepEqual(debts, [
    { slot: 1, flip: parked.id, tenure: committed.epoch },
    { slot: 3, flip: parked.id, tenure: committed.epoch },
  ])
  const view = await leader.view()
  assert.deepEqual(
    [1, 2, 3].map((slot) => `${view.ownership(slot)!.owner}/${view.ownership(slot)!.phase}`),
    ['source/steady', 'target/parking', 'source/steady'],
  )
  await leader.cancelFlip(split.rest, 'held')
  assert.equal((await leader.view()).ownership(2)!.phase, 'steady')
  // Only what was looked at is paid.
  await leader.settleDebts([debts[0]!, { ...debts[1]!, tenure: committed.epoch - 1 }])
  assert.deepEqual(await leader.debts(), [debts[1]])
})

test('a split that leaves nothing, or names slots of another flip, changes nothing', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  await flipped(leader, [1, 2])
  const parked = await leader.setPhase(await leader.writeIntent({ to: 'source', slots: [1, 2], deadlineMs: 20_000 }), 'parking')
  for (const go of [[], [1, 2], [1, 9]]) await assert.rejects(leader.splitFlip(parked, go), { code: 'FLIP_STATE' }, String(go))
  assert.deepEqual(
    (await leader.openFlips()).map((flip) => flip.slots),
    [[1, 2]],
  )
})

test('what a gateway says before it can ack is read as it was said; an older word that comes late changes nothing, and none is an ack', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const partial = { epoch: 9, busy: new Set([7]), nextSequences: new Map([[3, 5]]), undecided: new Map([[3, new Map([[4, 7]])]]) }
  await gateway.ackPartly(lease, partial)
  await gateway.ackPartly(lease, { ...partial, epoch: 8, busy: new Set() })
  const [row] = await leader.leases()
  assert.deepEqual([row!.partial, row!.ackedEpoch, [...row!.nextSequences]], [partial, 0, []])
})
