// Promises: what every part of the commit engine is given: the target, time, chance, limits, and the gateway's shared memory.
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { FlightCounter, SettledSink } from '../model/executor.ts'
import type { SlotId, TxnId } from '../model/ids.ts'
import type { TableName } from '../model/mapping.ts'
import type { Target } from '../model/target.ts'
import type { ContentionSink } from './contention.ts'
import type { Fifo } from './fifo.ts'
import type { Finishing } from './finish.ts'
import type { Knowledge } from './knowledge.ts'
import type { CommitLimits } from './limits.ts'
import type { Sequences } from './outbox-writer.ts'
import type { Remembered } from './remembered.ts'

/** Told of what repeats: a store that fails is never silent (INV-11). */
export interface CommitObserver {
  repeated(operation: TargetOperation, error: unknown): void
}

export type TargetOperation = 'compare-and-set of a head' | 'append of an entry' | 'put of rows' | 'read of a head' | 'read of rows'

/** A statement that may be retried: once a fence has come for its slot, its next try would only hold the fence up. */
export interface Retrier {
  readonly slot: SlotId
  moving: boolean
}

export interface CommitContext {
  readonly target: Target
  /** Names of the mapped tables. */
  readonly tables: ReadonlySet<TableName>
  readonly clock: Clock
  readonly random: Random
  readonly limits: CommitLimits
  readonly flights: FlightCounter
  readonly settled: SettledSink
  readonly contention: ContentionSink
  readonly observer: CommitObserver
  readonly txnIds: () => TxnId
  readonly knowledge: Knowledge
  readonly finishing: Finishing
  readonly sequences: Sequences
  readonly remembered: Remembered
  readonly fifo: Fifo
  readonly retriers: Set<Retrier>
  /** False: the move has ended on the target, and nothing is written back (protocols.md, The ends). */
  readonly sendsEntries: () => boolean
}
