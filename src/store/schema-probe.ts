// Promises: what the leader needs to prove the way back and to count what came by it: a row of Switchback's own that only the reverse
// sync writes, and one running total over all tenures.

export const PROBE_TABLES = `
create table switchback.probe (
  id text primary key,
  n bigint not null
) with (fillfactor = 40);
insert into switchback.probe (id, n) values ('~switchback probe ' || gen_random_uuid(), 0);
comment on table switchback.probe is
  'The probe aggregate. The leader writes it on the target, and the reverse sync brings it here: the way back has been written (protocols.md, The flip, 1). Its id is random, so that it is no key of the service.';

create table switchback.applied_total (
  one boolean primary key default true check (one),
  transactions bigint not null
) with (fillfactor = 40);
insert into switchback.applied_total (transactions) select coalesce(sum(a.version), 0) from switchback.applied a;
alter table switchback.state add ending boolean not null default false;
comment on column switchback.state.ending is 'finalize has begun: no gateway sends an outbox entry any more.';
alter table switchback.violation add settled_at timestamptz;
comment on column switchback.violation.settled_at is
  'When both stores were seen equal again. Until then no slot of it goes to the target.';

comment on table switchback.applied_total is
  'Target transactions applied in PostgreSQL since the move began, all tenures together, the probe''s own left out; raised in the commit that applied them.';
`
