// Promises: what a rollback with the target silent leaves behind, in the control schema: slots that went back and what is owed for them,
// written in the transaction that commits; slots that could not go, parked under a flip of their own; and what gateways that cannot ack
// said in the meantime.
import { OPTIONS, RETURNS } from './schema-flips.ts'
import { LEASE_CHANNEL } from './schema-functions.ts'

export const DEBT_UPGRADE = `
alter table switchback.lease add column partial jsonb;

create table switchback.debt (
  slot int primary key,
  flip text not null,
  tenure bigint not null,
  at timestamptz not null default clock_timestamp()
);
comment on table switchback.debt is
  'Slots that went back to PostgreSQL while the target did not answer: their rows are still to be compared, and put there again where they differ, before a slot may go to the target (protocols.md, The flip). tenure: of PostgreSQL, begun by that flip.';

-- It can be held now, and is made anew.
drop function if exists switchback.commit_flip(bigint, text, bigint);
`

export const DEBT_FUNCTIONS = `
create or replace function switchback.ack_partly(p_lease text, p_partial jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- An older word that comes late changes nothing.
  update switchback.lease l set partial = p_partial
    where l.id = p_lease and not l.over and coalesce((l.partial->>'epoch')::bigint, 0) <= (p_partial->>'epoch')::bigint;
  perform pg_notify('${LEASE_CHANNEL}', p_lease);
end $$;
comment on function switchback.ack_partly(text, jsonb) is
  'A gateway that cannot ack yet says which slots in flip hold it up, and which entries it knows nothing of.';

create or replace function switchback.commit_in_debt(p_token bigint, p_flip text, p_base bigint, p_held boolean)
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
begin
  return query select r.* from switchback.commit_flip(p_token, p_flip, p_base, p_held) r;
  insert into switchback.debt (slot, flip, tenure)
    select o.slot, p_flip, o.tenure from switchback.flip f, switchback.ownership o
     where f.id = p_flip and f.owner_to = 'source' and o.slot = any (f.slots) and o.owner = 'source'
    on conflict (slot) do update set flip = excluded.flip, tenure = excluded.tenure where debt.tenure < excluded.tenure;
end $$;
comment on function switchback.commit_in_debt(bigint, text, bigint, boolean) is
  'The point of no return of a flip to PostgreSQL with the target silent: what is owed is in the same transaction.';

create or replace function switchback.split_flip(p_token bigint, p_flip text, p_go int[])
${RETURNS} ${OPTIONS} as $$
#variable_conflict use_column
declare
  f switchback.flip;
  r switchback.flip;
  going int[] := array(select distinct s from unnest(p_go) s order by s);
  staying int[];
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  f := switchback.lock_flip(p_flip);
  select * into r from switchback.flip x where x.id = p_flip || '-rest';
  if found and f.slots = going then -- sent again
    return query select x.* from switchback.flip_rows(f) x union all select x.* from switchback.flip_rows(r) x;
    return;
  end if;
  staying := array(select s from unnest(f.slots) s where not s = any (going) order by s);
  if f.state <> 'parking' or f.owner_to <> 'source' or not going <@ f.slots or cardinality(going) = 0 or cardinality(staying) = 0 then
    perform switchback.refuse_flip(f, 'a split');
  end if;
  update switchback.flip x set slots = going where x.id = f.id returning * into f;
  insert into switchback.flip (id, owner_to, slots, state, epoch, deadline_ms)
    values (f.id || '-rest', f.owner_to, staying, 'parking', f.epoch, f.deadline_ms) returning * into r;
  perform switchback.write_journal(p_token, 'split flip', f.id, jsonb_build_object('go', cardinality(going), 'stay', cardinality(staying)));
  return query select x.* from switchback.flip_rows(f) x union all select x.* from switchback.flip_rows(r) x;
end $$;
comment on function switchback.split_flip(bigint, text, int[]) is
  'Some slots of a parked flip to PostgreSQL go; the others stay parked under a flip of their own. No row of ownership changes.';

create or replace function switchback.settle_debts(p_token bigint, p_slots int[], p_tenures bigint[]) returns void ${OPTIONS} as $$
begin
  perform switchback.assert_leader(p_token);
  -- Only what was looked at: a slot that has come back in debt since owes again.
  delete from switchback.debt d using unnest(p_slots, p_tenures) as paid(slot, tenure) where d.slot = paid.slot and d.tenure = paid.tenure;
  perform switchback.write_journal(p_token, 'debt paid', null, jsonb_build_object('slots', cardinality(p_slots)));
end $$;
comment on function switchback.settle_debts(bigint, int[], bigint[]) is 'The rows of these slots were seen equal on both sides.';
`
