// Promises: a random walk of the real commit engine, after the model beside the protocols: two aggregates of three pots, three
// gateways that sleep, crash and restart under leases that lapse, a network that loses, delays and doubles, flips there and back and
// cancelled, a reverse sync that judges by src/commit/verdict.ts. Controller and syncs are instantaneous and never die here: their own
// tests have them. Everything follows from the seed.
import { type CommitExecutor, createExecutor } from '../../src/commit/executor.ts'
import { type Random, seededRandom } from '../../src/lib/prng.ts'
import { hasCode, SwitchbackError } from '../../src/model/errors.ts'
import type { AggregateAddress, LeaseHandle, TargetTransaction } from '../../src/model/executor.ts'
import type { OutboxEntry } from '../../src/model/head.ts'
import type { Target } from '../../src/model/target.ts'
import { standing, verdict } from '../../src/model/verdict.ts'
import { add, all, ENV, MAPPING, one, POTS } from './fake-plans.ts'
import { FakeStore, type Fate, type Operation, remoteTarget } from './fake-store.ts'
import { History } from './history.ts'
import { type Host, newHost, VirtualTime } from './virtual-time.ts'

const KEYS = ['A', 'B']
export const POT_NAMES = ['x', 'y', 'z']
const START = 100
const SLOT = 7
const GROUP = 3
const LEASE_MS = 120
const MARGIN_MS = 10
const END_MS = 1500

interface Ownership {
  readonly owner: 'source' | 'target'
  readonly phase: 'steady' | 'parking'
  readonly epoch: number
  readonly tenure: number
  readonly base: bigint
}

interface Lease extends LeaseHandle {
  until: number
  renewals: number
  acked: number
  over: boolean
  next: number
}

interface Gateway {
  readonly name: string
  host: Host
  lease: Lease | null
  view: Ownership | null
  executor: CommitExecutor
  flights: number
  open: Set<TargetTransaction>
}

/** A fault planted by a test into what surrounds the engine; never in the engine itself. */
export interface Plant {
  target?(target: Target, time: VirtualTime): Target
  holds?(holds: () => boolean): () => boolean
  flights?: 'uncounted'
  store?(store: FakeStore): void
}

export interface WalkResult {
  readonly bad: readonly string[]
  readonly acked: number
  readonly unknown: number
  readonly refused: number
  readonly reads: number
  readonly voids: number
  readonly doubles: number
  readonly discarded: number
  readonly flips: number
  readonly crashes: number
}

export async function walk(seed: number, plant: Plant = {}): Promise<WalkResult> {
  const world = new World(seed, plant)
  return world.walk()
}

class World {
  readonly time = new VirtualTime()
  readonly store = new FakeStore()
  readonly random: Random
  readonly history: History
  readonly plant: Plant
  calm = false
  ownership: Ownership = { owner: 'source', phase: 'steady', epoch: 1, tenure: 1, base: 1_000_000n }
  readonly leases = new Map<string, Lease>()
  readonly rows = new Map<string, { amount: number; by: number }>()
  readonly applied = new Map<string, number>()
  readonly positions = new Map<string, number>()
  readonly told = new Map<string, 'committed' | 'void'>()
  readonly gateways: Gateway[] = []
  readonly counts = { voids: 0, doubles: 0, discarded: 0, flips: 0, crashes: 0 }
  lsn = 0
  forwarding = 0
  #ids = 0

  constructor(seed: number, plant: Plant) {
    this.random = seededRandom(seed)
    this.plant = plant
    plant.store?.(this.store)
    this.history = new History(KEYS, POT_NAMES, START)
    for (const key of KEYS) {
      for (const pot of POT_NAMES) {
        this.rows.set(key + pot, { amount: START, by: 0 })
        this.store.put({ table: POTS, key, clustering: [pot], values: [key, pot, String(START), '0'], stamp: 0n, mark: false })
      }
    }
  }

  async walk(): Promise<WalkResult> {
    for (const name of ['g0', 'g1', 'g2']) this.gateways.push(this.start({ name } as Gateway))
    void this.flips()
    void this.faults()
    for (let i = 0; i < 4; i++) void this.pairs()
    this.reverse()
    await this.time.run(END_MS + 600)
    this.calm = true
    for (const gateway of this.gateways) {
      if (gateway.host.dead) this.start(gateway)
      gateway.host.until = 0
    }
    await this.time.run(END_MS + 1_100)
    const home = this.home()
    await this.time.run(END_MS + 2_600)
    if (!(await Promise.race([home, Promise.resolve(false)])))
      this.history.bad.push(`not home: ${JSON.stringify({ ...this.ownership, base: 0 })}`)
    this.compareStores()
    this.history.check()
    return { bad: this.history.bad, ...this.history.totals(), ...this.counts }
  }

  compareStores(): void {
    for (const key of KEYS) {
      let sum = 0
      for (const pot of POT_NAMES) {
        const source = this.rows.get(key + pot)!
        const target = this.store.row({ table: POTS, key, clustering: [pot] })!.values!
        if (target[2] !== String(source.amount) || target[3] !== String(source.by)) {
          this.history.bad.push(
            `parity of ${key}${pot}: PostgreSQL has ${source.amount} by ${source.by}, the target ${target[2]} by ${target[3]}`,
          )
        }
        sum += source.amount
      }
      if (sum !== START * POT_NAMES.length) this.history.bad.push(`the sum of ${key} is ${sum}`)
    }
  }

  // ------------------------------------------------------------ network
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

  // ------------------------------------------------------------ gateways
  start(gateway: Gateway): Gateway {
    const host = newHost()
    const { time } = this
    const link = remoteTarget({
      time,
      store: this.store,
      host,
      fate: (operation) => this.fate(operation),
      spreadMs: () => this.spread(),
    })
    const count = (by: number) => () => {
      if (this.plant.flights !== 'uncounted') started.flights += by
    }
    const executor = createExecutor({
      target: this.plant.target?.(link, time) ?? link,
      mapping: MAPPING,
      clock: time.clock(host),
      random: this.random,
      flights: { enter: count(1), leave: count(-1) },
      settled: {
        settled: ({ lease, sequence, verdict, entry }) => {
          // Told again until the position has passed; sometimes late.
          const after = this.random.next() < 0.8 ? this.delay() : 300
          time.on(host, after, () => void this.told.set(`${lease}/${sequence}`, verdict))
          if (entry.slot !== SLOT) this.history.bad.push('an entry was told for another slot')
        },
      },
      txnIds: () => `t${++this.#ids}`,
      fifo: this.random.next() < 0.7,
      limits: { commitDeadlineMs: 150, helpGraceMs: this.random.next() < 0.5 ? 0 : 3, retryFirstMs: 4, retryCapMs: 30, rangePageRows: 2 },
    })
    const started: Gateway = Object.assign(gateway, {
      host,
      lease: null,
      view: null,
      executor,
      flights: 0,
      open: new Set<TargetTransaction>(),
    })
    this.renewals(started, host)
    for (let i = 0; i < 3; i++) void this.client(started, host)
    return started
  }

  sleep(host: Host, ms: number): Promise<void> {
    return new Promise((resolve) => this.time.on(host, ms, resolve))
  }

  newLease(gateway: Gateway): Lease {
    const lease: Lease = {
      id: `${gateway.name}#${++this.#ids}`,
      until: -1,
      renewals: 0,
      acked: 0,
      over: false,
      next: 1,
      holds: () => gateway.lease === lease && this.time.now < lease.until,
    }
    if (this.plant.holds) lease.holds = this.plant.holds(lease.holds)
    this.leases.set(lease.id, lease)
    return lease
  }

  renewals(gateway: Gateway, host: Host): void {
    const { time } = this
    if (gateway.lease === null || gateway.lease.over || (gateway.lease.until >= 0 && time.now >= gateway.lease.until))
      gateway.lease = this.newLease(gateway)
    const lease = gateway.lease
    const sent = time.now
    const lost = !this.calm && this.random.next() < 0.02
    if (!lost) {
      time.at(this.delay(), () => {
        if (lease.over) {
          time.on(host, this.delay(), () => {
            if (gateway.lease === lease) gateway.lease = null
          })
          return
        }
        lease.renewals++
        const view = this.ownership
        time.on(host, this.delay(), () => this.renewed(gateway, lease, sent, view))
      })
    }
    time.on(host, 12 + this.random.next() * 12, () => this.renewals(gateway, host))
  }

  renewed(gateway: Gateway, lease: Lease, sent: number, view: Ownership): void {
    const { time } = this
    if (gateway.lease !== lease || (lease.until >= 0 && time.now >= lease.until)) return // an answer after the lapse revives nothing
    lease.until = Math.max(lease.until, sent + LEASE_MS - MARGIN_MS)
    if (gateway.view === null || view.epoch > gateway.view.epoch) gateway.view = view
    if (gateway.view.phase === 'steady') return
    gateway.executor.abortWaiters(new Set([SLOT]))
    for (const open of gateway.open) if (!open.committing) open.abort()
    if (gateway.flights > 0) return
    const epoch = gateway.view.epoch
    const next = gateway.executor.nextSequences(lease.id).get(GROUP) ?? 1
    time.at(this.delay(), () => {
      if (lease.over || lease.acked >= epoch) return
      lease.acked = epoch
      lease.next = next
    })
  }

  serving(gateway: Gateway): { lease: Lease; view: Ownership } | null {
    const { lease, view } = gateway
    return lease !== null && view !== null && view.phase === 'steady' && lease.until > this.time.now ? { lease, view } : null
  }

  address(view: Ownership, key: string): AggregateAddress {
    return { key, slot: SLOT, group: GROUP, tenure: view.tenure, base: view.base }
  }

  // ------------------------------------------------------------ clients
  async client(gateway: Gateway, host: Host): Promise<void> {
    const { random } = this
    for (;;) {
      await this.sleep(host, random.next() * 30)
      if (this.time.now > END_MS) return
      const serving = this.serving(gateway)
      const key = random.next() < 0.6 ? 'A' : 'B'
      const kind = random.next()
      if (serving === null) continue
      if (serving.view.owner === 'source') await this.onSource(gateway, host, key)
      else if (kind < 0.2) await this.explicit(gateway, host, serving, key)
      else if (kind < 0.5) await this.readAll(gateway, serving, key)
      else await this.autocommit(gateway, serving, key)
    }
  }

  amounts(): Record<string, number> {
    const { random } = this
    if (random.next() < 0.4) return { [POT_NAMES[random.int(3)]!]: 0 }
    const moved = 1 + random.int(9)
    return random.next() < 0.5 ? { x: -moved, y: moved } : { y: -moved, z: moved }
  }

  async autocommit(gateway: Gateway, { lease, view }: { lease: Lease; view: Ownership }, key: string): Promise<void> {
    const amounts = this.amounts()
    const txn = this.history.begin(key, Object.keys(amounts), this.time.now)
    const work = gateway.executor.autocommit(lease, this.address(view, key), add(key, amounts, txn.id), [], ENV)
    await this.answered(txn, work)
  }

  async answered(txn: ReturnType<History['begin']>, work: Promise<unknown>): Promise<boolean> {
    try {
      await work
      this.history.end(txn, 'acked', this.time.now)
      return true
    } catch (error) {
      if (!(error instanceof SwitchbackError)) this.history.bad.push(`a bug: ${error instanceof Error ? error.stack : error}`)
      this.history.end(txn, hasCode(error, 'OUTCOME_UNKNOWN') ? 'unknown' : 'refused', this.time.now)
      return false
    }
  }

  async explicit(gateway: Gateway, host: Host, { lease, view }: { lease: Lease; view: Ownership }, key: string): Promise<void> {
    const { random, time } = this
    const repeatable = random.next() < 0.5
    const amounts = this.amounts()
    const txn = this.history.begin(key, Object.keys(amounts), time.now)
    const work = async () => {
      const tx = gateway.executor.begin(lease, this.address(view, key), { isolation: repeatable ? 'repeatable read' : 'read committed' })
      gateway.open.add(tx)
      try {
        const first = random.next() < 0.6 ? await this.readIn(gateway, tx, txn.id) : null
        if (random.next() < 0.3) await tx.execute(one('x', { locks: true }), [], ENV)
        await this.sleep(host, random.next() * 25)
        if (repeatable && first !== null) {
          const again = await this.readIn(gateway, tx, txn.id)
          if (JSON.stringify(again) !== JSON.stringify(first))
            this.history.bad.push(`a repeatable read changed: ${JSON.stringify([first, again])}`)
        }
        await tx.execute(add(key, amounts, txn.id), [], ENV)
        if (random.next() < 0.3) await tx.execute(add(key, { [Object.keys(amounts)[0]!]: 0 }, txn.id), [], ENV)
        if (random.next() < 0.15) throw new SwitchbackError('CONFLICT', { key }) // the client aborts
        await tx.commit()
      } finally {
        tx.abort()
        gateway.open.delete(tx)
      }
    }
    await this.answered(txn, work())
  }

  async readIn(_gateway: Gateway, tx: TargetTransaction, id: number): Promise<unknown> {
    const began = this.time.now
    const { rows } = await tx.execute(all(), [], ENV)
    if (rows.every((row) => row[3] !== String(id))) this.history.snapshot(tx.address.key, rows, began, this.time.now)
    return rows
  }

  async readAll(gateway: Gateway, { lease, view }: { lease: Lease; view: Ownership }, key: string): Promise<void> {
    const began = this.time.now
    const result = await this.quietly(gateway.executor.autocommit(lease, this.address(view, key), all(), [], ENV))
    if (result !== null) this.history.snapshot(key, result.rows, began, this.time.now)
  }

  async readOne(gateway: Gateway, key: string, pot: string) {
    const serving = gateway.host.dead ? null : this.serving(gateway)
    if (serving === null || serving.view.owner === 'source') return null
    const began = this.time.now
    const result = await this.quietly(gateway.executor.autocommit(serving.lease, this.address(serving.view, key), one(pot), [], ENV))
    return result === null ? null : this.history.read(key, result.rows[0]!, began, this.time.now)
  }

  async quietly<T>(work: Promise<T>): Promise<T | null> {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof SwitchbackError)) this.history.bad.push(`a bug: ${error instanceof Error ? error.stack : error}`)
      return null
    }
  }

  /** One row, then another, by any two gateways: never x new and y old. A client whose gateway dies asks no more; so there are two kinds. */
  async pairs(): Promise<void> {
    const { random, time } = this
    const never = newHost()
    for (;;) {
      await this.sleep(never, 2 + random.next() * 10)
      if (time.now > END_MS) return
      const key = random.next() < 0.6 ? 'A' : 'B'
      const [p, q] = random.next() < 0.5 ? (['x', 'y'] as const) : (['z', 'y'] as const)
      const bounded = <T>(work: Promise<T | null>) => Promise.race([work, this.sleep(never, 400).then(() => null)])
      const first = await bounded(this.readOne(this.gateways[random.int(3)]!, key, p))
      if (first === null) continue
      const second = await bounded(this.readOne(this.gateways[random.int(3)]!, key, q))
      if (second !== null) this.history.pair(first, second)
    }
  }

  // ------------------------------------------------------------ PostgreSQL
  async onSource(gateway: Gateway, host: Host, key: string): Promise<void> {
    const amounts = this.amounts()
    const txn = this.history.begin(key, Object.keys(amounts), this.time.now)
    const lease = gateway.lease!
    const lost = !this.calm && this.random.next() < 0.02
    const reply = await new Promise<'acked' | 'refused' | 'unknown'>((resolve) => {
      this.time.on(host, 80, () => resolve('unknown'))
      this.time.at(this.delay(), () => {
        const { owner, phase, tenure, base } = this.ownership
        const outcome = owner === 'source' && phase === 'steady' ? 'acked' : 'refused'
        if (outcome === 'acked') {
          const changes = Object.entries(amounts).map(([pot, by]) => ({ pot, amount: this.rows.get(key + pot)!.amount + by, by: txn.id }))
          this.write(key, changes)
          const stamp = base + BigInt(++this.lsn)
          for (const change of changes) this.forward(key, change, stamp, tenure)
        }
        if (!lost) this.time.on(host, this.delay(), () => resolve(lease.until > this.time.now ? outcome : 'unknown'))
      })
    })
    this.history.end(txn, reply, this.time.now)
  }

  write(key: string, changes: readonly { pot: string; amount: number; by: number }[]): void {
    for (const { pot, amount, by } of changes) this.rows.set(key + pot, { amount, by })
    this.history.effect(key, changes)
  }

  /** The forward sync: a change may come twice, the second time long after. */
  forward(key: string, { pot, amount, by }: { pot: string; amount: number; by: number }, stamp: bigint, tenure: number): void {
    const put = () =>
      this.store.put({ table: POTS, key, clustering: [pot], values: [key, pot, String(amount), String(by)], stamp, mark: false })
    this.forwarding++
    this.time.at(this.delay(), () => {
      put()
      this.forwarding--
    })
    if (this.random.next() < 0.1 && tenure > 0) this.time.at(100 + this.random.next() * 1_000, put)
  }

  /** One round over all outboxes each few milliseconds; returns nothing left behind when a round began after `since` and was complete. */
  drainedSince = -1
  reverse(): void {
    const began = this.time.now
    let complete = true
    for (const lease of this.leases.values()) complete = this.reverseOne(lease) && complete
    if (complete) this.drainedSince = began
    // It lags while nobody waits for it: else it would finish, in an instant, what gateways left half done.
    const lag = this.ownership.phase === 'steady' ? 40 + this.random.next() * 200 : 3 + this.random.next() * 15
    this.time.at(lag, () => this.reverse())
  }

  reverseOne(lease: Lease): boolean {
    const outbox = this.store.outbox({ group: GROUP, lease: lease.id })
    let position = this.positions.get(lease.id) ?? 0
    let blocked = false
    for (const sequence of [...outbox.keys()].sort((a, b) => a - b)) {
      if (sequence <= position) continue
      if (sequence > position + 1 && !lease.over) blocked = true // a hole of a living lease
      const fate = this.judge(outbox.get(sequence)!, lease, sequence)
      if (fate === 'wait') blocked = true
      else if (!blocked) {
        position = sequence
        this.positions.set(lease.id, position)
        if (fate !== 'applied') this.counts[fate]++
        outbox.delete(sequence - 1)
      }
    }
    return !blocked && (lease.over || this.ownership.phase === 'steady' || position >= lease.next - 1)
  }

  judge(entry: OutboxEntry, lease: Lease, sequence: number): 'wait' | 'doubles' | 'discarded' | 'voids' | 'applied' {
    const id = `${entry.key}@${entry.tenure}`
    const stands = standing(entry, this.ownership, this.applied.get(id) ?? 0)
    if (stands === 'old') return 'discarded'
    if (stands === 'double') return 'doubles'
    if (stands === 'wait' || stands === 'ahead') return 'wait'
    const told = this.told.get(`${lease.id}/${sequence}`)
    const namedByNext = [...this.others()].some(
      (other) =>
        other.key === entry.key && other.tenure === entry.tenure && other.version === entry.version + 1 && other.prev === entry.txnId,
    )
    const found = verdict(entry, { head: this.store.heads.get(entry.key) ?? null, leaseOver: lease.over, namedByNext })
    if (told !== undefined && found !== 'wait' && told !== found)
      this.history.bad.push(`${entry.txnId} was told as ${told} and is ${found}`)
    const result = told ?? found
    if (result === 'wait') return 'wait'
    if (result === 'void') return 'voids'
    const stamp = this.ownership.base + BigInt(entry.version)
    if (told === undefined)
      for (const { clustering, values } of entry.changes)
        this.store.put({ table: POTS, key: entry.key, clustering, values, stamp, mark: entry.changes.length > 1 })
    this.write(
      entry.key,
      entry.changes.map(({ clustering, values }) => ({ pot: clustering[0]!, amount: Number(values![2]), by: Number(values![3]) })),
    )
    this.applied.set(id, entry.version)
    return 'applied'
  }

  *others(): Iterable<OutboxEntry> {
    for (const outbox of this.store.outboxes.values()) yield* outbox.values()
  }

  // ------------------------------------------------------------ flips and faults
  async flips(): Promise<void> {
    const never = newHost()
    for (;;) {
      await this.sleep(never, this.ownership.owner === 'source' ? 20 + this.random.next() * 60 : 80 + this.random.next() * 300)
      if (this.time.now > END_MS) return
      await this.flip()
    }
  }

  async home(): Promise<boolean> {
    for (let i = 0; i < 4 && this.ownership.owner === 'target'; i++) await this.flip()
    return this.ownership.owner === 'source'
  }

  async flip(): Promise<void> {
    const never = newHost()
    const { owner, tenure, base } = this.ownership
    const deadline = this.time.now + 900
    this.ownership = { ...this.ownership, phase: 'parking', epoch: this.ownership.epoch + 1 }
    const { epoch } = this.ownership
    const cancel = () => {
      this.ownership = { owner, tenure, base, phase: 'steady', epoch: this.ownership.epoch + 1 }
    }
    const seen = new Map<Lease, { renewals: number; at: number }>()
    while (!this.emptied(epoch, seen)) {
      if (this.time.now > deadline) return cancel()
      await this.sleep(never, 4)
    }
    const since = this.time.now
    while (owner === 'source' ? this.forwarding > 0 : this.drainedSince <= since) {
      if (this.time.now > deadline) return cancel()
      await this.sleep(never, 3)
    }
    if (!this.calm && this.random.next() < 0.25) return cancel()
    const next = this.ownership.epoch + 1
    this.lsn = 0
    this.counts.flips++
    this.ownership = {
      owner: owner === 'source' ? 'target' : 'source',
      phase: 'steady',
      epoch: next,
      tenure: next,
      base: base + 1_000_000n,
    }
  }

  /** Every lease has acked, or is over: seen unrenewed for its length and a margin by the leader's own clock. */
  emptied(epoch: number, seen: Map<Lease, { renewals: number; at: number }>): boolean {
    let waiting = false
    for (const lease of this.leases.values()) {
      if (lease.over || lease.acked >= epoch) continue
      const look = seen.get(lease)
      if (look === undefined || look.renewals !== lease.renewals) seen.set(lease, { renewals: lease.renewals, at: this.time.now })
      else if (this.time.now - look.at >= LEASE_MS + MARGIN_MS) {
        lease.over = true
        continue
      }
      waiting = true
    }
    return !waiting
  }

  async faults(): Promise<void> {
    const never = newHost()
    const { random, time } = this
    for (;;) {
      await this.sleep(never, 60 + random.next() * 150)
      if (time.now > END_MS) return
      const gateway = this.gateways[random.int(3)]!
      const kind = random.next()
      if (kind < 0.4)
        gateway.host.until = time.now + 50 + random.next() * 500 // sleeps, perhaps past its lease
      else if (kind < 0.7 && !gateway.host.dead) {
        gateway.host.dead = true
        this.counts.crashes++
        time.at(20 + random.next() * 200, () => gateway.host.dead && this.start(gateway))
      }
    }
  }
}
