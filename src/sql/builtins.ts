// Promises: what is known of PostgreSQL's own functions and operators beyond what the catalog's list of pure ones says.

/** Take session or transaction state that only PostgreSQL can keep. */
export const PINNING_FUNCTIONS = /^(pg_(try_)?advisory_.*|pg_export_snapshot|pg_notify|lo_.*|loread|lowrite)$/

/** Stable ones that run SQL or read tables by a name in their arguments. */
export const READS_BY_NAME = /^(table|schema|database|query|cursor)_to_xml|^ts_(stat|rewrite)$/

const HARMLESS = new Set([
  'random',
  'random_normal',
  'setseed',
  'clock_timestamp',
  'timeofday',
  'gen_random_uuid',
  'uuidv4',
  'uuidv7',
  'nextval',
  'currval',
  'lastval',
  'setval',
  'pg_sleep',
  'pg_sleep_for',
  'pg_sleep_until',
  'set_config',
  'pg_cancel_backend',
  'pg_terminate_backend',
  'pg_stat_get_activity',
  'pg_lock_status',
  'pg_stat_reset',
  'pg_is_in_recovery',
  'pg_current_wal_lsn',
  'pg_get_serial_sequence',
  'pg_current_xact_id',
  'txid_current',
])

/** Volatile functions of PostgreSQL that read no table and write none. */
export function isHarmlessVolatile(name: string): boolean {
  return HARMLESS.has(name) || PINNING_FUNCTIONS.test(name)
}

/** Every operator name of a fresh PostgreSQL; any other is a user's or an extension's. `IN`, `BETWEEN` and their kin are grammar. */
export const BUILTIN_OPERATORS: ReadonlySet<string> = new Set(
  (
    '!~ !~* !~~ !~~* # ## #- #> #>> #= % & && &&& &< &<| &> &>= * *< *<= *<> *= *> *>= + - -> ->> -|- / < <-> << <<= <<| <= <> <@ = != > >= >> >>= >^ ' +
    '? ?# ?& ?- ?-| ?| ?|| @ @> @-@ @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~* !! <^'
  ).split(' '),
)
