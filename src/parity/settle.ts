// Promises: a difference counts only if it persists: the row is read again after both sides have passed the same position, and
// neither side has changed since (protocols.md, Parity; faults.md 29). A hot row seldom stands still for as long as a position takes: it is
// equal when the other side shows any of what its owner has shown since the round began. A row that is not caught so is named, not guessed.
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
/** At the other side, in one round; between two of them the owner is read again. */
const LOOKS_MAX = 6

interface Candidate {
  readonly key: RowKey
  owner: Owner
  /** What both sides showed in the round before; null before the first. */
  seen: string | null
  equal: boolean
  pair: readonly [source: Row | undefined, target: Row | undefined]
}

export async function settleRows(parts: SettleParts, table: TableMapping, keys: readonly RowKey[], signal: AbortSignal): Promise<Settled> {
  let open: Candidate[] = keys.map((key) => ({
    key,
    owner: parts.ownerOf(key.key),
    seen: null,
    equal: false,
    pair: [undefined, undefined],
  }))
  const differences: Difference[] = []
  for (let round = 0; round < ROUNDS_MAX && open.length > 0 && !signal.aborted; round++) {
    const next: Candidate[] = []
    for (const owner of ['source', 'target'] as const) {
      const mine = open.filter((candidate) => candidate.owner === owner)
      if (mine.length > 0) await readRound(parts, table, mine, owner, signal)
    }
    for (const candidate of open) {
      if (candidate.equal) continue
      const [source, target] = candidate.pair
      const seen = `${candidate.owner}\n${textOf(source)}\n${textOf(target)}`
      if (candidate.seen === seen) differences.push(describe(table, candidate))
      else next.push({ ...candidate, seen, owner: parts.ownerOf(candidate.key.key) })
    }
    open = next
  }
  return { differences, restless: open.map((candidate) => candidate.key) }
}

/** Owner first, then the position, then the other side: what the other shows is at least as new as what the owner showed first. */
async function readRound(
  parts: SettleParts,
  table: TableMapping,
  candidates: readonly Candidate[],
  owner: Owner,
  signal: AbortSignal,
): Promise<void> {
  const keys = candidates.map((candidate) => candidate.key)
  const shown = candidates.map(() => new Set<string>())
  const [ownerSide, otherSide] = owner === 'source' ? [parts.source, parts.target] : [parts.target, parts.source]
  const first = await ownerSide.readRows(table, keys)
  first.forEach((row, i) => {
    shown[i]!.add(textOf(row))
  })
  if (owner === 'source') await parts.settling.sourceOnTarget(signal)
  else await parts.settling.targetOnSource([...new Set(keys.map((key) => key.key))], signal)
  let open = candidates.map((_, i) => i)
  for (let look = 0; look < LOOKS_MAX && open.length > 0; look++) {
    const openKeys = open.map((i) => keys[i]!)
    const other = await otherSide.readRows(table, openKeys)
    const again = await ownerSide.readRows(table, openKeys)
    open = open.filter((i, at) => {
      const candidate = candidates[i]!
      if (look === 0) candidate.pair = owner === 'source' ? [first[i], other[at]] : [other[at], first[i]]
      const moving = !shown[i]!.has(textOf(again[at]))
      shown[i]!.add(textOf(again[at]))
      candidate.equal = shown[i]!.has(textOf(other[at]))
      return !candidate.equal && moving
    })
  }
}

function textOf(row: Row | undefined): string {
  return row === undefined ? '' : recordText(row)
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
