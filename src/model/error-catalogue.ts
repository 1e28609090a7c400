// Promises: the one list of error codes. Sorted by area; add yours in its area.
// `satisfies` instead of a type annotation, so that the codes stay literal types.
import type { ErrorEntry } from './errors.ts'

export const CATALOGUE = {
  // ---- parsing at the edges
  LSN_INVALID: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'not a log sequence number: "{text}"',
    remedy: 'Nothing was changed. Give an LSN as PostgreSQL prints it, like 0/16B3748.',
  },
  KEY_INVALID: {
    kind: 'client',
    sqlstate: '22P02',
    message: 'not a valid {type} partition key: "{text}"',
    remedy: 'Nothing was changed. Correct the value.',
  },
  CONFIG_INVALID: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the configuration {file} is not valid: {problem}',
    remedy: 'Nothing was changed. Correct the file and run the command again.',
  },
  // ---- leases, epochs, tokens
  LEASE_OVER: {
    kind: 'fenced',
    sqlstate: '57P01',
    message: 'the lease {lease} of this gateway is over',
    remedy: 'Nothing more is sent under it; the gateway takes a new lease by itself. Try again.',
  },
  NO_LEASE: {
    kind: 'fenced',
    sqlstate: '57P03',
    message: 'this gateway holds no valid lease, so it serves no mapped table',
    remedy: 'The statement was not run. Try again; if it stays, see whether the gateway reaches PostgreSQL.',
  },
  TOKEN_STALE: {
    kind: 'fenced',
    sqlstate: '57P01',
    message: 'leader token {token} is stale: another controller leads',
    remedy: 'Nothing was changed by this controller; it stands by.',
  },
  EPOCH_STALE: {
    kind: 'fenced',
    sqlstate: '40001',
    message: 'the flip began at epoch {expected}, and slot {slot} is at epoch {actual}',
    remedy: 'Nothing was changed. The flip is read from the journal again.',
  },
  TENURE_STALE: {
    kind: 'fenced',
    sqlstate: '40001',
    message: 'the write belongs to tenure {tenure} of the slot, which is over',
    remedy: 'Nothing was written. Try again.',
  },
  // ---- target
  TARGET_UNKNOWN: {
    kind: 'unknown',
    sqlstate: '08007',
    message: 'the target did not answer {operation}: it may have taken effect, or may yet ({reason})',
    remedy: 'Read the row back before you try again.',
  },
  TARGET_THROTTLED: {
    kind: 'transient',
    sqlstate: '53400',
    message: 'the target refused {operation} for now: {reason}',
    remedy: 'Nothing was written by it. It is tried again with backoff.',
  },
  TARGET_REFUSED: {
    kind: 'client',
    sqlstate: '58000',
    message: 'the target refused {operation}: {reason}',
    remedy: 'Nothing was written by it.',
  },
  TARGET_UNREACHABLE: {
    kind: 'operator',
    sqlstate: '08001',
    message: 'the target at {endpoint} cannot be reached: {reason}',
    remedy: 'Nothing was changed. Check the address, the credentials and the network, then run the command again.',
  },
  // ---- commit protocol
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
