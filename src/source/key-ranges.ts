// Promises: a table cut into ranges of about equal size, at the price of a sample; small tables stay whole.
import type pg from 'pg'
import type { TableMapping } from '../model/mapping.ts'
import type { KeyRange } from '../model/source.ts'
import { columnSql, keyColumns, tableSql } from './ident.ts'

const ROWS_A_RANGE_MIN = 5_000
const SAMPLE_ROWS_A_RANGE = 300
/** Below it the whole table costs no more than finding out. */
const SAMPLED_ABOVE_ROWS = 50_000

/** The planner's estimate; a table that was never analysed is counted if it is small on disk. */
export async function estimatedRows(client: pg.ClientBase, table: TableMapping): Promise<number> {
  const { rows } = await client.query<{ estimate: string; pages: string }>(
    `select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint::text as estimate,
            coalesce(sum(pg_relation_size(c.oid)), 0)::bigint::text as pages
       from pg_class c
      where c.oid = $1 or c.oid in (select t.relid from pg_partition_tree($1::oid::regclass) as t where t.isleaf)`,
    [table.relationOid],
  )
  const estimate = Number(rows[0]!.estimate)
  if (estimate > 0 || Number(rows[0]!.pages) > 64 * 1024 * 1024) return estimate
  const counted = await client.query<{ n: string }>(`select count(*)::text as n from ${tableSql(table)}`)
  return Number(counted.rows[0]!.n)
}

export async function keyRanges(client: pg.ClientBase, table: TableMapping, wanted: number): Promise<readonly KeyRange[]> {
  const estimate = await estimatedRows(client, table)
  const ranges = Math.max(1, Math.min(wanted, Math.floor(estimate / ROWS_A_RANGE_MIN)))
  if (ranges === 1) return [{ table: table.name, from: null, to: null }]
  // Whole pages are sampled: of a table of few pages a small share can be none at all.
  const share = estimate <= SAMPLED_ABOVE_ROWS ? 100 : Math.min(100, Math.max(0.01, (100 * ranges * SAMPLE_ROWS_A_RANGE) / estimate))
  const keys = keyColumns(table).map((column) => columnSql(table, column))
  const { rows } = await client.query<string[]>({
    text: `with sample as (select ${keys.join(', ')}, ntile($1) over (order by ${keys.join(', ')}) as part from ${tableSql(table)} tablesample system (${share}))
           select distinct on (part) ${keys.join(', ')} from sample where part < $1 order by part, ${keys.map((key) => `${key} desc`).join(', ')}`,
    values: [ranges],
    rowMode: 'array',
  })
  const bounds: (readonly string[] | null)[] = [null, ...distinct(rows), null]
  return bounds.slice(1).map((to, i) => ({ table: table.name, from: bounds[i]!, to }))
}

function distinct(rows: readonly (readonly string[])[]): (readonly string[])[] {
  const seen = new Set<string>()
  return rows.filter((row) => {
    const id = JSON.stringify(row)
    if (seen.has(id)) return false
    seen.add(id)
    return true
  })
}
