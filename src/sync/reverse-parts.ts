// Promises: the words that the parts of the reverse sync share.
import type { BackoffLimits } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { LeaseRow, PoisonRecord, ReverseApplier } from '../model/control.ts'
import { ENTRIES_PER_BUCKET, type OutboxEntry, type OutboxId } from '../model/head.ts'
import type { LeaseId, SlotId, Tenure } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Target } from '../model/target.ts'
import type { OutboxTrack } from './outbox-track.ts'
import type { RetryOptions } from './retry.ts'

export interface ReverseLimits {
  /** Transactions in one PostgreSQL commit. */
  readonly applyBatchMax: number
  /** Of one aggregate in one commit. */
  readonly applyRunMax: number
  /** Calls of the applier at once; an aggregate is in one of them only. */
  readonly applyConcurrency: number
  readonly headReadsMax: number
  readonly outboxReadsMax: number
  readonly outboxPageEntries: number
  /** Keys asked for their applied version at once. */
  readonly appliedKeysMax: number
  /** Entries in memory that are not settled: above it outboxes are read no further while there is other work. */
  readonly itemsMax: number
  /** Entries kept for halted aggregates; more are read again when the halt is lifted. */
  readonly heldItemsMax: number
  /** Aggregates whose applied version is remembered. */
  readonly aggregatesMax: number
  /** How long an entry waits to be told by a gateway whose feed is alive, before the head is read. */
  readonly feedGraceMs: number
  /** How long a hole waits for the feed before its outbox is read. */
  readonly holeGraceMs: number
  readonly pollFeedAliveMs: number
  readonly pollFeedDeadMs: number
  readonly tickMs: number
  /** With the target silent: how long a drain waits for copies that gateways have not told yet. */
  readonly copiesWaitMs: number
  readonly positionsSaveMs: number
  /** A gap, a hole or an undecided entry older than this is an alarm (INV-6). */
  readonly waitAlarmMs: number
  /** Buckets before the durable position that a new leader deletes again, since the one before may have died in between. */
  readonly bucketsDeletedAgainMax: number
  /** As the target cuts them. */
  readonly entriesPerBucket: number
  readonly progressMs: number
  readonly backoff: BackoffLimits
}

export const REVERSE_LIMITS: ReverseLimits = {
  applyBatchMax: 500,
  applyRunMax: 100,
  applyConcurrency: 1,
  headReadsMax: 32,
  outboxReadsMax: 16,
  outboxPageEntries: 256,
  appliedKeysMax: 1_000,
  itemsMax: 100_000,
  heldItemsMax: 10_000,
  aggregatesMax: 200_000,
  feedGraceMs: 100,
  holeGraceMs: 100,
  pollFeedAliveMs: 5_000,
  pollFeedDeadMs: 100,
  tickMs: 25,
  copiesWaitMs: 500,
  positionsSaveMs: 50,
  waitAlarmMs: 10_000,
  bucketsDeletedAgainMax: 8,
  entriesPerBucket: ENTRIES_PER_BUCKET,
  progressMs: 1_000,
  backoff: { firstMs: 10, capMs: 1_000 },
}

export type ReverseTarget = Pick<Target, 'readHead' | 'readOutbox' | 'deleteBucket' | 'putRows'>

export interface OutboxPosition {
  readonly group: number
  readonly lease: LeaseId
  readonly sequence: number
  readonly final: boolean
}

/** Something that an operator should look at; told once when it begins. */
export type ReverseAlarm =
  | { readonly kind: 'waits'; readonly key: AggregateKey; readonly slot: SlotId; readonly tenure: Tenure; readonly because: string }
  | { readonly kind: 'hole'; readonly group: number; readonly lease: LeaseId; readonly sequence: number }
  | { readonly kind: 'poison'; readonly key: AggregateKey; readonly slot: SlotId; readonly tenure: Tenure; readonly version: number }
  | {
      readonly kind: 'contradiction'
      readonly key: AggregateKey
      readonly lease: LeaseId
      readonly sequence: number
      readonly because: string
    }

export interface ReverseCounts {
  applied: number
  doubles: number
  old: number
  voids: number
  /** Sequences of leases that are over under which no entry ever came. */
  holesClosed: number
  /** Entries found or told after their outbox was final: discarded. */
  late: number
  rowsPut: number
  bucketsDeleted: number
  headReads: number
  outboxReads: number
  readonly retries: Record<string, number>
}

export interface ReverseProgress {
  readonly counts: Readonly<ReverseCounts>
  readonly itemsUnsettled: number
  readonly aggregatesWaiting: number
  /** From first seen to applied, of the last transactions. */
  readonly lagMs: { readonly p50: number | undefined; readonly p99: number | undefined }
  /** Age of the oldest entry that is not settled and not of a halted aggregate; 0 where none is. */
  readonly oldestMs: number
  readonly halted: readonly HaltedAggregate[]
}

export interface HaltedAggregate {
  readonly key: AggregateKey
  readonly slot: SlotId
  readonly tenure: Tenure
  readonly version: number
}

export interface ReverseOptions {
  readonly target: ReverseTarget
  readonly applier: ReverseApplier
  /** As last read: may be behind, never ahead. */
  readonly leases: () => readonly LeaseRow[]
  /** Slot groups that can have outboxes; all by default. */
  readonly slotGroups?: readonly number[]
  /** Outboxes outside the slot groups that may hold something new: the leader's own probe. */
  readonly ownOutboxes?: () => readonly OutboxId[]
  /** As last read: may be behind, never ahead. Replaced as a whole when it changes. */
  readonly view: () => RoutingView
  /** Asks for a newer view: an entry of a tenure that the view does not know has come. */
  readonly refreshView?: () => void
  /** Aggregates known to be poisoned when this leader began. */
  readonly poison?: readonly PoisonRecord[]
  readonly limits?: Partial<ReverseLimits>
  readonly progress?: (progress: ReverseProgress) => void
  readonly onAlarm?: (alarm: ReverseAlarm) => void
  /** Before buckets go: resolves when what was saved before the call is on every standby that may be promoted. Returns whom it still waited for when the signal came. */
  readonly awaitFlushed?: (signal: AbortSignal) => Promise<readonly string[]>
  /** Positions that are durable now: gateways drop their copies up to them. */
  readonly onPositions?: (positions: readonly OutboxPosition[]) => void
  readonly clock: Clock
  readonly random: Random
}

/** An entry that is not settled. */
export interface Item {
  readonly track: OutboxTrack<Item>
  readonly sequence: number
  readonly entry: OutboxEntry
  readonly aggregate: Aggregate
  readonly seenAtMs: number
  told: boolean
  /** Told committed, or committed by its head with its rows put. */
  ready: boolean
  applying: boolean
}

/** An aggregate in one tenure. */
export interface Aggregate {
  readonly id: string
  readonly key: AggregateKey
  readonly tenure: Tenure
  /** Null: to be asked for. */
  applied: number | null
  asked: boolean
  /** Doubles of versions up to it are passed. */
  passedTo: number
  /** By version. */
  readonly items: Map<number, Item[]>
  itemCount: number
  slot: SlotId
  slotView: RoutingView
  applying: number
  queued: boolean
  looking: boolean
  halted: boolean
  haltedVersion: number
  tries: number
  notBeforeMs: number
  waitingSinceMs: number | null
  alarmed: boolean
}

export type Settlement = 'applied' | 'double' | 'old' | 'void'

/** What the parts ask of each other and of the world. */
export interface ReverseContext {
  readonly options: ReverseOptions
  readonly limits: ReverseLimits
  readonly counts: ReverseCounts
  readonly signal: AbortSignal
  /** For whatever is asked of stores: counted. */
  readonly retry: RetryOptions
  now(): number
  leaseOver(lease: LeaseId): boolean
  feedAlive(lease: LeaseId): boolean
  /** A drain waits for this aggregate's slot. */
  urgent(aggregate: Aggregate): boolean
  slotOf(aggregate: Aggregate): SlotId
  counted(error: unknown): void
  alarm(alarm: ReverseAlarm): void
  fail(error: unknown): void
  itemAdded(item: Item): void
  itemSettled(item: Item, how: Settlement): void
  halted(aggregate: Aggregate): void
  /** A track has moved: known further, or final. */
  trackMoved(track: OutboxTrack<Item>): void
}
