// Promises: one look at everything on the target that speaks of its owner: the stamps of all rows, the heads of the aggregates that look
// newer than this PostgreSQL, and the outboxes past what is applied here. It changes nothing. Every kind of finding is counted in full,
// and the first of each are named.
import type { SlotId, Stamp } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Mapping } from '../model/mapping.ts'
import type { RoutingView } from '../model/ownership.ts'
import { type Finding, type FindingKind, judgeKey } from '../model/reconcile.ts'
import type { Target } from '../model/target.ts'
import { type OutboxesKnown, readApplied } from '../store/reconcile.ts'
import type { Session } from '../store/session.ts'

export interface EvidenceOptions {
  readonly session: Session
  readonly target: Pick<Target, 'scanRows' | 'readHead' | 'readOutbox'>
  readonly mapping: Mapping
  readonly view: RoutingView
  readonly outboxes: OutboxesKnown
  /** Rows of PostgreSQL's slots above it were written by a PostgreSQL that went on without this one. */
  readonly ceilingOf: (slot: SlotId) => Stamp | null
  /** A flip may be lost: the head of every aggregate is looked at. */
  readonly allHeads: boolean
  readonly signal: AbortSignal
}

export interface Evidence {
  readonly found: Readonly<Record<FindingKind, number>>
  /** At most FINDINGS_NAMED_MAX of each kind. */
  readonly named: readonly Finding[]
  readonly keysLookedAt: number
  /** On the target, past what is applied here: what the reverse sync has to do still. */
  readonly entriesNotApplied: number
}

export const FINDINGS_NAMED_MAX = 20
const SCAN_SEGMENTS = 16
const ENTRIES_A_PAGE = 500
const HEADS_AT_ONCE = 16

export async function lookAtTarget(options: EvidenceOptions): Promise<Evidence> {
  const entries = await entriesPast(options)
  const found: Record<FindingKind, number> = { 'tenure unknown': 0, 'row unknown': 0, 'entry gone': 0, 'write lost': 0 }
  const named: Finding[] = []
  const seen = new Set<string>()
  let keysLookedAt = 0
  for (const { name: table } of options.mapping.tables) {
    for (let segment = 0; segment < SCAN_SEGMENTS; segment++) {
      for await (const rows of options.target.scanRows({ table, segment, segments: SCAN_SEGMENTS, signal: options.signal })) {
        const newest = new Map<AggregateKey, Stamp>()
        for (const { key, stamp } of rows) if (stamp > (newest.get(key) ?? -1n)) newest.set(key, stamp)
        const suspects = [...newest].filter(([key, stamp]) => isSuspect(options, key, stamp))
        keysLookedAt += suspects.length
        for (const finding of await judged(options, suspects, entries)) {
          // A key has rows in several batches and tables.
          const id = `${finding.what} ${finding.key}`
          if (seen.has(id)) continue
          seen.add(id)
          if (found[finding.what]++ < FINDINGS_NAMED_MAX) named.push(finding)
        }
      }
    }
  }
  return { found, named, keysLookedAt, entriesNotApplied: entries.size }
}

function isSuspect({ view, ceilingOf, allHeads }: EvidenceOptions, key: AggregateKey, stamp: Stamp): boolean {
  if (allHeads) return true
  const owned = view.ownership(view.slotOf(key))!
  if (owned.owner === 'target') return stamp > owned.base
  const ceiling = ceilingOf(owned.slot)
  return ceiling !== null && stamp > ceiling
}

async function judged(
  options: EvidenceOptions,
  suspects: readonly (readonly [AggregateKey, Stamp])[],
  entries: ReadonlySet<string>,
): Promise<Finding[]> {
  const { session, target, view, ceilingOf } = options
  if (suspects.length === 0) return []
  const applied = await readApplied(
    session,
    suspects.map(([key]) => key),
  )
  const findings: Finding[] = []
  for (let from = 0; from < suspects.length; from += HEADS_AT_ONCE) {
    const judging = suspects.slice(from, from + HEADS_AT_ONCE).map(async ([key, stamp]) => {
      const slot = view.slotOf(key)
      const owned = view.ownership(slot)!
      const known = applied.get(key)
      const head = await target.readHead(key)
      const what = judgeKey({
        slot,
        key,
        owned,
        stamp,
        head,
        applied: known?.tenure === owned.tenure ? known.version : 0,
        hasEntry: (version) => entries.has(entryId(key, owned.tenure, version)),
        ceiling: ceilingOf(slot),
      })
      if (what === null) return
      const finding = { what, slot, key, ownerHere: owned.owner, tenureHere: owned.tenure, tenureOnTarget: head?.tenure ?? null }
      findings.push(finding)
    })
    await Promise.all(judging)
  }
  return findings
}

/** Of every outbox that this PostgreSQL knows of and has not read to its end. A deleted bucket ends it early: its entries are then gone. */
async function entriesPast({ target, view, outboxes, signal }: EvidenceOptions): Promise<ReadonlySet<string>> {
  const positions = new Map(outboxes.positions.map((position) => [`${position.group} ${position.lease}`, position]))
  const groups = new Set([...view.rows()].map(({ slot }) => view.groupOf(slot)))
  const entries = new Set<string>()
  for (const lease of outboxes.leases) {
    for (const group of groups) {
      const position = positions.get(`${group} ${lease}`)
      if (position?.final === true) continue
      let after = position?.sequence ?? 0
      for (let end = false; !end && !signal.aborted; ) {
        const page = await target.readOutbox({ group, lease }, after, ENTRIES_A_PAGE)
        for (const { sequence, entry } of page.entries) {
          entries.add(entryId(entry.key, entry.tenure, entry.version))
          after = sequence
        }
        end = page.end
      }
    }
  }
  return entries
}

function entryId(key: AggregateKey, tenure: number, version: number): string {
  return `${tenure} ${version} ${key}`
}
