// Promises: installs the control schema `switchback` in PostgreSQL, brings an older one up to date, and removes it without a trace.
// Every function here is idempotent and one transaction: it did all or nothing.
import type pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'
import { HASH_SLOTS } from '../model/key.ts'
import type { Mapping } from '../model/mapping.ts'
import { BACKFILL_FUNCTIONS } from './schema-backfill.ts'
import { DEBT_FUNCTIONS } from './schema-debt.ts'
import { DIGEST_FUNCTIONS } from './schema-digests.ts'
import { FLIP_FUNCTIONS } from './schema-flips.ts'
import { CONTROL_FUNCTIONS } from './schema-functions.ts'
import { IDENTITY_FUNCTIONS, IDENTITY_GRANTS } from './schema-identity.ts'
import { JUDGE_FUNCTIONS } from './schema-judge.ts'
import { PARKED_FUNCTIONS } from './schema-parked.ts'
import { RAMP_FUNCTIONS } from './schema-ramp.ts'
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
    await client.query(
      DIGEST_FUNCTIONS +
        CONTROL_FUNCTIONS +
        FLIP_FUNCTIONS +
        BACKFILL_FUNCTIONS +
        PARKED_FUNCTIONS +
        IDENTITY_FUNCTIONS +
        DEBT_FUNCTIONS +
        RAMP_FUNCTIONS +
        JUDGE_FUNCTIONS,
    )
    await client.query(`revoke all on all functions in schema switchback from public; ${IDENTITY_GRANTS}`)
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
