// Promises: what the control schema in PostgreSQL does for gateways and for the leader, so that guard and ownership are one
// transaction there, and so that a simulator can take its place. Implemented by src/store over PostgreSQL.
//
// Errors. A call that throws a SwitchbackError of kind `fenced` did nothing. One that throws TARGET/CONTROL_UNREACHABLE or has
// lost its reply may have done it: every call may be sent again.
import type { Epoch, LeaseId, Lsn, Owner, SlotId, Stamp, Tenure, TxnId } from './ids.ts'
import type { AggregateKey } from './key.ts'
import type { Phase, RoutingView } from './ownership.ts'
import type { RowChange } from './row.ts'
import type { Tenures } from './tenures.ts'

/** A backend of a gateway, as pg_locks and pg_stat_activity name it. */
export interface BackendId {
  readonly pid: number
  /** pg_stat_activity.backend_start as text. */
  readonly backendStart: string
  readonly virtualTransaction: string
}

export interface Renewal {
  /** The whole view, changes since the last one merged in. */
  readonly view: RoutingView
  /** Of the rights on mapped relations, columns, schemas, functions in plans, roles and memberships (protocols.md, Reads). */
  readonly rightsDigest: string
  /** Of the catalog of the mapped tables: a difference makes plans void. */
  readonly catalogDigest: string
}

export interface FenceAck {
  readonly lease: LeaseId
  readonly epoch: Epoch
  /** Next unused sequence of each slot group's outbox under this lease, for groups it has written. */
  readonly nextSequences: ReadonlyMap<number, number>
  /** Backends whose open transactions have not touched the slots in flip (Guard, No lock a row). */
  readonly excused: readonly BackendId[]
}

/**
 * What a gateway that cannot ack yet can say: nothing of its own is left on slots in flip, the busy ones excepted. With the target
 * silent it may be the last word for long (protocols.md, The flip, Target unreachable).
 */
export interface PartialAck {
  readonly epoch: Epoch
  /** Slots on which something of an older view has not ended. */
  readonly busy: ReadonlySet<SlotId>
  readonly nextSequences: ReadonlyMap<number, number>
  /** Entries that were begun and of which the gateway does not know yet what became of them: by group, sequence to slot. */
  readonly undecided: ReadonlyMap<number, ReadonlyMap<number, SlotId>>
}

/** How long one flip held statements of a gateway back, those included that gave up waiting. */
export interface ParkedTimes {
  /** At which the statements went on, or gave up: it belongs to the first flip whose epoch is not below it. */
  readonly epoch: Epoch
  readonly statements: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

/** The same over all gateways that told of it; of quantiles the largest, which the quantile of all is never above. */
export interface FlipParked extends Omit<ParkedTimes, 'epoch'> {
  readonly gateways: number
}

/** A gateway's side. */
export interface GatewayControl {
  /** A new lease id, for a start or after a lapse. `gateway` names the process for people. */
  openLease(gateway: string): Promise<LeaseId>
  /**
   * One transaction: first updates the lease row, then, in a later statement, reads what changed since `seen`. 'over': the lease
   * was called over; it is never renewed again.
   */
  renew(lease: LeaseId, seen: RoutingView | null): Promise<Renewal | 'over'>
  /** What changed since `seen`, without renewing anything: a fraction of a renewal's price, for the pause of a flip. */
  look(seen: RoutingView): Promise<RoutingView>
  ack(ack: FenceAck): Promise<void>
  /** Says what can be said before an ack; never stands for one. */
  ackPartly(lease: LeaseId, partial: PartialAck): Promise<void>
  /** A figure for people: may be late, and sent again it is as once. */
  parked(report: { readonly lease: LeaseId; readonly flips: readonly ParkedTimes[] }): Promise<void>
  /** Gives the lease up: over at once. */
  release(lease: LeaseId): Promise<void>
  /** Calls back at each NOTIFY of an ownership change. Polling (the renewals) is the fallback. */
  onWake(call: () => void): () => void
}

export interface LeaseRow {
  readonly lease: LeaseId
  readonly gateway: string
  /** Counts renewals; never a time. */
  readonly renewals: number
  readonly ackedEpoch: Epoch
  readonly over: boolean
  readonly nextSequences: ReadonlyMap<number, number>
  readonly excused: readonly BackendId[]
  /** The newest partial ack. Absent or null: none. */
  readonly partial?: PartialAck | null
}

/** Somebody who holds a lock that lets him write a mapped table. */
export interface WaitingWriter extends BackendId {
  readonly ageMs: number
  readonly query: string
  readonly user: string
  /** A prepared transaction has a gid and no pid. */
  readonly gid: string | null
}

export type FlipState = 'intent' | 'parking' | 'fenced' | 'drained' | 'committed' | 'cancelled' | 'routed'

/** One flip of one batch of slots, as the journal has it. */
export interface FlipRecord {
  readonly id: string
  readonly to: Owner
  readonly slots: readonly SlotId[]
  readonly state: FlipState
  /** Epoch of the newest change of ownership rows made by it. */
  readonly epoch: Epoch
  readonly deadlineMs: number
  readonly startedAt: string
  /** Free-form evidence by step: durations, pauses, verdicts. */
  readonly steps: readonly FlipStep[]
}

export interface FlipStep {
  readonly step: string
  readonly ms: number
  readonly detail: string
}

/** A slot that went back to PostgreSQL while the target did not answer: what is owed before it may go there again. */
export interface DebtRecord {
  readonly slot: SlotId
  readonly flip: string
  /** PostgreSQL's, which began with that flip. */
  readonly tenure: Tenure
}

export interface AppliedVersion {
  readonly key: AggregateKey
  readonly tenure: Tenure
  readonly version: number
  readonly txnId: TxnId
}

export interface PoisonRecord {
  readonly key: AggregateKey
  readonly slot: SlotId
  readonly tenure: Tenure
  readonly version: number
  readonly sqlstate: string
  readonly message: string
  /** Somebody has mended the cause: it is tried again, and is poison until that has succeeded. */
  readonly retrying: boolean
}

/** The leader's side. Every act compares the token in the transaction that acts, and throws TOKEN_STALE. */
export interface LeaderControl {
  readonly token: number
  view(): Promise<RoutingView>
  tenures(): Promise<Tenures>
  leases(): Promise<readonly LeaseRow[]>
  /** Writes `over` where `renewals` is still as seen. Returns the leases that are over now. */
  endLeases(seen: readonly { readonly lease: LeaseId; readonly renewals: number }[]): Promise<readonly LeaseId[]>
  /** Opens INV-8 at a fresh epoch, if it is not open. */
  bind(): Promise<Epoch>
  /** The open flips, oldest first. */
  openFlips(): Promise<readonly FlipRecord[]>
  writeIntent(flip: { readonly to: Owner; readonly slots: readonly SlotId[]; readonly deadlineMs: number }): Promise<FlipRecord>
  /** Takes the next epoch for the flip's rows in the new phase: one transaction, rows locked `for no key update nowait`. */
  setPhase(flip: FlipRecord, phase: Exclude<Phase, 'steady'>, signal?: AbortSignal): Promise<FlipRecord>
  /** Who may still write mapped tables in PostgreSQL under what came before, excused backends left out. */
  waitSet(excused: readonly BackendId[]): Promise<readonly WaitingWriter[]>
  /** Which of these are still there. */
  stillThere(writers: readonly WaitingWriter[]): Promise<readonly WaitingWriter[]>
  /** A transactional marker in the WAL; returns its content, which the forward sync reports as passed. */
  writeMarker(flip: FlipRecord): Promise<string>
  /** The point of no return: journal, ownership and tenure in one transaction (protocols.md, The flip, 6). */
  commitFlip(flip: FlipRecord, commit: { readonly newBase: Stamp; readonly held: boolean }): Promise<FlipRecord>
  /** The same with the target silent: its slots are a debt, recorded in the transaction that commits. */
  commitInDebt(flip: FlipRecord, commit: { readonly newBase: Stamp; readonly held: boolean }): Promise<FlipRecord>
  /** A parked flip to the source goes on with some of its slots; the others stay parked under a flip of their own. */
  splitFlip(flip: FlipRecord, go: readonly SlotId[]): Promise<{ readonly go: FlipRecord; readonly rest: FlipRecord }>
  debts(): Promise<readonly DebtRecord[]>
  /** These have been paid. */
  settleDebts(debts: readonly DebtRecord[]): Promise<void>
  /** Of a held commit: its slots become steady at a fresh epoch. Without effect where it was not held. */
  releaseFlip(flip: FlipRecord): Promise<FlipRecord>
  cancelFlip(flip: FlipRecord, because: string): Promise<FlipRecord>
  finishFlip(flip: FlipRecord, steps: readonly FlipStep[]): Promise<FlipRecord>
  setReadOnly(slots: readonly SlotId[], readOnly: boolean, signal?: AbortSignal): Promise<Epoch>
  /** Highest version applied in the slots' present tenures: a new base lies above it. */
  highestApplied(slots: readonly SlotId[]): Promise<number>
  currentWalLsn(): Promise<Lsn>
  poison(): Promise<readonly PoisonRecord[]>
  close(): Promise<void>
}

// ---- reverse apply

/** One target transaction to be applied in PostgreSQL. */
export interface ReverseTransaction {
  readonly key: AggregateKey
  readonly slot: SlotId
  readonly tenure: Tenure
  readonly version: number
  readonly txnId: TxnId
  readonly changes: readonly RowChange[]
}

export type ReverseOutcome = 'applied' | 'double' | 'old' | 'wait' | 'poison'

export interface ReverseApplier {
  /**
   * Applies transactions in order, each wholly or not at all, many in one PostgreSQL commit. Each is conditional on: leader token
   * current, slot owned by the target in this tenure, recorded version exactly n-1 (INV-6).
   */
  apply(batch: readonly ReverseTransaction[]): Promise<readonly ReverseOutcome[]>
  applied(keys: readonly { readonly key: AggregateKey; readonly tenure: Tenure }[]): Promise<readonly AppliedVersion[]>
  /** Durable positions of outboxes: everything up to and including it is settled. */
  positions(): Promise<readonly { readonly group: number; readonly lease: LeaseId; readonly sequence: number; readonly final: boolean }[]>
  savePositions(
    positions: readonly { readonly group: number; readonly lease: LeaseId; readonly sequence: number; readonly final: boolean }[],
  ): Promise<void>
}
