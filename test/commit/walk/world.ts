// Promises: what all parts of the walk share: virtual time, one store, one seed, the ownership row, the leases and the history; and a
// network that loses, delays and doubles until it is told to be calm.
import { type Random, seededRandom } from '../../../src/lib/prng.ts'
import { SwitchbackError } from '../../../src/model/errors.ts'
import type { LeaseHandle } from '../../../src/model/executor.ts'
import type { Target } from '../../../src/model/target.ts'
import { POTS } from '../fake-plans.ts'
import { FakeStore, type Fate, type Operation } from '../fake-store.ts'
import { History } from '../history.ts'
import { type Host, HostTime } from '../host-time.ts'

export const KEYS = ['A', 'B']
export const POT_NAMES = ['x', 'y', 'z']
export const START = 100
export const SLOT = 7
export const GROUP = 3
export const LEASE_MS = 120
export const MARGIN_MS = 10
export const END_MS = 1500

export interface Ownership {
  readonly owner: 'source' | 'target'
  readonly phase: 'steady' | 'parking'
  readonly epoch: number
  readonly tenure: number
  readonly base: bigint
}

export interface Lease extends LeaseHandle {
  until: number
  renewals: number
  acked: number
  over: boolean
  next: number
}

/** A fault planted by a test into what surrounds the engine; never in the engine itself. */
export interface Plant {
  target?(target: Target, time: HostTime): Target
  holds?(holds: () => boolean): () => boolean
  flights?: 'uncounted'
  store?(store: FakeStore): void
}

export class World {
  readonly time = new HostTime()
  readonly store = new FakeStore()
  readonly random: Random
  readonly history: History
  readonly plant: Plant
  readonly leases = new Map<string, Lease>()
  readonly counts = { voids: 0, doubles: 0, discarded: 0, flips: 0, crashes: 0 }
  calm = false
  ownership: Ownership = { owner: 'source', phase: 'steady', epoch: 1, tenure: 1, base: 1_000_000n }
  #ids = 0

  constructor(seed: number, plant: Plant) {
    this.random = seededRandom(seed)
    this.plant = plant
    plant.store?.(this.store)
    this.history = new History(KEYS, POT_NAMES, START * POT_NAMES.length)
    for (const key of KEYS) {
      for (const pot of POT_NAMES) {
        this.store.put({ table: POTS, key, clustering: [pot], values: [key, pot, String(START), '0'], stamp: 0n, mark: false })
      }
    }
  }

  nextId(): number {
    return ++this.#ids
  }

  sleep(host: Host, ms: number): Promise<void> {
    return new Promise((resolve) => this.time.on(host, ms, resolve))
  }

  /** What one transaction adds to which pots: nothing to one, or as much to one as it takes from another. */
  amounts(): Record<string, number> {
    const { random } = this
    if (random.next() < 0.4) return { [POT_NAMES[random.int(3)]!]: 0 }
    const moved = 1 + random.int(9)
    return random.next() < 0.5 ? { x: -moved, y: moved } : { y: -moved, z: moved }
  }

  delay(): number {
    if (this.calm) return 1 + this.random.next() * 3
    const kind = this.random.next()
    if (kind < 0.94) return 1 + this.random.next() * 5
    return kind < 0.985 ? 15 + this.random.next() * 80 : 200 + this.random.next() * 900
  }

  /** Rows of one request: now and then one of them is done long after the others, or not at all. */
  spread(): number {
    const kind = this.random.next()
    if (this.calm || kind < 0.9) return this.random.next() * 4
    return kind < 0.97 ? this.random.next() * 40 : Number.POSITIVE_INFINITY
  }

  fate(operation: Operation): Fate {
    const { random } = this
    const lost = Number.POSITIVE_INFINITY
    if (this.calm) return { requestMs: this.delay(), replyMs: this.delay() }
    const fate: { -readonly [K in keyof Fate]: Fate[K] } = {
      requestMs: random.next() < 0.01 ? lost : this.delay(),
      replyMs: random.next() < 0.02 ? lost : this.delay(),
    }
    if (random.next() < 0.01) fate.refuse = new SwitchbackError('TARGET_THROTTLED', { operation, reason: 'rate' })
    else if (operation === 'compareAndSetHead' && random.next() < 0.003)
      fate.refuse = new SwitchbackError('TARGET_REFUSED', { operation, reason: 'invalid' })
    else if (operation !== 'compareAndSetHead' && random.next() < 0.02) fate.againMs = 20 + random.next() * 600
    return fate
  }
}
