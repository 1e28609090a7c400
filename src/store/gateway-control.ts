// Promises: a gateway's side of the control schema over PostgreSQL. Gateways renew here themselves, so that a dead controller stops
// no service (protocols.md, Leases). Each call is one round trip and may be sent again.
import type { FenceAck, GatewayControl, Renewal } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { LeaseId } from '../model/ids.ts'
import type { RoutingView } from '../model/ownership.ts'
import { WAKE_CHANNEL } from './schema-functions.ts'
import { type Connect, openSession, type Session, type SessionOptions, type TextRow } from './session.ts'
import { mergedView, partialText } from './view-rows.ts'

export interface PostgresGatewayControl extends GatewayControl {
  /** finalize has begun: PostgreSQL is not written back to any more, so no outbox entry is sent. For good once true. */
  ending(): boolean
  close(): Promise<void>
}

export const GATEWAY_APPLICATION = 'switchback gateway'

/** Connects at the first call, and again by itself after a loss. */
export function createGatewayControl(
  options: Pick<SessionOptions, 'connect' | 'clock' | 'random'> & { readonly connect: Connect },
): PostgresGatewayControl {
  const listeners = new Set<() => void>()
  const wake = () => {
    for (const call of listeners) call()
  }
  let opening: Promise<Session> | null = null
  let ending = false
  const session = () => {
    opening ??= openSession({ ...options, applicationName: GATEWAY_APPLICATION, listen: [WAKE_CHANNEL], onWake: wake }).catch(
      (error: unknown) => {
        opening = null // the next call tries again
        throw error
      },
    )
    return opening
  }
  return {
    async openLease(gateway) {
      const [row] = await (await session()).query('select switchback.open_lease($1) as lease', [gateway])
      return row!.lease!
    },
    async renew(lease, seen) {
      return renewal(await session(), lease, seen, () => {
        ending = true
      })
    },
    async look(seen) {
      const [row] = await (await session()).query(
        'select v.epoch, v.binding_epoch, v.owned, v.pins, v.ending from switchback.view_since($1) v',
        [seen.epoch],
      )
      return viewOf(row!, seen, () => {
        ending = true
      })
    },
    ending: () => ending,
    async ackPartly(lease, partial) {
      await (await session()).query('select switchback.ack_partly($1, $2)', [lease, partialText(partial)])
    },
    async ack(ack) {
      await (await session()).query('select switchback.ack($1, $2, $3, $4)', ackValues(ack))
    },
    async parked({ lease, flips }) {
      await (await session()).query('select switchback.report_parked($1, $2)', [lease, JSON.stringify(flips)])
    },
    async release(lease) {
      await (await session()).query('select switchback.release_lease($1)', [lease])
    },
    onWake(call) {
      listeners.add(call)
      return () => listeners.delete(call)
    },
    async close() {
      await (await opening?.catch(() => null))?.close()
    },
  }
}

async function renewal(session: Session, lease: LeaseId, seen: RoutingView | null, onEnding: () => void): Promise<Renewal | 'over'> {
  const [row] = await session.query(
    'select r.over, r.epoch, r.binding_epoch, r.owned, r.pins, r.ending, r.rights, r.catalog from switchback.renew($1, $2) r',
    [lease, seen?.epoch ?? 0],
  )
  if (row!.over === 't') return 'over'
  return { view: viewOf(row!, seen, onEnding), rightsDigest: row!.rights!, catalogDigest: row!.catalog! }
}

/** `ending` is of the same snapshot: whoever acks the view's epoch sends no more entries. */
function viewOf(row: TextRow, seen: RoutingView | null, onEnding: () => void): RoutingView {
  if (row['ending'] === 't') onEnding()
  // INV: an epoch never goes back; one that does is another timeline of PostgreSQL (protocols.md, Durable control).
  if (seen !== null && Number(row.epoch) < seen.epoch) {
    throw new SwitchbackError('EPOCH_STALE', { expected: seen.epoch, slot: 'all', actual: Number(row.epoch) })
  }
  return mergedView(row, seen)
}

function ackValues(ack: FenceAck): unknown[] {
  return [ack.lease, ack.epoch, JSON.stringify(Object.fromEntries(ack.nextSequences)), JSON.stringify(ack.excused)]
}
