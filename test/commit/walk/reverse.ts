// Promises: the reverse sync, which judges each entry by src/model/verdict.ts and applies what was committed, in order.
import type { OutboxEntry } from '../../../src/model/head.ts'
import { standing, verdict } from '../../../src/model/verdict.ts'
import { POTS } from '../fake-plans.ts'
import type { Gateways } from './gateways.ts'
import type { Source } from './source.ts'
import { GROUP, type Lease, type World } from './world.ts'

export class Reverse {
  /** When the last complete round began that left nothing behind. */
  drainedSince = -1
  readonly #applied = new Map<string, number>()
  readonly #positions = new Map<string, number>()
  readonly #world: World
  readonly #gateways: Gateways
  readonly #source: Source

  constructor({ world, gateways, source }: { world: World; gateways: Gateways; source: Source }) {
    this.#world = world
    this.#gateways = gateways
    this.#source = source
  }

  /** One round over all outboxes, again each few milliseconds. */
  rounds(): void {
    const began = this.#world.time.now
    let complete = true
    for (const lease of this.#world.leases.values()) complete = this.#one(lease) && complete
    if (complete) this.drainedSince = began
    // It lags while nobody waits for it: else it would finish, in an instant, what gateways left half done.
    const lag = this.#world.ownership.phase === 'steady' ? 40 + this.#world.random.next() * 200 : 3 + this.#world.random.next() * 15
    this.#world.time.after(lag, () => this.rounds())
  }

  #one(lease: Lease): boolean {
    const outbox = this.#world.store.outbox({ group: GROUP, lease: lease.id })
    let position = this.#positions.get(lease.id) ?? 0
    let blocked = false
    for (const sequence of [...outbox.keys()].sort((a, b) => a - b)) {
      if (sequence <= position) continue
      if (sequence > position + 1 && !lease.over) blocked = true // a hole of a living lease
      const fate = this.#judge(outbox.get(sequence)!, lease, sequence)
      if (fate === 'wait') blocked = true
      else if (!blocked) {
        position = sequence
        this.#positions.set(lease.id, position)
        if (fate !== 'applied') this.#world.counts[fate]++
        outbox.delete(sequence - 1)
      }
    }
    return !blocked && (lease.over || this.#world.ownership.phase === 'steady' || position >= lease.next - 1)
  }

  #judge(entry: OutboxEntry, lease: Lease, sequence: number): 'wait' | 'doubles' | 'discarded' | 'voids' | 'applied' {
    const id = `${entry.key}@${entry.tenure}`
    const stands = standing(entry, this.#world.ownership, this.#applied.get(id) ?? 0)
    if (stands === 'old') return 'discarded'
    if (stands === 'double') return 'doubles'
    if (stands === 'wait' || stands === 'ahead') return 'wait'
    const told = this.#gateways.told.get(`${lease.id}/${sequence}`)
    const namedByNext = [...this.#others()].some(
      (other) =>
        other.key === entry.key && other.tenure === entry.tenure && other.version === entry.version + 1 && other.prev === entry.txnId,
    )
    const found = verdict(entry, { head: this.#world.store.heads.get(entry.key) ?? null, leaseOver: lease.over, namedByNext })
    if (told !== undefined && found !== 'wait' && told !== found)
      this.#world.history.bad.push(`${entry.txnId} was told as ${told} and is ${found}`)
    const result = told ?? found
    if (result === 'wait') return 'wait'
    if (result === 'void') return 'voids'
    const stamp = this.#world.ownership.base + BigInt(entry.version)
    if (told === undefined)
      for (const { clustering, values } of entry.changes)
        this.#world.store.put({ table: POTS, key: entry.key, clustering, values, stamp, mark: entry.changes.length > 1 })
    this.#source.write(
      entry.key,
      entry.changes.map(({ clustering, values }) => ({ pot: clustering[0]!, amount: Number(values![2]), by: Number(values![3]) })),
    )
    this.#applied.set(id, entry.version)
    return 'applied'
  }

  *#others(): Iterable<OutboxEntry> {
    for (const outbox of this.#world.store.outboxes.values()) yield* outbox.values()
  }
}
