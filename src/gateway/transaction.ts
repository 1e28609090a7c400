// Promises: where a session's transaction stands (gateway.md, Transactions). BEGIN is answered and held; the first statement
// decides the arm, and nothing changes it afterwards.
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress, Isolation, TargetTransaction } from '../model/executor.ts'
import type { PlannedStatement } from '../model/plan.ts'
import type { TransactionStatus } from '../wire/backend.ts'
import type { BindMessage } from '../wire/frontend.ts'
import type { Work } from './fence-gate.ts'
import type { Routable } from './routing.ts'
import type { Prepared } from './statements.ts'

export type Transaction =
  | { readonly kind: 'idle' }
  /** BEGIN has been answered and not sent. */
  | { readonly kind: 'held'; readonly sql: string; readonly isolation: Isolation; readonly readOnly: boolean }
  /** Open on PostgreSQL, which knows its state. `work` is null while it has touched nothing mapped and no lease is there. */
  | { readonly kind: 'source'; work: Work | null; snapshot: boolean }
  | TargetState
  /** Failed by the gateway, and open on neither store. What it was is kept for ROLLBACK AND CHAIN. */
  | { readonly kind: 'failed'; readonly isolation: Isolation; readonly readOnly: boolean }

export interface TargetState {
  readonly kind: 'target'
  readonly transaction: TargetTransaction
  readonly work: Work
  readonly address: AggregateAddress
  readonly isolation: Isolation
  readonly readOnly: boolean
  readonly nowText: string
  /** Of a batch without BEGIN: ends at Sync. */
  readonly implicit: boolean
  wrote: boolean
  /** A fence or the lease's end has ended it. */
  interrupted: SwitchbackError | null
}

export interface Portal {
  readonly prepared: Prepared
  readonly planned: PlannedStatement
  readonly bind: BindMessage
  /** Where it was bound. */
  home: 'source' | 'target' | 'gateway' | 'undecided'
  /** Rows that a limited Execute has not fetched yet, encoded; null: not run. */
  rest: { rows: readonly Buffer[]; readonly tag: string } | null
  /** As it was routed last. */
  routed?: Routable
}

export const IDLE: Transaction = { kind: 'idle' }

/** A transaction of these characteristics that has not been sent. */
export function heldLike(before: { readonly isolation: Isolation; readonly readOnly: boolean }): Transaction {
  const { isolation, readOnly } = before
  return { kind: 'held', sql: `begin isolation level ${isolation} read ${readOnly ? 'only' : 'write'}`, isolation, readOnly }
}

export function isolationOf(text: string | null): Isolation {
  switch (text?.toLowerCase()) {
    case 'serializable':
      return 'serializable'
    case 'repeatable read':
      return 'repeatable read'
    default:
      return 'read committed'
  }
}

export function statusOf(transaction: Transaction, server: TransactionStatus): TransactionStatus {
  switch (transaction.kind) {
    case 'idle':
    case 'source':
      return server
    case 'held':
      return 'transaction'
    case 'target':
      return transaction.implicit ? 'idle' : 'transaction'
    case 'failed':
      return 'failed'
  }
}

/** now(), as PostgreSQL prints a timestamptz in UTC. */
export function nowTextOf(nowMs: number): string {
  const iso = new Date(nowMs).toISOString()
  const fraction = iso.slice(20, 23).replace(/0+$/, '')
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}${fraction === '' ? '' : `.${fraction}`}+00`
}

/** 25P02, in PostgreSQL's own words. */
export function transactionAborted(): SwitchbackError {
  return new SwitchbackError('TRANSACTION_ABORTED')
}
