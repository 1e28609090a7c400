// Promises: the tables in which work outlives the process that does it: orders of a user to the leader, the ranges of a backfill,
// and what the syncs found that nobody may overlook.

export const WORK_TABLES = `
create table switchback.job (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('move', 'read_only', 'finalize')),
  arguments jsonb not null,
  state text not null default 'open' check (state in ('open', 'running', 'done', 'failed', 'held')),
  progress jsonb not null default '{}',
  result jsonb,
  ordered_by text not null default session_user,
  ordered_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz
);
create index job_open on switchback.job (id) where state in ('open', 'running');
comment on table switchback.job is
  'What a user asked for. The leader carries it out and writes progress; a new leader goes on where the old one stopped.';

create table switchback.backfill (
  id bigint generated always as identity primary key,
  consistent_point pg_lsn not null,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz
);
comment on table switchback.backfill is 'One row a backfill; the newest counts. ended_at: every range is durably on the target.';

create table switchback.backfill_range (
  id bigint generated always as identity primary key,
  backfill bigint not null references switchback.backfill (id),
  table_name text not null,
  from_key text[],
  to_key text[],
  state text not null default 'open' check (state in ('open', 'taken', 'done')),
  worker text,
  claimed_at timestamptz,
  claims int not null default 0,
  rows bigint not null default 0,
  bytes bigint not null default 0,
  snapshot_lsn pg_lsn
) with (fillfactor = 70);
create index backfill_range_open on switchback.backfill_range (backfill, state, id);
comment on table switchback.backfill_range is
  'Key ranges of a backfill, from_key exclusive. A claim that has not progressed for its expiry is open again.';

create table switchback.violation (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  slot int not null,
  lsn pg_lsn not null,
  detail jsonb not null,
  unique (slot, lsn)
);
comment on table switchback.violation is 'Changes that reached PostgreSQL in a tenure of the target (INV-1): never applied, never forgotten.';

create table switchback.backfill_planned (
  backfill bigint not null references switchback.backfill (id),
  table_name text not null,
  primary key (backfill, table_name)
);
comment on table switchback.backfill_planned is 'Tables whose ranges are laid down, those without any row included.';

create table switchback.endpoint (
  one boolean primary key default true check (one),
  token bigint not null,
  host text not null,
  port int not null,
  secret text not null
);
comment on table switchback.endpoint is
  'Where gateways tell the leader of what they committed on the target. The secret is new with each leader: who may read this table may speak there.';

create table switchback.report (
  one boolean primary key default true check (one),
  token bigint not null,
  at timestamptz not null default clock_timestamp(),
  content jsonb not null
) with (fillfactor = 50);
comment on table switchback.report is 'What the leader last said of its syncs. Older than a few seconds: unknown, not healthy (INV-10).';
`
