// Promises: the guard's SQL. Functions, triggers and the event trigger that make PostgreSQL itself refuse writes to slots that it
// does not own, whoever sends them (INV-1; protocols.md, Guard in PostgreSQL).
import { ident } from './ident.ts'

/** BEFORE triggers fire by name: it must see the final NEW, after users' triggers that change the key (faults.md 54). */
export const ROW_TRIGGER = '~switchback_guard'
export const TRUNCATE_TRIGGER = '~switchback_truncate'
export const EVENT_TRIGGER = 'switchback_guard_ddl'

/** A pin to the functions' search_path besides the qualified names: nothing of a user's own schema can stand in for an operator. */
const PINNED_PATH = 'set search_path = pg_catalog, pg_temp'

export function guardFunctionName(relationOid: number): string {
  return `guard_${relationOid}`
}

/**
 * The row trigger's body. The fast path is one hash and one look-up by a cached plan; NEW and OLD of the same key are looked up once.
 * READ COMMITTED: the function is VOLATILE, so the look-up reads the newest committed row. In the other levels a plain read would see
 * the owner as of the transaction's snapshot: `for share` fails with 40001 if the row has changed since (faults.md 46).
 */
export function guardBody(keyColumn: string): string {
  const k = ident(keyColumn)
  return `
declare
  key text;
  digest bytea;
  hash int;
  open boolean;
begin
  if tg_op = 'DELETE' then
    key := old.${k}::text;
  else
    key := new.${k}::text;
  end if;
  digest := sha256(convert_to(key, 'UTF8'));
  hash := (get_byte(digest, 0) << 4) | (get_byte(digest, 1) >> 4);
  if current_setting('transaction_isolation') = 'read committed' then
    select o.writable and not o.has_pins into open from switchback.ownership o where o.slot = hash;
  end if;
  if open is not true then
    perform switchback.guard_check(key, hash, tg_table_schema, tg_table_name);
  end if;
  if tg_op = 'UPDATE' then
    if old.${k} is distinct from new.${k} then
      perform switchback.guard_check(old.${k}::text, switchback.hash_slot(old.${k}::text), tg_table_schema, tg_table_name);
    end if;
    return new;
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end `
}

export const CHECK_BODY = `
declare
  asked int := p_hash;
  o switchback.ownership;
  locking boolean := current_setting('transaction_isolation') not in ('read committed', 'read uncommitted');
begin
  if p_key is null then
    return; -- the column is NOT NULL: PostgreSQL itself refuses the row
  end if;
  for pass in 1..2 loop
    if locking then
      -- The hash slot's row too where the key is a pin: its split or merge changed that row (faults.md 67).
      select * into strict o from switchback.ownership x where x.slot = asked for share;
    else
      select * into strict o from switchback.ownership x where x.slot = asked;
    end if;
    exit when not o.has_pins;
    select p.slot into asked from switchback.pin p where p.key = p_key;
    exit when not found;
  end loop;
  if o.writable or session_user = (select s.applier_role from switchback.state s) then
    return;
  end if;
  if o.owner = 'target' then
    raise exception using errcode = '55000',
      message = format('key %L of %I.%I is not written in PostgreSQL any more: it lives on the target', p_key, p_schema, p_table),
      hint = 'Connect through the Switchback gateway, which writes it where it lives.';
  end if;
  if o.read_only then
    raise exception using errcode = '25006',
      message = format('key %L of %I.%I is read-only for now', p_key, p_schema, p_table),
      hint = 'An operator of Switchback has set it read-only; reads go on.';
  end if;
  raise exception using errcode = '40001',
    message = format('could not write key %L of %I.%I: it is being moved right now', p_key, p_schema, p_table),
    hint = 'Try the transaction again, through the Switchback gateway if it has moved by then.';
end `

export const TRUNCATE_BODY = `
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    perform 1 from switchback.ownership o order by o.slot for share;
  end if;
  if exists (select from switchback.ownership o where o.owner = 'target') then
    raise exception using errcode = '55000',
      message = format('TRUNCATE of %I.%I is refused: some of its keys live on the target', tg_table_schema, tg_table_name),
      hint = 'Delete the rows through the Switchback gateway, or roll back first.';
  end if;
  if exists (select from switchback.ownership o where o.read_only) then
    raise exception using errcode = '25006',
      message = format('TRUNCATE of %I.%I is refused: some of its keys are read-only for now', tg_table_schema, tg_table_name);
  end if;
  if exists (select from switchback.ownership o where o.phase <> 'steady') then
    raise exception using errcode = '40001',
      message = format('TRUNCATE of %I.%I is refused: some of its keys are being moved right now', tg_table_schema, tg_table_name),
      hint = 'Try the transaction again.';
  end if;
  return null;
end `

/** After `finalize`: a forgotten job that writes PostgreSQL would else succeed silently (faults.md 65). */
export const FINAL_BODY = `
begin
  raise exception using errcode = '55000',
    message = format('%I.%I is not written in PostgreSQL any more: its move to another store is final', tg_table_schema, tg_table_name),
    hint = 'Write the store that the service was moved to.';
end `

/** Refuses what would change the mapped tables as planned, or the guard. Runs at the end of each DDL command of the database. */
export const DDL_BODY = `
declare
  intact boolean;
begin
  -- Temporary tables come and go all day, and cannot touch a mapped one but by inheritance.
  if exists (select from pg_event_trigger_ddl_commands())
     and not exists (select from pg_event_trigger_ddl_commands() c
       where c.schema_name is distinct from 'pg_temp' or exists (select from pg_inherits i where i.inhrelid = c.objid)) then
    return;
  end if;
  select count(*) = 2 * (select count(*) from switchback.guarded) into intact
    from switchback.guarded g
    join pg_trigger t on t.tgrelid = g.relation and t.tgenabled = 'A' and t.tgname in ('${ROW_TRIGGER}', '${TRUNCATE_TRIGGER}');
  if not intact or switchback.tables_digest() is distinct from (select s.guarded_tables from switchback.state s) then
    raise exception using errcode = '55006',
      message = format('%s is refused: it changes a table that Switchback is moving', tg_tag),
      hint = 'Roll the canary back and take the guard off, change the table, and plan the move again.';
  end if;
end `

export function createFunctions(keyColumns: ReadonlyMap<number, string>): string {
  const rows = [...keyColumns].map(([oid, column]) => triggerFunction(guardFunctionName(oid), guardBody(column)))
  const triggers = ['guard_truncate', ...[...keyColumns.keys()].map(guardFunctionName)].map((name) => `switchback.${ident(name)}()`)
  return `
create or replace function switchback.guard_check(p_key text, p_hash int, p_schema name, p_table name) returns void
language plpgsql volatile security definer ${PINNED_PATH} as $guard$${CHECK_BODY}$guard$;
${rows.join('\n')}
${triggerFunction('guard_truncate', TRUNCATE_BODY)}
revoke all on function switchback.guard_check(text, int, name, name), ${triggers.join(', ')} from public;`
}

export function triggerFunction(name: string, body: string): string {
  return `create or replace function switchback.${ident(name)}() returns trigger
language plpgsql volatile security definer ${PINNED_PATH} as $guard$${body}$guard$;`
}

export const CREATE_EVENT_TRIGGER = `
create or replace function switchback.guard_ddl() returns event_trigger
language plpgsql volatile security definer ${PINNED_PATH} as $guard$${DDL_BODY}$guard$;
revoke all on function switchback.guard_ddl() from public;
create event trigger ${EVENT_TRIGGER} on ddl_command_end execute function switchback.guard_ddl();
alter event trigger ${EVENT_TRIGGER} enable always;`
