// Promises: how a transaction on the target can end otherwise than by success.
import type { ErrorEntry } from '../errors.ts'

export const COMMIT_ERRORS = {
  OUTCOME_UNKNOWN: {
    kind: 'unknown',
    sqlstate: '08007',
    message: 'whether the transaction took effect is not known ({reason})',
    remedy: 'Read the row back before you try again.',
  },
  CONFLICT: {
    kind: 'client',
    sqlstate: '40001',
    message: 'could not serialize access to key {key} due to concurrent update',
    remedy: 'Nothing was written. Try the transaction again.',
  },
  CONTENTION_DEADLINE: {
    kind: 'client',
    sqlstate: '40001',
    message: 'key {key} was contended for longer than {deadlineMs} ms',
    remedy: 'Nothing was written. Try again, or pin the key to PostgreSQL.',
  },
  TARGET_SILENT: {
    kind: 'transient',
    sqlstate: '58030',
    message: 'the target did not answer the {operation} within {deadlineMs} ms ({reason})',
    remedy: 'Nothing was written. Try again; if it stays, look at the target.',
  },
  HEAD_LOCKED: {
    kind: 'client',
    sqlstate: '55P03',
    message: 'key {key} is locked by transaction {txnId}, which spans several keys and cannot be settled by this version',
    remedy: 'Nothing was written. Run a version that has the spanning protocol.',
  },
  AGGREGATE_QUEUE_FULL: {
    kind: 'client',
    sqlstate: '53000',
    message: 'more than {limit} sessions of this gateway wait for key {key} ({limitName})',
    remedy: 'Nothing was written. Try again later, or pin the key to PostgreSQL.',
  },
  OUTBOX_FULL: {
    kind: 'client',
    sqlstate: '53000',
    message:
      'more than {limit} transactions of this gateway are under way in slot group {group} ({limitName}): the target is slow to answer',
    remedy: 'Nothing was written. Try again; if it stays, look at the target.',
  },
  AGGREGATE_MOVING: {
    kind: 'transient',
    sqlstate: '40001',
    message: 'key {key} is being moved to another store',
    remedy: 'Nothing was written. Try the transaction again.',
  },
  AGGREGATE_TOO_LARGE: {
    kind: 'client',
    sqlstate: '54000',
    message: 'the statement would read more than {limit} rows of key {key} ({limitName})',
    remedy: 'Nothing was written. Narrow the statement, or raise the limit in the configuration.',
  },
  TRANSACTION_TOO_LARGE: {
    kind: 'client',
    sqlstate: '54000',
    message: 'the transaction is larger than {limit} ({limitName})',
    remedy: 'Nothing was written. Split the transaction, or raise the limit in the configuration.',
  },
} as const satisfies Record<string, ErrorEntry>
