// Promises: gateways that commit on a fake target by the steps of protocols.md, "Commit protocol on the target": compare-and-set and entry
// at once, rows when both are there, helping; they lose races, die between any two steps, and their requests arrive late. What they
// know they tell the leader, in any order, sometimes twice.
import type { Random } from '../../src/lib/prng.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import type { SettledEntry } from '../../src/model/executor.ts'
import { type Head, type OutboxEntry, RECENT_TRANSACTIONS, versionIn } from '../../src/model/head.ts'
import type { SlotId } from '../../src/model/ids.ts'
import type { RowChange } from '../../src/model/row.ts'
import { SettledBacklog } from '../../src/sync/settled-backlog.ts'
import type { VirtualClock } from '../support/virtual-clock.ts'
import { ENTRIES, type FakeTarget, leaseRow, outboxName, rowName, type targetOwnsAll } from './fakes.ts'

export const TENURE = 5
export const BASE = 1_000n

export interface World {
  readonly clock: VirtualClock
  readonly random: Random
  readonly target: FakeTarget
  readonly leases: Map<string, LeaseRow>
  readonly view: ReturnType<typeof targetOwnsAll>
  /** Committed by the compare-and-set, in order of version. */
  readonly chain: Map<string, string[]>
  readonly acknowledged: Set<string>
  tell: (told: SettledEntry) => void
  delayMaxMs: number
  /** The target answers nothing, and takes what is sent to it when it does again. */
  silent: boolean
}

export async function untilItAnswers(world: World): Promise<void> {
  while (world.silent) await world.clock.sleep(5)
}

export class FakeGateway {
  readonly lease: string
  readonly backlog: SettledBacklog
  readonly #world: World
  readonly #sequences = new Map<number, number>()
  readonly #undecided = new Map<number, Map<number, SlotId>>()
  readonly #busy = new Map<SlotId, number>()
  dead = false
  inFlight = 0

  constructor(world: World, lease: string) {
    this.#world = world
    this.lease = lease
    this.backlog = new SettledBacklog({ onSettled: (told) => this.#tell(told) })
    world.leases.set(lease, leaseRow(lease))
  }

  #tell(told: SettledEntry): void {
    const { random, clock } = this.#world
    // A fifth is lost with its connection, and told again later.
    if (random.next() < 0.8) clock.after(random.next() * 40, () => !this.dead && this.#world.tell(told))
  }

  tellAgain(): void {
    if (!this.dead) for (const told of this.backlog.all()) this.#world.tell(told)
  }

  /** Dies now; what was sent may still arrive. Its lease is over later. */
  die(overAfterMs: number): void {
    this.dead = true
    this.#world.clock.after(overAfterMs, () => this.#world.leases.set(this.lease, leaseRow(this.lease, { over: true })))
  }

  /** Acks a fence: nothing is in flight any more. */
  ack(): void {
    const nextSequences = new Map(this.#sequences)
    this.#world.leases.set(this.lease, leaseRow(this.lease, { nextSequences, ackedEpoch: 9 }))
  }

  /** An ack of this epoch, or what can be said instead while work does not end. */
  word(epoch: number): LeaseRow {
    const nextSequences = new Map(this.#sequences)
    if (this.#busy.size === 0) return leaseRow(this.lease, { nextSequences, ackedEpoch: epoch })
    const undecided = new Map([...this.#undecided].map(([group, entries]) => [group, new Map(entries)]))
    return leaseRow(this.lease, { ackedEpoch: 0, partial: { epoch, busy: new Set(this.#busy.keys()), nextSequences, undecided } })
  }

  async #send(effect: () => void): Promise<void> {
    const { clock, random, delayMaxMs } = this.#world
    const late = random.next() < 0.03 ? 20 : 1
    await new Promise<void>((resolve) => {
      clock.after(random.next() * delayMaxMs * late, async () => {
        await untilItAnswers(this.#world)
        effect()
        resolve()
      })
    })
    await clock.sleep(random.next() * delayMaxMs)
  }

  async #append(entry: OutboxEntry): Promise<number> {
    const group = this.#world.view.groupOf(entry.slot)
    const sequence = this.#sequences.get(group) ?? 1
    this.#sequences.set(group, sequence + 1)
    this.#undecided.set(group, (this.#undecided.get(group) ?? new Map<number, SlotId>()).set(sequence, entry.slot))
    await this.#send(() => {
      const name = outboxName({ group, lease: this.lease })
      const outbox = this.#world.target.outboxes.get(name) ?? new Map<number, OutboxEntry>()
      this.#world.target.outboxes.set(name, outbox)
      outbox.set(sequence, entry)
    })
    return sequence
  }

  async #rows(entry: OutboxEntry): Promise<boolean> {
    for (const change of entry.changes) {
      if (this.dead) return false
      await this.#send(() => {
        const stamp = BASE + BigInt(entry.version)
        const row = { table: change.table, key: entry.key, clustering: change.clustering }
        const stored = this.#world.target.rows.get(rowName(row))
        if (stored === undefined || stored.stamp < stamp) {
          this.#world.target.rows.set(rowName(row), { ...row, values: change.values as readonly string[], stamp, mark: true })
        }
      })
    }
    return !this.dead
  }

  #settled(sequence: number, verdict: 'committed' | 'void', entry: OutboxEntry): void {
    const group = this.#world.view.groupOf(entry.slot)
    this.#undecided.get(group)?.delete(sequence)
    this.backlog.settled({ group, lease: this.lease, sequence, verdict, entry })
  }

  /** Leaves the head's transaction finished, by helping if it must. */
  async #finish(key: string, head: Head): Promise<boolean> {
    const there = head.redo.map((change) => {
      const row = this.#world.target.rows.get(rowName({ table: change.table, key, clustering: change.clustering }))
      return row !== undefined && row.stamp >= BASE + BigInt(head.version)
    })
    if (there.every(Boolean)) return !this.dead
    const entry = entryOf(this.#world, key, head)
    if (there.some(Boolean)) return this.#rows(entry)
    const sequence = await this.#append(entry)
    if (this.dead || !(await this.#rows(entry))) return false
    this.#settled(sequence, 'committed', entry)
    return true
  }

  async transact(key: string, txnId: string): Promise<void> {
    if (this.dead) return
    const slot = this.#world.view.slotOf(key)
    this.inFlight++
    this.#busy.set(slot, (this.#busy.get(slot) ?? 0) + 1)
    try {
      await this.#transact(key, txnId)
    } finally {
      this.inFlight--
      const left = this.#busy.get(slot)! - 1
      if (left > 0) this.#busy.set(slot, left)
      else this.#busy.delete(slot)
    }
  }

  async #transact(key: string, txnId: string): Promise<void> {
    const { target, random } = this.#world
    const head = target.heads.get(key) ?? null
    if (head !== null && !(await this.#finish(key, head))) return
    if (this.dead) return
    const version = versionIn(head, TENURE) + 1
    const redo: RowChange[] = ['x', 'y', 'z']
      .filter((row) => row === 'x' || random.next() < 0.5)
      .map((row) => ({ table: ENTRIES.name, clustering: [row], values: [key, row, txnId, null] }))
    const recent = [...(head?.recent ?? []), { version, txnId }].slice(-RECENT_TRANSACTIONS)
    const next: Head = { tenure: TENURE, version, txnId, prev: head?.txnId ?? null, redo, lock: null, recent }
    const entry = entryOf(this.#world, key, next)
    const refusedForGood = random.next() < 0.03
    let won = false
    const swing = this.#send(() => {
      if (refusedForGood || (target.heads.get(key) ?? null) !== head) return
      won = true
      target.heads.set(key, next)
      const chain = this.#world.chain.get(key) ?? []
      this.#world.chain.set(key, chain)
      chain.push(txnId)
    })
    const [sequence] = await Promise.all([this.#append(entry), swing])
    if (this.dead) return
    if (!won) {
      this.#settled(sequence, 'void', entry)
      return
    }
    if (!(await this.#rows(entry))) return
    this.#settled(sequence, 'committed', entry)
    this.#world.acknowledged.add(txnId)
  }
}

function entryOf(world: World, key: string, head: Head): OutboxEntry {
  return {
    key,
    slot: world.view.slotOf(key),
    tenure: head.tenure,
    version: head.version,
    txnId: head.txnId,
    prev: head.prev,
    changes: head.redo,
  }
}
