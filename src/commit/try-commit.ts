// Promises: one try to commit a transaction: steps 2 to 4 of the commit protocol. The client's answer is honest (INV-9) and comes
// within commitDeadlineMs; the try itself goes on, counted in flight, until its entry is decided or the lease ends, and is then
// told to the settled sink (protocols.md, Commit protocol, "No entry stays undecided"; faults.md 8, 70).
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import type { Head, OutboxEntry } from '../model/head.ts'
import type { RowChange } from '../model/row.ts'
import type { CommitContext } from './context.ts'
import { putUntilThere } from './finish.ts'
import { decideCas, nextHead } from './head-cas.ts'
import { mustHold } from './insist.ts'
import { appendUntilThere, entryOf } from './outbox-writer.ts'

export type TryOutcome =
  /** Durable, its rows there, the lease held. */
  | { readonly kind: 'committed'; readonly head: Head }
  /** Another transaction has the version: nothing took effect. */
  | { readonly kind: 'lost' }
  | { readonly kind: 'unknown'; readonly because: string }
  /** The target refused the compare-and-set for good: nothing took effect. */
  | { readonly kind: 'refused'; readonly error: unknown }

export interface TryRequest {
  readonly lease: LeaseHandle
  readonly address: AggregateAddress
  /** What was read; its transaction is finished. */
  readonly expected: Head | null
  /** Folded, within the limits. */
  readonly changes: readonly RowChange[]
}

interface Try {
  readonly request: TryRequest
  readonly sequence: number
  readonly next: Head
  readonly entry: OutboxEntry
  readonly throttledUntilMs: number
  /** Only the first counts. */
  readonly answer: (outcome: TryOutcome) => void
}

/** Of the deadline: throttling that lasts so long is taken as a refusal for good, which is a better answer than an unknown outcome. */
const THROTTLED_SHARE = 0.5

/** Throws LEASE_OVER or OUTBOX_FULL, synchronously, where nothing was sent. */
export function tryCommit(ctx: CommitContext, request: TryRequest): Promise<TryOutcome> {
  const { lease, address, expected, changes } = request
  mustHold(lease)
  const sequence = ctx.sequences.take(lease, address.group, address.slot)
  if (sequence === null)
    throw new SwitchbackError('OUTBOX_FULL', {
      group: address.group,
      limit: ctx.limits.entriesInFlightMax,
      limitName: 'entriesInFlightMax',
    })
  const next = nextHead(address, expected, ctx.txnIds(), changes)
  const { commitDeadlineMs } = ctx.limits
  return new Promise((resolve, reject) => {
    const cancel = ctx.clock.after(commitDeadlineMs, () =>
      resolve({ kind: 'unknown', because: `the target did not answer within ${commitDeadlineMs} ms` }),
    )
    const answer = (outcome: TryOutcome) => {
      cancel()
      resolve(outcome)
    }
    const one: Try = {
      request,
      sequence,
      next,
      entry: entryOf(address, next),
      throttledUntilMs: ctx.clock.monotonicMs() + commitDeadlineMs * THROTTLED_SHARE,
      answer,
    }
    const work = drive(ctx, one)
    ctx.finishing.begin(
      next.txnId,
      lease,
      work.catch(() => false),
    )
    work.catch(reject) // only a bug gets here
  })
}

/** True: committed, with all rows there. */
async function drive(ctx: CommitContext, one: Try): Promise<boolean> {
  const { lease, address, expected, changes } = one.request
  ctx.flights.enter(address.slot)
  try {
    // Both at the same time; rows only when both are there.
    const appending = appendUntilThere(ctx, lease, { group: address.group, sequence: one.sequence }, one.entry)
    const cas = await decideCas(ctx, { lease, address, expected, next: one.next, throttledUntilMs: one.throttledUntilMs })
    // A loser need not wait for its entry, which is void: it tries again while the entry is on its way.
    if (cas.kind === 'lost' || cas.kind === 'refused') one.answer(cas)
    if (cas.kind === 'gone') one.answer({ kind: 'unknown', because: 'the head of the key has gone on too far to tell' })
    if (cas.kind === 'over' || !(await appending)) return over(one)
    // Of a head that has gone too far the reverse sync finds out, by the entry of the next version.
    if (cas.kind === 'gone') return false
    if (cas.kind !== 'won') {
      settle(ctx, one, 'void')
      return false
    }
    if (!(await putUntilThere(ctx, lease, address, one.next, changes))) return over(one)
    ctx.knowledge.learn(address.key, address.tenure, one.next.version)
    settle(ctx, one, 'committed')
    one.answer(lease.holds() ? { kind: 'committed', head: one.next } : LEASE_ENDED)
    return true
  } finally {
    ctx.flights.leave(address.slot)
  }
}

const LEASE_ENDED: TryOutcome = { kind: 'unknown', because: 'the lease of the gateway ended before the answer' }

function over(one: Try): false {
  one.answer(LEASE_ENDED)
  return false
}

function settle(ctx: CommitContext, one: Try, verdict: 'committed' | 'void'): void {
  const { lease, address } = one.request
  ctx.settled.settled({ group: address.group, lease: lease.id, sequence: one.sequence, verdict, entry: one.entry })
}
