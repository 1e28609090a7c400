// Promises: what PostgreSQL refuses, lacks or has lost, and what preflight finds in its tables.
import type { ErrorEntry } from '../errors.ts'

export const SOURCE_ERRORS = {
  SOURCE_UNREACHABLE: {
    kind: 'operator',
    sqlstate: '08001',
    message: 'PostgreSQL at {at} cannot be reached: {reason}',
    remedy: 'Nothing was changed. Check the address and the network, then run the command again.',
  },
  SNAPSHOT_GONE: {
    kind: 'transient',
    sqlstate: '25000',
    message: 'the exported snapshot {snapshot} is gone with its connection',
    remedy: 'Nothing is lost: the range is read again at a later snapshot.',
  },
  TABLE_UNKNOWN: {
    kind: 'operator',
    sqlstate: '42P01',
    message: 'there is no table {table}',
    remedy: 'Nothing was changed. Correct the name in the configuration (schema.table, as the catalog has it).',
  },
  PARTITION_KEY_UNKNOWN: {
    kind: 'operator',
    sqlstate: '42703',
    message: 'table {table} has no column {column}, which the configuration names as its partition key',
    remedy: 'Nothing was changed. Correct partitionKey.',
  },
  PARTITION_KEY_TYPE: {
    kind: 'operator',
    sqlstate: '42804',
    message: 'the partition key {column} of {table} is of type {type}, whose equal values can have several texts',
    remedy: 'Nothing was changed. Choose a column of type smallint, integer, bigint, uuid, text or varchar.',
  },
  PARTITION_KEY_NOT_IN_PRIMARY_KEY: {
    kind: 'operator',
    sqlstate: '42P10',
    message: 'the partition key {column} of {table} is not part of its primary key',
    remedy: 'Nothing was changed. Every mapped table needs a primary key that contains the partition key.',
  },
  KEY_TYPES_DIFFER: {
    kind: 'operator',
    sqlstate: '42804',
    message: 'the partition keys of the mapped tables are of different kinds: {tables}',
    remedy: 'Nothing was changed. Aggregates need one kind of key: integers, uuid, or text.',
  },
  COLUMN_TYPE_UNSUPPORTED: {
    kind: 'operator',
    sqlstate: '0A000',
    message: 'column {column} of {table} is of type {type}, which does not round-trip',
    remedy: "Nothing was changed. Leave the table out, or change the column's type before the move.",
  },
  SLOT_NOT_CREATED: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the replication slot {slot} could not be created: {reason}',
    remedy: 'Nothing was changed. wal_level must be logical, a slot must be free, and the role needs REPLICATION.',
  },
  SLOT_MISSING: {
    kind: 'lost',
    sqlstate: '55000',
    message: 'the replication slot {slot} is not there',
    remedy:
      'The sync has stopped, parity is invalid, no canary may start. Keys on the target are served as before. Run `switchback backfill --again`.',
  },
  SLOT_LOST: {
    kind: 'lost',
    sqlstate: '55000',
    message: 'the replication slot {slot} is lost: {reason}',
    remedy:
      'The sync has stopped, parity is invalid, no canary may start. Keys on the target are served as before. Run `switchback backfill --again`.',
  },
  SLOT_IN_USE: {
    kind: 'transient',
    sqlstate: '55006',
    message: 'the replication slot {slot} is in use by another: {reason}',
    remedy: "It is tried again; an old leader's connection is ended first.",
  },
  ORIGIN_IN_USE: {
    kind: 'transient',
    sqlstate: '55006',
    message: 'the replication origin {origin} is in use by another connection',
    remedy: "It is tried again; an old leader's connection is ended first.",
  },
  APPLY_REFUSED: {
    kind: 'violation',
    sqlstate: '55000',
    message: 'PostgreSQL refuses what is written back to it ({sqlstate}: {reason})',
    remedy: 'The reverse sync has stopped; nothing is lost. Restore the right or the column that is missing, then it goes on.',
  },
  SOURCE_REFUSED: {
    kind: 'operator',
    sqlstate: '28000',
    message: 'PostgreSQL at {at} refused to let us in: {reason}',
    remedy: 'Nothing was changed. Check user and password in the connection string and pg_hba.conf.',
  },
} as const satisfies Record<string, ErrorEntry>
