// Promises: steps 3 and 4 for a transaction that somebody else, or an earlier self, left behind its head (protocols.md, Commit
// protocol, "Finished"). After finish() its rows are all there and its entry is in an outbox, or the lease is over.
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import type { Head } from '../model/head.ts'
import type { Stamp, Tenure, TxnId } from '../model/ids.ts'
import type { RowChange, StampedRow } from '../model/row.ts'
import type { CommitContext } from './context.ts'
import { insist, OVER } from './insist.ts'
import { appendUntilThere, entryOf, sequenceWhenRoom } from './outbox-writer.ts'
import { putsOf, stampOf } from './rows.ts'

/** What a met head asks of who meets it. */
export type HeadDuty = 'none' | 'look'

/** Nobody helps a head of an older tenure: its transaction, if unfinished, was never acknowledged or visible. */
export function dutyOf(head: Head | null, tenure: Tenure, finishedUpTo: number): HeadDuty {
  if (head === null || head.tenure !== tenure || head.version <= finishedUpTo) return 'none'
  return 'look'
}

export type Presence = 'all' | 'some' | 'none'

/** Which of the redo's rows carry its stamp or a later one. */
export function presenceOf(rows: readonly (StampedRow | undefined)[], stamp: Stamp): Presence {
  let there = 0
  for (const row of rows) if (row !== undefined && row.stamp >= stamp) there++
  return there === rows.length ? 'all' : there > 0 ? 'some' : 'none'
}

/** Rows are put only after an entry is there, so any row says that one is. */
export const DUTY: Record<Presence, { readonly entry: boolean; readonly rows: boolean }> = {
  all: { entry: false, rows: false },
  some: { entry: false, rows: true },
  none: { entry: true, rows: true },
}

/** Transactions that this gateway is finishing, its own in flight included, so that sessions wait for one helper and do not race it. */
export interface Finishing {
  ongoing(txnId: TxnId, lease: LeaseHandle): Promise<boolean> | undefined
  begin(txnId: TxnId, lease: LeaseHandle, work: Promise<boolean>): void
}

export function createFinishing(): Finishing {
  const works = new Map<TxnId, { readonly lease: LeaseHandle; readonly work: Promise<boolean> }>()
  return {
    ongoing(txnId, lease) {
      const one = works.get(txnId)
      return one !== undefined && one.lease.id === lease.id ? one.work : undefined
    },
    begin(txnId, lease, work) {
      const one = { lease, work }
      works.set(txnId, one)
      const done = () => {
        if (works.get(txnId) === one) works.delete(txnId)
      }
      work.then(done, done)
    },
  }
}

/** True: the head's transaction is finished. False: the lease is over. Goes on, counted as in flight, whoever waits for it. */
export function finish(ctx: CommitContext, lease: LeaseHandle, address: AggregateAddress, head: Head): Promise<boolean> {
  const ongoing = ctx.finishing.ongoing(head.txnId, lease)
  if (ongoing !== undefined) return ongoing
  const work = help(ctx, lease, address, head)
  ctx.finishing.begin(head.txnId, lease, work)
  return work
}

async function help(ctx: CommitContext, lease: LeaseHandle, address: AggregateAddress, head: Head): Promise<boolean> {
  ctx.flights.enter(address.slot)
  try {
    let seen = await look(ctx, lease, address, head)
    if (seen !== null && seen.presence !== 'all' && ctx.limits.helpGraceMs > 0) {
      await ctx.clock.sleep(ctx.limits.helpGraceMs)
      seen = await look(ctx, lease, address, head)
    }
    if (seen === null) return false
    const duty = DUTY[seen.presence]
    let sequence: number | null = null
    const entry = entryOf(address, head)
    if (duty.entry) {
      sequence = await sequenceWhenRoom(ctx, lease, address)
      if (sequence === null || !(await appendUntilThere(ctx, lease, { group: address.group, sequence }, entry))) return false
    }
    if (duty.rows && !(await putUntilThere(ctx, lease, address, head, seen.missing))) return false
    ctx.knowledge.learn(address.key, head.tenure, head.version)
    if (sequence !== null) ctx.settled.settled({ group: address.group, lease: lease.id, sequence, verdict: 'committed', entry })
    return true
  } finally {
    ctx.flights.leave(address.slot)
  }
}

/** Step 3. False: the lease ended first. */
export async function putUntilThere(
  ctx: CommitContext,
  lease: LeaseHandle,
  address: AggregateAddress,
  head: Head,
  changes: readonly RowChange[],
): Promise<boolean> {
  const puts = putsOf(address, head.version, changes, { mark: head.redo.length > 1 })
  return (await insist(ctx, lease, 'put of rows', () => ctx.target.putRows(puts))) !== OVER
}

interface Look {
  readonly presence: Presence
  readonly missing: readonly RowChange[]
}

async function look(ctx: CommitContext, lease: LeaseHandle, address: AggregateAddress, head: Head): Promise<Look | null> {
  const keys = head.redo.map(({ table, clustering }) => ({ table, key: address.key, clustering }))
  const rows = await insist(ctx, lease, 'read of rows', () => ctx.target.readRows(keys))
  if (rows === OVER) return null
  const stamp = stampOf(address, head.version)
  const missing = head.redo.filter((_, i) => {
    const row = rows[i]
    return row === undefined || row.stamp < stamp
  })
  return { presence: presenceOf(rows, stamp), missing }
}
