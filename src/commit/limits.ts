// Promises: the named limits of the commit engine, and the refusal by name, before anything is sent, of what is larger.
import { assert } from '../lib/assert.ts'
import { SwitchbackError } from '../model/errors.ts'
import { ENTRIES_IN_FLIGHT_MAX } from '../model/head.ts'
import type { TableName } from '../model/mapping.ts'
import type { RowChange } from '../model/row.ts'
import type { TargetCapabilities } from '../model/target.ts'

export interface CommitLimits {
  /** Rows of one aggregate that a statement may read, tombstones included. */
  readonly aggregateRowsMax: number
  /** Rows that one transaction may change, after folding. */
  readonly transactionRowsMax: number
  /** No try begins later than this after the statement began, and no client waits longer for the answer of one. */
  readonly commitDeadlineMs: number
  /** Sessions that may queue for one aggregate. */
  readonly fifoWaitersMax: number
  /** Rows asked for in one page of a range read. */
  readonly rangePageRows: number
  /** Waits between repeats of a request that failed. */
  readonly retryFirstMs: number
  readonly retryCapMs: number
  /** Waits between tries of a statement whose compare-and-set lost. */
  readonly conflictFirstMs: number
  readonly conflictCapMs: number
  /** A transaction met half-way is most often one in flight: look once more after so long before helping it. */
  readonly helpGraceMs: number
  /** Entries of one outbox under way at once: fewer than a bucket of the target holds (model/head.ts). */
  readonly entriesInFlightMax: number
  /** Aggregates of which the newest finished version is remembered. */
  readonly knownHeadsMax: number
  /** Heads and rows remembered from this gateway's own commits. */
  readonly rememberedBytesMax: number
}

export const DEFAULT_COMMIT_LIMITS: CommitLimits = {
  aggregateRowsMax: 10_000,
  transactionRowsMax: 1_000,
  commitDeadlineMs: 5_000,
  fifoWaitersMax: 1_000,
  rangePageRows: 1_000,
  retryFirstMs: 5,
  retryCapMs: 500,
  conflictFirstMs: 2,
  conflictCapMs: 100,
  helpGraceMs: 2,
  entriesInFlightMax: ENTRIES_IN_FLIGHT_MAX,
  knownHeadsMax: 200_000,
  rememberedBytesMax: 64 * 1024 * 1024,
}

/** What a head carries beside its redo (the last 16, ids, names) and an entry beside its changes. */
const ENVELOPE_BYTES = 4_096
/** The most bytes that one UTF-16 unit takes in JSON: a six-byte escape. */
const JSON_UNIT_BYTES = 6

export interface TransactionBounds {
  readonly limits: CommitLimits
  readonly target: { readonly capabilities: TargetCapabilities }
  /** Names of the mapped tables. */
  readonly tables: ReadonlySet<TableName>
}

/** Throws TRANSACTION_TOO_LARGE, naming the limit. */
export function checkTransaction(changes: readonly RowChange[], { limits, target, tables }: TransactionBounds): void {
  const { maxEntryBytes, maxRowBytes } = target.capabilities
  checkRowCount(changes.length, limits)
  let units = 0
  for (const change of changes) {
    assert(tables.has(change.table), `a plan changed ${change.table}, which is not mapped`)
    const rowUnits = unitsOf(change)
    if (rowUnits * JSON_UNIT_BYTES > maxRowBytes && jsonBytes(change.values) > maxRowBytes) {
      throw new SwitchbackError('TRANSACTION_TOO_LARGE', { limit: maxRowBytes, limitName: 'maxRowBytes of the target' })
    }
    units += rowUnits
  }
  if (units * JSON_UNIT_BYTES + ENVELOPE_BYTES > maxEntryBytes && jsonBytes(changes) + ENVELOPE_BYTES > maxEntryBytes) {
    throw new SwitchbackError('TRANSACTION_TOO_LARGE', { limit: maxEntryBytes, limitName: 'maxEntryBytes of the target' })
  }
}

export function checkRowCount(rows: number, limits: CommitLimits): void {
  if (rows > limits.transactionRowsMax)
    throw new SwitchbackError('TRANSACTION_TOO_LARGE', { limit: limits.transactionRowsMax, limitName: 'transactionRowsMax' })
}

/** An upper bound, cheap: exact bytes are counted only where the bound exceeds a limit. */
function unitsOf(change: RowChange): number {
  let units = change.table.length + 64
  for (const text of change.clustering) units += text.length + 4
  if (change.values !== null) for (const cell of change.values) units += (cell?.length ?? 4) + 4
  return units
}

function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value), 'utf8')
}
