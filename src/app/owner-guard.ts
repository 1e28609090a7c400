// Promises: a gateway's control session is only ever one with the PostgreSQL that the target belongs to: compared at the start and at each
// reconnect, so that after a failover behind a flip's back the lease runs out and mapped service stops (protocols.md, Durable control).
import type { Clock } from '../lib/clock.ts'
import { inTime, LATE } from '../lib/in-time.ts'
import { mustBelong } from '../model/identity.ts'
import type { ControlItem, Target } from '../model/target.ts'
import { IDENTITY, identityOf } from '../store/identity.ts'
import type { Connect } from '../store/session.ts'

/** The target does not answer: what it said last counts. */
const ITEM_WAIT_MS = 1_000

export function ownedConnector(connect: Connect, target: Pick<Target, 'readControl'>, clock: Clock): Connect {
  let known: ControlItem | null = null
  const itemNow = async (): Promise<ControlItem | null> => {
    const read = await inTime(
      clock,
      ITEM_WAIT_MS,
      target.readControl().catch(() => null),
    )
    if (read !== LATE) known = read ?? known
    return known
  }
  return async (applicationName) => {
    const client = await connect(applicationName)
    try {
      // First the item: what it has seen was committed here before it was written there.
      const item = await itemNow()
      const { rows } = await client.query<Record<string, string>>(IDENTITY)
      mustBelong(item, identityOf(rows[0]!))
      return client
    } catch (error) {
      await client.end().catch(() => undefined)
      throw error
    }
  }
}
