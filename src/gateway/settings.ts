// Promises: what of a session's state plans and results depend on, as PostgreSQL has it: role, search_path, output settings that
// it does not report, isolation. Read before the first plan and again after anything that may have changed it (gateway.md, Plans).
import { BACKEND, decodeDataRow } from '../wire/backend.ts'
import type { Kept } from './server-link.ts'

export interface SessionSettings {
  readonly role: string
  readonly searchPath: readonly string[]
  /** Part of cache keys. */
  readonly searchPathText: string
  readonly dateStyle: string
  readonly timeZone: string
  readonly intervalStyle: string
  readonly byteaOutput: string
  readonly extraFloatDigits: string
  readonly clientEncoding: string
  readonly isolation: string
  readonly readOnly: boolean
  readonly statementTimeoutMs: number
  readonly standardStrings: boolean
  /** pg_catalog.pg_backend_pid(): differs from BackendKeyData's behind a pooler. */
  readonly backendPid: number
  /** Keys are not to be read: a temporary relation has the name of a mapped table, or the client does not speak UTF-8. */
  readonly shadowed: boolean
}

/** One row. `tables`: names of the mapped tables, without schema. */
export function settingsQuery(tables: readonly string[]): string {
  const names = tables.map((table) => `'${table.replaceAll("'", "''")}'`).join(', ')
  return `
    select current_user, pg_catalog.array_to_json(pg_catalog.current_schemas(false)), pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('TimeZone'),
      pg_catalog.current_setting('IntervalStyle'), pg_catalog.current_setting('bytea_output'), pg_catalog.current_setting('extra_float_digits'),
      pg_catalog.current_setting('client_encoding'), pg_catalog.current_setting('default_transaction_isolation'),
      pg_catalog.current_setting('default_transaction_read_only'), (extract(epoch from pg_catalog.current_setting('statement_timeout')::interval) * 1000)::bigint,
      pg_catalog.pg_backend_pid(), pg_catalog.current_setting('standard_conforming_strings'), exists (select 1 from pg_catalog.pg_class
        where relnamespace = pg_catalog.pg_my_temp_schema() and relname in (${names.length > 0 ? names : "''"}))`
}

export function readSettings(kept: readonly Kept[]): SessionSettings | null {
  const row = textRow(kept)
  if (row === null || row.length !== 14) return null
  const text = row.map((value) => value ?? '')
  return {
    role: text[0]!,
    searchPath: JSON.parse(text[1]!) as string[],
    searchPathText: text[1]!,
    dateStyle: text[2]!,
    timeZone: text[3]!,
    intervalStyle: text[4]!,
    byteaOutput: text[5]!,
    extraFloatDigits: text[6]!,
    clientEncoding: text[7]!,
    isolation: text[8]!,
    readOnly: text[9] === 'on',
    statementTimeoutMs: Number(text[10]),
    backendPid: Number(text[11]),
    standardStrings: text[12] === 'on',
    // Texts are decoded as UTF-8 here: under another encoding no key is read.
    shadowed: text[13] === 't' || text[7] !== 'UTF8',
  }
}

/** The first row of an own exchange, as texts. */
export function textRow(kept: readonly Kept[]): (string | null)[] | null {
  return textRows(kept)[0] ?? null
}

export function textRows(kept: readonly Kept[]): (string | null)[][] {
  return kept
    .filter(({ type }) => type === BACKEND.dataRow)
    .map(({ body }) => decodeDataRow(body).map((value) => value?.toString('utf8') ?? null))
}

/** Statements that may change what `SessionSettings` holds without being planned as session state. */
const CHANGES_SETTINGS = /set_config|^\s*(do|call)\b|\btemp(orary)?\b/i

export function mayChangeSettings(sql: string): boolean {
  return CHANGES_SETTINGS.test(sql)
}
