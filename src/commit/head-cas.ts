// Promises: step 2's compare-and-set, the commit point, and what is known of it: repeated, or the head read, until it is known or
// the lease ends (protocols.md, Commit protocol: "CAS timed out", "No entry stays undecided"). The judging is pure.
import { hasCode } from '../model/errors.ts'
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import { type Head, RECENT_TRANSACTIONS, versionIn } from '../model/head.ts'
import type { TxnId } from '../model/ids.ts'
import type { RowChange } from '../model/row.ts'
import type { CommitContext } from './context.ts'
import { insist, OVER, pause } from './insist.ts'

/** The head after a transaction. A head of an older tenure counts as version 0, and nothing of it is carried over. */
export function nextHead(address: AggregateAddress, expected: Head | null, txnId: TxnId, redo: readonly RowChange[]): Head {
  const { tenure } = address
  const before = versionIn(expected, tenure)
  const version = before + 1
  const recent = before === 0 ? [] : expected!.recent.slice(-(RECENT_TRANSACTIONS - 1))
  recent.push({ version, txnId })
  return { tenure, version, txnId, prev: before === 0 ? null : expected!.txnId, redo, lock: null, recent }
}

/** What an observed head says of the compare-and-set from `expected` to `next`. */
export type Judgement =
  /** `next` is, or was, the head. */
  | 'won'
  /** It was not and never will be: heads do not return to `expected`. */
  | 'lost'
  /** It may be yet: the head is still `expected`. */
  | 'open'
  /** The head has gone beyond what it remembers. */
  | 'gone'

export function judgeHead(observed: Head | null, expected: Head | null, next: Head): Judgement {
  if (observed === null) return expected === null ? 'open' : 'gone'
  if (observed.tenure > next.tenure) return 'gone'
  if (
    expected !== null &&
    observed.tenure === expected.tenure &&
    observed.version === expected.version &&
    observed.txnId === expected.txnId
  )
    return 'open'
  // Had `next` won, no head of an older tenure could have followed it: the old tenure's writers compare with heads of their own.
  if (observed.tenure < next.tenure) return 'lost'
  if (observed.version < next.version) return 'gone'
  if (observed.version === next.version) return observed.txnId === next.txnId ? 'won' : 'lost'
  const named = observed.recent.find((one) => one.version === next.version)
  if (named === undefined) return 'gone'
  return named.txnId === next.txnId ? 'won' : 'lost'
}

export type CasOutcome =
  | { readonly kind: 'won' }
  | { readonly kind: 'lost' }
  | { readonly kind: 'gone' }
  /** Refused for good, and no earlier try can still take effect. */
  | { readonly kind: 'refused'; readonly error: unknown }
  | { readonly kind: 'over' }

const WON: CasOutcome = { kind: 'won' }
const LOST: CasOutcome = { kind: 'lost' }
const GONE: CasOutcome = { kind: 'gone' }
const LEASE_ENDED: CasOutcome = { kind: 'over' }

export interface CasRequest {
  readonly lease: LeaseHandle
  readonly address: AggregateAddress
  readonly expected: Head | null
  readonly next: Head
  /** Until then a throttled compare-and-set is tried again; after it the throttling counts as for good. Monotonic. */
  readonly throttledUntilMs: number
}

/** Ends with what is known; an uncertain one ends with the lease. The caller has looked at the lease in this same tick. */
export async function decideCas(ctx: CommitContext, { lease, address, expected, next, throttledUntilMs }: CasRequest): Promise<CasOutcome> {
  let uncertain = false // a try without a certain reply may take effect at any time
  for (let tries = 0; ; tries++) {
    if (!lease.holds()) return LEASE_ENDED
    try {
      const result = await ctx.target.compareAndSetHead(address.key, expected, next)
      if (!lease.holds()) return LEASE_ENDED
      if (result.won) return WON
      const judgement = judgeHead(result.head, expected, next)
      if (judgement === 'won') return WON
      // No adapter repeats a compare-and-set, so a refusal of the only try is certain, however far the head has gone.
      if (judgement !== 'open') return judgement === 'gone' && uncertain ? GONE : LOST
    } catch (error) {
      if (!lease.holds()) return LEASE_ENDED
      ctx.observer.repeated('compare-and-set of a head', error)
      const noEffect = hasCode(error, 'TARGET_THROTTLED', 'TARGET_REFUSED')
      if (noEffect && !uncertain && (hasCode(error, 'TARGET_REFUSED') || ctx.clock.monotonicMs() >= throttledUntilMs))
        return { kind: 'refused', error }
      if (!noEffect) uncertain = true
    }
    if (uncertain) {
      const observed = await insist(ctx, lease, 'read of a head', () => ctx.target.readHead(address.key))
      if (observed === OVER) return LEASE_ENDED
      const judgement = judgeHead(observed, expected, next)
      if (judgement === 'won') return WON
      if (judgement === 'lost') return LOST
      if (judgement === 'gone') return GONE
    }
    if (tries > 0 || !uncertain) await pause(ctx, tries)
  }
}
