// Promises: what an entry of an outbox is, as protocols.md, "Reverse sync", says it. Pure; the same as `standing` and `verdict` of the
// design's model.
import type { Head, OutboxEntry } from './head.ts'
import type { Ownership } from './ownership.ts'

/**
 * old: of a tenure that is over. double: its version is applied already. next: to be settled and applied now. wait: versions before it
 * are missing (INV-6). ahead: the view of ownership is older than the entry, so nothing is known yet (INV-10).
 */
export type Standing = 'old' | 'double' | 'next' | 'wait' | 'ahead'

export function standing(
  entry: Pick<OutboxEntry, 'tenure' | 'version'>,
  ownership: Pick<Ownership, 'owner' | 'tenure'> | undefined,
  appliedVersion: number,
): Standing {
  const tenure = tenureStanding(entry.tenure, ownership)
  if (tenure !== 'present') return tenure
  if (appliedVersion >= entry.version) return 'double'
  return appliedVersion === entry.version - 1 ? 'next' : 'wait'
}

export function tenureStanding(tenure: number, ownership: Pick<Ownership, 'owner' | 'tenure'> | undefined): 'old' | 'present' | 'ahead' {
  // Tenures only rise, so a view that is behind may say `ahead` for long, but never `old` wrongly.
  if (ownership === undefined || tenure > ownership.tenure) return 'ahead'
  return tenure === ownership.tenure && ownership.owner === 'target' ? 'present' : 'old'
}

export type Verdict = 'committed' | 'void' | 'wait'

export interface VerdictEvidence {
  /** Read at the strongest level, after `leaseOver` was known. */
  readonly head: Head | null
  readonly leaseOver: boolean
  /** An entry of this aggregate and tenure, of the version after it, names it as `prev`. */
  readonly namedByNext: boolean
}

/** Whether an entry whose gateway has not said so was committed. */
export function verdict(entry: Pick<OutboxEntry, 'tenure' | 'version' | 'txnId'>, evidence: VerdictEvidence): Verdict {
  const { head } = evidence
  // Nothing can be told from a later tenure's head; it is unreachable for an entry of the present one.
  if (head !== null && head.tenure > entry.tenure) return 'wait'
  if (head === null || head.tenure !== entry.tenure || head.version < entry.version) {
    // The head is not there yet. A late compare-and-set of a lease that is over is seen by whoever meets it, and helped by an entry of
    // its own; nothing of it was ever visible.
    return evidence.leaseOver ? 'void' : 'wait'
  }
  const at = head.recent.find((one) => one.version === entry.version)
  if (at !== undefined) return at.txnId === entry.txnId ? 'committed' : 'void'
  return evidence.namedByNext ? 'committed' : 'wait'
}
