// Promises: a gateway keeps each settled entry until the controller's durable position is past it, so that it can tell a new leader
// again, and so that its own copies can go back to PostgreSQL while the target cannot be reached (protocols.md, Reverse sync; The flip;
// faults.md 60, 70). Bounded by bytes: when full, the oldest copies of committed entries go first, counted, since their outboxes have
// them; a void is kept longest, because nobody else can say it.
import type { SettledEntry, SettledSink } from '../model/executor.ts'
import { type FeedPosition, settledBytes } from './feed.ts'

export interface BacklogLimits {
  readonly backlogBytesMax: number
}

export const BACKLOG_LIMITS: BacklogLimits = { backlogBytesMax: 64 * 1024 * 1024 }

export interface BacklogCounts {
  readonly entries: number
  readonly bytes: number
  readonly committedDropped: number
  readonly voidsDropped: number
}

interface Kept {
  readonly told: SettledEntry
  readonly bytes: number
}

export class SettledBacklog implements SettledSink {
  readonly #bytesMax: number
  readonly #onSettled: (told: SettledEntry) => void
  /** Oldest first. */
  readonly #committed = new Map<string, Kept>()
  readonly #voids = new Map<string, Kept>()
  readonly #streams = new Map<string, Set<number>>()
  #bytes = 0
  #committedDropped = 0
  #voidsDropped = 0

  /** `onSettled` is told of each as it comes, for the connection that is open now. */
  constructor(options: { readonly limits?: Partial<BacklogLimits>; readonly onSettled?: (told: SettledEntry) => void } = {}) {
    this.#bytesMax = options.limits?.backlogBytesMax ?? BACKLOG_LIMITS.backlogBytesMax
    this.#onSettled = options.onSettled ?? (() => undefined)
  }

  settled(entry: SettledEntry): void {
    // What a void would have changed is of no use to anyone.
    const told: SettledEntry = entry.verdict === 'void' ? { ...entry, entry: { ...entry.entry, changes: [] } } : entry
    this.#keep(told)
    this.#onSettled(told)
    this.#shrink()
  }

  #keep(told: SettledEntry): void {
    const stream = `${told.group}/${told.lease}`
    const id = `${stream}/${told.sequence}`
    this.#remove(id)
    const kept = { told, bytes: settledBytes(told) }
    this.#bytes += kept.bytes
    if (told.verdict === 'void') this.#voids.set(id, kept)
    else this.#committed.set(id, kept)
    const sequences = this.#streams.get(stream)
    if (sequences === undefined) this.#streams.set(stream, new Set([told.sequence]))
    else sequences.add(told.sequence)
  }

  #remove(id: string): Kept | undefined {
    const kept = this.#committed.get(id) ?? this.#voids.get(id)
    if (kept === undefined) return undefined
    this.#committed.delete(id)
    this.#voids.delete(id)
    this.#bytes -= kept.bytes
    const stream = `${kept.told.group}/${kept.told.lease}`
    const sequences = this.#streams.get(stream)
    sequences?.delete(kept.told.sequence)
    if (sequences?.size === 0) this.#streams.delete(stream)
    return kept
  }

  #shrink(): void {
    while (this.#bytes > this.#bytesMax) {
      const oldest = this.#committed.keys().next()
      if (oldest.done !== true) {
        this.#remove(oldest.value)
        this.#committedDropped++
        continue
      }
      const oldestVoid = this.#voids.keys().next()
      if (oldestVoid.done === true) return
      this.#remove(oldestVoid.value)
      this.#voidsDropped++
    }
  }

  /** The controller's durable positions: what lies up to them is settled for good. */
  passed(positions: readonly FeedPosition[]): void {
    for (const { group, lease, sequence } of positions) {
      const stream = `${group}/${lease}`
      for (const held of [...(this.#streams.get(stream) ?? [])]) if (held <= sequence) this.#remove(`${stream}/${held}`)
    }
  }

  /** Everything held, oldest first: for a new leader. */
  all(): readonly SettledEntry[] {
    return [...this.#committed.values(), ...this.#voids.values()].map((kept) => kept.told)
  }

  counts(): BacklogCounts {
    return {
      entries: this.#committed.size + this.#voids.size,
      bytes: this.#bytes,
      committedDropped: this.#committedDropped,
      voidsDropped: this.#voidsDropped,
    }
  }
}
