// Promises: the acts of a flip one by one, for tests of the guard and of the control schema.
import type { FlipRecord } from '../../src/model/control.ts'
import type { Owner, SlotId } from '../../src/model/ids.ts'
import type { PostgresLeaderControl } from '../../src/store/leader-control.ts'

const DEADLINE_MS = 20_000

export async function fenced(leader: PostgresLeaderControl, slots: readonly SlotId[], to: Owner = 'target'): Promise<FlipRecord> {
  const intent = await leader.writeIntent({ to, slots, deadlineMs: DEADLINE_MS })
  return leader.setPhase(await leader.setPhase(intent, 'parking'), 'fenced')
}

/** A whole flip, without gateways. */
export async function flipped(leader: PostgresLeaderControl, slots: readonly SlotId[], to: Owner = 'target'): Promise<FlipRecord> {
  const flip = await fenced(leader, slots, to)
  if (to === 'target') await leader.writeMarker(flip)
  const view = await leader.view()
  const bases = slots.map((slot) => view.ownership(slot)!.base).sort((a, b) => (a < b ? 1 : -1))
  const newBase = bases[0]! + 1n
  return leader.finishFlip(await leader.commitFlip(flip, { newBase, held: false }), [])
}
