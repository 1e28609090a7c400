// Promises: what was committed on the target is applied in PostgreSQL exactly once, in order in each aggregate, and nothing that was
// not committed is (INV-2, INV-6). Gateways tell of their entries over the feed; polling their outboxes is the fallback. Everything is
// rebuilt by a new leader from durable positions, applied versions, the outboxes and what the gateways tell again.
import { setMaxListeners } from 'node:events'
import { Signal } from '../lib/latch.ts'
import type { LeaseRow } from '../model/control.ts'
import type { SettledEntry } from '../model/executor.ts'
import type { LeaseId, SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import { drainHeld, type HeldReport, type HeldRequest } from './held-drain.ts'
import { ABORTED, nameOf, untilDone } from './retry.ts'
import { AggregateBook } from './reverse-aggregates.ts'
import { Drain, type DrainResult } from './reverse-drain.ts'
import { OutboxBook } from './reverse-outboxes.ts'
import {
  type HaltedAggregate,
  type OutboxPosition,
  REVERSE_LIMITS,
  type ReverseContext,
  type ReverseCounts,
  type ReverseLimits,
  type ReverseOptions,
  type ReverseProgress,
} from './reverse-parts.ts'

export interface ReverseSync {
  /** Runs until the signal aborts; rejects with what stops it: another leader (TOKEN_STALE), a bug. */
  run(signal: AbortSignal): Promise<void>
  /** A gateway tells of an entry of its own: committed with all its rows there, or void. May come before `run`, and often. */
  settled(entry: SettledEntry): void
  /** A gateway's feed for this lease is connected (and has told again what it holds), or is not any more. */
  feedAlive(lease: LeaseId, alive: boolean): void
  /** Durable positions of a lease, for a gateway that has just connected. */
  positionsOf(lease: LeaseId): readonly OutboxPosition[]
  /** Resolves when there is room for more entries: the feed's reader waits here, so that a fast gateway fills no memory. */
  room(signal: AbortSignal): Promise<void>
  /**
   * Resolves when every outbox entry of these slots is settled, or when the signal aborts. `leases`: every lease of the migration, as
   * acked or over, looked at after the park.
   */
  drain(slots: readonly SlotId[], leases: readonly LeaseRow[], signal: AbortSignal): Promise<DrainResult>
  /**
   * The same with the target silent, from what gateways told: which slots are whole in PostgreSQL, which are not, and why. Ends within
   * copiesWaitMs and what PostgreSQL takes to apply what is at hand, or when the signal aborts.
   */
  drainHeld(request: HeldRequest, signal: AbortSignal): Promise<HeldReport>
  /** Resolves when the positions of what is settled now are durable. False: the sync ended before. */
  positionsSaved(): Promise<boolean>
  /** The poison of this key has been dealt with: try again. False: it was not halted. */
  release(key: AggregateKey): boolean
  /** Aggregates held back, by slot. */
  halted(): readonly HaltedAggregate[]
  progress(): ReverseProgress
}

export function createReverseSync(options: ReverseOptions): ReverseSync {
  return new ReverseRun(options)
}

class ReverseRun implements ReverseSync {
  readonly #options: ReverseOptions
  readonly #limits: ReverseLimits
  readonly #counts: ReverseCounts
  readonly #over = new Set<LeaseId>()
  readonly #feeds = new Set<LeaseId>()
  readonly #drains = new Set<Drain>()
  readonly #stop = new AbortController()
  readonly #roomMade = new Signal()
  readonly #started = new Signal()
  readonly #context: ReverseContext
  readonly #aggregates: AggregateBook
  #outboxes: OutboxBook | null = null
  /** Told before the positions were read. */
  #early: SettledEntry[] = []
  #failure: { readonly error: unknown } | null = null
  #lastEpoch = -1

  constructor(options: ReverseOptions) {
    this.#options = options
    // Every read and retry in flight listens to it.
    setMaxListeners(0, this.#stop.signal)
    this.#limits = { ...REVERSE_LIMITS, ...options.limits }
    this.#counts = {
      applied: 0,
      doubles: 0,
      old: 0,
      voids: 0,
      holesClosed: 0,
      late: 0,
      rowsPut: 0,
      bucketsDeleted: 0,
      headReads: 0,
      outboxReads: 0,
      retries: {},
    }
    this.#context = this.#makeContext()
    this.#aggregates = new AggregateBook(this.#context)
  }

  #makeContext(): ReverseContext {
    const options = this.#options
    return {
      options,
      limits: this.#limits,
      retry: { clock: options.clock, random: options.random, backoff: this.#limits.backoff, onRetry: (error) => this.#counted(error) },
      counts: this.#counts,
      signal: this.#stop.signal,
      now: () => options.clock.monotonicMs(),
      leaseOver: (lease) => this.#over.has(lease),
      feedAlive: (lease) => this.#feeds.has(lease),
      urgent: (aggregate) => {
        if (this.#drains.size === 0) return false
        for (const drain of this.#drains) if (drain.slots.has(this.#slotOf(aggregate))) return true
        return false
      },
      slotOf: (aggregate) => this.#slotOf(aggregate),
      counted: (error) => this.#counted(error),
      alarm: (alarm) => options.onAlarm?.(alarm),
      fail: (error) => this.#fail(error),
      itemAdded: (item) => {
        for (const drain of this.#drains) drain.added(item)
      },
      itemSettled: (item, how) => {
        this.#outboxes?.moved(item.track)
        for (const drain of this.#drains) drain.settled(item, how)
        this.#roomMade.notify()
      },
      halted: (aggregate) => {
        const { key, tenure, haltedVersion } = aggregate
        options.onAlarm?.({ kind: 'poison', key, slot: this.#slotOf(aggregate), tenure, version: haltedVersion })
        for (const drain of this.#drains) drain.halted(aggregate)
      },
      trackMoved: (track) => {
        for (const drain of this.#drains) drain.trackMoved(track)
      },
    }
  }

  /** By the newest view: a pin may have been split off since the entry was written (faults.md 67). */
  #slotOf(aggregate: { key: AggregateKey; slot: SlotId; slotView: unknown }): SlotId {
    const view = this.#options.view()
    if (aggregate.slotView !== view) {
      aggregate.slotView = view
      aggregate.slot = view.slotOf(aggregate.key)
    }
    return aggregate.slot
  }

  async run(signal: AbortSignal): Promise<void> {
    const end = () => this.#stop.abort()
    signal.addEventListener('abort', end, { once: true })
    if (signal.aborted) end()
    const { clock } = this.#options
    try {
      await this.#start()
      let nextProgressMs = clock.monotonicMs() + this.#limits.progressMs
      while (!this.#stop.signal.aborted) {
        this.#tick()
        if (clock.monotonicMs() >= nextProgressMs) {
          this.#options.progress?.(this.progress())
          nextProgressMs = clock.monotonicMs() + this.#limits.progressMs
        }
        await clock.sleep(this.#limits.tickMs, this.#stop.signal)
      }
    } catch (error) {
      this.#fail(error)
    } finally {
      signal.removeEventListener('abort', end)
      this.#stop.abort()
      for (const drain of [...this.#drains]) drain.abort()
      this.#started.notify()
      this.#roomMade.notify()
    }
    if (this.#failure !== null) throw this.#failure.error
  }

  async #start(): Promise<void> {
    const positions = await untilDone(() => this.#options.applier.positions(), this.#context.retry, this.#stop.signal)
    if (positions === ABORTED) return
    this.#lastEpoch = this.#options.view().epoch
    this.#learnLeases()
    this.#outboxes = new OutboxBook(this.#context, this.#aggregates, positions)
    for (const poison of this.#options.poison ?? []) this.#aggregates.halt(this.#aggregates.of(poison.key, poison.tenure), poison.version)
    const early = this.#early
    this.#early = []
    for (const entry of early) this.settled(entry)
    this.#started.notify()
    this.#roomMade.notify()
  }

  #tick(): void {
    const newlyOver = this.#learnLeases()
    const { epoch } = this.#options.view()
    if (newlyOver || epoch !== this.#lastEpoch) {
      this.#lastEpoch = epoch
      this.#aggregates.evaluateAll()
    }
    this.#outboxes?.tick()
    this.#aggregates.tick()
    for (const drain of this.#drains) drain.tick()
  }

  #learnLeases(): boolean {
    const before = this.#over.size
    for (const lease of this.#options.leases()) if (lease.over) this.#over.add(lease.lease)
    return this.#over.size > before
  }

  settled(told: SettledEntry): void {
    if (this.#stop.signal.aborted) return
    if (this.#outboxes === null) this.#early.push(told)
    else this.#outboxes.offer({ group: told.group, lease: told.lease }, told.sequence, told.entry, told.verdict)
  }

  feedAlive(lease: LeaseId, alive: boolean): void {
    if (alive) this.#feeds.add(lease)
    else this.#feeds.delete(lease)
  }

  positionsOf(lease: LeaseId): readonly OutboxPosition[] {
    return this.#outboxes?.positionsOf(lease) ?? []
  }

  async room(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#stop.signal.aborted) {
      if (this.#outboxes !== null && (this.#aggregates.itemCount < this.#limits.itemsMax || !this.#aggregates.busy)) return
      await this.#roomMade.next(signal)
    }
  }

  async drain(slots: readonly SlotId[], leases: readonly LeaseRow[], signal: AbortSignal): Promise<DrainResult> {
    while (this.#outboxes === null && !this.#stop.signal.aborted && !signal.aborted) await this.#started.next(signal)
    const outboxes = this.#outboxes
    if (outboxes === null || this.#stop.signal.aborted || signal.aborted) {
      return { drained: false, entriesApplied: 0, held: [], waitingFor: ['the reverse sync is not running'] }
    }
    for (const lease of leases) if (lease.over) this.#over.add(lease.lease)
    let drain: Drain | null = null
    const end = () => drain?.abort()
    try {
      return await new Promise<DrainResult>((resolve) => {
        drain = new Drain(slots, this.#drainWorld(outboxes), resolve)
        this.#drains.add(drain)
        signal.addEventListener('abort', end, { once: true })
        drain.begin(leases)
      })
    } finally {
      signal.removeEventListener('abort', end)
      if (drain !== null) this.#drains.delete(drain)
    }
  }

  async drainHeld(request: HeldRequest, signal: AbortSignal): Promise<HeldReport> {
    while (this.#outboxes === null && !this.#stop.signal.aborted && !signal.aborted) await this.#started.next(signal)
    const outboxes = this.#outboxes
    const ended = AbortSignal.any([signal, this.#stop.signal])
    if (outboxes === null || ended.aborted)
      return { go: [], stay: request.slots.map((slot) => ({ slot, because: 'the reverse sync is not running' })) }
    const world = {
      clock: this.#options.clock,
      limits: this.#limits,
      view: this.#options.view(),
      track: outboxes.track.bind(outboxes),
      tracks: outboxes.tracks.bind(outboxes),
      slotOf: this.#slotOf.bind(this),
      halted: () => this.#aggregates.haltedList(),
      openBecause: this.#aggregates.openBecause.bind(this.#aggregates),
    }
    return drainHeld(world, request, ended)
  }

  #drainWorld(outboxes: OutboxBook) {
    return {
      view: this.#options.view(),
      track: outboxes.track.bind(outboxes),
      tracks: outboxes.tracks.bind(outboxes),
      readSoon: outboxes.readSoon.bind(outboxes),
      slotOf: this.#slotOf.bind(this),
      halted: () => this.#aggregates.haltedList(),
      evaluate: this.#aggregates.evaluate.bind(this.#aggregates),
      whyWaits: this.#aggregates.whyWaits.bind(this.#aggregates),
    }
  }

  async positionsSaved(): Promise<boolean> {
    await this.#outboxes?.positionsSaved()
    return this.#outboxes !== null && !this.#stop.signal.aborted
  }

  release(key: AggregateKey): boolean {
    const found = this.#aggregates.release(key)
    if (found) this.#outboxes?.readHeldAgain()
    return found
  }

  halted(): readonly HaltedAggregate[] {
    return this.#aggregates.haltedList()
  }

  progress(): ReverseProgress {
    const { lag } = this.#aggregates
    return {
      counts: { ...this.#counts, retries: { ...this.#counts.retries } },
      itemsUnsettled: this.#aggregates.itemCount,
      aggregatesWaiting: this.#aggregates.waitingCount,
      lagMs: { p50: lag.quantile(0.5), p99: lag.quantile(0.99) },
      oldestMs: this.#oldestMs(),
      halted: this.halted(),
    }
  }

  #oldestMs(): number {
    const now = this.#options.clock.monotonicMs()
    let oldest = now
    for (const track of this.#outboxes?.tracks() ?? []) {
      for (const item of track.items()) if (!item.aggregate.halted && item.seenAtMs < oldest) oldest = item.seenAtMs
    }
    return now - oldest
  }

  #counted(error: unknown): void {
    const name = nameOf(error)
    this.#counts.retries[name] = (this.#counts.retries[name] ?? 0) + 1
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#stop.abort()
  }
}
