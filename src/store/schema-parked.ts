// Promises: how long each flip held statements back, as each gateway saw it, in a table of its own: a report never waits for a lock that
// an act of the leader holds, nor an act for a report.

export const PARKED_TABLE = `
create table switchback.parked (
  epoch bigint not null,
  lease text not null,
  gateway text not null,
  statements bigint not null,
  p50_ms double precision not null,
  p99_ms double precision not null,
  max_ms double precision not null,
  primary key (epoch, lease)
);
comment on table switchback.parked is
  'How long statements were parked, one row a gateway and an epoch. An epoch belongs to the first flip whose own is not below it.';
`

export const PARKED_FUNCTIONS = `
create or replace function switchback.report_parked(p_lease text, p_flips jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  -- A figure, not an act: nothing waits for its flush.
  perform set_config('synchronous_commit', 'off', true);
  insert into switchback.parked as known (epoch, lease, gateway, statements, p50_ms, p99_ms, max_ms)
    select r.epoch, l.id, l.gateway, r.statements, r."p50Ms", r."p99Ms", r."maxMs"
      from switchback.lease l
      cross join jsonb_to_recordset(p_flips)
        as r(epoch bigint, statements bigint, "p50Ms" double precision, "p99Ms" double precision, "maxMs" double precision)
     where l.id = p_lease
    on conflict (epoch, lease) do update set statements = excluded.statements, p50_ms = excluded.p50_ms, p99_ms = excluded.p99_ms,
      max_ms = excluded.max_ms where excluded.statements >= known.statements;
end $$;
comment on function switchback.report_parked(text, jsonb) is 'A gateway says how long flips held its statements back; sent again, it is as once.';
`
