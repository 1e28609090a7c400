// Promises: each act of a gateway or a leader on the control schema is one function, so one round trip and one transaction. In a
// plpgsql function declared volatile every statement reads by a snapshot of its own, which the comments below rely on.
//
// Locks, always in this order, so that acts never wait for each other in a circle: leader (share), judge, state, flip, mapped tables,
// ownership. Only canary_off asks for a key share of judge behind them: whoever holds that row for update waits for none of the others.
// Ownership rows are taken `for no key update nowait`: whoever is refused rolls back, and waits holding nothing
// (protocols.md, Guard, Old snapshots; faults.md 66).

/** SQLSTATEs of the functions' own refusals; the detail is JSON. store/session.ts turns them into codes. */
export const STATE_OF = {
  TOKEN_STALE: 'SB001',
  LEASE_OVER: 'SB002',
  FLIP_STATE: 'SB003',
  CATALOG_CHANGED: 'SB004',
  FLIP_OVERLAPS: 'SB005',
  FLIP_DEADLINE: 'SB006',
} as const

/** Wakes gateways: ownership, bindings or pins changed; the payload is the epoch. */
export const WAKE_CHANNEL = 'switchback_wake'
/** Wakes the leader: a lease row changed; the payload is the lease. */
export const LEASE_CHANNEL = 'switchback_lease'

const SLOTS = `
create or replace function switchback.hash_slot(key text) returns int
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  digest bytea := sha256(convert_to(key, 'UTF8'));
begin
  return (get_byte(digest, 0) << 4) | (get_byte(digest, 1) >> 4);
end $$;
comment on function switchback.hash_slot(text) is 'First 12 bits of sha256 of the canonical key''s UTF-8 bytes.';

create or replace function switchback.slot_of(key text) returns int
language sql stable strict set search_path = pg_catalog, pg_temp as $$
  select coalesce((select p.slot from switchback.pin p where p.key = $1), switchback.hash_slot($1))
$$;
comment on function switchback.slot_of(text) is 'The slot of a canonical key: its pin, else its hash slot. Stable, not immutable: pins come and go.';
`

const GATEWAYS = `
create or replace function switchback.view_since(seen bigint,
  out epoch bigint, out binding_epoch bigint, out owned text, out pins text, out ending boolean)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  -- One statement, so one snapshot.
  select s.epoch, s.binding_epoch,
    (select string_agg(concat_ws(',', o.slot, o.owner, o.phase, o.read_only::int, o.epoch, o.tenure, o.base), ';')
      from switchback.ownership o where o.epoch > seen),
    (select json_agg(json_build_array(p.key, p.slot, p.parent))::text from switchback.pin p), s.ending
  into epoch, binding_epoch, owned, pins, ending
  from switchback.state s;
end $$;
comment on function switchback.view_since(bigint) is 'What changed after an epoch, in one snapshot.';

create or replace function switchback.open_lease(p_gateway text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  lease text := gen_random_uuid()::text;
begin
  insert into switchback.lease (id, gateway) values (lease, p_gateway);
  perform pg_notify('${LEASE_CHANNEL}', lease);
  return lease;
end $$;
comment on function switchback.open_lease(text) is 'A new lease id: each start, and each renewal after a lapse.';

create or replace function switchback.renew(p_lease text, p_seen bigint,
  out over boolean, out epoch bigint, out binding_epoch bigint, out owned text, out pins text, out ending boolean,
  out rights text, out catalog text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  -- First the lease row, then, by a later snapshot, the view: what a leader sees as renewed has read whatever fence was committed
  -- before (protocols.md, Leases; faults.md 50).
  update switchback.lease l set renewals = l.renewals + 1 where l.id = p_lease and not l.over;
  over := not found;
  if over then return; end if;
  select v.epoch, v.binding_epoch, v.owned, v.pins, v.ending, switchback.rights_digest(), switchback.catalog_digest()
    into epoch, binding_epoch, owned, pins, ending, rights, catalog
    from switchback.view_since(p_seen) v;
end $$;
comment on function switchback.renew(text, bigint) is 'One renewal: raises the lease row, then reads the view.';

create or replace function switchback.ack(p_lease text, p_epoch bigint, p_sequences jsonb, p_excused jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- An older ack that comes late changes nothing.
  update switchback.lease l set
      acked_epoch = greatest(l.acked_epoch, p_epoch),
      next_sequences = case when p_epoch >= l.acked_epoch then p_sequences else l.next_sequences end,
      excused = case when p_epoch >= l.acked_epoch then p_excused else l.excused end
    where l.id = p_lease and not l.over;
  if not found then
    raise exception using errcode = '${STATE_OF.LEASE_OVER}', message = 'the lease is over',
      detail = json_build_object('lease', p_lease)::text;
  end if;
  perform pg_notify('${LEASE_CHANNEL}', p_lease);
end $$;
comment on function switchback.ack(text, bigint, jsonb, jsonb) is 'A gateway says that what began under older views has ended.';

create or replace function switchback.release_lease(p_lease text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  update switchback.lease l set over = true where l.id = p_lease and not l.over;
  perform pg_notify('${LEASE_CHANNEL}', p_lease);
end $$;
comment on function switchback.release_lease(text) is 'A gateway gives its lease up: over at once.';
`

const LEADER = `
create or replace function switchback.assert_leader(p_token bigint) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform 1 from switchback.leader l where l.token = p_token for share;
  if not found then
    raise exception using errcode = '${STATE_OF.TOKEN_STALE}', message = 'another controller leads',
      detail = json_build_object('token', p_token)::text;
  end if;
end $$;
comment on function switchback.assert_leader(bigint) is
  'Called first in each transaction of a leader: holds the leader row, so that a new token waits for the act and the next act meets it.';

create or replace function switchback.beat(p_token bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from switchback.leader l where l.token = p_token) then return false; end if;
  update switchback.heartbeat h set beats = h.beats + 1, token = p_token;
  return true;
end $$;
comment on function switchback.beat(bigint) is 'The leader lives. False: another one leads.';

create or replace function switchback.take_epoch() returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  update switchback.state s set epoch = s.epoch + 1 returning s.epoch
$$;
comment on function switchback.take_epoch() is 'The next epoch.';

create or replace function switchback.write_journal(p_token bigint, p_kind text, p_flip text, p_detail jsonb) returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchback.journal (token, epoch, kind, flip, detail)
    select p_token, s.epoch, p_kind, p_flip, coalesce(p_detail, '{}') from switchback.state s
    returning id
$$;
comment on function switchback.write_journal(bigint, text, text, jsonb) is 'Appends to the journal in the transaction that acts.';

create or replace function switchback.append_journal(p_token bigint, p_kind text, p_detail jsonb) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchback.assert_leader(p_token);
  return switchback.write_journal(p_token, p_kind, null, p_detail);
end $$;
comment on function switchback.append_journal(bigint, text, jsonb) is 'A decision that is no flip: a standby struck off, a debt, a note.';

create or replace function switchback.end_leases(p_token bigint, p_leases text[], p_renewals bigint[]) returns setof text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchback.assert_leader(p_token);
  -- Compared in the same look that writes: a renewal in flight makes it wait, and then it no longer matches.
  update switchback.lease l set over = true
    from unnest(p_leases, p_renewals) as seen(id, renewals)
    where l.id = seen.id and l.renewals = seen.renewals and not l.over;
  if found then perform pg_notify('${LEASE_CHANNEL}', ''); end if;
  return query select l.id from switchback.lease l where l.id = any (p_leases) and l.over;
end $$;
comment on function switchback.end_leases(bigint, text[], bigint[]) is 'Calls leases over that are still as seen.';

create or replace function switchback.bind(p_token bigint) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  bound bigint;
begin
  perform switchback.assert_leader(p_token);
  select s.binding_epoch into bound from switchback.state s for update;
  if bound is not null then return bound; end if;
  update switchback.state s set epoch = s.epoch + 1, binding_epoch = s.epoch + 1 returning s.binding_epoch into bound;
  perform switchback.write_journal(p_token, 'bind', null, null);
  perform pg_notify('${WAKE_CHANNEL}', bound::text);
  return bound;
end $$;
create or replace function switchback.announce_end(p_token bigint) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  taken bigint;
  turned_back bigint;
begin
  perform switchback.assert_leader(p_token);
  -- As record_verdict does: a verdict is seen here, and then nothing ends, or it sees that the move ends, and orders nothing home.
  select j.rolled_back into turned_back from switchback.judge j for share;
  perform switchback.lock_state();
  if turned_back is not null and not (select s.ending from switchback.state s) then
    raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = 'the judge turned the traffic back',
      detail = json_build_object('flip', 'none', 'state', 'turned back by verdict ' || turned_back, 'act', 'the end of the move')::text;
  end if;
  -- The point of no return: from here on PostgreSQL may lack what the target has, so nothing goes back (write_intent refuses).
  if exists (select from switchback.ownership o where o.owner <> 'target' or o.phase <> 'steady')
     or exists (select from switchback.flip x where x.state not in ('cancelled', 'routed')) then
    raise exception using errcode = '${STATE_OF.FLIP_STATE}', message = 'slots are not steady on the target',
      detail = json_build_object('flip', 'none', 'state', 'slots not steady on the target', 'act', 'the end of the move')::text;
  end if;
  update switchback.state s set ending = true, epoch = s.epoch + 1 returning s.epoch into taken;
  perform switchback.write_journal(p_token, 'end announced', null, null);
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return taken;
end $$;
comment on function switchback.announce_end(bigint) is 'The move ends on the target: at a fresh epoch, no more outbox entries.';

comment on function switchback.bind(bigint) is 'Opens INV-8 at a fresh epoch, once.';
`

export const CONTROL_FUNCTIONS = SLOTS + GATEWAYS + LEADER
