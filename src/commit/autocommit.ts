// Promises: one statement that is its own transaction. Conflicts are retried inside, jittered, until commitDeadlineMs; what is
// answered was read, or written, within the call (protocols.md, Commit protocol, "CAS conflict").
import { assert } from '../lib/assert.ts'
import { backoffMs } from '../lib/backoff.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress, LeaseHandle } from '../model/executor.ts'
import type { Head } from '../model/head.ts'
import { type KeyedPlan, type Params, type ReadRequest, SqlError, type StatementEnv, type StatementResult } from '../model/plan.ts'
import type { CommitContext, Retrier } from './context.ts'
import { mustHold } from './insist.ts'
import { checkTransaction } from './limits.ts'
import { type Reading, readPoint, readSnapshot } from './reads.ts'
import type { RememberedAggregate } from './remembered.ts'
import { type AggregateState, covers, emptyState, fold, viewOf } from './rows.ts'
import { tryCommit } from './try-commit.ts'

export interface Statement {
  readonly lease: LeaseHandle
  readonly address: AggregateAddress
  readonly plan: KeyedPlan
  readonly params: Params
  readonly env: StatementEnv
}

export async function autocommit(ctx: CommitContext, statement: Statement): Promise<StatementResult> {
  const { lease, address, plan } = statement
  mustHold(lease)
  const deadlineMs = ctx.clock.monotonicMs() + ctx.limits.commitDeadlineMs
  // Waiting for a turn counts as in flight: a statement admitted under the old view must not begin after its fence was acked.
  ctx.flights.enter(address.slot)
  try {
    if (plan.readOnly) return await readOnly(ctx, statement, { lease, address, deadlineMs })
    const place = ctx.fifo.acquire(address, { deadlineMs })
    const held = place instanceof Promise ? await place : place
    const retrier: Retrier = { slot: address.slot, moving: false }
    ctx.retriers.add(retrier)
    try {
      return await write(ctx, statement, { lease, address, deadlineMs }, retrier)
    } finally {
      ctx.retriers.delete(retrier)
      held.release()
    }
  } catch (error) {
    if (error instanceof SqlError) mustHold(lease) // what PostgreSQL would have answered is an answer too
    throw error
  } finally {
    ctx.flights.leave(address.slot)
  }
}

/** Reads for a statement that changes nothing and belongs to no transaction that has begun to write. */
export async function readFor(ctx: CommitContext, reading: Reading, requests: readonly ReadRequest[]): Promise<AggregateState> {
  const only = requests.length === 1 ? requests[0] : undefined
  if (requests.length === 0) return emptyState()
  if (only?.kind === 'point') return readPoint(ctx, reading, only)
  return (await readSnapshot(ctx, reading, requests)).state
}

async function readOnly(ctx: CommitContext, { lease, plan, params, env }: Statement, reading: Reading): Promise<StatementResult> {
  const state = await readFor(ctx, reading, plan.reads(params, env))
  const result = plan.run(params, viewOf(state, null), env)
  assert(result.changes.length === 0, 'a read-only plan has changed rows')
  mustHold(lease)
  return result
}

interface Basis {
  readonly head: Head | null
  readonly state: AggregateState
  readonly remembered: RememberedAggregate | null
}

async function write(
  ctx: CommitContext,
  { lease, address, plan, params, env }: Statement,
  reading: Reading,
  retrier: Retrier,
): Promise<StatementResult> {
  const requests = plan.reads(params, env)
  let fresh = false
  for (let tries = 0; ; ) {
    mustHold(lease)
    const basis = await basisOf(ctx, reading, requests, fresh)
    fresh = true
    const result = runOn(basis, () => plan.run(params, viewOf(basis.state, null), env))
    if (result === null) {
      ctx.remembered.restore(address, basis.remembered!)
      continue
    }
    mustHold(lease)
    if (result.changes.length === 0) return result
    const changes = fold(result.changes)
    checkTransaction(changes, ctx)
    const outcome = await tryCommit(ctx, { lease, address, expected: basis.head, changes })
    if (outcome.kind === 'committed') {
      ctx.remembered.keep(address, { before: basis.head, head: outcome.head, state: basis.state, changes })
      return result
    }
    if (outcome.kind === 'unknown') throw new SwitchbackError('OUTCOME_UNKNOWN', { reason: outcome.because })
    if (outcome.kind === 'refused') throw outcome.error
    if (basis.remembered !== null) ctx.remembered.stale(address, basis.remembered)
    ctx.contention.casLost(address.key)
    if (retrier.moving) throw new SwitchbackError('AGGREGATE_MOVING', { key: address.key })
    await yieldToWinner(ctx, address, reading.deadlineMs, tries++)
  }
}

/**
 * Null: what was remembered gave no change or an error, which no compare-and-set would prove, so it is run again on what is read
 * afresh.
 */
function runOn(basis: Basis, run: () => StatementResult): StatementResult | null {
  if (basis.remembered === null) return run()
  try {
    const result = run()
    return result.changes.length > 0 ? result : null
  } catch {
    return null
  }
}

async function basisOf(ctx: CommitContext, reading: Reading, requests: readonly ReadRequest[], fresh: boolean): Promise<Basis> {
  const remembered = fresh ? undefined : ctx.remembered.take(reading.address)
  if (remembered !== undefined) {
    if (covers(remembered.state, requests)) return { head: remembered.head, state: remembered.state, remembered }
    ctx.remembered.restore(reading.address, remembered)
  }
  return { ...(await readSnapshot(ctx, reading, requests)), remembered: null }
}

async function yieldToWinner(ctx: CommitContext, address: AggregateAddress, deadlineMs: number, tries: number): Promise<void> {
  const { conflictFirstMs, conflictCapMs, commitDeadlineMs } = ctx.limits
  const left = deadlineMs - ctx.clock.monotonicMs()
  if (left <= 0) throw new SwitchbackError('CONTENTION_DEADLINE', { key: address.key, deadlineMs: commitDeadlineMs })
  await ctx.clock.sleep(Math.min(left, backoffMs(tries, { firstMs: conflictFirstMs, capMs: conflictCapMs }, ctx.random)))
}
