// Promises: the acts of a flip as functions of the control schema (schema-functions.ts says in which order they lock). INV-7 is kept
// here: `flip.state` decides which act is legal, and each act may be sent again after a lost reply.
import { STATE_OF, WAKE_CHANNEL } from './schema-functions.ts'

const HELPERS = `
create or replace function switchback.refuse_flip(f switchback.flip, act text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = format('flip %s is %s: %s is not possible', f.id, f.state, act),
    detail = json_build_object('flip', f.id, 'state', f.state, 'act', act)::text;
end $$;
comment on function switchback.refuse_flip(switchback.flip, text) is 'The journal says that this act is illegal now (INV-7).';

create or replace function switchback.lock_flip(p_flip text) returns switchback.flip
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  f switchback.flip;
begin
  select * into f from switchback.flip x where x.id = p_flip for update;
  if not found then
    raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = 'no such flip',
      detail = json_build_object('flip', p_flip, 'state', 'unknown', 'act', 'any act')::text;
  end if;
  return f;
end $$;
comment on function switchback.lock_flip(text) is 'The flip''s row, locked.';

create or replace function switchback.lock_state() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform 1 from switchback.state for update;
end $$;
comment on function switchback.lock_state() is 'One change of ownership at a time, waited for while nothing else is held: commits are in the order of epochs.';

create or replace function switchback.lock_slots(p_slots int[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform 1 from switchback.ownership o where o.slot = any (p_slots) for no key update nowait;
end $$;
comment on function switchback.lock_slots(int[]) is 'All rows or none, never waiting (55P03): the caller rolls back and tries again.';

create or replace function switchback.flip_rows(f switchback.flip)
returns table (id text, owner_to text, slots text, state text, epoch bigint, deadline_ms bigint, started_at text, steps text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select f.id, f.owner_to, array_to_string(f.slots, ','), f.state, f.epoch, f.deadline_ms,
    to_char(f.started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), f.steps::text
$$;
comment on function switchback.flip_rows(switchback.flip) is 'A flip as its callers read it.';

create or replace function switchback.canary_off() returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  by_verdict bigint;
begin
  -- The row that a verdict and a start again lock for update: either comes first, and who comes second knows. A save of the judge's state
  -- goes by.
  select j.rolled_back into by_verdict from switchback.judge j for key share;
  return by_verdict is not null;
end $$;
comment on function switchback.canary_off() is
  'The judge has turned the traffic back, and no person has started again: until the transaction ends that stays so.';
`

/** The shape that every act on a flip returns. */
export const RETURNS =
  'returns table (id text, owner_to text, slots text, state text, epoch bigint, deadline_ms bigint, started_at text, steps text)'
export const OPTIONS = 'language plpgsql volatile set search_path = pg_catalog, pg_temp'

const INTENT = `
create or replace function switchback.write_intent(p_token bigint, p_to text, p_slots int[], p_deadline_ms bigint)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  wanted int[] := array(select distinct s from unnest(p_slots) s order by s);
  unfit int;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state(); -- one intent at a time, so that no two overlap
  if (select s.ending from switchback.state s) then
    raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = 'the move ends on the target: there is no way back',
      detail = json_build_object('flip', 'new', 'state', 'the move ends on the target', 'act', 'intent')::text;
  end if;
  if p_to = 'target' and switchback.canary_off() then
    raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = 'the judge turned the traffic back',
      detail = json_build_object('flip', 'new', 'state', 'off by a verdict until a person starts again', 'act', 'intent')::text;
  end if;
  select * into f from switchback.flip x where x.state not in ('cancelled', 'routed') and x.slots && wanted order by x.number limit 1;
  if found then
    -- Sent again after a lost reply: the same intent.
    if f.state = 'intent' and f.owner_to = p_to and f.slots = wanted then return query select r.* from switchback.flip_rows(f) r; return; end if;
    raise exception using errcode = '${STATE_OF.FLIP_OVERLAPS}', message = 'an open flip has some of these slots',
      detail = json_build_object('flip', f.id, 'state', f.state)::text;
  end if;
  select count(*) into unfit from unnest(wanted) s
    where not exists (select from switchback.ownership o where o.slot = s and o.owner <> p_to and o.phase = 'steady');
  if unfit > 0 or cardinality(wanted) = 0 then
    raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = 'slots are not there, not steady, or there already',
      detail = json_build_object('flip', 'new', 'state', unfit || ' slots not steady on the other side', 'act', 'intent')::text;
  end if;
  insert into switchback.flip (id, owner_to, slots, state, epoch, deadline_ms)
    select gen_random_uuid()::text, p_to, wanted, 'intent', s.epoch, p_deadline_ms from switchback.state s
    returning * into f;
  perform switchback.write_journal(p_token, 'intent', f.id, jsonb_build_object('to', p_to, 'slots', cardinality(wanted)));
  return query select r.* from switchback.flip_rows(f) r;
end $$;
comment on function switchback.write_intent(bigint, text, int[], bigint) is 'Journals a flip before anything is changed.';
`

const PHASES = `
create or replace function switchback.set_phase(p_token bigint, p_flip text, p_phase text)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  taken bigint;
  changed int;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  f := switchback.lock_flip(p_flip);
  if f.state = p_phase then -- sent again
    return query select r.* from switchback.flip_rows(f) r;
    return;
  end if;
  if not (p_phase = 'parking' and f.state = 'intent' or p_phase = 'fenced' and f.state in ('intent', 'parking')) then
    perform switchback.refuse_flip(f, p_phase);
  end if;
  perform switchback.lock_slots(f.slots);
  taken := switchback.take_epoch();
  update switchback.ownership o set phase = p_phase, epoch = taken where o.slot = any (f.slots) and o.owner <> f.owner_to;
  get diagnostics changed = row_count;
  if changed <> cardinality(f.slots) then perform switchback.refuse_flip(f, p_phase || ' over slots that changed owner'); end if;
  update switchback.flip x set state = p_phase, epoch = taken where x.id = f.id returning * into f;
  perform switchback.write_journal(p_token, p_phase, f.id, null);
  -- A fence is PostgreSQL's own: gateways that have parked the slots need not look up for it in the pause.
  if p_phase = 'parking' then perform pg_notify('${WAKE_CHANNEL}', taken::text); end if;
  return query select r.* from switchback.flip_rows(f) r;
end $$;
comment on function switchback.set_phase(bigint, text, text) is 'Parks or fences the flip''s slots at a fresh epoch.';

create or replace function switchback.write_marker(p_token bigint, p_flip text) returns text ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  content text;
begin
  perform switchback.assert_leader(p_token);
  f := switchback.lock_flip(p_flip);
  if f.state <> 'fenced' then perform switchback.refuse_flip(f, 'a marker'); end if;
  content := 'flip:' || f.id || ':' || f.epoch;
  -- Transactional: its commit flushes it; one outside a transaction is flushed by nobody.
  update switchback.flip x set marker_lsn = pg_logical_emit_message(true, 'switchback', content) where x.id = f.id;
  return content;
end $$;
comment on function switchback.write_marker(bigint, text) is 'A marker in the WAL after the fence; the forward sync reports its content as passed.';
`

const COMMIT = `
create or replace function switchback.commit_flip(p_token bigint, p_flip text, p_base bigint, p_held boolean)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  taken bigint;
  changed int;
  names text;
  first_lsn pg_lsn;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  f := switchback.lock_flip(p_flip);
  if f.state in ('committed', 'routed') then -- sent again
    return query select r.* from switchback.flip_rows(f) r;
    return;
  end if;
  if not (f.state = 'fenced' or f.owner_to = 'source' and f.state = 'parking') or f.owner_to = 'target' and f.marker_lsn is null then
    perform switchback.refuse_flip(f, 'commit');
  end if;
  -- After a verdict nothing goes to the target, a flip that was under way neither: it is cancelled.
  if f.owner_to = 'target' and switchback.canary_off() then perform switchback.refuse_flip(f, 'commit while the canary is off by a verdict'); end if;
  if clock_timestamp() > f.started_at + f.deadline_ms * interval '1 millisecond' then
    raise exception using errcode = '${STATE_OF.FLIP_DEADLINE}', message = 'the deadline of the flip has passed',
      detail = json_build_object('flip', f.id)::text;
  end if;
  select string_agg(format('%I.%I', n.nspname, c.relname), ', ') into names from switchback.mapped m
    join pg_class c on c.oid = m.relation join pg_namespace n on n.oid = c.relnamespace;
  execute 'lock table ' || names || ' in access share mode nowait';
  if f.owner_to = 'target' and switchback.tables_digest() is distinct from (select s.planned_tables from switchback.state s) then
    raise exception using errcode = '${STATE_OF.CATALOG_CHANGED}', message = 'the mapped tables are not as planned',
      detail = json_build_object('flip', f.id)::text;
  end if;
  perform switchback.lock_slots(f.slots);
  taken := switchback.take_epoch();
  -- Before the commit and after the marker; pg_current_wal_lsn() would lag behind finished asynchronous commits.
  first_lsn := pg_current_wal_insert_lsn();
  -- Held: nobody serves the slots, PostgreSQL's direct writers included, before the commit is on every standby that may be promoted.
  update switchback.ownership o
    set owner = f.owner_to, phase = case when p_held then 'fenced' else 'steady' end, epoch = taken, tenure = taken, base = p_base
    where o.slot = any (f.slots) and o.owner <> f.owner_to and o.base < p_base; -- INV-4
  get diagnostics changed = row_count;
  if changed <> cardinality(f.slots) then
    perform switchback.refuse_flip(f, 'commit over slots that changed owner, or with a base that is not above the old one');
  end if;
  insert into switchback.tenure (slot, tenure, owner, base, first_lsn)
    select s, taken, f.owner_to, p_base, first_lsn from unnest(f.slots) s;
  update switchback.flip x set state = 'committed', epoch = taken, commit_lsn = first_lsn where x.id = f.id returning * into f;
  perform switchback.write_journal(p_token, 'commit', f.id, jsonb_build_object('base', p_base::text, 'first_lsn', first_lsn));
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return query select r.* from switchback.flip_rows(f) r;
end $$;
comment on function switchback.commit_flip(bigint, text, bigint, boolean) is
  'The point of no return: journal, ownership and tenure in one transaction. Held: the slots stay fenced under the new owner until release_flip.';

create or replace function switchback.release_flip(p_token bigint, p_flip text)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  taken bigint;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  f := switchback.lock_flip(p_flip);
  if f.state not in ('committed', 'routed') then perform switchback.refuse_flip(f, 'release'); end if;
  -- Not held, or sent again. A routed flip's slots may be in a later flip by now.
  if f.state = 'routed' or not exists (select from switchback.ownership o where o.slot = any (f.slots) and o.phase = 'fenced') then
    return query select r.* from switchback.flip_rows(f) r;
    return;
  end if;
  perform switchback.lock_slots(f.slots);
  taken := switchback.take_epoch();
  update switchback.ownership o set phase = 'steady', epoch = taken where o.slot = any (f.slots) and o.phase = 'fenced';
  update switchback.flip x set epoch = taken where x.id = f.id returning * into f;
  perform switchback.write_journal(p_token, 'release', f.id, null);
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return query select r.* from switchback.flip_rows(f) r;
end $$;
comment on function switchback.release_flip(bigint, text) is
  'A held commit is on every standby that may be promoted: its slots are steady at a fresh epoch, and gateways route.';

create or replace function switchback.cancel_flip(p_token bigint, p_flip text, p_because text)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  taken bigint;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  f := switchback.lock_flip(p_flip);
  if f.state = 'cancelled' then -- sent again
    return query select r.* from switchback.flip_rows(f) r;
    return;
  end if;
  if f.state in ('committed', 'routed') then perform switchback.refuse_flip(f, 'cancel'); end if;
  perform switchback.lock_slots(f.slots);
  taken := switchback.take_epoch();
  -- A fresh epoch, the same tenure: what was in flight stays what it was (faults.md 27).
  update switchback.ownership o set phase = 'steady', epoch = taken where o.slot = any (f.slots);
  update switchback.flip x set state = 'cancelled', epoch = taken, because = p_because where x.id = f.id returning * into f;
  perform switchback.write_journal(p_token, 'cancel', f.id, jsonb_build_object('because', p_because));
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return query select r.* from switchback.flip_rows(f) r;
end $$;
comment on function switchback.cancel_flip(bigint, text, text) is 'Back to the old owner at a fresh epoch, same tenure.';

create or replace function switchback.finish_flip(p_token bigint, p_flip text, p_steps jsonb)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
begin
  perform switchback.assert_leader(p_token);
  f := switchback.lock_flip(p_flip);
  if f.state not in ('committed', 'routed', 'cancelled')
     or f.state = 'committed' and exists (select from switchback.ownership o where o.slot = any (f.slots) and o.phase <> 'steady') then
    perform switchback.refuse_flip(f, 'finish');
  end if;
  update switchback.flip x set state = case f.state when 'committed' then 'routed' else f.state end, steps = p_steps
    where x.id = f.id returning * into f;
  perform switchback.write_journal(p_token, 'finish', f.id, jsonb_build_object('state', f.state));
  return query select r.* from switchback.flip_rows(f) r;
end $$;
comment on function switchback.finish_flip(bigint, text, jsonb) is 'Closes a committed flip as routed; adds the steps'' record.';
`

const READ_ONLY = `
create or replace function switchback.set_read_only(p_token bigint, p_slots int[], p_read_only boolean) returns bigint ${OPTIONS} as $$
#variable_conflict use_column
declare
  taken bigint;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  perform switchback.lock_slots(p_slots);
  if not exists (select from switchback.ownership o where o.slot = any (p_slots) and o.read_only <> p_read_only) then
    return (select s.epoch from switchback.state s);
  end if;
  taken := switchback.take_epoch();
  update switchback.ownership o set read_only = p_read_only, epoch = taken where o.slot = any (p_slots) and o.read_only <> p_read_only;
  perform switchback.write_journal(p_token, 'read-only', null, jsonb_build_object('on', p_read_only, 'slots', cardinality(p_slots)));
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return taken;
end $$;
comment on function switchback.set_read_only(bigint, int[], boolean) is 'The flag, at a fresh epoch; commit and cancel keep it.';

create or replace function switchback.split_pin(p_token bigint, p_key text) returns int ${OPTIONS} as $$
#variable_conflict use_column
declare
  taken bigint;
  home int := switchback.hash_slot(p_key);
  made int;
  o switchback.ownership;
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  select p.slot into made from switchback.pin p where p.key = p_key;
  if found then return made; end if; -- sent again
  perform switchback.lock_slots(array[home]);
  taken := switchback.take_epoch();
  select * into o from switchback.ownership x where x.slot = home;
  if o.phase <> 'steady' or exists (select from switchback.flip x where x.state not in ('cancelled', 'routed') and x.slots && array[home]) then
    raise exception using errcode = '${STATE_OF.FLIP_OVERLAPS}', message = 'a flip has the slot',
      detail = json_build_object('flip', 'of slot ' || home, 'state', o.phase)::text;
  end if;
  select greatest(max(x.slot), 4095) + 1 into made from switchback.ownership x;
  insert into switchback.pin (key, slot, parent) values (p_key, made, home);
  -- The parent's row changes too, so that a guard that reads by an older snapshot fails on it (faults.md 67).
  update switchback.ownership x set has_pins = true, epoch = taken where x.slot = home;
  insert into switchback.ownership (slot, owner, phase, read_only, epoch, tenure, base)
    values (made, o.owner, 'steady', o.read_only, taken, o.tenure, o.base);
  insert into switchback.tenure (slot, tenure, owner, base, first_lsn)
    select made, t.tenure, t.owner, t.base, t.first_lsn from switchback.tenure t where t.slot = home;
  update switchback.applied a set slot = made where a.key = p_key;
  update switchback.poison x set slot = made where x.key = p_key;
  perform switchback.write_journal(p_token, 'split', null, jsonb_build_object('slot', made, 'parent', home));
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return made;
end $$;
comment on function switchback.split_pin(bigint, text) is 'Makes a key a slot of its own while steady; counts when every lease has acked it or is over.';
`

export const FLIP_FUNCTIONS = HELPERS + INTENT + PHASES + COMMIT + READ_ONLY
