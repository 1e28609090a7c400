// Promises: puts the guard on the mapped tables, takes it off without a trace, makes it final, and says in sentences what is wrong
// with it. Each change is one transaction that never queues for long before the service's own writers: a lock that is not there
// within `GUARD_LOCK_MS` is given up and tried again, holding nothing, within a limit; then it says who held it.
import type pg from 'pg'
import { backoffMs } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type Random, systemRandom } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Mapping } from '../model/mapping.ts'
import {
  CREATE_EVENT_TRIGGER,
  createFunctions,
  EVENT_TRIGGER,
  FINAL_BODY,
  guardFunctionName,
  ROW_TRIGGER,
  TRUNCATE_TRIGGER,
  triggerFunction,
} from './guard-sql.ts'
import { ident } from './ident.ts'
import { lockHolders } from './lock-holders.ts'

export { checkGuard } from './guard-check.ts'

export interface GuardInstalled {
  /** Whether DDL on the mapped tables is refused at once. Else only the catalog digest sees it, at renewals and before a flip commits. */
  readonly eventTrigger: boolean
  /** What is weaker than it could be, one sentence each. */
  readonly notes: readonly string[]
}

const GUARD_LOCK_MS = 200
/** Of the tries together, unless the caller says otherwise. */
const GUARD_WITHIN_MS = 60_000
const GUARD_BACKOFF = { firstMs: 50, capMs: 1_000 }

/** How long its locks are tried for, and who hears of it. */
export interface LockTries {
  readonly withinMs: number
  readonly clock: Clock
  readonly random: Random
  /** A try was refused: sentences of who is waited for. */
  onRefused(holders: readonly string[]): Promise<void>
  readonly signal: AbortSignal
}

/**
 * Idempotent; needs the control schema. The applier's role must be its own: whoever logs in as it is not refused.
 * @throws GUARD_LOCKED: nothing was changed.
 */
export async function installGuard(
  client: pg.ClientBase,
  mapping: Mapping,
  options: { readonly applierRole: string; readonly tries?: LockTries },
): Promise<GuardInstalled> {
  return underShortLocks(client, options.tries ?? TRIES, async () => {
    await refuseUnfit(client, mapping, options.applierRole)
    const keyColumns = new Map(mapping.tables.map((table) => [table.relationOid, table.columns[table.partition]!.name]))
    await client.query(`drop event trigger if exists ${EVENT_TRIGGER}`) // it would refuse what follows
    await client.query(createFunctions(keyColumns))
    const relations = await closure(client)
    await dropTriggers(client, relations)
    for (const root of relations.filter((relation) => relation.isRoot)) {
      await client.query(`create trigger ${ident(ROW_TRIGGER)} before insert or update or delete on ${root.name}
        for each row execute function switchback.${ident(guardFunctionName(root.oid))}()`)
    }
    for (const { name } of relations) {
      await client.query(`create trigger ${ident(TRUNCATE_TRIGGER)} before truncate on ${name}
        for each statement execute function switchback.guard_truncate()`)
      for (const trigger of [ROW_TRIGGER, TRUNCATE_TRIGGER]) {
        // ALWAYS: apply workers run as replica and would pass otherwise (measured; faults.md 54).
        await client.query(`alter table only ${name} enable always trigger ${ident(trigger)}`)
      }
    }
    await client.query('delete from switchback.guarded')
    await client.query('insert into switchback.guarded (relation) select r.relation from switchback.relations() as r(relation)')
    await client.query(`update switchback.state set guard = 'on', applier_role = $1, guarded_tables = switchback.tables_digest()`, [
      options.applierRole,
    ])
    await grantApplier(client, options.applierRole)
    const eventTrigger = await createEventTrigger(client)
    return { eventTrigger, notes: eventTrigger ? [] : [NO_EVENT_TRIGGER] }
  })
}

const NO_EVENT_TRIGGER =
  'This role may not create an event trigger, so a change of a mapped table is not refused at once: the catalog digest finds it at each renewal and before a flip commits.'

/** Takes the guard off. The caller has checked that every slot is the source's. */
export async function removeGuard(client: pg.ClientBase, mapping: Mapping): Promise<void> {
  await underShortLocks(client, TRIES, async () => {
    await client.query(`drop event trigger if exists ${EVENT_TRIGGER}`)
    const { rows } = await client.query<{ role: string | null }>('select applier_role as role from switchback.state')
    await dropTriggers(client, await closure(client))
    await client.query('drop function if exists switchback.guard_ddl(), switchback.guard_truncate()')
    for (const table of mapping.tables)
      await client.query(`drop function if exists switchback.${ident(guardFunctionName(table.relationOid))}()`)
    await client.query('drop function if exists switchback.guard_check(text, int, name, name)')
    if (rows[0]?.role) await revokeApplier(client, rows[0].role)
    await client.query('delete from switchback.guarded')
    await client.query(`update switchback.state set guard = 'off', applier_role = null, guarded_tables = null`)
  })
}

/** One-way, at `finalize`: every write of a mapped table is refused, the applier's too. DDL is free again: the tables may be dropped. */
export async function guardFinal(client: pg.ClientBase, mapping: Mapping): Promise<void> {
  await underShortLocks(client, TRIES, async () => {
    await client.query(`drop event trigger if exists ${EVENT_TRIGGER}`)
    for (const table of mapping.tables) await client.query(triggerFunction(guardFunctionName(table.relationOid), FINAL_BODY))
    await client.query(triggerFunction('guard_truncate', FINAL_BODY))
    await client.query(`update switchback.state set guard = 'final', applier_role = null`)
  })
}

interface GuardedRelation {
  readonly oid: number
  /** Qualified and quoted. */
  readonly name: string
  readonly isRoot: boolean
}

async function closure(client: pg.ClientBase): Promise<GuardedRelation[]> {
  const { rows } = await client.query<{ oid: string; name: string; root: boolean }>(
    `select c.oid::text as oid, format('%I.%I', n.nspname, c.relname) as name,
            exists (select from switchback.mapped m where m.relation = c.oid) as root
       from switchback.relations() as r(relation)
       join pg_catalog.pg_class c on c.oid = r.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      order by c.oid`,
  )
  return rows.map((row) => ({ oid: Number(row.oid), name: row.name, isRoot: row.root }))
}

async function dropTriggers(client: pg.ClientBase, relations: readonly GuardedRelation[]): Promise<void> {
  for (const { name, isRoot } of relations) {
    if (isRoot) await client.query(`drop trigger if exists ${ident(ROW_TRIGGER)} on ${name}`) // its clones on leaves go with it
    await client.query(`drop trigger if exists ${ident(TRUNCATE_TRIGGER)} on ${name}`)
  }
}

async function refuseUnfit(client: pg.ClientBase, mapping: Mapping, applierRole: string): Promise<void> {
  const refuse = (problem: string): never => {
    throw new SwitchbackError('GUARD_REFUSED', { problem })
  }
  const { rows: roles } = await client.query<{ own: boolean }>(
    'select r.rolname = session_user as own from pg_catalog.pg_roles r where r.rolname = $1',
    [applierRole],
  )
  if (roles.length === 0) refuse(`the reverse applier's role ${applierRole} does not exist`)
  if (roles[0]!.own)
    refuse(`the reverse applier needs a login role of its own, since the guard lets it pass; ${applierRole} is also used otherwise`)
  for (const table of mapping.tables) {
    const key = table.columns[table.partition]!
    if (key.generatedExpr !== null) refuse(`the partition key ${table.name}.${key.name} is a generated column, which a trigger cannot see`)
  }
  const { rows: mapped } = await client.query<{ relation: string }>('select m.relation::text as relation from switchback.mapped m')
  const known = new Set(mapped.map((row) => Number(row.relation)))
  const unknown = mapping.tables.filter((table) => !known.has(table.relationOid)).map((table) => table.name)
  if (unknown.length > 0) refuse(`the control schema does not know ${unknown.join(', ')}: run init first`)
  const { rows: children } = await client.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name
       from switchback.relations() as r(relation)
       join pg_catalog.pg_class c on c.oid = r.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where not exists (select from switchback.mapped m where m.relation = c.oid) and not c.relispartition or c.relkind not in ('r', 'p')`,
  )
  if (children.length > 0) refuse(`${children.map((row) => row.name).join(', ')} inherit from a mapped table or are foreign`)
}

async function createEventTrigger(client: pg.ClientBase): Promise<boolean> {
  await client.query('savepoint event_trigger')
  try {
    await client.query(CREATE_EVENT_TRIGGER)
    await client.query('release savepoint event_trigger')
    return true
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error
    await client.query('rollback to savepoint event_trigger')
    return false
  }
}

/** `select ... for share` asks for the right to update. */
async function grantApplier(client: pg.ClientBase, role: string): Promise<void> {
  await client.query(`
    grant usage on schema switchback to ${ident(role)};
    grant select on switchback.state, switchback.pin, switchback.tenure, switchback.lease to ${ident(role)};
    grant select, update on switchback.leader, switchback.ownership to ${ident(role)};
    grant select, insert, update, delete on switchback.applied, switchback.applied_total, switchback.position, switchback.poison to ${ident(role)};
    grant execute on function switchback.hash_slot(text), switchback.slot_of(text), switchback.assert_leader(bigint) to ${ident(role)}`)
}

async function revokeApplier(client: pg.ClientBase, role: string): Promise<void> {
  const { rows } = await client.query('select 1 from pg_catalog.pg_roles r where r.rolname = $1', [role])
  if (rows.length === 0) return
  await client.query(`
    revoke all on all tables in schema switchback from ${ident(role)};
    revoke all on all functions in schema switchback from ${ident(role)};
    revoke all on schema switchback from ${ident(role)}`)
}

const TRIES: LockTries = {
  withinMs: GUARD_WITHIN_MS,
  clock: systemClock,
  random: systemRandom,
  onRefused: async () => undefined,
  signal: new AbortController().signal,
}

async function underShortLocks<T>(client: pg.ClientBase, tries: LockTries, work: () => Promise<T>): Promise<T> {
  const { clock, random, withinMs, signal } = tries
  const beganMs = clock.monotonicMs()
  for (let attempt = 0; ; attempt++) {
    const triedMs = clock.monotonicMs()
    await client.query('begin')
    try {
      await client.query(`set local lock_timeout = ${GUARD_LOCK_MS}`)
      const result = await work()
      await client.query('commit')
      return result
    } catch (error) {
      await client.query('rollback').catch(() => undefined)
      if (!LOCKED.has((error as { code?: string }).code ?? '')) throw error
      const holders = await lockHolders(client, clock.monotonicMs() - triedMs)
      const waitedMs = Math.round(clock.monotonicMs() - beganMs)
      if (signal.aborted || waitedMs >= withinMs)
        throw new SwitchbackError('GUARD_LOCKED', { waitedMs, tries: attempt + 1, holders: holders.length > 0 ? holders : [ENDED] }, error)
      await tries.onRefused(holders)
      await clock.sleep(backoffMs(attempt, GUARD_BACKOFF, random), signal)
    }
  }
}

/** Not there in time; a deadlock that PostgreSQL ended. Either has rolled back. */
const LOCKED = new Set(['55P03', '40P01'])
const ENDED = 'somebody who has ended since'
