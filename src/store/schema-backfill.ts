// Promises: how a backfill begins, in one transaction: where its replication slot begins, the tenure whose rows it copies, and its
// record. The first one gives the first tenure its first LSN. A later one (the slot was lost) opens a new tenure for the slots that
// PostgreSQL owns, above every stamp that was issued before (INV-4), and leaves those of the target alone (protocols.md, Forward sync).
import { STATE_OF, WAKE_CHANNEL } from './schema-functions.ts'

/** An upgrade of its own: what came before has shipped. */
export const BACKFILL_UPGRADE = `
drop function if exists switchback.open_tenures(bigint, pg_lsn, bigint);
alter table switchback.backfill
  add again boolean not null default false,
  add tenure bigint not null default 1,
  add base bigint not null default 1,
  add system_identifier text,
  add timeline int,
  add stopped_because text,
  add lost boolean not null default false;
comment on table switchback.backfill is
  'One row a backfill; the newest counts. tenure and base: of the slots that it copies. ended_at: every range is durably on the target, and what was deleted meanwhile is gone there. system_identifier and timeline: the PostgreSQL that it was made from. stopped_because: the forward sync has stopped, and why; lost: for good, another backfill is needed.';

create table switchback.backfill_swept (
  backfill bigint not null references switchback.backfill (id),
  table_name text not null,
  segment int not null,
  segments int not null,
  tombstones bigint not null,
  primary key (backfill, table_name, segment, segments)
);
comment on table switchback.backfill_swept is
  'Parts of the target in which a later backfill has turned into tombstones what was deleted while nobody listened.';

alter table switchback.poison add retrying boolean not null default false;
comment on column switchback.poison.retrying is
  'Somebody has mended the cause: it is tried again, and the row goes with the commit that applies it.';
`

export const BACKFILL_FUNCTIONS = `
create or replace function switchback.begin_backfill(
  p_token bigint, p_point pg_lsn, p_epoch bigint, p_system text, p_timeline int, p_highest bigint) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  f switchback.flip;
  taken bigint;
  new_base bigint;
  is_again boolean;
  made bigint;
  home int[];
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  select * into f from switchback.flip x where x.state not in ('cancelled', 'routed') order by x.number limit 1;
  if found then
    raise exception using errcode = '${STATE_OF.FLIP_OVERLAPS}', message = 'a flip is open',
      detail = json_build_object('flip', f.id, 'state', f.state)::text;
  end if;
  -- A flip that committed after the slot was made has a tenure that begins after this one's: the caller makes another slot.
  if exists (select from switchback.tenure t where t.tenure > p_epoch) then return null; end if;
  update switchback.tenure t set first_lsn = p_point where t.first_lsn is null;
  is_again := not found;
  if is_again then
    home := array(select o.slot from switchback.ownership o where o.owner = 'source' order by o.slot);
    perform switchback.lock_slots(home);
    taken := switchback.take_epoch();
    -- Above what the WAL held when any change of the old tenures was stamped, and above what the caller found.
    select greatest(coalesce(max(o.base + greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), t.first_lsn), 0)), 0), coalesce(p_highest, 0)) + 1
      into new_base
      from switchback.ownership o join switchback.tenure t on t.slot = o.slot and t.tenure = o.tenure where o.owner = 'source';
    update switchback.ownership o set epoch = taken, tenure = taken, base = new_base where o.slot = any (home);
    insert into switchback.tenure (slot, tenure, owner, base, first_lsn) select s, taken, 'source', new_base, p_point from unnest(home) s;
  else
    select max(o.tenure), max(o.base) into taken, new_base from switchback.ownership o;
  end if;
  insert into switchback.backfill (consistent_point, again, tenure, base, system_identifier, timeline)
    values (p_point, is_again, taken, new_base, p_system, p_timeline) returning id into made;
  perform switchback.write_journal(p_token, case when is_again then 'second backfill' else 'backfill' end, null,
    jsonb_build_object('backfill', made, 'point', p_point, 'tenure', taken, 'base', new_base::text, 'slots', cardinality(home)));
  if is_again then perform pg_notify('${WAKE_CHANNEL}', taken::text); end if;
  return made;
end $$;
comment on function switchback.begin_backfill(bigint, pg_lsn, bigint, text, int, bigint) is
  'Where a backfill''s replication slot begins, its tenure and its record. Null: an owner has changed since the given epoch.';

create or replace function switchback.stop_forward(p_token bigint, p_backfill bigint, p_because text, p_lost boolean) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  perform switchback.assert_leader(p_token);
  -- What is lost stays lost: only a later backfill is whole again.
  update switchback.backfill b set stopped_because = p_because, lost = p_lost
    where b.id = p_backfill and not b.lost and (b.stopped_because is distinct from p_because or p_lost);
  if found then
    perform switchback.write_journal(p_token, case when p_because is null then 'forward sync goes on' else 'forward sync stopped' end, null,
      jsonb_build_object('backfill', p_backfill, 'because', p_because, 'lost', p_lost));
  end if;
end $$;
comment on function switchback.stop_forward(bigint, bigint, text, boolean) is
  'The forward sync of this backfill has stopped, or goes on (no reason): the canary and parity read it.';
`
