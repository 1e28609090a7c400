// Promises: the reverse applier's own login role: the guard exempts it and nobody else, so it has the rights to write back and no more.
// Its password is made anew by each leader and kept nowhere.
import type pg from 'pg'
import type { Mapping } from '../model/mapping.ts'
import { ident, literal, tableSql } from './ident.ts'

/** Needs CREATEROLE and, for the origin functions and the replica role, superuser or grants of them. Idempotent. */
export async function createApplierRole(
  client: pg.ClientBase,
  options: { readonly role: string; readonly password: string; readonly mapping: Mapping },
): Promise<void> {
  const { role, password, mapping } = options
  const name = ident(role)
  const { rows } = await client.query('select 1 from pg_roles where rolname = $1', [role])
  // The password is no value of a prepared statement: utility commands take none.
  await client.query(`${rows.length === 0 ? 'create' : 'alter'} role ${name} login password ${literal(password)} connection limit 16`)
  const schemas = [...new Set(mapping.tables.map((table) => table.schema))].map(ident)
  await client.query(`
    grant usage on schema ${[...schemas, 'switchback'].join(', ')} to ${name};
    grant select, insert, update, delete on ${mapping.tables.map(tableSql).join(', ')} to ${name};
    grant select on switchback.ownership, switchback.state, switchback.pin to ${name};
    grant select, update on switchback.leader to ${name};
    grant select, insert, update on switchback.applied, switchback.applied_total, switchback.position to ${name};
    grant select, insert, update, delete on switchback.poison to ${name};
    grant execute on function switchback.assert_leader(bigint) to ${name};
    grant execute on function
      pg_catalog.pg_replication_origin_create(text), pg_catalog.pg_replication_origin_oid(text),
      pg_catalog.pg_replication_origin_session_setup(${await sessionSetupArguments(client)}) to ${name};
    grant set on parameter session_replication_role to ${name};
  `)
}

/** From PostgreSQL 19 it takes the pid of a session to share with. */
async function sessionSetupArguments(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query<{ arguments: string }>(
    `select oidvectortypes(proargtypes) as arguments from pg_proc where proname = 'pg_replication_origin_session_setup'`,
  )
  return rows[0]?.arguments ?? 'text'
}

export async function dropApplierRole(
  client: pg.ClientBase,
  options: { readonly role: string; readonly originName: string },
): Promise<void> {
  const { rows } = await client.query('select 1 from pg_roles where rolname = $1', [options.role])
  if (rows.length > 0) {
    await client.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [options.role])
    await client.query(`drop owned by ${ident(options.role)}`)
    await client.query(`drop role ${ident(options.role)}`)
  }
  await client.query('select pg_replication_origin_drop(roname) from pg_replication_origin where roname = $1', [options.originName])
}
