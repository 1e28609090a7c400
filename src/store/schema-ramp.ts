// Promises: a ramp outlives the command that gave it and the leader that drives it; and whoever holds moves to the target stops it in the
// same transaction, so that no step is ordered after the hold. Locks in this order: leader (share), ramp, job.
import { JOB_CHANNEL } from './jobs.ts'

export const RAMP_TABLES = `
create table switchback.ramp (
  id bigint generated always as identity primary key,
  state text not null default 'ordered'
    check (state in ('ordered', 'arming', 'observing', 'running', 'done', 'stopped', 'rolled back')),
  config jsonb not null,
  plan jsonb,
  step int not null default -1,
  job bigint references switchback.job (id),
  observed_ms bigint not null default 0,
  baked_ms bigint not null default 0,
  passed jsonb not null default '[]',
  held_because jsonb not null default '[]',
  because text,
  ordered_by text not null default session_user,
  ordered_at timestamptz not null default clock_timestamp(),
  told_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz
) with (fillfactor = 50);
create unique index ramp_open on switchback.ramp ((ended_at is null)) where ended_at is null;
comment on table switchback.ramp is
  'What \`canary run\` was given, one row a ramp, at most one open. plan: the slots of each step, chosen once by what the gateways had seen. step: the one that is out or on its way, from 0; -1: none. job: its order. baked_ms: how long it has been out, by leaders'' monotonic clocks. passed: what earlier steps came to. held_because: why nothing more is done yet, as of told_at. because: why it ended.';

create table switchback.traffic (
  one boolean primary key default true check (one),
  token bigint not null,
  at timestamptz not null default clock_timestamp(),
  profile jsonb not null
) with (fillfactor = 50);
comment on table switchback.traffic is
  'Requests of the last minutes by slot and hottest key, as the leader has them of the gateways, once in a few seconds: what \`canary run --dry-run\` plans by. Keys under pseudonyms, unless the configuration shows them.';
`

export const RAMP_FUNCTIONS = `
create or replace function switchback.ramp_order(p_token bigint, p_ramp bigint, p_state text, p_plan jsonb, p_step int, p_passed jsonb,
  p_slots jsonb) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  ordered bigint;
begin
  perform switchback.assert_leader(p_token);
  -- First the ramp: a hold waits for this row, and then sees the order.
  update switchback.ramp r set state = p_state, plan = p_plan, step = p_step, passed = p_passed, baked_ms = 0, held_because = '[]',
      told_at = clock_timestamp()
    where r.id = p_ramp and r.ended_at is null;
  if not found then return null; end if;
  insert into switchback.job (kind, arguments)
    values ('move', jsonb_build_object('to', 'target', 'slots', p_slots, 'readOnlyFirst', false, 'by', 'ramp')) returning id into ordered;
  update switchback.ramp r set job = ordered where r.id = p_ramp;
  perform pg_notify('${JOB_CHANNEL}', ordered::text);
  return ordered;
end $$;
comment on function switchback.ramp_order(bigint, bigint, text, jsonb, int, jsonb, jsonb) is
  'The leader orders a step of a ramp: ramp and order in one transaction. Null: the ramp was ended meanwhile, nothing is ordered.';

create or replace function switchback.end_ramp(p_state text, p_because text) returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  update switchback.ramp set state = $1, because = $2, ended_at = clock_timestamp(), told_at = clock_timestamp()
    where ended_at is null returning id
$$;
comment on function switchback.end_ramp(text, text) is 'Ends the open ramp, if there is one. What its steps have moved stays.';

create or replace function switchback.hold_moves(p_which text, p_because text, out jobs bigint[], out ramp bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  -- First the ramp, by a statement of its own: an order that it placed until now is seen by the next.
  if p_which = 'target' then ramp := switchback.end_ramp('stopped', p_because); end if;
  with held as (
    update switchback.job j set state = 'held', result = jsonb_build_object('because', p_because), ended_at = clock_timestamp()
      where j.kind = 'move' and j.state in ('open', 'running')
        and (j.arguments ->> 'to' = p_which or p_which = 'read-only' and (j.arguments ->> 'readOnlyFirst')::boolean)
      returning j.id
  ) select coalesce(array_agg(h.id), '{}') into jobs from held h;
  perform pg_notify('${JOB_CHANNEL}', h::text) from unnest(jobs) h;
end $$;
comment on function switchback.hold_moves(text, text) is
  'Holds open moves to an owner, or those that keep writes off; of moves to the target a ramp is stopped too.';
`
