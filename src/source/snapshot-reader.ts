// Promises: rows at one snapshot, range by range in primary key order, in batches of a bounded size: raw text, mapping order, flat
// memory. With a name it reads the exported snapshot (SNAPSHOT_GONE when that is gone with its connection), else one of its own.
import type { Clock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type Mapping, type TableMapping, tableOf } from '../model/mapping.ts'
import type { KeyRange, SnapshotReader } from '../model/source.ts'
import { connectSource } from './connect.ts'
import { copyRows } from './copy-out.ts'
import { columnSql, keyColumns, literal, tableSql } from './ident.ts'

export async function openSnapshotReader(options: {
  readonly url: string
  readonly mapping: Mapping
  readonly snapshot: string | null
  readonly clock: Clock
}): Promise<SnapshotReader> {
  const client = await connectSource({ url: options.url, applicationName: 'switchback backfill', queryTimeoutMs: 0 })
  try {
    await client.query('begin isolation level repeatable read read only')
    if (options.snapshot !== null) await client.query(`set transaction snapshot ${literal(options.snapshot)}`)
    // The snapshot is taken by the first statement, not by BEGIN.
    await client.query('select 1')
  } catch (error) {
    await client.end().catch(() => undefined)
    if (options.snapshot !== null && isGone(error)) throw new SwitchbackError('SNAPSHOT_GONE', { snapshot: options.snapshot }, error)
    throw error
  }
  return {
    async *rows(range, batchRows, signal) {
      const table = tableAt(options.mapping, range)
      const copied = copyRows(client, rangeSql(table, range), { columns: table.columns.length, batchRows, clock: options.clock })
      for await (const batch of copied) {
        if (signal.aborted) return
        yield batch
      }
    },
    async close() {
      await client.end().catch(() => undefined)
    },
  }
}

function tableAt(mapping: Mapping, range: KeyRange): TableMapping {
  const table = tableOf(mapping, range.table)
  if (table === undefined) throw new SwitchbackError('TABLE_UNKNOWN', { table: range.table })
  return table
}

/** One statement a range: COPY costs PostgreSQL and us a fraction of what pages of a select do. */
function rangeSql(table: TableMapping, range: KeyRange): string {
  const keys = keyColumns(table)
  const keyList = keys.map((column) => columnSql(table, column)).join(', ')
  const bound = (operator: string, texts: readonly string[]) =>
    `(${keyList}) ${operator} (${keys.map((column, i) => `${literal(texts[i]!)}::${table.columns[column]!.type}`).join(', ')})`
  const conditions = [range.from && bound('>', range.from), range.to && bound('<=', range.to)].filter((one) => one !== null)
  const where = conditions.length === 0 ? '' : ` where ${conditions.join(' and ')}`
  return `select ${table.columns.map((_, column) => columnSql(table, column)).join(', ')} from ${tableSql(table)}${where} order by ${keyList}`
}

function isGone(error: unknown): boolean {
  // invalid_parameter_value / undefined_object: "snapshot ... does not exist"
  return ['22023', '42704'].includes((error as { code?: string }).code ?? '')
}
