// Promises: whether a flip may begin, each failed check a sentence that an operator can act on. Pure (INV-10: what is not known
// holds a move to the target; nothing holds a move back to PostgreSQL).

import type { LeaseRow, PoisonRecord } from '../model/control.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import type { Ownership } from '../model/ownership.ts'

export interface FlipObservation {
  readonly rows: readonly Ownership[]
  readonly leases: readonly LeaseRow[]
  /** The newest epoch that gateways must have acked. */
  readonly epoch: number
  readonly poison: readonly PoisonRecord[]
  /** Undefined: not known. */
  readonly forwardLagMs: number | undefined
  readonly backfillDone: boolean
  /** Why the forward sync stands still, and what to do: a sentence. Null: it does not. */
  readonly forwardStopped: string | null
  readonly guardProblems: readonly string[]
  readonly catalogUnchanged: boolean | undefined
  /** A write to the probe aggregate came back through the reverse sync since the controller started. */
  readonly wayBackProven: boolean
  readonly openFlips: readonly string[]
  readonly debts: readonly string[]
  readonly gates: readonly { readonly name: string; readonly holds: boolean; readonly because: string }[]
  readonly standbysNotNamed: readonly string[]
}

export interface Precheck {
  readonly blockers: readonly string[]
  readonly notes: readonly string[]
  /** Slots that may go; to the source, slots with poison stay and the others go. */
  readonly slots: readonly SlotId[]
  readonly held: readonly { readonly slot: SlotId; readonly because: string }[]
}

export function precheck(to: Owner, observed: FlipObservation, limits: { readonly forwardLagMaxMs: number }): Precheck {
  return to === 'target' ? checkToTarget(observed, limits) : checkToSource(observed)
}

function checkToTarget(o: FlipObservation, limits: { readonly forwardLagMaxMs: number }): Precheck {
  const blockers: string[] = []
  if (o.forwardStopped !== null) blockers.push(o.forwardStopped)
  else if (!o.backfillDone) blockers.push('The backfill is not done: run `switchback backfill`.')
  else if (o.forwardLagMs === undefined) blockers.push('The forward sync has not said how far it is: is the controller running?')
  else if (o.forwardLagMs > limits.forwardLagMaxMs)
    blockers.push(
      `The forward sync is ${Math.round(o.forwardLagMs)} ms behind, more than ${limits.forwardLagMaxMs} ms: wait until it has caught up.`,
    )
  const silent = o.leases.filter((lease) => !lease.over && lease.ackedEpoch < o.epoch)
  for (const lease of silent)
    blockers.push(`Gateway ${lease.gateway} has acked epoch ${lease.ackedEpoch}, not yet ${o.epoch}: is it running?`)
  if (!o.leases.some((lease) => !lease.over)) blockers.push('No gateway is running: keys that move would be served by nobody.')
  blockers.push(...o.guardProblems)
  if (o.catalogUnchanged === undefined) blockers.push('Whether the mapped tables are still as planned is not known.')
  else if (!o.catalogUnchanged)
    blockers.push(
      'The mapped tables are not as planned any more: a column, type or constraint changed. Run `switchback parity` and plan again.',
    )
  if (!o.wayBackProven)
    blockers.push('The way back has not been proven since the controller started: its probe has not come through the reverse sync yet.')
  for (const p of o.poison)
    blockers.push(
      `Key ${p.key} could not be written back to PostgreSQL (${p.sqlstate}: ${p.message}): mend the cause, then \`switchback poison retry\`.`,
    )
  for (const id of o.openFlips) blockers.push(`Flip ${id} is still open.`)
  for (const debt of o.debts) blockers.push(`A debt is open: ${debt}.`)
  for (const gate of o.gates) if (!gate.holds) blockers.push(`Gate ${gate.name} does not hold: ${gate.because}.`)
  if (o.standbysNotNamed.length > 0)
    blockers.push(
      `These standbys follow PostgreSQL and are not named in the configuration: ${o.standbysNotNamed.join(', ')}. Name each in source.standbys, or detach it.`,
    )
  const notes = o.gates.length === 0 ? ['No gates are configured.'] : []
  return { blockers, notes, slots: o.rows.filter((row) => row.owner === 'source').map((row) => row.slot), held: [] }
}

function checkToSource(o: FlipObservation): Precheck {
  const poisoned = new Map(o.poison.map((p) => [p.slot, p]))
  const held: { slot: SlotId; because: string }[] = []
  const slots: SlotId[] = []
  for (const row of o.rows) {
    if (row.owner !== 'target') continue
    const p = poisoned.get(row.slot)
    if (p === undefined) slots.push(row.slot)
    else held.push({ slot: row.slot, because: `key ${p.key} could not be written back (${p.sqlstate}: ${p.message})` })
  }
  return { blockers: [], notes: [], slots, held }
}
