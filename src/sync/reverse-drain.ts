// Promises: says when every outbox entry of a set of slots is applied in PostgreSQL, or settled otherwise (INV-2): for a living lease
// all that it had written when it acked the fence, for a lease that is over all that its outbox holds, read once more to its end. Each
// event is looked at as it comes; nothing waits on an idle timer. Poisoned aggregates hold back their own slots only (faults.md 59).
import type { LeaseRow } from '../model/control.ts'
import type { SlotId } from '../model/ids.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { OutboxTrack } from './outbox-track.ts'
import type { Aggregate, HaltedAggregate, Item, Settlement } from './reverse-parts.ts'

/** The flip's DrainReport, and what was left when its signal aborted. */
export interface DrainResult {
  readonly drained: boolean
  readonly entriesApplied: number
  readonly held: readonly { readonly slot: SlotId; readonly because: string }[]
  readonly waitingFor: readonly string[]
}

export interface DrainWorld {
  readonly view: RoutingView
  track(id: { readonly group: number; readonly lease: string }): OutboxTrack<Item>
  tracks(): Iterable<OutboxTrack<Item>>
  readSoon(track: OutboxTrack<Item>): void
  slotOf(aggregate: Aggregate): SlotId
  halted(): readonly HaltedAggregate[]
  evaluate(aggregate: Aggregate): void
  whyWaits(aggregate: Aggregate): string
}

export class Drain {
  readonly slots: ReadonlySet<SlotId>
  readonly #world: DrainWorld
  readonly #bounds = new Map<OutboxTrack<Item>, number>()
  readonly #finals = new Set<OutboxTrack<Item>>()
  readonly #items = new Set<Item>()
  readonly #resolve: (result: DrainResult) => void
  /** Held back at any time during this drain: a halt that is lifted meanwhile counts for the next one. */
  readonly #held = new Map<SlotId, string>()
  #entriesApplied = 0
  #over = false

  constructor(slots: readonly SlotId[], world: DrainWorld, resolve: (result: DrainResult) => void) {
    this.slots = new Set(slots)
    this.#world = world
    this.#resolve = resolve
  }

  /** To be called once, after it is listed among those that hear of events. */
  begin(leases: readonly LeaseRow[]): void {
    for (const one of this.#world.halted()) this.#hold(one.slot, one.key, one.version)
    const groups = new Set([...this.slots].map((slot) => this.#world.view.groupOf(slot)))
    for (const lease of leases) {
      for (const group of groups) {
        const track = this.#world.track({ group, lease: lease.lease })
        if (lease.over) {
          if (!track.final) this.#finals.add(track)
        } else {
          const bound = (lease.nextSequences.get(group) ?? 1) - 1
          if (track.knownUpTo() < bound) this.#bounds.set(track, bound)
        }
      }
    }
    for (const track of this.#world.tracks()) {
      if (!groups.has(track.id.group)) continue
      for (const item of track.items()) this.added(item)
    }
    for (const track of [...this.#bounds.keys(), ...this.#finals]) this.#world.readSoon(track)
    // From now on these are urgent: what waited for the feed is looked at on the target.
    for (const aggregate of new Set([...this.#items].map((item) => item.aggregate))) this.#world.evaluate(aggregate)
    this.look()
  }

  added(item: Item): void {
    if (!item.aggregate.halted && this.slots.has(this.#world.slotOf(item.aggregate))) this.#items.add(item)
  }

  settled(item: Item, how: Settlement): void {
    if (!this.#items.delete(item)) return
    if (how === 'applied') this.#entriesApplied++
    this.look()
  }

  halted(aggregate: Aggregate): void {
    this.#hold(this.#world.slotOf(aggregate), aggregate.key, aggregate.haltedVersion)
    for (const list of aggregate.items.values()) for (const item of list) this.#items.delete(item)
    this.look()
  }

  #hold(slot: SlotId, key: string, version: number): void {
    if (this.slots.has(slot)) this.#held.set(slot, `version ${version} of key ${key} could not be applied to PostgreSQL`)
  }

  trackMoved(track: OutboxTrack<Item>): void {
    const bound = this.#bounds.get(track)
    if (bound !== undefined && track.knownUpTo() >= bound) this.#bounds.delete(track)
    if (track.final) {
      this.#finals.delete(track)
      this.#bounds.delete(track)
    }
    this.look()
  }

  /** Outboxes that are not known far enough are read again, as fast as the target answers. */
  tick(): void {
    for (const track of [...this.#bounds.keys(), ...this.#finals]) this.#world.readSoon(track)
  }

  look(): void {
    if (this.#over || this.#bounds.size > 0 || this.#finals.size > 0 || this.#items.size > 0) return
    this.#end(true)
  }

  abort(): void {
    if (!this.#over) this.#end(false)
  }

  #end(drained: boolean): void {
    this.#over = true
    const held = [...this.#held].map(([slot, because]) => ({ slot, because }))
    this.#resolve({ drained, entriesApplied: this.#entriesApplied, held, waitingFor: drained ? [] : this.#waitingFor() })
  }

  #waitingFor(): string[] {
    const lines: string[] = []
    for (const [track, bound] of this.#bounds) {
      lines.push(`entry ${track.knownUpTo() + 1} of ${bound} of lease ${track.id.lease} in group ${track.id.group} has not come`)
    }
    for (const track of this.#finals)
      lines.push(`the outbox of lease ${track.id.lease}, which is over, in group ${track.id.group} has not been read to its end`)
    const aggregates = new Set([...this.#items].map((item) => item.aggregate))
    for (const aggregate of aggregates) lines.push(`key ${aggregate.key}: ${this.#world.whyWaits(aggregate)}`)
    return lines.slice(0, 20)
  }
}
