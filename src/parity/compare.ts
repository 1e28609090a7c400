// Promises: compares both stores while writes flow: sums of digests by bucket, in parallel; rows only in buckets that differ; and
// of those only what still differs when settled. What could not be compared is named (INV-11).
import type { BucketSums } from '../lib/digest.ts'
import type { Mapping, TableMapping } from '../model/mapping.ts'
import type { BucketChoice, DigestedRow, ParityReader } from '../model/parity.ts'
import type { RowKey } from '../model/row.ts'
import { bucketCount, sampleOfBuckets } from './bucket.ts'
import { type Difference, type SettleParts, settleRows } from './settle.ts'

export interface ParityParts extends SettleParts {
  readonly mapping: Mapping
  estimatedRows(table: TableMapping): Promise<number>
  onProgress(progress: ParityProgress): void
}

export interface ParityProgress {
  readonly table: string
  readonly step: 'digests' | 'rows' | 'settling'
  readonly rows: number
  readonly estimatedRows: number
}

export interface ParityOptions {
  /** Share of the buckets, 0 to 1. */
  readonly share: number
  /** Which part a share below 1 takes. */
  readonly offset: number
}

export interface TableReport {
  readonly table: string
  readonly rowsOnSource: number
  readonly rowsOnTarget: number
  readonly buckets: number
  readonly bucketsCompared: number
  /** Buckets whose sums differed at first; most are writes on their way. */
  readonly bucketsLookedInto: number
  /** Sum of all row digests of the source's side, hex: bound into the certificate. */
  readonly digest: string
}

export interface ParityReport {
  readonly rowsCompared: number
  readonly differences: number
  /** The first of them, by cell. */
  readonly listed: readonly Difference[]
  readonly notChecked: readonly { readonly table: string; readonly rows: number; readonly because: string }[]
  readonly tables: readonly TableReport[]
}

/** Differences listed in a report; all are counted. */
const LISTED_MAX = 1_000
const SETTLE_BATCH = 256

export async function compareStores(parts: ParityParts, options: ParityOptions, signal: AbortSignal): Promise<ParityReport> {
  const tables: TableReport[] = []
  const listed: Difference[] = []
  const notChecked: { table: string; rows: number; because: string }[] = []
  let differences = 0
  for (const table of parts.mapping.tables) {
    const found = await compareTable(parts, table, options, signal)
    tables.push(found.report)
    differences += found.differences.length
    listed.push(...found.differences.slice(0, LISTED_MAX - listed.length))
    if (found.restless > 0) notChecked.push({ table: table.name, rows: found.restless, because: 'changed each time they were read' })
  }
  const rowsCompared = tables.reduce((sum, table) => sum + Math.max(table.rowsOnSource, table.rowsOnTarget), 0)
  return { rowsCompared, differences, listed, notChecked, tables }
}

async function compareTable(parts: ParityParts, table: TableMapping, options: ParityOptions, signal: AbortSignal) {
  const estimatedRows = await parts.estimatedRows(table)
  const buckets = bucketCount(estimatedRows)
  const choice: BucketChoice = { buckets, only: sampleOfBuckets(buckets, options.share, options.offset) }
  const sums = (reader: ParityReader) => {
    let rows = 0
    return reader.bucketSums(
      table,
      choice,
      (more) => {
        rows += more
        parts.onProgress({ table: table.name, step: 'digests', rows, estimatedRows })
      },
      signal,
    )
  }
  const [source, target] = await Promise.all([sums(parts.source), sums(parts.target)])
  const suspect = source.differing(target)
  const candidates = suspect.length === 0 ? [] : await differingRows(parts, table, { buckets, only: new Set(suspect) }, signal)
  const differences: Difference[] = []
  let restless = 0
  for (let i = 0; i < candidates.length; i += SETTLE_BATCH) {
    const settled = await settleRows(parts, table, candidates.slice(i, i + SETTLE_BATCH), signal)
    differences.push(...settled.differences)
    restless += settled.restless.length
    parts.onProgress({ table: table.name, step: 'settling', rows: i, estimatedRows: candidates.length })
  }
  const report: TableReport = {
    table: table.name,
    rowsOnSource: total(source),
    rowsOnTarget: total(target),
    buckets,
    bucketsCompared: choice.only?.size ?? buckets,
    bucketsLookedInto: suspect.length,
    digest: rootOf(source),
  }
  return { report, differences, restless }
}

/** Rows of the suspect buckets whose digests differ, or that only one side has. */
async function differingRows(parts: ParityParts, table: TableMapping, choice: BucketChoice, signal: AbortSignal): Promise<RowKey[]> {
  const open = new Map<string, DigestedRow>()
  const found = new Map<string, RowKey>()
  for await (const rows of parts.source.rowDigests(table, choice, signal)) for (const row of rows) open.set(idOf(row), row)
  for await (const rows of parts.target.rowDigests(table, choice, signal)) {
    for (const row of rows) {
      const id = idOf(row)
      const other = open.get(id)
      if (other === undefined || other.digest !== row.digest) found.set(id, plain(row))
      open.delete(id)
    }
  }
  for (const [id, row] of open) found.set(id, plain(row))
  return [...found.values()]
}

function plain({ table, key, clustering }: RowKey): RowKey {
  return { table, key, clustering }
}

function idOf(row: RowKey): string {
  return JSON.stringify([row.key, row.clustering])
}

function total(sums: BucketSums): number {
  return sums.counts.reduce((sum, count) => sum + count, 0)
}

function rootOf(sums: BucketSums): string {
  let root = 0n
  for (let bucket = 0; bucket < sums.buckets; bucket++) root += sums.sum(bucket)
  return BigInt.asUintN(64, root).toString(16).padStart(16, '0')
}
