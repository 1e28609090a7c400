// Promises: what parity asks of either store. Rows are grouped into buckets by a digest of their aggregate's key, the same on both
// sides whatever order a store keeps them in; sums of digests travel, rows only where sums differ.
import type { BucketSums } from '../lib/digest.ts'
import type { TableMapping } from './mapping.ts'
import type { Row, RowKey } from './row.ts'

/** Seed of the key's digest that chooses the bucket; row digests have seed 0, so that the two are independent. */
export const BUCKET_SEED = 12

/** Bound into the certificate: another normaliser gives other digests for equal rows. */
export const NORMALISER_VERSION = 1

/** Which buckets of how many; null: all. */
export interface BucketChoice {
  readonly buckets: number
  readonly only: ReadonlySet<number> | null
}

export interface DigestedRow extends RowKey {
  readonly digest: bigint
}

export interface ParityReader {
  /** Sum and count of the rows' digests by bucket; tombstones left out. `buckets` is a power of two. */
  bucketSums(table: TableMapping, choice: BucketChoice, progress: (rows: number) => void, signal: AbortSignal): Promise<BucketSums>
  rowDigests(table: TableMapping, choice: BucketChoice, signal: AbortSignal): AsyncIterable<readonly DigestedRow[]>
  readRows(table: TableMapping, keys: readonly RowKey[]): Promise<readonly (Row | undefined)[]>
}

/** Waits on both syncs' positions, never on time. */
export interface Settling {
  /** Resolves when the target holds everything that is visible in PostgreSQL now. */
  sourceOnTarget(signal: AbortSignal): Promise<void>
  /** Resolves when PostgreSQL holds everything that these aggregates have committed on the target now. */
  targetOnSource(keys: readonly string[], signal: AbortSignal): Promise<void>
}
