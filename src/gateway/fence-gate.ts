// Promises: what a gateway may begin on a slot, and when it may tell the leader that nothing of its own is left there
// (protocols.md, The flip, 3 and 7). Decisions are synchronous and look at nothing but the view and what is in flight, so that a
// virtual clock can walk them. INV-1: work is admitted to one store; INV-8 is the lease holder's, which resets this gate at a lapse.
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { FlightCounter, LeaseHandle } from '../model/executor.ts'
import type { Epoch, SlotId } from '../model/ids.ts'
import type { Ownership, RoutingView } from '../model/ownership.ts'
import { ParkTimes } from './park-times.ts'

/** A slot, or every slot: a statement whose keys cannot be told could touch any. */
export type Touch = SlotId | 'all'

export interface GateLimits {
  readonly parkedStatementsMax: number
  readonly parkDeadlineMs: number
  readonly queueBytesMax: number
}

export type UnroutableReads = 'refuse' | 'stale-ok'

/** Something that began and has not ended: a statement or transaction on one of the two stores. */
export interface Work {
  readonly arm: 'source' | 'target'
  /** An open transaction, which may run further statements; false: one statement that ends by itself. */
  readonly explicit: boolean
  /** Epoch of the view it began under. */
  readonly began: Epoch
  /** REPEATABLE READ or SERIALIZABLE: it goes on reading what was there when it began. */
  readonly snapshot: boolean
  readonly lease: LeaseHandle
  readonly read: ReadonlySet<Touch>
  readonly wrote: ReadonlySet<Touch>
  readonly ended: boolean
  end(): void
}

export type Decision =
  | { readonly kind: 'source' }
  | { readonly kind: 'target'; readonly row: Ownership }
  | { readonly kind: 'park' }
  | { readonly kind: 'refuse'; readonly error: SwitchbackError }

export interface StatementFacts {
  readonly touch: Touch
  /** Writes, or locks rows for writing. */
  readonly writes: boolean
  /** For `touch: 'all'`: why its key cannot be told. */
  readonly because?: string
  readonly wouldRoute?: string
}

interface WorkState extends Work {
  readonly read: Set<Touch>
  readonly wrote: Set<Touch>
  ended: boolean
  /** Target transactions: ends it with 40001 unless its compare-and-set has been sent; true if it will end. */
  readonly interrupt: ((because: SwitchbackError) => void) | null
}

interface Parked {
  readonly bytes: number
  readonly wake: () => void
}

export class FenceGate {
  readonly #clock: Clock
  readonly #limits: GateLimits
  readonly #unroutableReads: UnroutableReads
  readonly #onParked: (ms: number) => void
  #view: RoutingView | null = null
  #lease: LeaseHandle | null = null
  #unsettled = new Set<SlotId>()
  /** Of the flip that ended last here. */
  #endedEpoch: Epoch = -1
  #moved = 0
  /** Slots on which work begun before the epoch has to end before that epoch is acked. */
  #mustEnd = new Map<SlotId, Epoch>()
  /** Epoch up to which acks were sent: open PostgreSQL transactions touch no parking slot below it any more. */
  #sealed: Epoch = -1
  /** A lease has lapsed: INV-8 may have come to bind without this gateway's ack. */
  #unsure = false
  readonly #works = new Set<WorkState>()
  readonly #flights = new Map<SlotId, number>()
  readonly #parked = new Set<Parked>()
  #parkedBytes = 0
  readonly parkTimes = new ParkTimes()
  /** Notified when the view changes or work ends: whoever waits for an ack looks again. */
  readonly changed = new Signal()

  constructor(options: {
    clock: Clock
    limits: GateLimits
    unroutableReads: UnroutableReads
    onParked?: ((ms: number) => void) | undefined
  }) {
    this.#onParked = options.onParked ?? (() => undefined)
    this.#clock = options.clock
    this.#limits = options.limits
    this.#unroutableReads = options.unroutableReads
  }

  get view(): RoutingView | null {
    return this.#view
  }

  get lease(): LeaseHandle | null {
    return this.#lease?.holds() ? this.#lease : null
  }

  /** INV-8 binds: from here on nothing mapped is served without a lease. Once bound, for good. */
  get bound(): boolean {
    const view = this.#view
    return this.#unsure || (view !== null && view.bindingEpoch !== null && view.epoch >= view.bindingEpoch)
  }

  get parked(): { readonly statements: number; readonly bytes: number } {
    return { statements: this.#parked.size, bytes: this.#parkedBytes }
  }

  /** The executor's undecided entries hold an ack, client or no client. */
  readonly flights: FlightCounter = {
    enter: (slot) => {
      this.#flights.set(slot, (this.#flights.get(slot) ?? 0) + 1)
    },
    leave: (slot) => {
      const left = (this.#flights.get(slot) ?? 0) - 1
      if (left > 0) this.#flights.set(slot, left)
      else this.#flights.delete(slot)
      this.changed.notify()
    },
  }

  works(): Iterable<Work> {
    return this.#works
  }

  /** A renewal's view. Replaces the older one as a whole; an older one is ignored. */
  install(view: RoutingView, lease: LeaseHandle): void {
    const before = this.#view
    if (this.#lease?.id !== lease.id) {
      this.#lease = lease
      this.#sealed = -1
      // It is to be acked, though nothing else has changed: an order may wait for it.
      this.changed.notify()
    }
    if (before !== null && view.epoch < before.epoch) return
    if (before !== null && view.epoch === before.epoch && view.bindingEpoch === before.bindingEpoch) return
    this.#view = view
    const inFlip = this.#unsettled
    this.#unsettled = new Set()
    this.#moved = 0
    for (const row of view.rows()) {
      if (row.phase !== 'steady') this.#unsettled.add(row.slot)
      else if (inFlip.has(row.slot)) this.#flipEnded(row.epoch)
      if (row.owner === 'target') this.#moved++
      this.#require(before?.ownership(row.slot), row)
    }
    for (const slot of changedPins(before, view)) this.#mustEnd.set(slot, view.epoch)
    this.#interruptTransactions()
    for (const parked of [...this.#parked]) parked.wake()
    this.changed.notify()
  }

  /** The lease is over: its works are ended by whoever holds them; parked statements look again and are refused. */
  lapse(): void {
    this.#lease = null
    this.#unsure = true
    for (const parked of [...this.#parked]) parked.wake()
    this.changed.notify()
  }

  /** What a statement that begins work may do now. */
  decide(facts: StatementFacts): Decision {
    const view = this.#view
    if (view === null || !this.#lease?.holds()) return refuse(new SwitchbackError('NO_LEASE'))
    if (facts.touch === 'all') return this.#decideAll(facts)
    const row = view.ownership(facts.touch)
    if (row === undefined) return refuse(new SwitchbackError('SLOT_UNKNOWN', { slot: facts.touch }))
    if (facts.writes && row.readOnly) return refuse(new SwitchbackError('SLOT_READ_ONLY'))
    if (row.phase !== 'steady') return { kind: 'park' }
    return row.owner === 'source' ? { kind: 'source' } : { kind: 'target', row }
  }

  /** Waits while the slot is in flip, in a bounded queue with a deadline; never answers 'park'. */
  async admit(facts: StatementFacts, bytes: number, signal: AbortSignal): Promise<Exclude<Decision, { kind: 'park' }>> {
    const since = this.#clock.monotonicMs()
    let parked = false
    try {
      for (;;) {
        const decision = this.decide(facts)
        if (decision.kind !== 'park') return decision
        parked = true
        const refused = await this.#parkOnce(since, bytes, signal)
        if (refused !== null) return refuse(refused)
      }
    } finally {
      if (parked) this.#unparked(facts, this.#clock.monotonicMs() - since)
    }
  }

  /** What a further statement of a transaction that is open on PostgreSQL may do. Never parked: others may wait for its locks. */
  join(work: Work, facts: StatementFacts): SwitchbackError | null {
    const view = this.#view
    if (view === null || !work.lease.holds()) return new SwitchbackError('LEASE_OVER', { lease: work.lease.id })
    if (facts.touch === 'all') return this.#joinAll(work, facts)
    const row = view.ownership(facts.touch)
    if (row === undefined) return new SwitchbackError('SLOT_UNKNOWN', { slot: facts.touch })
    if (row.owner === 'target') {
      // It has moved since the transaction began: a new one will find it. Else the transaction crosses owners.
      return row.tenure > work.began
        ? new SwitchbackError('KEY_MOVED')
        : new SwitchbackError('CROSSES_OWNERS', { because: 'it is open on PostgreSQL, and the key has moved' })
    }
    // Its snapshot is older than what came back from the target: a read would be stale.
    if (work.snapshot && row.tenure > work.began) return new SwitchbackError('KEY_MOVED')
    if (facts.writes && row.readOnly) return new SwitchbackError('SLOT_READ_ONLY')
    if (row.phase !== 'steady' && this.#sealed >= row.epoch) return new SwitchbackError('KEY_MOVED')
    return null
  }

  /** Registers work on PostgreSQL. `explicit`: an open transaction. `began`: -1 for what was open when INV-8 came to bind. */
  beginSource(options: { explicit: boolean; began?: Epoch; snapshot?: boolean }): Work {
    return this.#begin('source', options, null)
  }

  beginTarget(options: { slot: SlotId; writes: boolean; explicit: boolean; interrupt: ((because: SwitchbackError) => void) | null }): Work {
    const work = this.#begin('target', options, options.interrupt)
    ;(options.writes ? work.wrote : work.read).add(options.slot)
    return work
  }

  /** Notes what a work has touched; before the statement is sent. */
  touch(work: Work, facts: { touch: Touch; writes: boolean }): void {
    const state = work as WorkState
    ;(facts.writes ? state.wrote : state.read).add(facts.touch)
  }

  /** The epoch that can be acked now: everything that had to end has ended, and it is not sealed yet. Null: not yet, or nothing new. */
  ackable(): Epoch | null {
    const view = this.#view
    if (view === null || !this.#lease?.holds() || view.epoch <= this.#sealed) return null
    for (const [slot, epoch] of this.#mustEnd) if (this.#busy(slot, epoch)) return null
    return view.epoch
  }

  /** Slots that hold the ack of the view up; null: none does, or nothing is to be acked. Nothing begins on the others in flip. */
  heldUpBy(): { readonly epoch: Epoch; readonly busy: ReadonlySet<SlotId> } | null {
    const view = this.#view
    if (view === null || !this.#lease?.holds() || view.epoch <= this.#sealed) return null
    const busy = new Set<SlotId>()
    for (const [slot, epoch] of this.#mustEnd) if (this.#busy(slot, epoch)) busy.add(slot)
    return busy.size === 0 ? null : { epoch: view.epoch, busy }
  }

  /**
   * From here on open PostgreSQL transactions touch no slot in flip of this view (40001): the ack that is about to be sent says
   * that nothing of this gateway is left there. Call it in the same turn as the last look at `ackable`.
   */
  seal(epoch: Epoch): void {
    this.#sealed = epoch
    this.#mustEnd.clear()
  }

  /** Slots in flip. */
  get parking(): ReadonlySet<SlotId> {
    return this.#unsettled
  }

  get sealed(): Epoch {
    return this.#sealed
  }

  /** Guard, No lock a row: an open transaction that has touched none of the slots in flip need not be waited for. */
  excusable(work: Work): boolean {
    if (work.ended || !work.explicit || work.arm !== 'source') return false
    for (const touched of [work.read, work.wrote]) {
      if (touched.has('all')) return false
      for (const slot of touched) if (slot !== 'all' && this.#unsettled.has(slot)) return false
    }
    return this.#unsettled.size > 0
  }

  /** What a fence waits for, for people. */
  waitsFor(): { readonly slot: SlotId; readonly works: number; readonly flights: number }[] {
    const waits = []
    for (const [slot, epoch] of this.#mustEnd) {
      const works = [...this.#works].filter((work) => holds(work, slot, epoch)).length
      const flights = this.#flights.get(slot) ?? 0
      if (works + flights > 0) waits.push({ slot, works, flights })
    }
    return waits
  }

  #decideAll(facts: StatementFacts): Decision {
    const staleOk = !facts.writes && this.#unroutableReads === 'stale-ok'
    if (this.#unsettled.size > 0 && !staleOk) return { kind: 'park' }
    if (this.#moved > 0 && !staleOk) return refuse(unroutable(facts))
    if (facts.writes && this.#anyReadOnly()) return refuse(new SwitchbackError('SLOT_READ_ONLY'))
    return { kind: 'source' }
  }

  #joinAll(work: Work, facts: StatementFacts): SwitchbackError | null {
    if (!facts.writes && this.#unroutableReads === 'stale-ok') return null
    for (const row of this.#view!.rows()) {
      if (row.owner === 'target') return row.tenure > work.began ? new SwitchbackError('KEY_MOVED') : unroutable(facts)
      if (work.snapshot && row.tenure > work.began) return new SwitchbackError('KEY_MOVED')
      if (row.phase !== 'steady' && this.#sealed >= row.epoch) return new SwitchbackError('KEY_MOVED')
      if (row.readOnly && facts.writes) return new SwitchbackError('SLOT_READ_ONLY')
    }
    return null
  }

  #anyReadOnly(): boolean {
    for (const row of this.#view!.rows()) if (row.readOnly) return true
    return false
  }

  #begin(
    arm: Work['arm'],
    options: { explicit: boolean; began?: Epoch; snapshot?: boolean },
    interrupt: WorkState['interrupt'],
  ): WorkState {
    const lease = this.#lease ?? NO_LEASE
    if (lease === NO_LEASE && arm === 'target') throw new SwitchbackError('NO_LEASE')
    const work: WorkState = {
      arm,
      explicit: options.explicit,
      snapshot: options.snapshot ?? false,
      began: options.began ?? this.#view?.epoch ?? -1,
      lease,
      read: new Set(),
      wrote: new Set(),
      ended: false,
      interrupt,
      end: () => {
        if (work.ended) return
        work.ended = true
        this.#works.delete(work)
        this.changed.notify()
      },
    }
    this.#works.add(work)
    return work
  }

  /** Which rows' changes something in flight has to end for: entering a flip, a new owner, a new read-only. A cancel frees. */
  #require(before: Ownership | undefined, row: Ownership): void {
    if (before === undefined || before.epoch === row.epoch) return
    // A new tenure of the same owner, PostgreSQL: another backfill has begun, and nothing changes for who works there.
    const sameHome = row.owner === 'source' && before.owner === 'source'
    const changes =
      row.phase !== 'steady' ||
      row.owner !== before.owner ||
      (row.tenure !== before.tenure && !sameHome) ||
      (row.readOnly && !before.readOnly)
    if (changes) this.#mustEnd.set(row.slot, row.epoch)
    else if (row.tenure === before.tenure && !(row.readOnly && this.#mustEnd.has(row.slot))) this.#mustEnd.delete(row.slot)
  }

  #busy(slot: SlotId, epoch: Epoch): boolean {
    if ((this.#flights.get(slot) ?? 0) > 0) return true
    for (const work of this.#works) if (holds(work, slot, epoch)) return true
    return false
  }

  /** The flip, 3: an open target transaction that has not sent its compare-and-set gets 40001. */
  #interruptTransactions(): void {
    for (const work of [...this.#works]) {
      if (work.interrupt === null) continue
      const slots = [...work.read, ...work.wrote]
      if (slots.some((slot) => slot !== 'all' && this.#mustEnd.has(slot))) work.interrupt(new SwitchbackError('KEY_MOVED'))
    }
  }

  #queueIsFull(bytes: number): SwitchbackError | null {
    const { parkedStatementsMax, queueBytesMax } = this.#limits
    if (this.#parked.size >= parkedStatementsMax) {
      return new SwitchbackError('PARK_FULL', { limit: parkedStatementsMax, limitName: 'parkedStatementsMax' })
    }
    if (this.#parkedBytes + bytes > queueBytesMax)
      return new SwitchbackError('PARK_FULL', { limit: queueBytesMax, limitName: 'queueBytesMax' })
    return null
  }

  /** Until something changes; null: look again. */
  async #parkOnce(since: number, bytes: number, signal: AbortSignal): Promise<SwitchbackError | null> {
    const { parkDeadlineMs } = this.#limits
    const leftMs = parkDeadlineMs - (this.#clock.monotonicMs() - since)
    if (leftMs <= 0) return new SwitchbackError('PARK_DEADLINE', { limit: parkDeadlineMs, limitName: 'parkDeadlineMs' })
    const full = this.#queueIsFull(bytes)
    if (full !== null) return full
    await this.#park(bytes, leftMs, signal)
    if (!signal.aborted) return null
    return signal.reason instanceof SwitchbackError ? signal.reason : new SwitchbackError('STATEMENT_CANCELED')
  }

  #flipEnded(epoch: Epoch): void {
    this.#endedEpoch = Math.max(this.#endedEpoch, epoch)
    this.parkTimes.flipEnded(epoch)
  }

  /** Its row has the epoch of the flip that let it go; one that gave up, of the flip that held it. */
  #unparked({ touch }: StatementFacts, ms: number): void {
    const epoch = touch === 'all' ? this.#endedEpoch : (this.#view?.ownership(touch)?.epoch ?? this.#endedEpoch)
    this.parkTimes.record(epoch, ms)
    this.#onParked(ms)
    this.changed.notify()
  }

  #park(bytes: number, forMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const wake = () => {
        if (!this.#parked.delete(parked)) return
        this.#parkedBytes -= bytes
        cancel()
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const parked: Parked = { bytes, wake }
      this.#parked.add(parked)
      this.#parkedBytes += bytes
      const cancel = this.#clock.after(forMs, wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}

/** Of what was open when a lease had lapsed: it ends at the next look. */
const NO_LEASE: LeaseHandle = { id: 'none', holds: () => false }

/** Whether an ack of a view in which the slot changed at `epoch` has to wait for the work. */
function holds(work: Work, slot: SlotId, epoch: Epoch): boolean {
  if (work.began >= epoch) return false
  if (work.wrote.has(slot) || work.wrote.has('all')) return true
  // Plain reads on PostgreSQL overlap the flip, and a transaction that only read there is told 40001 if it comes back. A read on
  // the target may help a transaction through with an entry of its own, so the outbox is final only when it has ended.
  return work.arm === 'target' && work.read.has(slot)
}

/** Slots that keys moved out of or into, by pins made or merged away. */
function changedPins(before: RoutingView | null, after: RoutingView): SlotId[] {
  if (before === null) return []
  const old = new Map([...before.pins()].map((pin) => [pin.slot, pin.parent]))
  const fresh = new Map([...after.pins()].map((pin) => [pin.slot, pin.parent]))
  const slots: SlotId[] = []
  for (const [slot, parent] of fresh) if (!old.has(slot)) slots.push(parent)
  for (const [slot, parent] of old) if (!fresh.has(slot)) slots.push(slot, parent)
  return slots
}

function refuse(error: SwitchbackError): { readonly kind: 'refuse'; readonly error: SwitchbackError } {
  return { kind: 'refuse', error }
}

function unroutable(facts: StatementFacts): SwitchbackError {
  return new SwitchbackError('UNROUTABLE', {
    because: facts.because ?? 'its key cannot be told',
    wouldRoute: facts.wouldRoute ?? 'name one key',
  })
}
