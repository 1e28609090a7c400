// Promises: which slots may go back to PostgreSQL while the target answers nothing, which stay parked, and why (protocols.md, The flip,
// "Target unreachable"). Pure: it knows only what leases, outboxes and the gateways' own copies say. What cannot be shown to be whole
// stays (INV-2, INV-6, INV-10). Why what it lets go loses nothing when the target comes back:
// - An entry counts only when its gateway has told it committed, which it does when all its rows are there, or void, or when the applier
//   has put its rows itself. So rows first holds for everything that is applied here, and a row of the old tenure that lands late is a
//   double of one that is there (INV-4): version n was begun only when n-1 was finished.
// - A transaction of a gateway whose rows are there in part is not told: its slot is busy in the gateway's own word, and stays.
// - A lease that is over may have left entries that nobody tells of: without its outbox read to its end, each slot of the group stays.
// - A compare-and-set that is still on its way leaves a head of the old tenure; nobody helps it, and nothing of it was ever visible.
// - A sequence that has not come may be of any slot of its group, unless its gateway says of which.
// - The new tenure's base lies above every version applied; of what goes nothing later than these ever got rows.
import type { LeaseRow } from '../model/control.ts'
import type { Epoch, SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'

export interface HeldEvidence {
  readonly slots: readonly SlotId[]
  /** Of the park: what was said before it says nothing. */
  readonly epoch: Epoch
  groupOf(slot: SlotId): number
  /** Every lease of the migration, looked at after the park. */
  readonly leases: readonly LeaseRow[]
  outbox(group: number, lease: string): OutboxSeen
  /** Aggregates of these slots with entries that are not settled. */
  readonly open: readonly OpenAggregate[]
  /** Slots of halted aggregates, with the reason. */
  readonly halted: ReadonlyMap<SlotId, string>
}

export interface OutboxSeen {
  /** Read once more to its end after its lease was over. */
  readonly final: boolean
  /** Sequences up to it that are neither settled nor at hand; the first of them, at most as many as asked for. */
  missing(upTo: number, max: number): readonly number[]
}

export interface OpenAggregate {
  readonly slot: SlotId
  readonly key: AggregateKey
  /** Null: everything at hand is known to be committed or applied, and is on its way into PostgreSQL. */
  readonly openBecause: string | null
}

export interface StaysParked {
  readonly slot: SlotId
  readonly because: string
}

export interface HeldDecision {
  /** Everything of theirs is applied. */
  readonly go: readonly SlotId[]
  /** Nothing is missing, but PostgreSQL does not hold all of it yet. */
  readonly applying: readonly SlotId[]
  readonly stay: readonly StaysParked[]
  /** Of those that stay: a gateway may yet tell what is missing. What holds the others up, only the target or a later word ends. */
  readonly coming: readonly SlotId[]
}

/** More holes than this in one outbox are not looked at one by one: its group stays. */
const HOLES_MAX = 1_000

export function decideHeld(evidence: HeldEvidence): HeldDecision {
  const blocked = new Map<SlotId, string>(evidence.halted)
  const missing = new Map<SlotId, string>()
  const byGroup = new Map<number, SlotId[]>()
  for (const slot of evidence.slots) {
    const group = evidence.groupOf(slot)
    byGroup.set(group, [...(byGroup.get(group) ?? []), slot])
  }
  for (const lease of evidence.leases) {
    for (const [group, slots] of byGroup) {
      const found = lookAtOutbox(evidence, lease, group)
      for (const slot of slots) {
        note(blocked, slot, found.all ?? found.slots.get(slot))
        note(missing, slot, found.missing)
      }
    }
  }
  const applying = new Set<SlotId>()
  for (const one of evidence.open) {
    if (one.openBecause === null) applying.add(one.slot)
    else note(missing, one.slot, `key ${one.key}: ${one.openBecause}`)
  }
  const because = (slot: SlotId) => blocked.get(slot) ?? missing.get(slot)
  const free = evidence.slots.filter((slot) => because(slot) === undefined)
  const stays = evidence.slots.filter((slot) => because(slot) !== undefined)
  return {
    go: free.filter((slot) => !applying.has(slot)),
    applying: free.filter((slot) => applying.has(slot)),
    stay: stays.map((slot) => ({ slot, because: because(slot)! })),
    coming: stays.filter((slot) => !blocked.has(slot)),
  }
}

/** The first reason is told. */
function note(reasons: Map<SlotId, string>, slot: SlotId, because: string | undefined): void {
  if (because !== undefined && !reasons.has(slot)) reasons.set(slot, because)
}

interface OutboxLook {
  /** Why no slot of the group may go. */
  readonly all: string | undefined
  readonly slots: ReadonlyMap<SlotId, string>
  /** An entry that may be of any slot of the group, and has not come yet. */
  readonly missing: string | undefined
}

const CLEAR: OutboxLook = { all: undefined, slots: new Map(), missing: undefined }

function lookAtOutbox(evidence: HeldEvidence, lease: LeaseRow, group: number): OutboxLook {
  const seen = evidence.outbox(group, lease.lease)
  if (seen.final) return CLEAR
  const name = `gateway ${lease.gateway} (lease ${lease.lease})`
  if (lease.over)
    return { ...CLEAR, all: `${name} is gone, and its outbox in group ${group} cannot be read to its end while the target is silent` }
  const partial = lease.partial ?? null
  const acked = lease.ackedEpoch >= evidence.epoch
  if (!acked && (partial === null || partial.epoch < evidence.epoch)) return { ...CLEAR, all: `${name} has not acked` }
  const slots = new Map<SlotId, string>()
  if (!acked) for (const slot of partial!.busy) slots.set(slot, `${name} does not know yet what became of its work there`)
  const undecided = acked ? undefined : partial!.undecided.get(group)
  for (const slot of undecided?.values() ?? [])
    slots.set(slot, `${name} does not know yet whether a transaction of its own there was committed`)
  const next = (acked ? lease.nextSequences : partial!.nextSequences).get(group) ?? 1
  const holes = seen.missing(next - 1, HOLES_MAX)
  const unexplained = holes.find((sequence) => undecided?.get(sequence) === undefined)
  const missing =
    unexplained === undefined && holes.length < HOLES_MAX
      ? undefined
      : `${name} does not hold entry ${unexplained ?? holes[0]} of group ${group} any more, and the target cannot be asked for it`
  return { all: undefined, slots, missing }
}
