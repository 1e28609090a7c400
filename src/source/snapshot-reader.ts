// Promises: rows at one snapshot, range by range in primary key order, in batches of a bounded size: raw text, mapping order, flat
// memory. With a name it reads the exported snapshot (SNAPSHOT_GONE when that is gone with its connection), else one of its own.
import type pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'
import { type Mapping, type TableMapping, tableOf } from '../model/mapping.ts'
import type { Row } from '../model/row.ts'
import type { KeyRange, SnapshotReader } from '../model/source.ts'
import { connectSource } from './connect.ts'
import { columnSql, keyColumns, literal, tableSql } from './ident.ts'

export async function openSnapshotReader(options: {
  readonly url: string
  readonly mapping: Mapping
  readonly snapshot: string | null
}): Promise<SnapshotReader> {
  const client = await connectSource({ url: options.url, applicationName: 'switchback backfill' })
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
    rows: (range, batchRows, signal) => readRange(client, tableAt(options.mapping, range), range, batchRows, signal),
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

async function* readRange(
  client: pg.Client,
  table: TableMapping,
  range: KeyRange,
  batchRows: number,
  signal: AbortSignal,
): AsyncIterable<readonly Row[]> {
  const keys = keyColumns(table)
  const keyList = keys.map((column) => columnSql(table, column)).join(', ')
  const bound = (operator: string, first: number) =>
    `(${keyList}) ${operator} (${keys.map((column, i) => `$${first + i}::${table.columns[column]!.type}`).join(', ')})`
  const select = `select ${table.columns.map((_, column) => columnSql(table, column)).join(', ')} from ${tableSql(table)}`
  let after = range.from
  while (!signal.aborted) {
    const conditions: string[] = []
    const values: string[] = []
    for (const [operator, texts] of [
      ['>', after],
      ['<=', range.to],
    ] as const) {
      if (texts === null) continue
      conditions.push(bound(operator, values.length + 1))
      values.push(...texts)
    }
    const where = conditions.length === 0 ? '' : ` where ${conditions.join(' and ')}`
    const { rows } = await client.query<(string | null)[]>({
      text: `${select}${where} order by ${keyList} limit ${batchRows}`,
      values,
      rowMode: 'array',
    })
    if (rows.length > 0) yield rows
    if (rows.length < batchRows) return
    after = keys.map((column) => rows.at(-1)![column]!)
  }
}

function isGone(error: unknown): boolean {
  // invalid_parameter_value / undefined_object: "snapshot ... does not exist"
  return ['22023', '42704'].includes((error as { code?: string }).code ?? '')
}
