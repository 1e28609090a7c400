// Promises: what a SQL client of the gateway is told.
import type { ErrorEntry } from '../errors.ts'

export const GATEWAY_ERRORS = {
  PARK_DEADLINE: {
    kind: 'client',
    sqlstate: '40001',
    message: 'the key was changing its owner for longer than {limit} ms ({limitName})',
    remedy: 'The statement was not run. Try again, or raise the limit in the configuration.',
  },
  PARK_FULL: {
    kind: 'client',
    sqlstate: '53400',
    message: 'too many statements wait for keys that are changing their owner: more than {limit} ({limitName})',
    remedy: 'The statement was not run. Try again, or raise the limit in the configuration.',
  },
  KEY_MOVED: {
    kind: 'client',
    sqlstate: '40001',
    message: 'could not serialize access: a key of this transaction is changing its owner',
    remedy: 'Nothing of this transaction was written. Try the transaction again.',
  },
  SLOT_UNKNOWN: {
    kind: 'violation',
    sqlstate: '57P03',
    message: 'the routing view has no owner for slot {slot}',
    remedy: 'The statement was not run. Check the ownership rows with `switchback status`.',
  },
  SLOT_READ_ONLY: {
    kind: 'client',
    sqlstate: '25006',
    message: 'the key is read-only at present',
    remedy: 'Nothing was written. Reads work; writes do again after `switchback readonly off`.',
  },
  UNROUTABLE: {
    kind: 'client',
    sqlstate: '0A000',
    message: 'keys have moved, and this statement cannot be sent to one of them: {because}',
    remedy: 'The statement was not run. It would work if: {wouldRoute}.',
  },
  CROSSES_OWNERS: {
    kind: 'client',
    sqlstate: '0A000',
    message: 'the transaction needs data of both stores: {because}',
    remedy: 'The statement was not run. Use one transaction a key, or keep these keys on one store.',
  },
  CROSSES_AGGREGATES: {
    kind: 'client',
    sqlstate: '0A000',
    message: 'the transaction needs more than one key ({first} and {second}), and they have moved',
    remedy: 'The statement was not run. Use one transaction a key, or keep these keys on PostgreSQL.',
  },
  NOT_ON_TARGET: {
    kind: 'client',
    sqlstate: '0A000',
    message: '{what} is not supported in a transaction on keys that have moved',
    remedy: 'The statement was not run.',
  },
  TRANSACTION_ABORTED: {
    kind: 'client',
    sqlstate: '25P02',
    message: 'current transaction is aborted, commands ignored until end of transaction block',
    remedy: 'Send ROLLBACK.',
  },
  READ_ONLY_TRANSACTION: {
    kind: 'client',
    sqlstate: '25006',
    message: 'cannot execute {what} in a read-only transaction',
    remedy: 'Nothing was written.',
  },
  STATEMENT_CANCELED: {
    kind: 'client',
    sqlstate: '57014',
    message: 'canceling statement due to user request',
    remedy: 'The statement was not run.',
  },
  STATEMENT_TIMEOUT: {
    kind: 'client',
    sqlstate: '57014',
    message: 'canceling statement due to statement timeout',
    remedy: 'Nothing was written by it.',
  },
  CONNECTIONS_MAX: {
    kind: 'client',
    sqlstate: '53300',
    message: 'sorry, the gateway has {limit} clients already ({limitName})',
    remedy: 'Close connections, or raise the limit in the configuration.',
  },
  LOGIN_TIMEOUT: {
    kind: 'client',
    sqlstate: '57014',
    message: 'canceling authentication due to timeout ({limit} ms, {limitName})',
    remedy: 'Connect again.',
  },
  STARTUP_REFUSED: {
    kind: 'client',
    sqlstate: '0A000',
    message: 'the startup parameter is not allowed through the gateway: {what}',
    remedy: 'Leave it out, or connect to PostgreSQL directly.',
  },
  PROTOCOL_VIOLATION: {
    kind: 'client',
    sqlstate: '08P01',
    message: 'the PostgreSQL protocol was broken: {what}',
    remedy: 'The connection is closed.',
  },
  MESSAGE_TOO_LARGE: {
    kind: 'client',
    sqlstate: '54000',
    message: 'a message of {bytes} bytes is longer than {limit} ({limitName})',
    remedy: 'The statement was not run. Send less at once, or raise the limit in the configuration.',
  },
  UPSTREAM_LOST: {
    kind: 'transient',
    sqlstate: '08006',
    message: 'the connection to PostgreSQL was lost: {reason}',
    remedy: 'Nothing of the transaction took effect. Connect and try again.',
  },
  GATEWAY_CLOSING: {
    kind: 'client',
    sqlstate: '57P01',
    message: 'terminating connection: the gateway shuts down',
    remedy: 'Nothing of an open transaction took effect. Connect again.',
  },
} as const satisfies Record<string, ErrorEntry>
