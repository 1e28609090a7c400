// Promises: the tables of the control schema `switchback`, one upgrade an entry. An entry that has shipped is never edited: a later
// one changes what it made. Every table carries its own documentation as a comment in PostgreSQL.

import { BACKFILL_UPGRADE } from './schema-backfill.ts'
import { DEBT_UPGRADE } from './schema-debt.ts'
import { JUDGE_UPGRADE } from './schema-judge.ts'
import { PARKED_TABLE } from './schema-parked.ts'
import { PROBE_TABLES } from './schema-probe.ts'
import { RAMP_TABLES } from './schema-ramp.ts'
import { WORK_TABLES } from './schema-work.ts'

export const UPGRADES: readonly string[] = [
  `
create table switchback.state (
  one boolean primary key default true check (one),
  migration text not null,
  schema_version int not null,
  epoch bigint not null,
  binding_epoch bigint,
  planned_tables text,
  guard text not null default 'off' check (guard in ('off', 'on', 'final')),
  guarded_tables text,
  applier_role text
);
comment on table switchback.state is
  'One row. epoch: the migration''s one counter, taken by every change of ownership rows. binding_epoch: INV-8 binds from it; null while nothing may move. planned_tables: digest of the mapped tables'' catalog as planned; guarded_tables: the same when the guard was put on. applier_role: the reverse applier''s own login role, exempt from the guard.';

create table switchback.mapped (
  relation oid primary key,
  schema_name text not null,
  table_name text not null,
  key_column text not null,
  key_type text not null
);
comment on table switchback.mapped is 'The mapped tables; partition leaves are found from them in the catalog.';

create table switchback.guarded (
  relation oid primary key
);
comment on table switchback.guarded is 'The mapped tables and their partitions, each with a row and a TRUNCATE trigger of the guard.';

create table switchback.ownership (
  slot int primary key,
  owner text not null check (owner in ('source', 'target')),
  phase text not null check (phase in ('steady', 'parking', 'fenced')),
  read_only boolean not null,
  has_pins boolean not null default false,
  epoch bigint not null,
  tenure bigint not null,
  base bigint not null,
  writable boolean not null generated always as (owner = 'source' and phase <> 'fenced' and not read_only) stored
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
comment on table switchback.ownership is
  'Who owns a slot (0..4095 a hash range, from 4096 on a pin), in which phase, at which epoch, since which tenure. PostgreSQL''s own guard reads it in the transaction that writes. writable: PostgreSQL accepts writes. has_pins: some keys of this hash slot are slots of their own.';

create table switchback.tenure (
  slot int not null,
  tenure bigint not null,
  owner text not null check (owner in ('source', 'target')),
  base bigint not null,
  first_lsn pg_lsn,
  primary key (slot, tenure)
);
create index tenure_newer on switchback.tenure (tenure);
comment on table switchback.tenure is
  'History of each slot. A WAL change finds its tenure here by its commit LSN, never from present ownership. first_lsn: a commit at or above it belongs to this tenure; null until the backfill makes the replication slot.';

create table switchback.pin (
  key text primary key,
  slot int not null unique check (slot >= 4096),
  parent int not null check (parent between 0 and 4095)
);
comment on table switchback.pin is 'A hot key that is a slot of its own, and the hash slot it was split from: its slot group for ever.';

create table switchback.lease (
  id text primary key,
  gateway text not null,
  renewals bigint not null default 0,
  acked_epoch bigint not null default 0,
  over boolean not null default false,
  next_sequences jsonb not null default '{}',
  excused jsonb not null default '[]',
  opened_at timestamptz not null default clock_timestamp()
) with (fillfactor = 40);
comment on table switchback.lease is
  'One row a gateway''s lease. renewals counts and is never a time: no clock is shared. A lease that is over is never renewed again. next_sequences and excused belong to acked_epoch.';

create table switchback.leader (
  one boolean primary key default true check (one),
  token bigint not null,
  name text not null,
  since timestamptz not null default clock_timestamp()
);
comment on table switchback.leader is
  'The token of the one leader. Every act locks the row for share and compares it in its own transaction; a new leader raises it.';

create table switchback.heartbeat (
  one boolean primary key default true check (one),
  token bigint not null,
  beats bigint not null
) with (fillfactor = 40);
comment on table switchback.heartbeat is
  'Raised by the leader; a standby that has seen it stand still for long enough by its own monotonic clock takes over.';

create table switchback.flip (
  id text primary key,
  number bigint generated always as identity unique,
  owner_to text not null check (owner_to in ('source', 'target')),
  slots int[] not null,
  state text not null check (state in ('intent', 'parking', 'fenced', 'drained', 'committed', 'cancelled', 'routed')),
  epoch bigint not null,
  deadline_ms bigint not null,
  started_at timestamptz not null default clock_timestamp(),
  marker_lsn pg_lsn,
  commit_lsn pg_lsn,
  because text,
  steps jsonb not null default '[]'
) with (fillfactor = 60);
create index flip_open on switchback.flip (number) where state not in ('cancelled', 'routed');
comment on table switchback.flip is
  'The journal''s flips, one row a batch of slots. INV-7: before ''committed'' a flip can only be cancelled, after it only completed.';

create table switchback.journal (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  token bigint not null,
  epoch bigint not null,
  kind text not null,
  flip text,
  detail jsonb not null default '{}'
);
comment on table switchback.journal is 'What the leaders did, appended in the transaction that did it. Never changed.';

create table switchback.applied (
  key text primary key,
  slot int not null,
  tenure bigint not null,
  version bigint not null,
  txn_id text not null
) with (fillfactor = 70);
create index applied_high on switchback.applied (slot, tenure, version);
comment on table switchback.applied is
  'The newest target transaction of each aggregate that PostgreSQL holds, written in the commit that applied it (INV-6). A row of an older tenure counts as version 0.';

create table switchback.position (
  slot_group int not null,
  lease text not null,
  sequence bigint not null,
  final boolean not null,
  primary key (slot_group, lease)
) with (fillfactor = 60);
comment on table switchback.position is 'How far each outbox has been settled, up to and including sequence. final: read once more to its end after its lease was over.';

create table switchback.poison (
  key text primary key,
  slot int not null,
  tenure bigint not null,
  version bigint not null,
  sqlstate text not null,
  message text not null,
  at timestamptz not null default clock_timestamp()
);
comment on table switchback.poison is 'Aggregates whose next target transaction PostgreSQL refused: halted until someone deals with it (INV-11).';
`,
  WORK_TABLES,
  PROBE_TABLES,
  BACKFILL_UPGRADE,
  PARKED_TABLE,
  // They return the end of the move too, and are made anew.
  `drop function if exists switchback.renew(text, bigint);
drop function if exists switchback.view_since(bigint);`,
  DEBT_UPGRADE,
  RAMP_TABLES,
  JUDGE_UPGRADE,
]
