// Promises: every entry of every outbox comes to hand: told by the gateways, or read from the target, where polling is the fallback
// (slow while a gateway's feed is alive, at once for holes, drains and leases that are over). An outbox is final when its lease is over
// and it was read once more to its end, by a read that began after that was known. Positions are saved only over runs without a hole,
// and a bucket is deleted whole once the durable position is past it.
import { BugError } from '../lib/assert.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { OutboxEntry, OutboxId } from '../model/head.ts'
import type { LeaseId } from '../model/ids.ts'
import { SLOT_GROUPS } from '../model/key.ts'
import { bucketsPast, OutboxTrack } from './outbox-track.ts'
import { ABORTED, untilDone } from './retry.ts'
import type { AggregateBook } from './reverse-aggregates.ts'
import type { Item, OutboxPosition, ReverseContext } from './reverse-parts.ts'

interface ReadState {
  reading: boolean
  queued: boolean
  /** A read that was asked for while one was under way. */
  again: boolean
  lastReadMs: number
  notBeforeMs: number
  tries: number
  holeSinceMs: number | null
  alarmed: boolean
}

export type Told = 'committed' | 'void' | null

type Track = OutboxTrack<Item>

const ALL_GROUPS: readonly number[] = Array.from({ length: SLOT_GROUPS }, (_, group) => group)

export class OutboxBook {
  readonly #context: ReverseContext
  readonly #aggregates: AggregateBook
  readonly #tracks = new Map<string, Track>()
  readonly #reads = new Map<Track, ReadState>()
  readonly #dirty = new Set<Track>()
  /** By lease: those that are not final. */
  readonly #live = new Map<LeaseId, readonly Track[]>()
  readonly #started: Map<string, { sequence: number; final: boolean }>
  #readQueue: Track[] = []
  #readsUnderWay = 0
  #saving: Promise<void> | null = null
  #lastSaveMs = 0
  #trimQueue: Track[] = []
  #trimming = false

  constructor(context: ReverseContext, aggregates: AggregateBook, positions: readonly OutboxPosition[]) {
    this.#context = context
    this.#aggregates = aggregates
    this.#started = new Map(positions.map((p) => [`${p.group}/${p.lease}`, { sequence: p.sequence, final: p.final }]))
    for (const position of positions) if (!position.final) this.track(position)
  }

  track(id: OutboxId): Track {
    const name = `${id.group}/${id.lease}`
    let track = this.#tracks.get(name)
    if (track === undefined) {
      const start = this.#started.get(name) ?? { sequence: 0, final: false }
      track = new OutboxTrack<Item>({ group: id.group, lease: id.lease }, start)
      const { entriesPerBucket, bucketsDeletedAgainMax } = this.#context.limits
      track.trimmedBuckets = Math.max(0, bucketsPast(start, start.sequence, entriesPerBucket) - bucketsDeletedAgainMax)
      this.#tracks.set(name, track)
      this.#reads.set(track, {
        reading: false,
        queued: false,
        again: false,
        lastReadMs: Number.NEGATIVE_INFINITY,
        notBeforeMs: 0,
        tries: 0,
        holeSinceMs: null,
        alarmed: false,
      })
      if (start.sequence > 0) this.#queueTrim(track)
    }
    return track
  }

  tracks(): Iterable<Track> {
    return this.#tracks.values()
  }

  /** Durable positions of a lease's outboxes, for a gateway that has just connected. */
  positionsOf(lease: LeaseId): OutboxPosition[] {
    const positions: OutboxPosition[] = []
    for (const { id, saved } of this.#tracks.values()) {
      if (id.lease === lease && saved.sequence > 0) positions.push({ group: id.group, lease, sequence: saved.sequence, final: saved.final })
    }
    return positions
  }

  offer(id: OutboxId, sequence: number, entry: OutboxEntry, told: Told): void {
    const track = this.track(id)
    if (track.isSettled(sequence)) return
    let item = track.item(sequence)
    if (item === undefined) {
      if (track.final) {
        // Its outbox was read to its end after its lease was over: whatever comes now was never acknowledged nor visible.
        this.#context.counts.late++
        return
      }
      if (told === 'void') {
        this.#context.counts.voids++
        track.settle(sequence)
        this.moved(track)
        return
      }
      const aggregate = this.#aggregates.of(entry.key, entry.tenure)
      if (aggregate.halted && this.#aggregates.itemCount >= this.#context.limits.heldItemsMax) {
        track.hold(sequence)
        this.moved(track)
        return
      }
      item = { track, sequence, entry, aggregate, seenAtMs: this.#context.now(), told: false, ready: false, applying: false }
      track.add(sequence, item)
      this.#aggregates.add(item)
      this.moved(track)
    }
    if (told !== null) this.#tell(item, told)
    this.#aggregates.evaluate(item.aggregate)
  }

  #tell(item: Item, told: 'committed' | 'void'): void {
    const { entry, track, sequence } = item
    if (told === 'void' && (item.ready || item.applying)) {
      const because = 'its gateway calls it void, its head or another message committed'
      this.#context.alarm({ kind: 'contradiction', key: entry.key, lease: track.id.lease, sequence, because })
      return
    }
    item.told = true
    if (told === 'void') this.#aggregates.settle(item, 'void')
    else item.ready = true
  }

  /** To be called whenever a track's position, knowledge or finality may have changed. */
  moved(track: Track): void {
    if (track.position() > track.saved.sequence || (track.final && !track.saved.final)) this.#dirty.add(track)
    this.#context.trackMoved(track)
  }

  /** Reads an outbox soon, whatever the cadence says. A read that is under way may have begun too early, so another follows it. */
  readSoon(track: Track): void {
    const state = this.#reads.get(track)!
    if (track.final || state.queued) return
    if (state.reading) {
      state.again = true
      return
    }
    state.queued = true
    this.#readQueue.push(track)
    this.#pumpReads()
  }

  #pumpReads(): void {
    const { limits, signal } = this.#context
    while (!signal.aborted && this.#readsUnderWay < limits.outboxReadsMax && this.#readQueue.length > 0) {
      const track = this.#readQueue.shift()!
      const state = this.#reads.get(track)!
      state.queued = false
      state.reading = true
      this.#readsUnderWay++
      void this.#read(track, state)
        .catch((error: unknown) => {
          if (error instanceof BugError) this.#context.fail(error)
          else this.#context.counted(error)
          state.notBeforeMs = this.#context.now() + backoffMs(state.tries++, limits.backoff, this.#context.options.random)
        })
        .finally(() => {
          this.#readsUnderWay--
          state.reading = false
          state.lastReadMs = this.#context.now()
          if (state.again) {
            state.again = false
            this.readSoon(track)
          }
          this.#pumpReads()
        })
    }
  }

  async #read(track: Track, state: ReadState): Promise<void> {
    const { options, limits, counts, signal } = this.#context
    // Looked at before the read: only then is the end that it finds the end for good.
    const over = this.#context.leaseOver(track.id.lease)
    let after = track.knownUpTo()
    for (;;) {
      if (this.#aggregates.itemCount >= limits.itemsMax && this.#aggregates.busy) {
        state.notBeforeMs = this.#context.now() + limits.tickMs
        return
      }
      counts.outboxReads++
      const page = await options.target.readOutbox(track.id, after, limits.outboxPageEntries)
      if (signal.aborted) return
      for (const { sequence, entry } of page.entries) this.offer(track.id, sequence, entry, null)
      if (page.end) break
      const last = page.entries[page.entries.length - 1]
      if (last === undefined) throw new Error(`an empty page of the outbox ${track.id.group}/${track.id.lease} that is not its end`)
      after = last.sequence
    }
    state.tries = 0
    if (!over || track.final) return
    counts.holesClosed += track.finish()
    this.moved(track)
  }

  /** Which outboxes are due. */
  tick(): void {
    const { options, limits, now } = this.#context
    const nowMs = now()
    for (const lease of options.leases()) {
      const over = this.#context.leaseOver(lease.lease)
      const live = this.#liveTracks(lease.lease)
      for (const track of live) this.#due(track, over, nowMs)
      if (over && live.some((track) => track.final))
        this.#live.set(
          lease.lease,
          live.filter((track) => !track.final),
        )
    }
    for (const id of options.ownOutboxes?.() ?? []) this.#due(this.track(id), false, nowMs)
    if (this.#dirty.size > 0 && this.#saving === null && nowMs - this.#lastSaveMs >= limits.positionsSaveMs) void this.#save()
  }

  /** Of all groups: a lease may write to any. Leases are many in time, and each is asked for at every tick. */
  #liveTracks(lease: LeaseId): readonly Track[] {
    let live = this.#live.get(lease)
    if (live === undefined) {
      const groups = this.#context.options.slotGroups ?? ALL_GROUPS
      live = groups.filter((group) => !this.#started.get(`${group}/${lease}`)?.final).map((group) => this.track({ group, lease }))
      this.#live.set(lease, live)
    }
    return live
  }

  #due(track: Track, over: boolean, nowMs: number): void {
    if (track.final) return
    const { limits } = this.#context
    const state = this.#reads.get(track)!
    if (state.reading || state.queued || nowMs < state.notBeforeMs) return
    const hole = track.knownUpTo() < track.last
    if (!hole) {
      state.holeSinceMs = null
      state.alarmed = false
    } else {
      state.holeSinceMs ??= nowMs
      if (!state.alarmed && nowMs - state.holeSinceMs > limits.waitAlarmMs) {
        state.alarmed = true
        this.#context.alarm({ kind: 'hole', group: track.id.group, lease: track.id.lease, sequence: track.knownUpTo() + 1 })
      }
    }
    const holeDue = hole && nowMs - state.holeSinceMs! >= limits.holeGraceMs && nowMs - state.lastReadMs >= limits.holeGraceMs
    const everyMs = this.#context.feedAlive(track.id.lease) ? limits.pollFeedAliveMs : limits.pollFeedDeadMs
    if (over || holeDue || nowMs - state.lastReadMs >= everyMs) this.readSoon(track)
  }

  #save(): Promise<void> {
    this.#lastSaveMs = this.#context.now()
    const saving = this.#saveDirty().finally(() => {
      this.#saving = null
    })
    this.#saving = saving
    return saving
  }

  async #saveDirty(): Promise<void> {
    const { options, signal } = this.#context
    const tracks = [...this.#dirty]
    this.#dirty.clear()
    // Final is saved only with the end: a new leader reads such an outbox no more.
    const positions = tracks.map((track) => {
      const sequence = track.position()
      return { group: track.id.group, lease: track.id.lease, sequence, final: track.final && sequence >= track.last }
    })
    try {
      const saved = await untilDone(() => options.applier.savePositions(positions), this.#context.retry, signal)
      if (saved === ABORTED) return
      tracks.forEach((track, i) => {
        const { sequence, final } = positions[i]!
        track.saved = { sequence, final }
        this.#queueTrim(track)
      })
      options.onPositions?.(positions)
    } catch (error) {
      this.#context.fail(error)
    }
  }

  /** Resolves when what is settled now is durable as positions, or when the sync ends. */
  async positionsSaved(): Promise<void> {
    while (!this.#context.signal.aborted && (this.#saving !== null || this.#dirty.size > 0)) await (this.#saving ?? this.#save())
  }

  #bucketsPast({ saved, last }: Track): number {
    return bucketsPast(saved, last, this.#context.limits.entriesPerBucket)
  }

  #queueTrim(track: Track): void {
    if (this.#bucketsPast(track) <= track.trimmedBuckets) return
    this.#trimQueue.push(track)
    if (!this.#trimming) {
      this.#trimming = true
      void this.#trim().finally(() => {
        this.#trimming = false
      })
    }
  }

  async #trim(): Promise<void> {
    const { options, counts, signal } = this.#context
    for (let track = this.#trimQueue.shift(); track !== undefined && !signal.aborted; track = this.#trimQueue.shift()) {
      const { id } = track
      const due = this.#bucketsPast(track)
      // What is deleted here cannot be applied again to a standby that lacks it (protocols.md, Durable control).
      const flushed = async () => ((await options.awaitFlushed?.(signal)) ?? []).length === 0
      const done = await untilDone(flushed, this.#context.retry, signal).catch((error: unknown) => {
        this.#context.counted(error) // the lead ends
        return false
      })
      if (done !== true) return
      while (track.trimmedBuckets < due && !signal.aborted) {
        const bucket = track.trimmedBuckets
        const done = await untilDone(() => options.target.deleteBucket(id, bucket), this.#context.retry, signal).catch((error: unknown) => {
          // A bucket that stays is waste, never an error of service: counted, and deleted again by the next leader or by finalize.
          this.#context.counted(error)
        })
        if (done === ABORTED) return
        track.trimmedBuckets++
        counts.bucketsDeleted++
      }
    }
  }

  /** Entries of a halted aggregate that were not kept are read again. */
  readHeldAgain(): void {
    for (const track of this.#tracks.values()) {
      if (track.heldCount === 0) continue
      track.forgetHeld()
      this.readSoon(track)
    }
  }
}
