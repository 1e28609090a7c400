// Promises: with the target silent, waits until PostgreSQL holds everything that the gateways' own copies can bring it, and says which
// slots are whole by then (held-copies.ts decides). It asks the target for nothing.
import type { Clock } from '../lib/clock.ts'
import type { LeaseRow } from '../model/control.ts'
import type { Epoch, SlotId } from '../model/ids.ts'
import type { RoutingView } from '../model/ownership.ts'
import { decideHeld, type OpenAggregate, type OutboxSeen, type StaysParked } from './held-copies.ts'
import type { OutboxTrack } from './outbox-track.ts'
import type { Aggregate, HaltedAggregate, Item } from './reverse-parts.ts'

export interface HeldRequest {
  readonly slots: readonly SlotId[]
  /** Of the park. */
  readonly epoch: Epoch
  /** Every lease of the migration, looked at after the park. */
  readonly leases: readonly LeaseRow[]
}

export interface HeldReport {
  /** PostgreSQL has everything of theirs. */
  readonly go: readonly SlotId[]
  readonly stay: readonly StaysParked[]
}

export interface HeldWorld {
  readonly clock: Clock
  readonly limits: { readonly copiesWaitMs: number; readonly tickMs: number }
  readonly view: RoutingView
  track(id: { readonly group: number; readonly lease: string }): OutboxTrack<Item>
  tracks(): Iterable<OutboxTrack<Item>>
  slotOf(aggregate: Aggregate): SlotId
  halted(): readonly HaltedAggregate[]
  openBecause(aggregate: Aggregate): string | null
}

export async function drainHeld(world: HeldWorld, request: HeldRequest, signal: AbortSignal): Promise<HeldReport> {
  const { clock, limits } = world
  const untilMs = clock.monotonicMs() + limits.copiesWaitMs
  for (;;) {
    const { go, applying, stay, coming } = decideHeld(evidence(world, request))
    // A copy that may be on its way is waited for; so is PostgreSQL, as long as the flip has time.
    const waits = applying.length > 0 || (coming.length > 0 && clock.monotonicMs() < untilMs)
    if (!waits || signal.aborted) {
      const late = applying.map((slot) => ({ slot, because: 'PostgreSQL had not taken all of its transactions in time' }))
      return { go, stay: [...stay, ...late] }
    }
    await clock.sleep(limits.tickMs, signal)
  }
}

function evidence(world: HeldWorld, { slots, epoch, leases }: HeldRequest) {
  const wanted = new Set(slots)
  const open: OpenAggregate[] = []
  const seen = new Set<Aggregate>()
  for (const track of world.tracks()) {
    for (const { aggregate } of track.items()) {
      if (seen.has(aggregate) || aggregate.halted) continue
      seen.add(aggregate)
      const slot = world.slotOf(aggregate)
      if (wanted.has(slot)) open.push({ slot, key: aggregate.key, openBecause: world.openBecause(aggregate) })
    }
  }
  const outbox = (group: number, lease: string): OutboxSeen => {
    const track = world.track({ group, lease })
    return { final: track.final, missing: (upTo, max) => track.missing(upTo, max) }
  }
  const halted = new Map(
    world.halted().map(({ slot, key, version }) => [slot, `version ${version} of key ${key} could not be applied to PostgreSQL`] as const),
  )
  return { slots, epoch, leases, groupOf: (slot: SlotId) => world.view.groupOf(slot), outbox, open, halted }
}
