// Promises: what stands in the way of a move is found before anything is changed, each as one sentence with its remedy: the server
// (this page) and each mapped table (preflight-tables.ts). Nothing is written here (faults.md 19, 54, 64; protocols.md, Forward sync).
import type pg from 'pg'
import type { MigrationConfig } from '../model/migration.ts'
import { blocker, type Finding, note, warning } from './finding.ts'
import { tableFindings } from './preflight-tables.ts'

const SERVER_VERSION_MIN = 150_000
/** Slots and walsenders that the move needs at once: its own, and one for the snapshot's connection. */
const WALSENDERS_NEEDED = 2

interface Server {
  readonly version: number
  readonly in_recovery: boolean
  readonly read_only: boolean
  readonly wal_level: string
  readonly encoding: string
  readonly max_slots: number
  readonly used_slots: number
  readonly max_senders: number
  readonly used_senders: number
  readonly max_prepared: number
  readonly synchronous_commit: string
  readonly slot_budget: string
  readonly can_replicate: boolean
  readonly superuser: boolean
  readonly can_create_role: boolean
  readonly can_create_schema: boolean
  readonly role: string
  readonly standbys: readonly string[] | null
  readonly event_triggers: boolean
}

export async function preflight(client: pg.ClientBase, config: MigrationConfig): Promise<readonly Finding[]> {
  const { rows } = await client.query<{ server: string }>(SERVER)
  const server = JSON.parse(rows[0]!.server) as Server
  const findings = [...serverFindings(server), ...roleFindings(server), ...standbyFindings(server, config)]
  // The catalog's queries are of 15 and later.
  if (server.version < SERVER_VERSION_MIN) return findings
  return [...findings, ...(await tableFindings(client, config, server))]
}

function serverFindings(server: Server): Finding[] {
  const found: Finding[] = []
  if (server.version < SERVER_VERSION_MIN) {
    found.push(
      blocker('SERVER_TOO_OLD', `PostgreSQL is ${majorOf(server.version)}, and 15 or later is needed.`, 'Upgrade PostgreSQL first.'),
    )
  }
  if (server.in_recovery) {
    found.push(blocker('SERVER_IS_STANDBY', 'This PostgreSQL is a standby.', 'Name the primary in the connection string.'))
  } else if (server.read_only) {
    found.push(
      blocker(
        'SERVER_READ_ONLY',
        'Transactions are read-only here (default_transaction_read_only).',
        'Set it off for the role and the database.',
      ),
    )
  }
  if (server.wal_level !== 'logical') {
    found.push(blocker('WAL_LEVEL', `wal_level is ${server.wal_level}.`, 'Set wal_level = logical and restart PostgreSQL.'))
  }
  if (server.encoding !== 'UTF8') {
    found.push(blocker('ENCODING', `The database is encoded in ${server.encoding}.`, 'Only databases in UTF8 can be moved exactly.'))
  }
  if (server.used_slots >= server.max_slots) {
    found.push(
      blocker(
        'REPLICATION_SLOTS_EXHAUSTED',
        `All ${server.max_slots} replication slots are taken (max_replication_slots).`,
        'Drop one that nobody uses, or raise max_replication_slots and restart PostgreSQL.',
      ),
    )
  }
  if (server.max_senders - server.used_senders < WALSENDERS_NEEDED) {
    found.push(
      blocker(
        'WAL_SENDERS_EXHAUSTED',
        `${server.used_senders} of ${server.max_senders} WAL senders are in use (max_wal_senders).`,
        `Raise max_wal_senders: the move needs ${WALSENDERS_NEEDED}.`,
      ),
    )
  }
  if (server.slot_budget === '-1') {
    found.push(
      warning(
        'SLOT_WITHOUT_BUDGET',
        'max_slot_wal_keep_size is -1: a sync that stands still keeps WAL until the disk is full.',
        'Set it to what the disk can spare; past it the slot is lost and a new backfill is asked for.',
      ),
    )
  }
  if (server.synchronous_commit === 'off') {
    found.push(
      note(
        'SYNCHRONOUS_COMMIT_OFF',
        'synchronous_commit is off by default.',
        "Switchback's own sessions set it on; the application's commits stay as they are.",
      ),
    )
  }
  return found
}

function roleFindings(server: Server): Finding[] {
  if (server.superuser) return []
  const found: Finding[] = []
  if (!server.can_replicate) {
    found.push(blocker('NO_REPLICATION_RIGHT', `Role ${server.role} may not replicate.`, `alter role ${server.role} replication`))
  }
  if (!server.can_create_role) {
    found.push(
      blocker(
        'NO_CREATEROLE_RIGHT',
        `Role ${server.role} may not create roles, and the reverse applier needs one of its own.`,
        `alter role ${server.role} createrole`,
      ),
    )
  }
  if (!server.can_create_schema) {
    found.push(
      blocker(
        'NO_CREATE_RIGHT',
        `Role ${server.role} may not create the schema switchback and the publication in this database.`,
        `grant create on the database to ${server.role}.`,
      ),
    )
  }
  found.push(
    warning(
      'NOT_SUPERUSER',
      `Role ${server.role} is not a superuser: it needs grant options on the replication origin functions and on session_replication_role.`,
      'Grant them (docs: rights of the role), or run init once as a superuser.',
    ),
  )
  if (!server.event_triggers) {
    found.push(
      warning(
        'NO_EVENT_TRIGGER',
        'Without the right to create an event trigger, a change of a mapped table is found at the next renewal instead of refused.',
        'Change no mapped table while keys move.',
      ),
    )
  }
  return found
}

/** Each standby that may be promoted must be one that a flip waits for (protocols.md, Durable control). */
function standbyFindings(server: Server, config: MigrationConfig): Finding[] {
  const named = config.source.standbys ?? []
  const seen = server.standbys ?? []
  return [
    ...seen
      .filter((standby) => !named.includes(standby))
      .map((standby) =>
        blocker(
          'STANDBY_NOT_NAMED',
          `Standby "${standby}" replicates from here, and the configuration does not name it: promoted, it may lack the last flip.`,
          'Name it in source.standbys (its application_name), or detach it.',
        ),
      ),
    ...named
      .filter((standby) => !seen.includes(standby))
      .map((standby) =>
        warning(
          'STANDBY_ABSENT',
          `Standby "${standby}" of the configuration is not connected.`,
          'Start it, or take it out: a flip waits for it.',
        ),
      ),
  ]
}

function majorOf(version: number): string {
  return String(Math.floor(version / 10_000))
}

const SERVER = `
select json_build_object(
  'version', current_setting('server_version_num')::int,
  'in_recovery', pg_is_in_recovery(),
  'read_only', exists (
    select from pg_db_role_setting s, unnest(s.setconfig) as setting
     where (s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database())))
       and (s.setrole in (0, (select r.oid from pg_roles r where r.rolname = session_user)))
       and setting ~* '^default_transaction_read_only=(on|true|yes|1)$')
     or (select s.reset_val = 'on' and s.source = 'configuration file' from pg_settings s where s.name = 'default_transaction_read_only'),
  'wal_level', current_setting('wal_level'),
  'encoding', (select pg_encoding_to_char(d.encoding) from pg_database d where d.datname = current_database()),
  'max_slots', current_setting('max_replication_slots')::int,
  'used_slots', (select count(*) from pg_replication_slots),
  'max_senders', current_setting('max_wal_senders')::int,
  'used_senders', (select count(*) from pg_stat_replication),
  'max_prepared', current_setting('max_prepared_transactions')::int,
  'synchronous_commit', current_setting('synchronous_commit'),
  'slot_budget', (select s.setting from pg_settings s where s.name = 'max_slot_wal_keep_size'),
  'can_replicate', r.rolreplication,
  'superuser', r.rolsuper,
  'can_create_role', r.rolcreaterole,
  'can_create_schema', has_database_privilege(current_database(), 'create'),
  'role', r.rolname,
  'event_triggers', r.rolsuper,
  -- A logical subscriber has a logical slot; whoever streams without one of those is a copy of the whole server.
  'standbys', (
    select json_agg(distinct p.application_name) from pg_stat_replication p
     where p.state in ('streaming', 'catchup')
       and p.application_name <> 'pg_basebackup'
       and not exists (select from pg_replication_slots s where s.active_pid = p.pid and s.slot_type = 'logical'))
)::text as server
from pg_roles r where r.rolname = session_user`
