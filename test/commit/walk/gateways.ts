// Promises: gateways with the real executor, under leases that are renewed over a lossy network and lapse; each acks a fence only when
// nothing of its own is in flight.
import { type CommitExecutor, createExecutor } from '../../../src/commit/executor.ts'
import type { AggregateAddress, TargetTransaction } from '../../../src/model/executor.ts'
import { MAPPING } from '../fake-plans.ts'
import { remoteTarget } from '../fake-store.ts'
import { type Host, newHost } from '../host-time.ts'
import { GROUP, LEASE_MS, type Lease, MARGIN_MS, type Ownership, SLOT, type World } from './world.ts'

export interface Gateway {
  readonly name: string
  host: Host
  lease: Lease | null
  view: Ownership | null
  executor: CommitExecutor
  flights: number
  open: Set<TargetTransaction>
}

/** What a statement runs under. */
export interface Serving {
  readonly lease: Lease
  readonly view: Ownership
}

export class Gateways {
  readonly all: Gateway[] = []
  /** What the reverse sync was told of entries, by lease and sequence. */
  readonly told = new Map<string, 'committed' | 'void'>()
  readonly #world: World
  readonly #started: (gateway: Gateway, host: Host) => void

  constructor({ world, started }: { world: World; started: (gateway: Gateway, host: Host) => void }) {
    this.#world = world
    this.#started = started
  }

  startAll(): void {
    for (const name of ['g0', 'g1', 'g2']) this.all.push(this.start({ name } as Gateway))
  }

  /** Whoever sleeps or is dead is there again. */
  wakeAll(): void {
    for (const gateway of this.all) {
      if (gateway.host.dead) this.start(gateway)
      gateway.host.until = 0
    }
  }

  start(gateway: Gateway): Gateway {
    const host = newHost()
    const started: Gateway = Object.assign(gateway, {
      host,
      lease: null,
      view: null,
      executor: this.#executor(gateway, host),
      flights: 0,
      open: new Set<TargetTransaction>(),
    })
    this.#renewals(started, host)
    this.#started(started, host)
    return started
  }

  #executor(gateway: Gateway, host: Host): CommitExecutor {
    const world = this.#world
    const { time, random, plant } = world
    const link = remoteTarget({
      time,
      store: world.store,
      host,
      fate: (operation) => world.fate(operation),
      spreadMs: () => world.spread(),
    })
    const count = (by: number) => () => {
      if (plant.flights !== 'uncounted') gateway.flights += by
    }
    return createExecutor({
      target: plant.target?.(link, time) ?? link,
      mapping: MAPPING,
      clock: time.clock(host),
      random,
      flights: { enter: count(1), leave: count(-1) },
      settled: {
        settled: ({ lease, sequence, verdict, entry }) => {
          // Told again until the position has passed; sometimes late.
          const after = random.next() < 0.8 ? world.delay() : 300
          time.on(host, after, () => void this.told.set(`${lease}/${sequence}`, verdict))
          if (entry.slot !== SLOT) world.history.bad.push('an entry was told for another slot')
        },
      },
      txnIds: () => `t${world.nextId()}`,
      fifo: random.next() < 0.7,
      limits: { commitDeadlineMs: 150, helpGraceMs: random.next() < 0.5 ? 0 : 3, retryFirstMs: 4, retryCapMs: 30, rangePageRows: 2 },
    })
  }

  #newLease(gateway: Gateway): Lease {
    const lease: Lease = {
      id: `${gateway.name}#${this.#world.nextId()}`,
      until: -1,
      renewals: 0,
      acked: 0,
      over: false,
      next: 1,
      holds: () => gateway.lease === lease && this.#world.time.now < lease.until,
    }
    if (this.#world.plant.holds) lease.holds = this.#world.plant.holds(lease.holds)
    this.#world.leases.set(lease.id, lease)
    return lease
  }

  #renewals(gateway: Gateway, host: Host): void {
    const { time } = this.#world
    if (gateway.lease === null || gateway.lease.over || (gateway.lease.until >= 0 && time.now >= gateway.lease.until))
      gateway.lease = this.#newLease(gateway)
    const lease = gateway.lease
    const sent = time.now
    const lost = !this.#world.calm && this.#world.random.next() < 0.02
    if (!lost) {
      time.after(this.#world.delay(), () => {
        if (lease.over) {
          time.on(host, this.#world.delay(), () => {
            if (gateway.lease === lease) gateway.lease = null
          })
          return
        }
        lease.renewals++
        const view = this.#world.ownership
        time.on(host, this.#world.delay(), () => this.#renewed(gateway, lease, sent, view))
      })
    }
    time.on(host, 12 + this.#world.random.next() * 12, () => this.#renewals(gateway, host))
  }

  #renewed(gateway: Gateway, lease: Lease, sent: number, view: Ownership): void {
    const { time } = this.#world
    if (gateway.lease !== lease || (lease.until >= 0 && time.now >= lease.until)) return // an answer after the lapse revives nothing
    lease.until = Math.max(lease.until, sent + LEASE_MS - MARGIN_MS)
    if (gateway.view === null || view.epoch > gateway.view.epoch) gateway.view = view
    if (gateway.view.phase === 'steady') return
    gateway.executor.abortWaiters(new Set([SLOT]))
    for (const open of gateway.open) if (!open.committing) open.abort()
    if (gateway.flights > 0) return
    const epoch = gateway.view.epoch
    const next = gateway.executor.nextSequences(lease.id).get(GROUP) ?? 1
    time.after(this.#world.delay(), () => {
      if (lease.over || lease.acked >= epoch) return
      lease.acked = epoch
      lease.next = next
    })
  }

  serving(gateway: Gateway): Serving | null {
    const { lease, view } = gateway
    return lease !== null && view !== null && view.phase === 'steady' && lease.until > this.#world.time.now ? { lease, view } : null
  }

  address(view: Ownership, key: string): AggregateAddress {
    return { key, slot: SLOT, group: GROUP, tenure: view.tenure, base: view.base }
  }
}
