// Promises: a difference counts only if it persists: the row is read again after both sides have passed the same position, and
// neither side has changed since (protocols.md, Parity; faults.md 29). A row that never stands still is named, not guessed.
import { recordText } from '../lib/digest.ts'
import type { Owner } from '../model/ids.ts'
import type { TableMapping } from '../model/mapping.ts'
import type { ParityReader, Settling } from '../model/parity.ts'
import type { Row, RowKey } from '../model/row.ts'

export interface CellDifference {
  readonly column: string
  readonly source: string | null
  readonly target: string | null
}

export interface Difference extends RowKey {
  readonly kind: 'missing on the target' | 'extra on the target' | 'different'
  readonly owner: Owner
  /** Columns that differ; empty for missing and extra. */
  readonly cells: readonly CellDifference[]
}

export interface SettleParts {
  readonly source: ParityReader
  readonly target: ParityReader
  readonly settling: Settling
  /** By the newest ownership: read again for each round, since a flip may be under way. */
  ownerOf(key: string): Owner
}

export interface Settled {
  readonly differences: readonly Difference[]
  /** Changed in every round: not compared. */
  readonly restless: readonly RowKey[]
}

const ROUNDS_MAX = 12

interface Candidate {
  readonly key: RowKey
  owner: Owner
  /** What both sides showed in the round before; null before the first. */
  seen: string | null
  pair: readonly [source: Row | undefined, target: Row | undefined]
}

export async function settleRows(parts: SettleParts, table: TableMapping, keys: readonly RowKey[], signal: AbortSignal): Promise<Settled> {
  let open: Candidate[] = keys.map((key) => ({ key, owner: parts.ownerOf(key.key), seen: null, pair: [undefined, undefined] }))
  const differences: Difference[] = []
  for (let round = 0; round < ROUNDS_MAX && open.length > 0 && !signal.aborted; round++) {
    const next: Candidate[] = []
    for (const owner of ['source', 'target'] as const) {
      const mine = open.filter((candidate) => candidate.owner === owner)
      if (mine.length > 0) await readRound(parts, table, mine, owner, signal)
    }
    for (const candidate of open) {
      const [source, target] = candidate.pair
      const texts = [source, target].map((row) => (row === undefined ? '' : recordText(row)))
      if (texts[0] === texts[1]) continue
      const seen = `${candidate.owner}\n${texts[0]}\n${texts[1]}`
      if (candidate.seen === seen) differences.push(describe(table, candidate))
      else next.push({ ...candidate, seen, owner: parts.ownerOf(candidate.key.key) })
    }
    open = next
  }
  return { differences, restless: open.map((candidate) => candidate.key) }
}

/** Owner first, then the position, then the other side: what the other shows is at least as new as what the owner showed. */
async function readRound(
  parts: SettleParts,
  table: TableMapping,
  candidates: readonly Candidate[],
  owner: Owner,
  signal: AbortSignal,
): Promise<void> {
  const keys = candidates.map((candidate) => candidate.key)
  const [ownerSide, otherSide] = owner === 'source' ? [parts.source, parts.target] : [parts.target, parts.source]
  const owned = await ownerSide.readRows(table, keys)
  if (owner === 'source') await parts.settling.sourceOnTarget(signal)
  else await parts.settling.targetOnSource([...new Set(keys.map((key) => key.key))], signal)
  const other = await otherSide.readRows(table, keys)
  candidates.forEach((candidate, i) => {
    candidate.pair = owner === 'source' ? [owned[i], other[i]] : [other[i], owned[i]]
  })
}

function describe(table: TableMapping, { key, owner, pair: [source, target] }: Candidate): Difference {
  const { table: name, key: aggregate, clustering } = key
  const base = { table: name, key: aggregate, clustering, owner }
  if (target === undefined) return { ...base, kind: 'missing on the target', cells: [] }
  if (source === undefined) return { ...base, kind: 'extra on the target', cells: [] }
  const cells = table.columns.flatMap((column, i) => {
    const [there, here] = [source[i] ?? null, target[i] ?? null]
    return there === here ? [] : [{ column: column.name, source: there, target: here }]
  })
  return { ...base, kind: 'different', cells }
}
