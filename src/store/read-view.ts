// Promises: the whole routing view as PostgreSQL has it now, for commands that look once.
import { SwitchbackError } from '../model/errors.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Session } from './session.ts'
import { mergedView } from './view-rows.ts'

export async function readView(session: Session): Promise<RoutingView> {
  const [row] = await session.query('select v.epoch, v.binding_epoch, v.owned, v.pins from switchback.view_since(-1) v')
  if (row === undefined) throw new SwitchbackError('NOT_INSTALLED')
  return mergedView(row, null)
}
