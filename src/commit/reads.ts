// Promises: what a statement reads on the target was true of the aggregate at one instant between its begin and its end, is no half
// transaction, and will not be lost (protocols.md, Reads on the target; INV-2).
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import { type Head, versionIn } from '../model/head.ts'
import type { Stamp } from '../model/ids.ts'
import type { ReadRequest } from '../model/plan.ts'
import { type RowKey, type StampedRow, sameRow } from '../model/row.ts'
import type { CommitContext } from './context.ts'
import { dutyOf, finish, presenceOf } from './finish.ts'
import { attempt, mustHold, within } from './insist.ts'
import { type AggregateState, emptyState, holdRow, holdRows, holdTable, stampOf } from './rows.ts'

export interface Reading {
  readonly lease: LeaseHandle
  readonly address: AggregateAddress
  /** Monotonic. */
  readonly deadlineMs: number
}

export interface Snapshot {
  /** As of which the rows are; its transaction is finished. */
  readonly head: Head | null
  readonly state: AggregateState
}

/** One row, for a statement that needs no head: an unmarked row is shown as it is. */
export async function readPoint(ctx: CommitContext, reading: Reading, request: ReadRequest & { kind: 'point' }): Promise<AggregateState> {
  const { lease, address, deadlineMs } = reading
  const key: RowKey = { table: request.table, key: address.key, clustering: request.clustering }
  const [row] = await attempt(ctx, lease, deadlineMs, 'read of rows', () => ctx.target.readRows([key]))
  if (row?.mark) await settleMarked(ctx, reading, Number(row.stamp - address.base))
  const state = emptyState()
  holdRow(state, request.table, request.clustering, row?.values ?? null)
  return state
}

/** A row of version `version` was written with others: it may be shown once all of them are there. */
async function settleMarked(ctx: CommitContext, reading: Reading, version: number): Promise<void> {
  const { lease, address, deadlineMs } = reading
  // From before this tenure: everything of it was settled by the flip.
  if (version <= 0 || version <= ctx.knowledge.finishedUpTo(address.key, address.tenure)) return
  const head = await attempt(ctx, lease, deadlineMs, 'read of a head', () => ctx.target.readHead(address.key))
  checkHead(head, address)
  learnBelow(ctx, address, head)
  if (versionIn(head, address.tenure) === version) await finishHead(ctx, reading, head)
}

/**
 * The rule for several rows: head and rows are read at the same time, and taken where the head's version was known to be finished
 * before they were asked for and no row carries a later stamp; else the head is finished, and all is read again.
 */
export async function readSnapshot(ctx: CommitContext, reading: Reading, requests: readonly ReadRequest[]): Promise<Snapshot> {
  const { lease, address, deadlineMs } = reading
  for (;;) {
    const known = ctx.knowledge.finishedUpTo(address.key, address.tenure)
    const [head, loaded] = await Promise.all([
      attempt(ctx, lease, deadlineMs, 'read of a head', () => ctx.target.readHead(address.key)),
      load(ctx, reading, requests),
    ])
    checkHead(head, address)
    if (versionIn(head, address.tenure) === known && loaded.newest <= stampOf(address, known)) return { head, state: loaded.state }
    learnBelow(ctx, address, head)
    learnFromRows(ctx, address, head, loaded.rows)
    await finishHead(ctx, reading, head)
    if (ctx.clock.monotonicMs() >= deadlineMs) {
      throw new SwitchbackError('CONTENTION_DEADLINE', { key: address.key, deadlineMs: ctx.limits.commitDeadlineMs })
    }
  }
}

async function finishHead(ctx: CommitContext, { lease, address, deadlineMs }: Reading, head: Head | null): Promise<void> {
  if (head === null || dutyOf(head, address.tenure, ctx.knowledge.finishedUpTo(address.key, address.tenure)) === 'none') return
  await within(ctx, deadlineMs, 'put of rows', finish(ctx, lease, address, head))
  mustHold(lease)
}

/** A head is replaced only once its transaction is finished. */
function learnBelow(ctx: CommitContext, address: AggregateAddress, head: Head | null): void {
  if (head !== null && head.tenure === address.tenure) ctx.knowledge.learn(address.key, head.tenure, head.version - 1)
}

/** The rows just read often show that the head's transaction is finished, which saves a look. They are still read again. */
function learnFromRows(ctx: CommitContext, address: AggregateAddress, head: Head | null, rows: readonly StampedRow[]): void {
  if (head === null || dutyOf(head, address.tenure, ctx.knowledge.finishedUpTo(address.key, address.tenure)) === 'none') return
  const found = head.redo.map((change) => rows.find((row) => sameRow(row, change)))
  if (presenceOf(found, stampOf(address, head.version)) === 'all') ctx.knowledge.learn(address.key, head.tenure, head.version)
}

function checkHead(head: Head | null, address: AggregateAddress): void {
  if (head === null) return
  if (head.tenure > address.tenure) throw new SwitchbackError('TENURE_STALE', { tenure: address.tenure })
  if (head.lock !== null) throw new SwitchbackError('HEAD_LOCKED', { key: address.key, txnId: head.lock })
}

interface Loaded {
  readonly state: AggregateState
  readonly rows: readonly StampedRow[]
  readonly newest: Stamp
}

async function load(ctx: CommitContext, reading: Reading, requests: readonly ReadRequest[]): Promise<Loaded> {
  const { lease, address, deadlineMs } = reading
  const state = emptyState()
  const found: StampedRow[] = []
  let newest: Stamp = 0n
  const take = (rows: readonly (StampedRow | undefined)[]) => {
    for (const row of rows) {
      if (row === undefined) continue
      found.push(row)
      if (row.stamp > newest) newest = row.stamp
    }
  }
  const ranges = new Set<string>()
  for (const request of requests) if (request.kind === 'range') ranges.add(request.table)
  const keys: RowKey[] = []
  for (const request of requests) {
    if (request.kind === 'point' && !ranges.has(request.table))
      keys.push({ table: request.table, key: address.key, clustering: request.clustering })
  }
  const loads: Promise<void>[] = []
  if (keys.length > 0) {
    const points = attempt(ctx, lease, deadlineMs, 'read of rows', () => ctx.target.readRows(keys))
    loads.push(
      points.then((rows) => {
        take(rows)
        for (const [i, key] of keys.entries()) holdRow(state, key.table, key.clustering, rows[i]?.values ?? null)
      }),
    )
  }
  for (const table of ranges) {
    loads.push(
      loadTable(ctx, reading, table).then((rows) => {
        take(rows)
        holdRows(state, rows)
        holdTable(state, table)
      }),
    )
  }
  if (loads.length === 1) await loads[0]
  else await Promise.all(loads)
  return { state, rows: found, newest }
}

async function loadTable(ctx: CommitContext, { lease, address, deadlineMs }: Reading, table: string): Promise<readonly StampedRow[]> {
  const { aggregateRowsMax, rangePageRows } = ctx.limits
  const all: StampedRow[] = []
  let after: readonly string[] | null = null
  for (;;) {
    const limit = Math.min(rangePageRows, aggregateRowsMax + 1 - all.length)
    const range: { table: string; key: string; limit: number; after?: readonly string[] } = { table, key: address.key, limit }
    if (after !== null) range.after = after
    const page = await attempt(ctx, lease, deadlineMs, 'read of rows', () => ctx.target.readRange(range))
    for (const row of page.rows) all.push(row)
    if (all.length > aggregateRowsMax) throw tooLarge(address, aggregateRowsMax)
    if (page.next === null) return all
    after = page.next
  }
}

function tooLarge(address: AggregateAddress, limit: number): SwitchbackError {
  return new SwitchbackError('AGGREGATE_TOO_LARGE', { limit, key: address.key, limitName: 'aggregateRowsMax' })
}
