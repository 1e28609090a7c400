// Promises: how the gateway runs keyed plans on the target. Implemented by src/commit; one executor serves the gateway, replay,
// shadow and repair: what was replayed is what ships.

import type { OutboxEntry } from './head.ts'
import type { LeaseId, SlotId, Stamp, Tenure } from './ids.ts'
import type { AggregateKey } from './key.ts'
import type { KeyedPlan, Params, StatementEnv, StatementResult } from './plan.ts'

/** The lease a transaction began under. It ends with it: a newer lease of the same gateway does not revive it. */
export interface LeaseHandle {
  readonly id: LeaseId
  /** INV-8. Looked at before each send and before each answer to a client. False for good once it was false. */
  holds(): boolean
}

/** Where an aggregate lives, as the routing view said when the work was admitted. */
export interface AggregateAddress {
  readonly key: AggregateKey
  readonly slot: SlotId
  readonly group: number
  readonly tenure: Tenure
  readonly base: Stamp
}

export type Isolation = 'read committed' | 'repeatable read' | 'serializable'

export interface TargetTransaction {
  readonly address: AggregateAddress
  /** Throws SqlError as PostgreSQL would, or SwitchbackError. After any throw only abort() is allowed. */
  execute(plan: KeyedPlan, params: Params, env: StatementEnv): Promise<StatementResult>
  /** Resolves when acknowledged is true: rows durable. Throws CONFLICT (nothing took effect) or OUTCOME_UNKNOWN. */
  commit(): Promise<void>
  /** Gives its place in the aggregate's queue back. Idempotent, also after commit. */
  abort(): void
  /** The CAS has not been sent: a fence may end it with 40001 (protocols.md, The flip, 3). */
  readonly committing: boolean
}

export interface TargetExecutor {
  /** One statement that is its own transaction: conflicts are retried inside, jittered, up to commitDeadlineMs. */
  autocommit(lease: LeaseHandle, address: AggregateAddress, plan: KeyedPlan, params: Params, env: StatementEnv): Promise<StatementResult>
  begin(lease: LeaseHandle, address: AggregateAddress, options: { readonly isolation: Isolation }): TargetTransaction
  /**
   * Ends waits in the queues of these slots with AGGREGATE_MOVING: nothing of theirs took effect, so the gateway may park and run
   * them again. Returns how many it ended.
   */
  abortWaiters(slots: { has(slot: SlotId): boolean }): number
  /** Next unused sequence of each group's outbox written under the lease: part of a fence's ack. */
  nextSequences(lease: LeaseId): ReadonlyMap<number, number>
  /** Entries begun under the lease of which it is not known yet what became of them: by group, sequence to slot. */
  undecided(lease: LeaseId): ReadonlyMap<number, ReadonlyMap<number, SlotId>>
}

/** Counts work on the target that a fence must wait for, undecided entries included, client or no client. */
export interface FlightCounter {
  enter(slot: SlotId): void
  leave(slot: SlotId): void
}

/** What a gateway knows of an entry of its own: committed with all its rows there, or void. Told to the controller. */
export interface SettledEntry {
  readonly group: number
  readonly lease: LeaseId
  readonly sequence: number
  readonly verdict: 'committed' | 'void'
  readonly entry: OutboxEntry
}

export interface SettledSink {
  settled(entry: SettledEntry): void
}
