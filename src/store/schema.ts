// Promises: installs the control schema `switchback` in PostgreSQL, brings an older one up to date, and removes it without a trace.
// Every function here is idempotent and one transaction: it did all or nothing.
import type pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'
import { formatLsn, type Lsn } from '../model/ids.ts'
import { HASH_SLOTS } from '../model/key.ts'
import type { Mapping } from '../model/mapping.ts'
import { DIGEST_FUNCTIONS } from './schema-digests.ts'
import { FLIP_FUNCTIONS } from './schema-flips.ts'
import { CONTROL_FUNCTIONS, STATE_OF, WAKE_CHANNEL } from './schema-functions.ts'
import { UPGRADES } from './schema-tables.ts'

/** Two installs at once: the second waits and finds it done. */
const INSTALL_LOCK = 0x5377_6362
const FIRST = { epoch: 1, tenure: 1, base: 1 }

export async function installControl(client: pg.ClientBase, options: { readonly mapping: Mapping }): Promise<void> {
  const { mapping } = options
  await inTransaction(client, async () => {
    await client.query('select pg_advisory_xact_lock($1)', [INSTALL_LOCK])
    const version = await schemaVersion(client)
    if (version === null) await client.query(`create schema switchback; comment on schema switchback is 'Control schema of Switchback'`)
    else if (version > UPGRADES.length) throw new SwitchbackError('CONTROL_NEWER', { found: version, known: UPGRADES.length })
    for (const upgrade of UPGRADES.slice(version ?? 0)) await client.query(upgrade)
    await client.query(DIGEST_FUNCTIONS + CONTROL_FUNCTIONS + FLIP_FUNCTIONS + TENURES)
    await client.query('revoke all on all functions in schema switchback from public')
    if (version === null) await seed(client, mapping)
    else await client.query('update switchback.state set schema_version = $1', [UPGRADES.length])
    await writeMapping(client, mapping)
  })
}

/** True where a control schema is there, of whatever version. */
export async function controlInstalled(client: pg.ClientBase): Promise<boolean> {
  return (await schemaVersion(client)) !== null
}

/** Drops the schema with all that is in it; the guard, if it is there, goes with it. The caller has checked that all slots are home. */
export async function removeControl(client: pg.ClientBase): Promise<void> {
  await inTransaction(client, async () => {
    await client.query('select pg_advisory_xact_lock($1)', [INSTALL_LOCK])
    // First the event trigger, which would refuse to let the others go.
    await client.query('drop event trigger if exists switchback_guard_ddl')
    await client.query('drop schema if exists switchback cascade')
  })
}

/**
 * Tells the first tenure where the backfill's slot begins, once. Called again (a second backfill, protocols.md, Forward sync), it
 * opens a new tenure for the slots that PostgreSQL owns, at a fresh epoch, with a base above `highestStamp`. Returns the epoch.
 */
export async function openFirstTenure(
  client: pg.ClientBase,
  options: { readonly token: number; readonly consistentPoint: Lsn; readonly highestStamp?: bigint },
): Promise<number> {
  try {
    const { rows } = await client.query<{ epoch: string }>('select switchback.open_tenures($1, $2, $3)::text as epoch', [
      options.token,
      formatLsn(options.consistentPoint),
      options.highestStamp?.toString() ?? null,
    ])
    return Number(rows[0]!.epoch)
  } catch (error) {
    if ((error as { code?: string }).code === STATE_OF.TOKEN_STALE)
      throw new SwitchbackError('TOKEN_STALE', { token: options.token }, error)
    throw error
  }
}

const TENURES = `
create or replace function switchback.open_tenures(p_token bigint, p_point pg_lsn, p_highest bigint) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  taken bigint;
  new_base bigint;
  home int[];
begin
  perform switchback.assert_leader(p_token);
  perform switchback.lock_state();
  update switchback.tenure t set first_lsn = p_point where t.first_lsn is null;
  if found or exists (select from switchback.tenure t where t.first_lsn = p_point and t.owner = 'source') then
    return (select s.epoch from switchback.state s); -- the first one, or sent again
  end if;
  home := array(select o.slot from switchback.ownership o where o.owner = 'source' order by o.slot);
  perform switchback.lock_slots(home);
  taken := switchback.take_epoch();
  -- Above every stamp that the old tenures can have issued: what the WAL held when it was last known, or the caller's own word.
  select greatest(max(o.base + greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), t.first_lsn), 0)), coalesce(p_highest, 0)) + 1
    into new_base
    from switchback.ownership o join switchback.tenure t on t.slot = o.slot and t.tenure = o.tenure where o.owner = 'source';
  update switchback.ownership o set epoch = taken, tenure = taken, base = new_base where o.slot = any (home);
  insert into switchback.tenure (slot, tenure, owner, base, first_lsn) select s, taken, 'source', new_base, p_point from unnest(home) s;
  perform switchback.write_journal(p_token, 'second backfill', null, jsonb_build_object('base', new_base::text, 'point', p_point));
  perform pg_notify('${WAKE_CHANNEL}', taken::text);
  return taken;
end $$;
comment on function switchback.open_tenures(bigint, pg_lsn, bigint) is 'Where the backfill''s replication slot begins.';
`

async function schemaVersion(client: pg.ClientBase): Promise<number | null> {
  const { rows } = await client.query<{ there: boolean }>(`select to_regclass('switchback.state') is not null as there`)
  if (!rows[0]!.there) return null
  const { rows: state } = await client.query<{ version: string }>('select schema_version::text as version from switchback.state')
  return Number(state[0]?.version ?? 0)
}

async function seed(client: pg.ClientBase, mapping: Mapping): Promise<void> {
  await client.query('insert into switchback.state (migration, schema_version, epoch) values ($1, $2, $3)', [
    mapping.migration,
    UPGRADES.length,
    FIRST.epoch,
  ])
  await client.query(`insert into switchback.leader (token, name) values (0, 'nobody')`)
  await client.query('insert into switchback.heartbeat (token, beats) values (0, 0)')
  await client.query(
    `insert into switchback.ownership (slot, owner, phase, read_only, epoch, tenure, base)
       select s, 'source', 'steady', false, $2, $3, $4 from generate_series(0, $1::int - 1) s`,
    [HASH_SLOTS, FIRST.epoch, FIRST.tenure, FIRST.base],
  )
  await client.query(
    `insert into switchback.tenure (slot, tenure, owner, base)
       select s, $2, 'source', $3 from generate_series(0, $1::int - 1) s`,
    [HASH_SLOTS, FIRST.tenure, FIRST.base],
  )
}

/** The mapping is written until the move is bound (the first canary); afterwards a different one is refused. */
async function writeMapping(client: pg.ClientBase, mapping: Mapping): Promise<void> {
  const wanted = mapping.tables
    .map((table) => [
      String(table.relationOid),
      table.schema,
      table.table,
      table.columns[table.partition]!.name,
      table.columns[table.partition]!.type,
    ])
    .sort(([a], [b]) => Number(a) - Number(b))
  const { rows: state } = await client.query<{ migration: string; bound: boolean }>(
    'select migration, binding_epoch is not null as bound from switchback.state for update',
  )
  if (state[0]!.migration !== mapping.migration) {
    throw new SwitchbackError('CONTROL_OF_ANOTHER', { found: state[0]!.migration, wanted: mapping.migration })
  }
  if (state[0]!.bound) {
    const { rows } = await client.query<{ row: string[] }>(
      `select array[relation::text, schema_name, table_name, key_column, key_type] as row from switchback.mapped order by relation`,
    )
    if (JSON.stringify(rows.map(({ row }) => row)) !== JSON.stringify(wanted)) throw new SwitchbackError('MAPPING_CHANGED', {})
    return
  }
  await client.query('delete from switchback.mapped')
  for (const row of wanted) {
    await client.query(
      'insert into switchback.mapped (relation, schema_name, table_name, key_column, key_type) values ($1::text::oid, $2, $3, $4, $5)',
      row,
    )
  }
  await client.query('update switchback.state set planned_tables = switchback.tables_digest()')
}

async function inTransaction(client: pg.ClientBase, work: () => Promise<void>): Promise<void> {
  await client.query('begin')
  try {
    await work()
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    throw error
  }
}
