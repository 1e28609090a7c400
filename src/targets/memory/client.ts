// Promises: the target contract against a memory target in another process (server.ts): pipelined, batched, bounded.
import { type Clock, systemClock } from '../../lib/clock.ts'
import { BucketSums } from '../../lib/digest.ts'
import { type Random, systemRandom } from '../../lib/prng.ts'
import type { Head } from '../../model/head.ts'
import type { RowKey } from '../../model/row.ts'
import type { CasResult, ControlItem, Target, TargetCapabilities } from '../../model/target.ts'
import {
  boundedJson,
  boundedRows,
  decodeEntry,
  decodeHead,
  decodeRow,
  encodeChanges,
  encodeEntry,
  encodeHead,
  type WireEntry,
  type WireHead,
  type WireRow,
} from '../codec.ts'
import type { WireSums } from './digest-part.ts'
import { Line } from './line.ts'
import { MEMORY_CAPABILITIES, type ScanCursor } from './memory-target.ts'

export interface MemoryClientOptions {
  readonly host?: string
  readonly port: number
  readonly requestTimeoutMs?: number
  readonly clock?: Clock
  readonly random?: Random
  readonly requestsMax?: number
  readonly unsentBytesMax?: number
}

const SCAN_BATCH_ROWS = 500
/** Rows that the server digests in one request: well below the request's timeout, and few enough that the replies stay small. */
const SUMS_ROWS = 50_000

/** Connects at the first request. */
export function connectMemoryTarget(options: MemoryClientOptions): Target {
  const line = new Line({
    host: options.host ?? '127.0.0.1',
    port: options.port,
    requestTimeoutMs: options.requestTimeoutMs ?? 5_000,
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
    requestsMax: options.requestsMax ?? 50_000,
    unsentBytesMax: options.unsentBytesMax ?? 64 * 1024 * 1024,
  })
  return clientOver(line, MEMORY_CAPABILITIES)
}

function clientOver(line: Line, capabilities: TargetCapabilities): Target {
  const { maxEntryBytes, maxRowBytes } = capabilities
  const ask = async <R>(operation: string, ...args: unknown[]) => (await line.request(operation, argsText(args))) as R
  return {
    capabilities,
    prepare: (mapping) => ask('prepare', mapping),
    remove: (mapping, what) => ask('remove', mapping, what),
    async readHead(key) {
      return headOrNull(await ask<WireHead | null>('readHead', key))
    },
    async compareAndSetHead(key, expected, next): Promise<CasResult> {
      boundedJson(encodeChanges(next.redo), maxEntryBytes, 'compareAndSetHead')
      // Of the expected head only what is compared is sent.
      const compared = expected === null ? null : encodeHead({ ...expected, redo: [], recent: [] })
      const reply = await ask<1 | WireHead | null>('compareAndSetHead', key, compared, encodeHead(next))
      return reply === 1 ? { won: true } : { won: false, head: headOrNull(reply) }
    },
    async appendEntry({ group, lease }, sequence, entry) {
      const text = boundedJson(encodeEntry(entry), maxEntryBytes, 'appendEntry')
      await line.request('appendEntry', `${argsText([group, lease, sequence])},${text}`)
    },
    async readOutbox({ group, lease }, after, limit) {
      const [end, entries] = await ask<[boolean, [number, WireEntry][]]>('readOutbox', group, lease, after, limit)
      return { end, entries: entries.map(([sequence, entry]) => ({ sequence, entry: decodeEntry(entry) })) }
    },
    deleteBucket: ({ group, lease }, bucket) => ask('deleteBucket', group, lease, bucket),
    async putRows(rows) {
      if (rows.length === 0) return
      await line.request('putRows', boundedRows(rows, maxRowBytes))
    },
    async readRows(keys) {
      if (keys.length === 0) return []
      const rows = await ask<(WireRow | null)[]>('readRows', ...keys.map(wireKey))
      return rows.map((row) => (row === null ? undefined : decodeRow(row)))
    },
    async readRange(range) {
      const [next, rows] = await ask<[readonly string[] | null, WireRow[]]>('readRange', range)
      return { next, rows: rows.map(decodeRow) }
    },
    async *scanRows({ table, segment, segments, signal }) {
      for (let cursor: ScanCursor | null = [0, null]; cursor !== null; ) {
        if (signal?.aborted) return
        const page: [ScanCursor | null, WireRow[]] = await ask('scanRows', table, segment, segments, cursor, SCAN_BATCH_ROWS)
        if (page[1].length > 0) yield page[1].map(decodeRow)
        cursor = page[0]
      }
    },
    async bucketSums(table, { buckets, only }, { progress, signal }) {
      const sums = new BucketSums(buckets)
      const chosen = only === null ? null : [...only]
      for (let from: number | null = 0; from !== null; ) {
        if (signal.aborted) return sums
        const part: WireSums = await ask('bucketSums', table, buckets, chosen, from, SUMS_ROWS)
        for (const [bucket, count, sum] of part.sums) sums.merge(bucket, BigInt(sum), count)
        progress(part.rows)
        from = part.next
      }
      return sums
    },
    purgeTombstones: (table, below) => ask('purgeTombstones', table, String(below)),
    readControl: () => ask<ControlItem | null>('readControl'),
    writeControl: (expected, next) => ask('writeControl', expected, next),
    async close() {
      line.close()
    },
  }
}

function headOrNull(wire: WireHead | null): Head | null {
  return wire === null ? null : decodeHead(wire)
}

function wireKey({ table, key, clustering }: RowKey): [string, string, readonly string[]] {
  return [table, key, clustering]
}

function argsText(args: readonly unknown[]): string {
  return args.map((arg) => JSON.stringify(arg)).join(',')
}
