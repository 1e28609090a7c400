// Promises: why a sync stops before it writes something wrong.
import type { ErrorEntry } from '../errors.ts'

export const SYNC_ERRORS = {
  AUTHORITY_SPLIT: {
    kind: 'violation',
    sqlstate: '55000',
    message: 'PostgreSQL committed a write of {table} in slot {slot} at {lsn}, in tenure {tenure} of the target',
    remedy:
      'The write was not sent to the target, and the slot is frozen. Find out who wrote past the guard, compare with `switchback parity --full`.',
  },
  TENURE_UNKNOWN: {
    kind: 'bug',
    sqlstate: 'XX000',
    message: 'no tenure of slot {slot} is known for a commit at {lsn}',
    remedy: 'The forward sync stopped before it wrote anything for it. Report this with the table switchback.tenure.',
  },
  KEY_CHANGE_UNCHANGED_TOAST: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'an update of {table} at {lsn} changed the key of a row and left the large column {column} out of the stream',
    remedy:
      'The forward sync stopped before a wrong row was written. Set REPLICA IDENTITY FULL on the table and run `switchback backfill --again`.',
  },
  ROW_KEY_MISSING: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'a change of {table} at {lsn} does not carry the key column {column}',
    remedy:
      'The forward sync stopped before a wrong row was written. Give the table a usable replica identity and run `switchback backfill --again`.',
  },
  STREAM_TABLE_UNKNOWN: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the stream at {lsn} changes {table} with {columns} columns, which is not as mapped',
    remedy:
      'The forward sync stopped before a wrong row was written. Plan again from the live catalog and run `switchback backfill --again`.',
  },
  FEED_FRAME_INVALID: {
    kind: 'transient',
    sqlstate: '08P01',
    message: 'a message of the feed between gateway and controller is not valid: {problem}',
    remedy: 'The connection is closed and made again; the outboxes on the target have every entry.',
  },
  STREAM_INVALID: {
    kind: 'violation',
    sqlstate: '08P01',
    message: 'the replication stream cannot be understood: {problem}',
    remedy: 'Nothing of this transaction was applied; the slot keeps it. Report this with the version of PostgreSQL.',
  },
  STREAM_TEXT_INVALID: {
    kind: 'violation',
    sqlstate: '22021',
    message: 'a value in the replication stream is not valid UTF-8, so it cannot be carried over exactly',
    remedy: 'Nothing of this transaction was applied; the slot keeps it. The database must be encoded in UTF8.',
  },
  TABLE_CHANGED: {
    kind: 'violation',
    sqlstate: '55000',
    message: 'table {table} is no longer as planned: {problem}',
    remedy:
      'The sync stopped before a row of the changed table was applied. Plan again with `switchback init`, then run `switchback backfill --again`.',
  },
  REPLICA_IDENTITY_CHANGED: {
    kind: 'violation',
    sqlstate: '55000',
    message: 'the replica identity of table {table} no longer identifies its rows: {problem}',
    remedy:
      'The sync stopped before a row was applied. Set the replica identity to the primary key or to FULL, then run `switchback backfill --again`.',
  },
  SOURCE_TRANSACTION_TOO_LARGE: {
    kind: 'operator',
    sqlstate: '54000',
    message: 'a transaction in the replication stream is larger than {limit} bytes ({limitName})',
    remedy: 'Nothing of it was applied; the slot keeps it. Raise the limit and give the controller the memory for it.',
  },
} as const satisfies Record<string, ErrorEntry>
