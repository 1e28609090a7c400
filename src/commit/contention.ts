// Promises: the contention signal, per key: compare-and-sets lost and time spent in the gateway's queue (protocols.md, Commit
// protocol: with the FIFO a hot key shows as a queue, without it as retries). Bounded; keys seen least are forgotten first.
import type { AggregateKey } from '../model/key.ts'

export interface ContentionSink {
  /** A compare-and-set of this gateway lost. */
  casLost(key: AggregateKey): void
  /** A session waited so long for its place. Not told where there was no wait. */
  queued(key: AggregateKey, waitedMs: number): void
  /** A place was held so long: utilisation is held time over elapsed time. */
  held(key: AggregateKey, heldMs: number): void
}

export interface KeyContention {
  readonly key: AggregateKey
  readonly casLost: number
  readonly queued: number
  readonly queuedMs: number
  readonly heldMs: number
}

export interface ContentionCounters extends ContentionSink {
  /** Everything counted since the last call. */
  take(): readonly KeyContention[]
}

/** Counters over at most `keysMax` keys between two `take`s; when full, keys that were only held (nobody waited or lost) make room. */
export function createContentionCounters({ keysMax }: { readonly keysMax: number }): ContentionCounters {
  type Counts = { key: AggregateKey; casLost: number; queued: number; queuedMs: number; heldMs: number }
  let counts = new Map<AggregateKey, Counts>()
  const of = (key: AggregateKey, signal: boolean): Counts | undefined => {
    let one = counts.get(key)
    if (one !== undefined) return one
    if (counts.size >= keysMax && !(signal && makeRoom(counts))) return undefined
    one = { key, casLost: 0, queued: 0, queuedMs: 0, heldMs: 0 }
    counts.set(key, one)
    return one
  }
  return {
    casLost(key) {
      const one = of(key, true)
      if (one) one.casLost++
    },
    queued(key, waitedMs) {
      const one = of(key, true)
      if (!one) return
      one.queued++
      one.queuedMs += waitedMs
    },
    held(key, heldMs) {
      const one = of(key, false)
      if (one) one.heldMs += heldMs
    },
    take() {
      const taken = [...counts.values()]
      counts = new Map()
      return taken
    },
  }
}

/** How many keys are looked at for one that carries no signal. */
const ROOM_LOOKS = 16

function makeRoom(counts: Map<AggregateKey, { readonly casLost: number; readonly queued: number }>): boolean {
  let looks = 0
  for (const [key, one] of counts) {
    if (one.casLost === 0 && one.queued === 0) return counts.delete(key)
    if (++looks >= ROOM_LOOKS) return false
  }
  return false
}
