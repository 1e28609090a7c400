// Promises: the target executor (model/executor.ts): statements and transactions of one aggregate on any target, by the commit
// protocol. Pure of clocks, chance and timers. One executor a gateway process, whatever leases it has one after the other.
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { AggregateAddress, FlightCounter, LeaseHandle, SettledSink, TargetExecutor } from '../model/executor.ts'
import type { SlotId, TxnId } from '../model/ids.ts'
import type { Mapping } from '../model/mapping.ts'
import type { Target } from '../model/target.ts'
import { autocommit } from './autocommit.ts'
import type { ContentionSink } from './contention.ts'
import type { CommitContext, CommitObserver } from './context.ts'
import { createFifo, createNoFifo } from './fifo.ts'
import { createFinishing } from './finish.ts'
import { createKnowledge } from './knowledge.ts'
import { type CommitLimits, DEFAULT_COMMIT_LIMITS } from './limits.ts'
import { createSequences } from './outbox-writer.ts'
import { readSnapshot } from './reads.ts'
import { createRemembered } from './remembered.ts'
import { beginTransaction } from './transaction.ts'

export interface ExecutorOptions {
  readonly target: Target
  readonly mapping: Mapping
  readonly clock: Clock
  readonly random: Random
  readonly flights: FlightCounter
  readonly settled: SettledSink
  /** Unique for each try, over all gateways and restarts. */
  readonly txnIds: () => TxnId
  readonly limits?: Partial<CommitLimits>
  /** False, and for good: the move has ended on the target (protocols.md, The ends). */
  readonly sendsEntries?: () => boolean
  /** Sessions queue for a key instead of fighting for it. */
  readonly fifo?: boolean
  readonly contention?: ContentionSink
  readonly observer?: CommitObserver
}

export interface CommitExecutor extends TargetExecutor {
  readonly limits: CommitLimits
  /** Leaves the aggregate's newest transaction finished, whoever began it: for `finalize` (faults.md 73) and for repair. */
  settle(lease: LeaseHandle, address: AggregateAddress): Promise<void>
  /**
   * Ends every wait in a queue for an aggregate of these slots with AGGREGATE_MOVING, and every retry of a statement that loses from
   * now on, so that a fence need not wait for who holds the place: nothing of theirs took effect, and the gateway may park and run
   * them again. Returns how many waits it ended.
   */
  abortWaiters(slots: { has(slot: SlotId): boolean }): number
  /** For metrics. */
  readonly waiting: () => number
  readonly rememberedBytes: () => number
}

export function createExecutor(options: ExecutorOptions): CommitExecutor {
  const { target, clock, random, flights, txnIds } = options
  const settled: SettledSink = {
    settled(told) {
      sequences.settled(told.lease, told.group, told.sequence)
      options.settled.settled(told)
    },
  }
  const limits: CommitLimits = { ...DEFAULT_COMMIT_LIMITS, ...options.limits }
  const sequences = createSequences(limits)
  const contention = options.contention ?? UNCOUNTED
  const fifo =
    options.fifo === false
      ? createNoFifo()
      : createFifo({ clock, contention, fifoWaitersMax: limits.fifoWaitersMax, commitDeadlineMs: limits.commitDeadlineMs })
  const ctx: CommitContext = {
    target,
    tables: new Set(options.mapping.tables.map((table) => table.name)),
    clock,
    random,
    limits,
    flights,
    settled,
    contention,
    observer: options.observer ?? UNOBSERVED,
    txnIds,
    knowledge: createKnowledge(limits),
    finishing: createFinishing(),
    sequences,
    remembered: createRemembered(limits),
    fifo,
    retriers: new Set(),
    sendsEntries: options.sendsEntries ?? (() => true),
  }
  return {
    limits,
    autocommit: (lease, address, plan, params, env) => autocommit(ctx, { lease, address, plan, params, env }),
    begin: (lease, address, { isolation }) => beginTransaction(ctx, { lease, address, isolation }),
    settle: (lease, address) => settle(ctx, lease, address),
    nextSequences: (lease) => sequences.next(lease),
    undecided: (lease) => sequences.undecided(lease),
    abortWaiters(slots) {
      for (const retrier of ctx.retriers) if (slots.has(retrier.slot)) retrier.moving = true
      return fifo.abortWaiters(slots)
    },
    waiting: () => fifo.waiting(),
    rememberedBytes: () => ctx.remembered.bytes,
  }
}

async function settle(ctx: CommitContext, lease: LeaseHandle, address: AggregateAddress): Promise<void> {
  ctx.flights.enter(address.slot)
  try {
    await readSnapshot(ctx, { lease, address, deadlineMs: ctx.clock.monotonicMs() + ctx.limits.commitDeadlineMs }, [])
  } finally {
    ctx.flights.leave(address.slot)
  }
}

const UNCOUNTED: ContentionSink = { casLost() {}, queued() {}, held() {} }
const UNOBSERVED: CommitObserver = { repeated() {} }
