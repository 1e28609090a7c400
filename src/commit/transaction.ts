// Promises: an explicit transaction on one aggregate. Its statements see its own writes; it holds the aggregate's place in this
// gateway from its first write or `for update`; it commits by one try from the head that its writes were computed from, so a moved
// basis is 40001 (protocols.md, Commit protocol and Reads; gateway.md, Transactions).
import { assert } from '../lib/assert.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress, Isolation, LeaseHandle, TargetTransaction } from '../model/executor.ts'
import { type Head, sameHead } from '../model/head.ts'
import { type KeyedPlan, type Params, type ReadRequest, SqlError, type StatementEnv, type StatementResult } from '../model/plan.ts'
import { readFor } from './autocommit.ts'
import type { CommitContext } from './context.ts'
import type { Place } from './fifo.ts'
import { mustHold } from './insist.ts'
import { checkRowCount, checkTransaction } from './limits.ts'
import { type Reading, readSnapshot } from './reads.ts'
import { type AggregateState, absorb, type ChangeSet, changeCount, covers, emptyState, foldInto, ordered, viewOf } from './rows.ts'
import { tryCommit } from './try-commit.ts'

/** `failed`: a statement threw. `aborted`: by the client, or by a fence. */
type State = 'open' | 'committing' | 'committed' | 'failed' | 'aborted'

export interface TransactionStart {
  readonly lease: LeaseHandle
  readonly address: AggregateAddress
  readonly isolation: Isolation
}

interface Live extends TransactionStart {
  readonly ctx: CommitContext
  state: State
  /** The head that everything is compared with; undefined until the first write or lock, or in the higher levels the first read. */
  basis: Head | null | undefined
  /** Rows as of the basis. */
  readonly base: AggregateState
  readonly changes: ChangeSet
  place: Place | null
  cancelWait: (() => void) | null
}

export function beginTransaction(ctx: CommitContext, start: TransactionStart): TargetTransaction {
  mustHold(start.lease)
  const live: Live = {
    ...start,
    ctx,
    state: 'open',
    basis: undefined,
    base: emptyState(),
    changes: new Map(),
    place: null,
    cancelWait: null,
  }
  return {
    address: start.address,
    execute: (plan, params, env) => execute(live, plan, params, env),
    commit: () => commit(live),
    abort() {
      if (live.state === 'open' || live.state === 'failed') live.state = 'aborted'
      live.cancelWait?.()
      // A commit under way keeps its place until it is answered: it gives it back itself.
      if (live.state !== 'committing') release(live)
    },
    get committing() {
      return live.state === 'committing'
    },
  }
}

async function execute(live: Live, plan: KeyedPlan, params: Params, env: StatementEnv): Promise<StatementResult> {
  mustBeOpen(live)
  const { ctx, address, lease } = live
  ctx.flights.enter(address.slot)
  try {
    mustHold(lease)
    const deadlineMs = ctx.clock.monotonicMs() + ctx.limits.commitDeadlineMs
    if (!plan.readOnly) await takePlace(live, deadlineMs)
    const state = await stateFor(live, plan, plan.reads(params, env), { lease, address, deadlineMs })
    mustBeOpen(live)
    const result = plan.run(params, viewOf(state, live.changes), env)
    foldInto(live.changes, result.changes)
    checkRowCount(changeCount(live.changes), ctx.limits)
    mustHold(lease)
    return result
  } catch (error) {
    // As PostgreSQL does, a failed transaction lets go of what it held, before its client says so.
    if (live.state === 'open') live.state = 'failed'
    release(live)
    if (error instanceof SqlError) mustHold(lease)
    throw error
  } finally {
    ctx.flights.leave(address.slot)
  }
}

async function commit(live: Live): Promise<void> {
  mustBeOpen(live)
  const { ctx, address, lease } = live
  ctx.flights.enter(address.slot)
  try {
    mustHold(lease)
    if (changeCount(live.changes) === 0) {
      live.state = 'committed'
      return
    }
    const changes = ordered(live.changes)
    checkTransaction(changes, ctx)
    assert(live.basis !== undefined, 'a transaction has changes and no basis')
    live.state = 'committing'
    const outcome = await tryCommit(ctx, { lease, address, expected: live.basis, changes })
    if (outcome.kind === 'committed') {
      live.state = 'committed'
      ctx.remembered.keep(address, { before: live.basis, head: outcome.head, state: live.base, changes })
      return
    }
    if (outcome.kind === 'unknown') throw new SwitchbackError('OUTCOME_UNKNOWN', { reason: outcome.because })
    if (outcome.kind === 'refused') throw outcome.error
    ctx.contention.casLost(address.key)
    throw new SwitchbackError('CONFLICT', { key: address.key })
  } finally {
    if (live.state !== 'committed') live.state = 'failed'
    release(live)
    ctx.flights.leave(address.slot)
  }
}

/** Rows for a statement, from the target or, for a write whose rows are held as of the basis, from there: the commit proves those. */
async function stateFor(live: Live, plan: KeyedPlan, requests: readonly ReadRequest[], reading: Reading): Promise<AggregateState> {
  const { ctx, isolation, base } = live
  const binds = !plan.readOnly || isolation !== 'read committed'
  if (live.basis === undefined && !binds) return readFor(ctx, reading, requests)
  if (live.basis !== undefined && !plan.readOnly && !plan.locks && covers(base, requests)) return base
  const snapshot = await readSnapshot(ctx, reading, requests)
  if (live.basis === undefined) live.basis = snapshot.head
  // Whoever has begun to write, or reads repeatably, can no longer commit once the head has moved; to show what is newer beside its
  // own writes would show a state that never was.
  else if (!sameHead(snapshot.head, live.basis)) throw new SwitchbackError('CONFLICT', { key: live.address.key })
  absorb(base, snapshot.state)
  return base
}

async function takePlace(live: Live, deadlineMs: number): Promise<void> {
  if (live.place !== null) return
  const onWait = (cancel: () => void) => {
    live.cancelWait = cancel
  }
  const place = live.ctx.fifo.acquire(live.address, { deadlineMs, onWait })
  live.place = place instanceof Promise ? await place : place
  live.cancelWait = null
  if (live.state !== 'open') {
    release(live)
    mustBeOpen(live)
  }
}

function release(live: Live): void {
  live.place?.release()
  live.place = null
}

function mustBeOpen(live: Live): void {
  // A fence ends a transaction between, or under, its statements: that is 40001.
  if (live.state === 'aborted') throw new SwitchbackError('AGGREGATE_MOVING', { key: live.address.key })
  assert(live.state === 'open', `a transaction that is ${live.state} was given more to do`)
}
