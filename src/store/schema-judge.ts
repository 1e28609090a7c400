// Promises: the judge's tables in the control schema, and its acts: each is one function, so one transaction, in which the leader's token
// is compared. A rollback by verdict, what it holds and what it orders stand or fall together; a verdict acts once, whoever leads.
import { JOB_CHANNEL } from './jobs.ts'
import { OPTIONS } from './schema-flips.ts'

export const JUDGE_UPGRADE = `
create table switchback.judge (
  one boolean primary key default true check (one),
  format text not null default '',
  state text,
  rolled_back bigint,
  secret bytea not null default uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
  saved_at timestamptz
) with (fillfactor = 50);
insert into switchback.judge default values;
comment on table switchback.judge is
  'One row: what the judge has gathered, so that a new leader goes on from it. format: of the state''s text. rolled_back: the verdict by which the canary is off until a person starts it again; null: none. secret: keys that people may not see have names made with it.';

create table switchback.verdict (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  judged_ms double precision not null,
  act text not null check (act in ('rollback', 'block', 'warn')),
  detector text not null,
  about text not null default '',
  verdict jsonb not null,
  evidence text,
  job bigint,
  orders int not null default 0,
  off_at timestamptz,
  report jsonb,
  unique (judged_ms, act, detector, about)
);
create index verdict_unreported on switchback.verdict (id) where act = 'rollback' and (report is null or not (report ->> 'whole')::boolean);
comment on table switchback.verdict is
  'What the judge said, recorded before anything is done. judged_ms: by the wall clock of who judged; about: the key or statement. Of a rollback: evidence, a file that judge recheck takes, of the newest only; job: the order to go back, placed in the same transaction, the newest of so many orders; off_at: when the last of the traffic was back on PostgreSQL; report: what was found afterwards.';
`

/** Verdicts that turned nothing back; older ones go. */
const NOTES_KEPT = 1_000

const ORDER_HOME = `
create or replace function switchback.order_home(p_verdict bigint) returns bigint ${OPTIONS} as $$
declare
  placed bigint;
begin
  -- All slots: those that a move was taking out just now may arrive on the target yet; whoever takes the order up looks which are there.
  insert into switchback.job (kind, arguments)
    select 'move', jsonb_build_object('to', 'source', 'readOnlyFirst', false, 'by', 'judge', 'verdict', p_verdict,
                                      'slots', jsonb_agg(o.slot order by o.slot))
      from switchback.ownership o
    returning job.id into placed;
  update switchback.verdict v set job = placed, orders = v.orders + 1 where v.id = p_verdict;
  perform pg_notify('${JOB_CHANNEL}', placed::text);
  return placed;
end $$;
comment on function switchback.order_home(bigint) is 'Part of the acts below: places the order of a verdict.';
`

const RECORD = `
create or replace function switchback.record_verdict(p_token bigint, p_verdict jsonb, p_evidence text, p_format text, p_state text, p_files int,
  out verdict_id bigint, out job_id bigint, out held int) ${OPTIONS} as $$
#variable_conflict use_column
declare
  acted bigint;
begin
  perform switchback.assert_leader(p_token);
  held := 0;
  select j.rolled_back into acted from switchback.judge j for update;
  if p_verdict ->> 'act' = 'rollback' and acted is not null then -- sent again, or another leader's: it has acted
    select v.id, v.job into verdict_id, job_id from switchback.verdict v where v.id = acted;
    return;
  end if;
  insert into switchback.verdict (judged_ms, act, detector, about, verdict, evidence)
    values ((p_verdict ->> 'tMs')::double precision, p_verdict ->> 'act', p_verdict ->> 'detector',
            coalesce(p_verdict ->> 'key', p_verdict -> 'evidence' ->> 'statement', ''), p_verdict, p_evidence)
    on conflict do nothing returning id into verdict_id;
  if verdict_id is null then return; end if; -- sent again
  perform switchback.write_journal(p_token, 'verdict', null,
    jsonb_build_object('verdict', verdict_id, 'act', p_verdict ->> 'act', 'detector', p_verdict ->> 'detector'));
  if p_verdict ->> 'act' <> 'rollback' then
    delete from switchback.verdict v where v.act <> 'rollback' and v.id <= verdict_id
      and v.id <= (select x.id from switchback.verdict x where x.act <> 'rollback' order by x.id desc offset ${NOTES_KEPT} limit 1);
    return;
  end if;
  update switchback.judge j set format = p_format, state = p_state, rolled_back = verdict_id, saved_at = clock_timestamp();
  update switchback.verdict v set evidence = null where v.evidence is not null
    and v.id <= (select x.id from switchback.verdict x where x.evidence is not null order by x.id desc offset greatest(p_files, 1) limit 1);
  -- Past the one-way door there is no way back to order. announce_end takes the judge's row first: it saw this verdict, or is seen here.
  if (select s.ending from switchback.state s) then return; end if;
  perform switchback.end_ramp('rolled back', 'the judge turned the traffic back: ' || (p_verdict ->> 'detector')
    || coalesce(' of ' || coalesce(p_verdict ->> 'key', p_verdict -> 'evidence' ->> 'statement'), ''));
  with stopped as (
    update switchback.job b set state = 'held', ended_at = clock_timestamp(),
        result = jsonb_build_object('because', 'held: the judge turned the traffic back (verdict ' || verdict_id || ')')
      where b.state in ('open', 'running') and (b.kind = 'move' and b.arguments ->> 'to' = 'target' or b.kind = 'finalize') returning b.id
  )
  select count(pg_notify('${JOB_CHANNEL}', stopped.id::text)) into held from stopped;
  job_id := switchback.order_home(verdict_id);
end $$;
comment on function switchback.record_verdict(bigint, jsonb, text, text, text, int) is
  'A verdict, before it acts. Of a rollback, in the same transaction: moves to the target and a finalize are held, all slots are ordered home, and the judge''s state says so. Once the end of the move is announced it is recorded and nothing more.';
`

const AFTERWARDS = `
create or replace function switchback.order_home_again(p_token bigint, p_verdict bigint) returns bigint ${OPTIONS} as $$
begin
  perform switchback.assert_leader(p_token);
  perform 1 from switchback.judge j where j.rolled_back = p_verdict for update;
  if not found or (select s.ending from switchback.state s)
     or not exists (select from switchback.ownership o where o.owner = 'target')
     or exists (select from switchback.job b where b.state in ('open', 'running') and b.kind = 'move'
                  and (b.arguments ->> 'to' = 'target' or b.arguments ->> 'by' = 'judge')) then
    return null;
  end if;
  return switchback.order_home(p_verdict);
end $$;
comment on function switchback.order_home_again(bigint, bigint) is
  'The order of a verdict ended and left slots on the target: another one, unless one is under way, a move to the target is, or a person has started again.';

create or replace function switchback.save_judge(p_token bigint, p_format text, p_state text) returns void ${OPTIONS} as $$
begin
  perform switchback.assert_leader(p_token);
  -- A crash loses some seconds of it, and no more.
  perform set_config('synchronous_commit', 'off', true);
  update switchback.judge j set format = p_format, state = p_state, saved_at = clock_timestamp();
end $$;
comment on function switchback.save_judge(bigint, text, text) is 'What the judge has gathered so far.';

create or replace function switchback.start_again(p_token bigint, p_format text, p_state text) returns void ${OPTIONS} as $$
declare
  was bigint;
begin
  perform switchback.assert_leader(p_token);
  select j.rolled_back into was from switchback.judge j for update;
  update switchback.judge j set format = p_format, state = p_state, rolled_back = null, saved_at = clock_timestamp();
  if was is not null then perform switchback.write_journal(p_token, 'canary again', null, jsonb_build_object('verdict', was)); end if;
end $$;
comment on function switchback.start_again(bigint, text, text) is 'A person starts a canary after a rollback by verdict: the judge judges again.';

create or replace function switchback.save_report(p_token bigint, p_verdict bigint, p_off_at timestamptz, p_report jsonb) returns void ${OPTIONS} as $$
begin
  perform switchback.assert_leader(p_token);
  update switchback.verdict v set off_at = p_off_at, report = p_report where v.id = p_verdict;
end $$;
comment on function switchback.save_report(bigint, bigint, timestamptz, jsonb) is 'What was found after a rollback by verdict.';
`

export const JUDGE_FUNCTIONS = ORDER_HOME + RECORD + AFTERWARDS
