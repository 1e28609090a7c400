// Promises: parity's view of PostgreSQL: digests are computed there, so that only sums travel. The connection has the pinned
// settings (connect.ts): digests are of canonical text.
import { BucketSums, digestOf, recordText, TextDigester } from '../lib/digest.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { TableMapping } from '../model/mapping.ts'
import { BUCKET_SEED, type BucketChoice, type DigestedRow, type ParityReader } from '../model/parity.ts'
import type { Row, RowKey } from '../model/row.ts'
import { ident, tableSql } from './ident.ts'

/** Rows as arrays of raw texts (the output function's, not a cast's: they differ for bool and bpchar), pinned settings. */
export type TextQuery = (sql: string, values?: readonly unknown[]) => Promise<readonly (readonly (string | null)[])[]>

/**
 * Of the session. The planner takes each row for a bucket of its own, so it would sort them all on disk instead of keeping the few
 * buckets in memory, and compile what runs for a second.
 */
const SUMMING = ['set enable_sort = off', 'set jit = off']

/** Rows a page of the digest listing. */
const PAGE_ROWS = 20_000

export function sourceParityReader(query: TextQuery): ParityReader {
  return {
    async bucketSums(table, choice, progress) {
      for (const setting of SUMMING) await query(setting)
      const rows = await query(
        `select ${bucketSql(table, choice)}::text, count(*)::text, sum(${digestSql(table)})::text
           from ${tableSql(table)}
          where $1::int[] is null or ${bucketSql(table, choice)} = any ($1::int[])
          group by 1`,
        [only(choice)],
      )
      const sums = new BucketSums(choice.buckets)
      let total = 0
      for (const [bucket, count, sum] of rows) {
        sums.merge(Number(bucket), BigInt(sum!), Number(count))
        total += Number(count)
      }
      progress(total)
      return sums
    },
    rowDigests: (table, choice) => digestedRows(query, table, choice),
    readRows: (table, keys) => readRows(query, table, keys),
  }
}

/**
 * PostgreSQL promises nothing of hashtextextended() between versions: known texts are compared before any digest is believed.
 * Throws DIGEST_MISMATCH.
 */
export async function checkDigestFunction(query: TextQuery): Promise<void> {
  const texts = [
    ['', null, 'a'],
    ['7', 'x "y"', '€'],
    ['0', 'a,(b)\\', 'switchback switchback switchback'],
  ] as const
  const digester = new TextDigester()
  for (const cells of texts) {
    const [[told] = []] = await query('select hashtextextended(row($1::text, $2::text, $3::text)::text, 0)::text', cells)
    const mine = digestOf(digester.digest(recordText(cells))).toString()
    if (told !== mine) throw new SwitchbackError('DIGEST_MISMATCH', { text: recordText(cells), postgres: String(told), ours: mine })
  }
}

async function* digestedRows(query: TextQuery, table: TableMapping, choice: BucketChoice): AsyncIterable<readonly DigestedRow[]> {
  const keys = keyColumns(table).map(ident)
  let after: readonly (string | null)[] | null = null
  for (;;) {
    const page: readonly (readonly (string | null)[])[] = await query(
      `select ${keys.join(', ')}, ${digestSql(table)}::text
         from ${tableSql(table)}
        where ($1::int[] is null or ${bucketSql(table, choice)} = any ($1::int[]))
          ${after === null ? '' : `and (${keys.join(', ')}) > (${keys.map((_, i) => `$${i + 2}${castOf(table, i)}`).join(', ')})`}
        order by ${keys.join(', ')}
        limit ${PAGE_ROWS}`,
      [only(choice), ...(after ?? [])],
    )
    yield page.map((cells) => ({
      table: table.name,
      key: cells[0]!,
      clustering: cells.slice(1, keys.length) as string[],
      digest: BigInt.asUintN(64, BigInt(cells[keys.length]!)),
    }))
    if (page.length < PAGE_ROWS) return
    after = page.at(-1)!.slice(0, keys.length)
  }
}

async function readRows(query: TextQuery, table: TableMapping, keys: readonly RowKey[]): Promise<readonly (Row | undefined)[]> {
  const names = keyColumns(table)
  const columns = names.map((_, i) => keys.map((key) => (i === 0 ? key.key : key.clustering[i - 1]!)))
  const rows = await query(
    `select wanted.n::text, ${table.columns.map((column) => `t.${ident(column.name)}`).join(', ')}
       from unnest(${names.map((_, i) => `$${i + 1}::text[]`).join(', ')}) with ordinality as wanted (${names.map((_, i) => `k${i}`).join(', ')}, n)
       join ${tableSql(table)} as t on ${names.map((name, i) => `t.${ident(name)} = wanted.k${i}${castOf(table, i)}`).join(' and ')}`,
    columns,
  )
  const found: (Row | undefined)[] = keys.map(() => undefined)
  for (const [n, ...cells] of rows) found[Number(n) - 1] = cells
  return found
}

function keyColumns(table: TableMapping): string[] {
  return [table.partition, ...table.clustering].map((at) => table.columns[at]!.name)
}

function castOf(table: TableMapping, keyIndex: number): string {
  const at = [table.partition, ...table.clustering][keyIndex]!
  return `::${table.columns[at]!.type}`
}

function bucketSql(table: TableMapping, choice: BucketChoice): string {
  return `(hashtextextended(${ident(table.columns[table.partition]!.name)}::text, ${BUCKET_SEED}) & ${choice.buckets - 1})::int`
}

function digestSql(table: TableMapping): string {
  return `hashtextextended(row(${table.columns.map((column) => ident(column.name)).join(', ')})::text, 0)`
}

function only(choice: BucketChoice): number[] | null {
  return choice.only === null ? null : [...choice.only]
}
