// Promises: an instantaneous controller: flips there and back, some cancelled, each by the steps of the protocol; and the faults that
// befall gateways.
import { newHost } from '../host-time.ts'
import type { Gateways } from './gateways.ts'
import type { Reverse } from './reverse.ts'
import type { Source } from './source.ts'
import { END_MS, LEASE_MS, type Lease, MARGIN_MS, type World } from './world.ts'

type Seen = Map<Lease, { readonly renewals: number; readonly at: number }>

export class Controller {
  readonly #world: World
  readonly #gateways: Gateways
  readonly #source: Source
  readonly #reverse: Reverse

  constructor({ world, gateways, source, reverse }: { world: World; gateways: Gateways; source: Source; reverse: Reverse }) {
    this.#world = world
    this.#gateways = gateways
    this.#source = source
    this.#reverse = reverse
  }

  async flips(): Promise<void> {
    const never = newHost()
    for (;;) {
      await this.#world.sleep(
        never,
        this.#world.ownership.owner === 'source' ? 20 + this.#world.random.next() * 60 : 80 + this.#world.random.next() * 300,
      )
      if (this.#world.time.now > END_MS) return
      await this.#flip()
    }
  }

  async home(): Promise<boolean> {
    for (let i = 0; i < 4 && this.#world.ownership.owner === 'target'; i++) await this.#flip()
    return this.#world.ownership.owner === 'source'
  }

  async #flip(): Promise<void> {
    const never = newHost()
    const { owner, tenure, base } = this.#world.ownership
    const deadline = this.#world.time.now + 900
    this.#world.ownership = { ...this.#world.ownership, phase: 'parking', epoch: this.#world.ownership.epoch + 1 }
    const { epoch } = this.#world.ownership
    const cancel = () => {
      this.#world.ownership = { owner, tenure, base, phase: 'steady', epoch: this.#world.ownership.epoch + 1 }
    }
    const seen: Seen = new Map()
    while (!this.#emptied(epoch, seen)) {
      if (this.#world.time.now > deadline) return cancel()
      await this.#world.sleep(never, 4)
    }
    const since = this.#world.time.now
    while (owner === 'source' ? this.#source.forwarding > 0 : this.#reverse.drainedSince <= since) {
      if (this.#world.time.now > deadline) return cancel()
      await this.#world.sleep(never, 3)
    }
    if (!this.#world.calm && this.#world.random.next() < 0.25) return cancel()
    const next = this.#world.ownership.epoch + 1
    this.#source.lsn = 0
    this.#world.counts.flips++
    this.#world.ownership = {
      owner: owner === 'source' ? 'target' : 'source',
      phase: 'steady',
      epoch: next,
      tenure: next,
      base: base + 1_000_000n,
    }
  }

  /** Every lease has acked, or is over: seen unrenewed for its length and a margin by the leader's own clock. */
  #emptied(epoch: number, seen: Seen): boolean {
    let waiting = false
    for (const lease of this.#world.leases.values()) {
      if (lease.over || lease.acked >= epoch) continue
      const look = seen.get(lease)
      if (look === undefined || look.renewals !== lease.renewals) seen.set(lease, { renewals: lease.renewals, at: this.#world.time.now })
      else if (this.#world.time.now - look.at >= LEASE_MS + MARGIN_MS) {
        lease.over = true
        continue
      }
      waiting = true
    }
    return !waiting
  }

  async faults(): Promise<void> {
    const never = newHost()
    const { random, time } = this.#world
    for (;;) {
      await this.#world.sleep(never, 60 + random.next() * 150)
      if (time.now > END_MS) return
      const gateway = this.#gateways.all[random.int(3)]!
      const kind = random.next()
      if (kind < 0.4)
        gateway.host.until = time.now + 50 + random.next() * 500 // sleeps, perhaps past its lease
      else if (kind < 0.7 && !gateway.host.dead) {
        gateway.host.dead = true
        this.#world.counts.crashes++
        time.after(20 + random.next() * 200, () => gateway.host.dead && this.#gateways.start(gateway))
      }
    }
  }
}
