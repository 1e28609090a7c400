// Promises: what is wrong with the guard, each problem a sentence; nothing: it is there, enabled and unchanged. Looked at before each
// flip (protocols.md, Guard).
import type pg from 'pg'
import type { Mapping } from '../model/mapping.ts'
import {
  CHECK_BODY,
  DDL_BODY,
  EVENT_TRIGGER,
  guardBody,
  guardFunctionName,
  ROW_TRIGGER,
  TRUNCATE_BODY,
  TRUNCATE_TRIGGER,
} from './guard-sql.ts'

/** pg_trigger.tgtype: row 1, before 2, insert 4, delete 8, update 16, truncate 32. */
const ROW_TYPE = 1 + 2 + 4 + 8 + 16
const TRUNCATE_TYPE = 2 + 32

export async function checkGuard(client: pg.ClientBase, mapping: Mapping): Promise<string[]> {
  const { rows } = await client.query<{ guard: string; same: boolean }>(
    `select s.guard, s.guarded_tables is not distinct from switchback.tables_digest() as same from switchback.state s`,
  )
  const state = rows[0]
  if (state === undefined || state.guard === 'off')
    return ['The guard is not on the mapped tables: PostgreSQL would take writes to keys that have moved.']
  if (state.guard === 'final') return ['The guard is final: the mapped tables take no writes any more.']
  return [
    ...(state.same ? [] : ['The mapped tables have changed since the guard was put on them.']),
    ...(await functionProblems(client, mapping)),
    ...(await triggerProblems(client)),
    ...(await eventTriggerProblems(client)),
  ]
}

async function functionProblems(client: pg.ClientBase, mapping: Mapping): Promise<string[]> {
  const expected = new Map<string, string>([
    ['guard_check', CHECK_BODY],
    ['guard_truncate', TRUNCATE_BODY],
    ...mapping.tables.map((table) => [guardFunctionName(table.relationOid), guardBody(table.columns[table.partition]!.name)] as const),
  ])
  const { rows } = await client.query<{ name: string; source: string; definer: boolean; config: string | null; volatile: string }>(
    `select p.proname as name, p.prosrc as source, p.prosecdef as definer, p.proconfig::text as config, p.provolatile as volatile
       from pg_catalog.pg_proc p where p.pronamespace = 'switchback'::regnamespace and p.proname = any ($1)`,
    [[...expected.keys()]],
  )
  const found = new Map(rows.map((row) => [row.name, row]))
  const problems: string[] = []
  for (const [name, body] of expected) {
    const row = found.get(name)
    if (row === undefined) problems.push(`The guard's function switchback.${name} is missing.`)
    else if (row.source !== body || !row.definer || row.volatile !== 'v' || !row.config?.includes('search_path=')) {
      problems.push(`The guard's function switchback.${name} has been changed.`)
    }
  }
  return problems
}

interface TriggerRow {
  readonly relation: string
  readonly trigger: string
  readonly there: boolean
  readonly enabled: boolean
  readonly right: boolean
  readonly later: string[] | null
}

async function triggerProblems(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<TriggerRow>(
    `select format('%I.%I', n.nspname, c.relname) as relation, w.name as trigger,
            t.oid is not null as there, coalesce(t.tgenabled = 'A', false) as enabled,
            coalesce(t.tgtype = w.type and t.tgqual is null and t.tgattr::text = '' and f.pronamespace = 'switchback'::regnamespace
              and f.proname = case when w.name = $1 then 'guard_' || (
                with recursive up(relation) as (
                  select c.oid union all select i.inhparent from up join pg_catalog.pg_inherits i on i.inhrelid = up.relation)
                select m.relation from switchback.mapped m join up on up.relation = m.relation limit 1)::text else 'guard_truncate' end, false) as right,
            array(select u.tgname::text from pg_catalog.pg_trigger u
                   where u.tgrelid = c.oid and not u.tgisinternal and u.tgtype & 3 = 3 and w.name = $1 and u.tgname > $1::name) as later
       from switchback.relations() as r(relation)
       join pg_catalog.pg_class c on c.oid = r.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       cross join (values ($1::text, $3::int), ($2::text, $4::int)) as w(name, type)
       left join pg_catalog.pg_trigger t on t.tgrelid = c.oid and t.tgname = w.name
       left join pg_catalog.pg_proc f on f.oid = t.tgfoid
      order by c.oid, w.type`,
    [ROW_TRIGGER, TRUNCATE_TRIGGER, ROW_TYPE, TRUNCATE_TYPE],
  )
  return rows.flatMap((row) => {
    if (!row.there) return [`The guard's trigger ${row.trigger} is missing on ${row.relation}.`]
    if (!row.right) return [`The guard's trigger ${row.trigger} on ${row.relation} has been changed.`]
    if (!row.enabled) return [`The guard's trigger ${row.trigger} on ${row.relation} is not enabled for all sessions (ENABLE ALWAYS).`]
    return (row.later ?? []).map(
      (name) => `The trigger ${name} on ${row.relation} fires after the guard, and could change a key behind its back.`,
    )
  })
}

/** Where it could not be created the installation has said so; one that is there must be whole. */
async function eventTriggerProblems(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ enabled: string; source: string }>(
    `select e.evtenabled as enabled, p.prosrc as source from pg_catalog.pg_event_trigger e join pg_catalog.pg_proc p on p.oid = e.evtfoid
      where e.evtname = $1`,
    [EVENT_TRIGGER],
  )
  const row = rows[0]
  if (row === undefined) {
    const { rows: wanted } = await client.query<{ there: boolean }>(`select to_regprocedure('switchback.guard_ddl()') is not null as there`)
    return wanted[0]!.there ? [`The guard's event trigger ${EVENT_TRIGGER} is missing.`] : []
  }
  const problems: string[] = []
  if (row.enabled !== 'A') problems.push(`The guard's event trigger ${EVENT_TRIGGER} is not enabled for all sessions.`)
  if (row.source !== DDL_BODY) problems.push(`The guard's event trigger ${EVENT_TRIGGER} has been changed.`)
  return problems
}
