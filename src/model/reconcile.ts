// Promises: what the target holds that this PostgreSQL does not know of, a key at a time, and whether it may own the target all the same
// (protocols.md, Durable control; faults.md 15, 49). Pure. What is not proved to be safe is not (INV-10).
import { differencesFrom } from './identity.ts'
import type { Owner, SlotId, Stamp, Tenure } from './ids.ts'
import type { AggregateKey } from './key.ts'
import type { ControlItem } from './target.ts'

/**
 * tenure unknown: the target took writes in a tenure that this PostgreSQL has no record of: a flip was lost.
 * row unknown: a row on the target is newer than anything that its owner by this PostgreSQL can have written.
 * entry gone: the target's write is not applied here, and no outbox that this PostgreSQL knows of has it.
 * write lost: PostgreSQL had acknowledged it, the forward sync had sent it on, and this PostgreSQL does not have it.
 */
export type FindingKind = 'tenure unknown' | 'row unknown' | 'entry gone' | 'write lost'

export interface Finding {
  readonly what: FindingKind
  readonly slot: SlotId
  readonly key: AggregateKey
  readonly ownerHere: Owner
  readonly tenureHere: Tenure
  /** Null: the key has no head. */
  readonly tenureOnTarget: Tenure | null
}

export interface KeySeen {
  readonly slot: SlotId
  readonly key: AggregateKey
  /** As this PostgreSQL has it. */
  readonly owned: { readonly owner: Owner; readonly tenure: Tenure; readonly base: Stamp }
  /** The highest of its rows on the target. */
  readonly stamp: Stamp
  readonly head: { readonly tenure: Tenure; readonly version: number } | null
  /** The newest version of the present tenure that is applied here; 0: none. */
  readonly applied: number
  readonly hasEntry: (version: number) => boolean
  /** Of rows that PostgreSQL wrote before it was promoted; null: where that was is not known. */
  readonly ceiling: Stamp | null
}

export function judgeKey(seen: KeySeen): FindingKind | null {
  const { owned, head, stamp, applied } = seen
  if (head !== null && head.tenure > owned.tenure) return 'tenure unknown'
  if (owned.owner === 'source') return seen.ceiling !== null && stamp > seen.ceiling ? 'write lost' : null
  if (stamp <= owned.base) return null
  const version = Number(stamp - owned.base)
  if (version <= applied) return null
  if (head === null || head.tenure !== owned.tenure || version > head.version) return 'row unknown'
  for (let next = applied + 1; next <= version; next++) if (!seen.hasEntry(next)) return 'entry gone'
  return null
}

/** Sentences: why this PostgreSQL must not be made the owner. Empty: it may. */
export function reasonsAgainst(
  item: ControlItem,
  here: ControlItem,
  found: Readonly<Record<FindingKind, number>>,
  standing: { readonly debts: number },
): readonly string[] {
  const against: string[] = []
  if (item.systemIdentifier !== here.systemIdentifier)
    against.push('it is another system, so what its history has in common with the target is not known')
  else if (here.timeline < item.timeline)
    against.push('its timeline is older than the one the target belongs to: another PostgreSQL was promoted since')
  else if (here.timeline === item.timeline && differencesFrom(item, here).length > 0)
    against.push('it has lost commits on one and the same timeline (a crash, or a restored copy), and where is not known')
  if (found['tenure unknown'] > 0)
    against.push(`${found['tenure unknown']} keys were written on the target after a flip that this PostgreSQL has not`)
  if (found['row unknown'] > 0)
    against.push(`${found['row unknown']} keys that it takes for the target's have rows there that the target did not write`)
  if (found['entry gone'] > 0)
    against.push(`${found['entry gone']} keys were written on the target, and what was written cannot be applied here`)
  if (standing.debts > 0)
    against.push(`${standing.debts} slots went back in debt while the target was silent, before or after the failover`)
  return against
}
