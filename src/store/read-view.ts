// Promises: the whole routing view as PostgreSQL has it now, for commands that look once.
import { SwitchbackError } from '../model/errors.ts'
import type { Epoch } from '../model/ids.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Session } from './session.ts'
import { mergedView } from './view-rows.ts'

export async function readView(session: Session): Promise<RoutingView> {
  const [row] = await session.query('select v.epoch, v.binding_epoch, v.owned, v.pins from switchback.view_since(-1) v')
  if (row === undefined) throw new SwitchbackError('NOT_INSTALLED')
  return mergedView(row, null)
}

/** The epoch counter alone: whether a view is still the newest. */
export async function readEpoch(session: Session): Promise<Epoch> {
  const [row] = await session.query('select epoch from switchback.state')
  return Number(row!['epoch'])
}
