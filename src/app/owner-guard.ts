// Promises: a gateway's control session is only ever one with the PostgreSQL that the target belongs to: compared at the start and at each
// reconnect, so that after a failover behind a flip's back the lease runs out and mapped service stops (protocols.md, Durable control).
import type { Clock } from '../lib/clock.ts'
import { inTime, LATE } from '../lib/in-time.ts'
import { SwitchbackError } from '../model/errors.ts'
import { mustBelong } from '../model/identity.ts'
import type { ControlItem, Target } from '../model/target.ts'
import { IDENTITY, identityOf } from '../store/identity.ts'
import type { Connect } from '../store/session.ts'

const ITEM_WAIT_MS = 1_000

/**
 * The connector throws POSTGRES_CHANGED. With the target silent, what it said last counts, and a PostgreSQL that is not as the last one
 * was (after a promotion) is refused until the target says that it may; POSTGRES_UNCOMPARED before it has said anything at all.
 */
export function ownedConnector(connect: Connect, target: Pick<Target, 'readControl'>, clock: Clock): Connect {
  let said: { readonly item: ControlItem | null } | null = null
  let last: ControlItem | null = null
  return async (applicationName) => {
    const client = await connect(applicationName)
    try {
      // First the item: what it has seen was committed here before it was written there.
      const answer = await inTime(clock, ITEM_WAIT_MS, askItem(target))
      const { rows } = await client.query<Record<string, string>>(IDENTITY)
      const here = identityOf(rows[0]!)
      if (answer === LATE || answer === null) mustBelong(last, here)
      else said = answer
      if (said === null) throw new SwitchbackError('POSTGRES_UNCOMPARED')
      mustBelong(said.item, here)
      last = here
      return client
    } catch (error) {
      await client.end().catch(() => undefined)
      throw error
    }
  }
}

/** Null: no answer, which is not the answer that there is no item. */
async function askItem(target: Pick<Target, 'readControl'>): Promise<{ readonly item: ControlItem | null } | null> {
  try {
    return { item: await target.readControl() }
  } catch {
    return null
  }
}
