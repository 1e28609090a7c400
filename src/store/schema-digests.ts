// Promises: two digests, each one cheap query over the catalog, that change whenever what they stand for may have changed.
// They are plpgsql, whose plans a session keeps: planning them costs more than running them.
// switchback.relations() is the closure of the mapped tables over inheritance and partitioning: what a lock or a trigger must cover.

/** Switchback's own triggers are left out of the digests, so that the guard's coming and going is no change of plan. */
export const OWN_TRIGGERS = '~switchback%'

/** xmin 1: rows as initdb made them, whose rights nobody has changed; told without looking into the row. */
export const DIGEST_FUNCTIONS = `
create or replace function switchback.relations() returns setof oid
language plpgsql stable rows 10 set search_path = pg_catalog, pg_temp as $$
begin
  return query with recursive closure(relation) as (
    select m.relation from switchback.mapped m
    union
    select i.inhrelid from closure c join pg_catalog.pg_inherits i on i.inhparent = c.relation
  )
  select c.relation from closure c;
end $$;
comment on function switchback.relations() is 'The mapped tables and all their partitions and children.';

create or replace function switchback.tables_digest() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  rels oid[] := array(select r.relation from switchback.relations() r(relation)); -- an array, so that indexes are used
begin
  return (
  select encode(sha256(convert_to(concat_ws(E'\\x1e',
    (select string_agg(concat_ws('|', c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, c.relrowsecurity,
        c.relforcerowsecurity, c.relispartition, pg_get_expr(c.relpartbound, c.oid)), E'\\x1f' order by c.oid)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any (rels)),
    (select string_agg(concat_ws('|', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attisdropped,
        a.attidentity, a.attgenerated, a.attcollation, pg_get_expr(d.adbin, d.adrelid)), E'\\x1f' order by a.attrelid, a.attnum)
      from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = any (rels) and a.attnum > 0),
    (select string_agg(concat_ws('|', k.conrelid, k.conname, k.contype, k.condeferrable, k.condeferred, k.convalidated,
        k.conkey::text, k.confrelid, k.confkey::text, k.confupdtype, k.confdeltype, k.conbin::text), E'\\x1f' order by k.conrelid, k.conname)
      from pg_constraint k where k.conrelid = any (rels)),
    (select string_agg(concat_ws('|', i.indrelid, x.relname, i.indkey::text, i.indclass::text, i.indcollation::text,
        i.indnullsnotdistinct, i.indpred::text, i.indexprs::text), E'\\x1f' order by i.indrelid, x.relname)
      from pg_index i join pg_class x on x.oid = i.indexrelid
      where i.indrelid = any (rels) and i.indisvalid and (i.indisunique or i.indisexclusion)),
    (select string_agg(concat_ws('|', t.tgrelid, t.tgname, t.tgfoid, t.tgtype, t.tgenabled, t.tgqual::text, t.tgattr::text),
        E'\\x1f' order by t.tgrelid, t.tgname)
      from pg_trigger t where t.tgrelid = any (rels) and not t.tgisinternal and t.tgname not like '${OWN_TRIGGERS}'),
    (select string_agg(concat_ws('|', w.ev_class, w.oid, w.ev_type, w.ev_enabled, w.is_instead, w.ev_action::text), E'\\x1f' order by w.oid)
      from pg_rewrite w where w.ev_class = any (rels)),
    (select string_agg(concat_ws('|', p.polrelid, p.polname, p.polcmd, p.polpermissive, p.polroles::text, p.polqual::text,
        p.polwithcheck::text), E'\\x1f' order by p.oid)
      from pg_policy p where p.polrelid = any (rels))
  ), 'UTF8')), 'hex'));
end $$;
comment on function switchback.tables_digest() is
  'Of the mapped tables themselves: columns, defaults, constraints, unique indexes, partitions, triggers, rules, policies.';

create or replace function switchback.catalog_digest() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return (
  select encode(sha256(convert_to(concat_ws(E'\\x1e',
    switchback.tables_digest(),
    (select string_agg(concat_ws('|', c.oid, c.relnamespace, c.relname, c.relkind), E'\\x1f' order by c.oid)
      from pg_class c where c.relpersistence <> 't' and c.relname in (select m.table_name from switchback.mapped m)),
    (select string_agg(concat_ws('|', w.oid, w.ev_class, w.xmin), E'\\x1f' order by w.oid) from pg_rewrite w where w.oid >= 16384),
    (select string_agg(concat_ws('|', p.oid, p.pronamespace, p.proname, p.xmin), E'\\x1f' order by p.oid)
      from pg_proc p where p.oid >= 16384 and p.pronamespace <> 'switchback'::regnamespace),
    (select string_agg(concat_ws('|', n.oid, n.nspname), E'\\x1f' order by n.oid) from pg_namespace n
      where n.oid >= 16384 and n.nspname not like 'pg\\_%')
  ), 'UTF8')), 'hex'));
end $$;
comment on function switchback.catalog_digest() is
  'Of all that a plan depends on: tables_digest(), and every way to a mapped table or to its name (views, rules, functions, schemas, relations of the same name).';

create or replace function switchback.rights_digest() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  rels oid[] := array(select r.relation from switchback.relations() r(relation)); -- an array, so that indexes are used
begin
  return (
  select encode(sha256(convert_to(concat_ws(E'\\x1e',
    (select string_agg(concat_ws('|', c.oid, c.relowner, c.relacl::text, c.relrowsecurity, c.relforcerowsecurity), E'\\x1f' order by c.oid)
      from pg_class c where c.oid = any (rels)),
    (select string_agg(concat_ws('|', a.attrelid, a.attnum, a.attacl::text), E'\\x1f' order by a.attrelid, a.attnum)
      from pg_attribute a where a.attrelid = any (rels) and a.attacl is not null),
    (select string_agg(concat_ws('|', n.oid, n.nspowner, n.nspacl::text), E'\\x1f' order by n.oid)
      from pg_namespace n where n.oid in (select c.relnamespace from pg_class c where c.oid = any (rels))),
    (select string_agg(concat_ws('|', p.oid, p.proowner, p.proacl::text), E'\\x1f' order by p.oid)
      from pg_proc p where p.xmin <> '1'::xid and p.proacl is not null and p.pronamespace <> 'switchback'::regnamespace),
    (select string_agg(concat_ws('|', r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls), E'\\x1f' order by r.oid)
      from pg_roles r),
    (select string_agg(m::text, E'\\x1f' order by m.oid) from pg_auth_members m)
  ), 'UTF8')), 'hex'));
end $$;
comment on function switchback.rights_digest() is
  'Of the rights on mapped relations, their columns and schemas, of functions, of roles and memberships (a passed permission check holds while it is the same).';
`
