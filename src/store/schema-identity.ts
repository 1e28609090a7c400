// Promises: the next number of an identity column for whoever may insert into its table, as PostgreSQL's own INSERT gives it without a
// right on the sequence. A gateway asks it in the client's session for keys that have moved, so currval() and lastval() mean the same.

export const IDENTITY_FUNCTIONS = `
create or replace function switchback.next_identity(p_relation regclass, p_column name) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  -- SET ROLE still counts in here; current_user is the function's owner.
  caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
  sequence regclass;
begin
  select d.objid::regclass into sequence
    from switchback.mapped m
    join pg_attribute a on a.attrelid = m.relation and a.attname = p_column and a.attidentity <> ''
    join pg_depend d on d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
     and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype = 'i'
    where m.relation = p_relation;
  if sequence is null or not has_any_column_privilege(caller, p_relation, 'insert') then
    raise exception using errcode = '42501', 
      message = format('permission denied for table %s', (select c.relname from pg_class c where c.oid = p_relation));
  end if;
  return nextval(sequence);
end $$;
comment on function switchback.next_identity(regclass, name) is
  'The next number of a mapped table''s identity column, for who may insert there: an INSERT asks for no right on its sequence.';
`

/** The one thing in the schema that a service's own roles may call. */
export const IDENTITY_GRANTS = `
grant usage on schema switchback to public;
grant execute on function switchback.next_identity(regclass, name) to public;
`
