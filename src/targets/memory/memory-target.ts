// Promises: the target contract in this process's memory: exact, atomic (one thread, each operation in one step) and fast. Nothing
// is persisted: "durable" means for as long as the process lives, so it serves tests, trials and measurements, never a real move.
import { SwitchbackError } from '../../model/errors.ts'
import { bucketOf, type Head, type OutboxEntry, type OutboxId, sameHead } from '../../model/head.ts'
import type { AggregateKey } from '../../model/key.ts'
import type { ColumnType, Mapping, TableMapping, TableName } from '../../model/mapping.ts'
import type { Cell, Row, RowKey, RowPut, StampedRow } from '../../model/row.ts'
import type { CasResult, ControlItem, OutboxPage, RowPage, RowRange, ScanOptions, Target, TargetCapabilities } from '../../model/target.ts'
import { clusteringTypes, compareUtf8, encodeClustering } from '../clustering.ts'
import { boundedJson, checkText, encodeChanges, encodeEntry, rowBytes } from '../codec.ts'

export const MEMORY_CAPABILITIES: TargetCapabilities = {
  name: 'memory',
  maxEntryBytes: 1024 * 1024,
  maxRowBytes: 1024 * 1024,
  strongestRead: 'linearizable',
}

/** Rows a batch of scanRows. */
const SCAN_BATCH_ROWS = 500

interface Stored {
  readonly order: string
  readonly clustering: readonly string[]
  values: Row | null
  stamp: bigint
  mark: boolean
}

interface Aggregate {
  readonly hash: number
  readonly byOrder: Map<string, Stored>
  /** In clustering order. */
  readonly sorted: Stored[]
}

interface Table {
  readonly mapping: TableMapping
  readonly types: readonly ColumnType[]
  readonly aggregates: Map<AggregateKey, Aggregate>
  /** In order of arrival, never shortened, so that a scan's cursor stays valid. */
  readonly keys: AggregateKey[]
}

/** Where a scan goes on: index of an aggregate, and the row's order text after which it goes on in it. */
export type ScanCursor = readonly [index: number, after: string | null]

export interface ScanPage {
  readonly rows: readonly StampedRow[]
  readonly next: ScanCursor | null
}

interface Bucket {
  readonly entries: Map<number, OutboxEntry>
}

export class MemoryTarget implements Target {
  readonly capabilities: TargetCapabilities
  readonly #tables = new Map<TableName, Table>()
  readonly #heads = new Map<AggregateKey, Head>()
  readonly #outboxes = new Map<string, Map<number, Bucket>>()
  #control: ControlItem | null = null

  constructor(capabilities: TargetCapabilities = MEMORY_CAPABILITIES) {
    this.capabilities = capabilities
  }

  async prepare(mapping: Mapping): Promise<void> {
    for (const table of mapping.tables) {
      const types = clusteringTypes(table)
      const known = this.#tables.get(table.name)
      if (known !== undefined && (known.types.join() !== types.join() || known.mapping.partition !== table.partition))
        throw new SwitchbackError('TARGET_REFUSED', { operation: `prepare ${table.name}`, reason: 'the table is there with another key' })
      this.#tables.set(table.name, { aggregates: new Map(), keys: [], ...known, mapping: table, types })
    }
  }

  async remove(mapping: Mapping, what: { readonly rows: boolean }): Promise<void> {
    this.#heads.clear()
    this.#outboxes.clear()
    this.#control = null
    if (what.rows) for (const table of mapping.tables) this.#tables.delete(table.name)
  }

  async readHead(key: AggregateKey): Promise<Head | null> {
    return this.#heads.get(key) ?? null
  }

  async compareAndSetHead(key: AggregateKey, expected: Head | null, next: Head): Promise<CasResult> {
    boundedJson(encodeChanges(next.redo), this.capabilities.maxEntryBytes, 'compareAndSetHead')
    const stored = this.#heads.get(key) ?? null
    if (!sameHead(stored, expected)) return { won: false, head: stored }
    this.#heads.set(key, next)
    return { won: true }
  }

  async appendEntry(outbox: OutboxId, sequence: number, entry: OutboxEntry): Promise<void> {
    boundedJson(encodeEntry(entry), this.capabilities.maxEntryBytes, 'appendEntry')
    const name = outboxName(outbox)
    const buckets = this.#outboxes.get(name) ?? new Map<number, Bucket>()
    this.#outboxes.set(name, buckets)
    const number = bucketOf(sequence)
    const bucket = buckets.get(number) ?? { entries: new Map() }
    buckets.set(number, bucket)
    bucket.entries.set(sequence, entry)
  }

  async readOutbox(outbox: OutboxId, after: number, limit: number): Promise<OutboxPage> {
    const buckets = this.#outboxes.get(outboxName(outbox))
    const first = bucketOf(after + 1)
    const entries: { sequence: number; entry: OutboxEntry }[] = []
    for (const number of [...(buckets?.keys() ?? [])].filter((one) => one >= first).sort((a, b) => a - b)) {
      const found = [...buckets!.get(number)!.entries].filter(([sequence]) => sequence > after).sort((a, b) => a[0] - b[0])
      for (const [sequence, entry] of found) {
        if (entries.length === limit) return { entries, end: false }
        entries.push({ sequence, entry })
      }
    }
    return { entries, end: true }
  }

  async deleteBucket(outbox: OutboxId, bucket: number): Promise<void> {
    this.#outboxes.get(outboxName(outbox))?.delete(bucket)
  }

  /** Sizes and texts of all are checked before the first is put. */
  async putRows(rows: readonly RowPut[]): Promise<void> {
    const checked = rows.map((row) => ({ row, ...this.#check(row) }))
    // A partial put builds on the one before it.
    if (rows.some((row) => row.values?.includes(undefined)))
      checked.sort((a, b) => (a.row.stamp < b.row.stamp ? -1 : a.row.stamp > b.row.stamp ? 1 : 0))
    for (const { table, row, order } of checked) put(table, row, order)
  }

  async readRows(keys: readonly RowKey[]): Promise<readonly (StampedRow | undefined)[]> {
    return keys.map((key) => {
      const table = this.#table(key.table)
      const stored = table.aggregates.get(key.key)?.byOrder.get(encodeClustering(table.types, key.clustering))
      return stored === undefined ? undefined : stampedRow(key.table, key.key, stored)
    })
  }

  async readRange(range: RowRange): Promise<RowPage> {
    const table = this.#table(range.table)
    const sorted = table.aggregates.get(range.key)?.sorted ?? []
    const from = range.after === undefined ? 0 : positionAfter(sorted, encodeClustering(table.types, range.after))
    const rows = sorted.slice(from, from + range.limit).map((stored) => stampedRow(range.table, range.key, stored))
    return { rows, next: from + range.limit < sorted.length ? (rows.at(-1)?.clustering ?? null) : null }
  }

  async *scanRows({ table, segment, segments, signal }: ScanOptions): AsyncIterable<readonly StampedRow[]> {
    for (let cursor: ScanCursor | null = [0, null]; cursor !== null; ) {
      if (signal?.aborted) return
      const page: ScanPage = this.scanPage(table, { segment, segments }, cursor, SCAN_BATCH_ROWS)
      if (page.rows.length > 0) yield page.rows
      cursor = page.next
    }
  }

  /** One batch of a scan, for the server. */
  scanPage(name: TableName, part: { segment: number; segments: number }, cursor: ScanCursor, limit: number): ScanPage {
    const table = this.#table(name)
    const rows: StampedRow[] = []
    let after = cursor[1]
    for (let index = cursor[0]; index < table.keys.length; index++) {
      const key = table.keys[index]!
      const { hash, sorted } = table.aggregates.get(key)!
      if (hash % part.segments !== part.segment) continue
      const from = after === null ? 0 : positionAfter(sorted, after)
      after = null
      for (let i = from; i < sorted.length; i++) {
        rows.push(stampedRow(name, key, sorted[i]!))
        if (rows.length === limit) return { rows, next: [index, sorted[i]!.order] }
      }
    }
    return { rows, next: null }
  }

  /** Live rows of one aggregate after the other, from the n-th on; for the digests. */
  *liveRows(name: TableName, from: number): Iterable<{ readonly index: number; readonly key: AggregateKey; readonly values: Row }> {
    const { keys, aggregates } = this.#table(name)
    for (let index = from; index < keys.length; index++) {
      const key = keys[index]!
      for (const { values } of aggregates.get(key)!.sorted) if (values !== null) yield { index, key, values }
    }
  }

  async purgeTombstones(name: TableName, below: bigint, signal?: AbortSignal): Promise<number> {
    let purged = 0
    for (const { byOrder, sorted } of this.#table(name).aggregates.values()) {
      if (signal?.aborted) break
      const kept = sorted.filter((stored) => stored.values !== null || stored.stamp >= below)
      if (kept.length === sorted.length) continue
      purged += sorted.length - kept.length
      for (const stored of sorted) if (stored.values === null && stored.stamp < below) byOrder.delete(stored.order)
      sorted.splice(0, sorted.length, ...kept)
    }
    return purged
  }

  async readControl(): Promise<ControlItem | null> {
    return this.#control
  }

  async writeControl(expected: ControlItem | null, next: ControlItem): Promise<boolean> {
    if (!sameControl(this.#control, expected)) return false
    this.#control = next
    return true
  }

  async close(): Promise<void> {}

  #table(name: TableName): Table {
    const table = this.#tables.get(name)
    if (table === undefined) throw new SwitchbackError('TARGET_REFUSED', { operation: name, reason: 'there is no such table' })
    return table
  }

  #check(row: RowPut): { table: Table; order: string } {
    const table = this.#table(row.table)
    const order = encodeClustering(table.types, row.clustering)
    const operation = `put ${row.table}`
    let units = row.key.length + order.length
    for (const text of row.clustering) checkText(text, operation)
    checkText(row.key, operation)
    if (row.values !== null && row.values.length !== table.mapping.columns.length)
      throw new SwitchbackError('TARGET_REFUSED', {
        operation,
        reason: `${row.values.length} values for ${table.mapping.columns.length} columns`,
      })
    for (const cell of row.values ?? []) {
      if (typeof cell !== 'string') continue
      checkText(cell, operation)
      units += cell.length
    }
    if (units * 3 > this.capabilities.maxRowBytes) this.#checkBytes(row, operation)
    return { table, order }
  }

  #checkBytes(row: RowPut, operation: string): void {
    const bytes = rowBytes(row)
    const max = this.capabilities.maxRowBytes
    if (bytes > max) throw new SwitchbackError('TARGET_REFUSED', { operation, reason: `${bytes} bytes, above maxRowBytes ${max}` })
  }
}

/** A put that keeps stored cells needs a row that has them: making them up would lose values silently (INV-11, INV-12). */
function checkPartial(stored: Stored | undefined, row: RowPut): void {
  if (!row.values?.includes(undefined)) return
  if (stored !== undefined && (stored.stamp >= row.stamp || stored.values !== null)) return
  throw new SwitchbackError('TARGET_REFUSED', {
    operation: `put ${row.table}`,
    reason: 'columns were left as stored, and no row is stored',
  })
}

function put(table: Table, row: RowPut, order: string): void {
  checkPartial(table.aggregates.get(row.key)?.byOrder.get(order), row)
  let aggregate = table.aggregates.get(row.key)
  if (aggregate === undefined) {
    aggregate = { hash: hashOf(row.key), byOrder: new Map(), sorted: [] }
    table.aggregates.set(row.key, aggregate)
    table.keys.push(row.key)
  }
  const stored = aggregate.byOrder.get(order)
  if (stored === undefined) {
    const fresh = { order, clustering: row.clustering, values: merged(row.values, null), stamp: row.stamp, mark: row.mark }
    aggregate.byOrder.set(order, fresh)
    const { sorted } = aggregate
    const last = sorted.at(-1)
    if (last === undefined || compareUtf8(last.order, order) < 0) sorted.push(fresh)
    else sorted.splice(positionAfter(sorted, order), 0, fresh)
    return
  }
  if (stored.stamp >= row.stamp) return // INV-4
  stored.values = merged(row.values, stored.values)
  stored.stamp = row.stamp
  stored.mark = row.mark
}

function merged(values: readonly (Cell | undefined)[] | null, stored: Row | null): Row | null {
  if (values === null || !values.includes(undefined)) return values as Row | null
  return values.map((cell, i) => (cell === undefined ? (stored?.[i] ?? null) : cell))
}

function stampedRow(table: TableName, key: AggregateKey, stored: Stored): StampedRow {
  return { table, key, clustering: stored.clustering, values: stored.values, stamp: stored.stamp, mark: stored.mark }
}

/** Index of the first row whose order is above the given one. */
function positionAfter(sorted: readonly Stored[], order: string): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (compareUtf8(sorted[middle]!.order, order) <= 0) low = middle + 1
    else high = middle
  }
  return low
}

function outboxName({ group, lease }: OutboxId): string {
  return `${group}#${lease}`
}

function sameControl(a: ControlItem | null, b: ControlItem | null): boolean {
  if (a === null || b === null) return a === b
  return a.systemIdentifier === b.systemIdentifier && a.timeline === b.timeline && a.epoch === b.epoch
}

/** FNV-1a, 32 bits: divides keys over the segments of a scan. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}
