// Promises: what one gateway answered since its last report, on both arms: by statement, by slot, of the hottest keys by name; how long
// commits held their key on the target. Bounded, whatever comes in: what has no room is counted under one name, or in its slot alone.
import { HotKeyBoard, type HotKeys, type HotKeyWeight } from '../canary/hot-keys.ts'
import type { ContentionSink } from '../commit/contention.ts'
import type { Answered } from '../gateway/context.ts'
import type { Clock } from '../lib/clock.ts'
import { Histogram } from '../lib/histogram.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import { type AggregateKey, HASH_SLOTS } from '../model/key.ts'
import {
  HOT_BY_OTHERS_MAX,
  HOT_BY_REQUESTS_MAX,
  MEASURED_KEY_CHARACTERS_MAX,
  MEASURED_LABELS_MAX,
  type MeasuredArm,
  type MeasuredHolds,
  type MeasuredHot,
  type MeasuredKey,
  type MeasuredReport,
  type MeasuredSketch,
  OTHER_STATEMENTS,
} from '../model/measured.ts'

/** Nobody took a report for so long: all of it goes, and is told as lost. */
export const MEASURED_KEPT_MS = 60_000
/** Sketches are the dearest part of a report, and change slowly. */
export const HOT_TOLD_EVERY_MS = 5_000
/** A statement that did not run for so long makes room for others. */
const LABEL_IDLE_MS = 600_000

class ArmCounter {
  requests = 0
  errors = 0
  readonly latencies = new Histogram()

  take(): MeasuredArm | null {
    if (this.requests === 0) return null
    const { buckets, counts } = this.latencies.toPlain()
    const taken = { requests: this.requests, errors: this.errors, buckets, counts }
    this.requests = 0
    this.errors = 0
    this.latencies.clear()
    return taken
  }
}

/** Requests by slot: one addition a request, and a report costs what was touched. */
class SlotCounts {
  #counts = new Uint32Array(HASH_SLOTS)
  #touched: SlotId[] = []

  add(slot: SlotId): void {
    if (slot >= this.#counts.length) {
      // Slots of pinned keys are numbered from there on.
      const wider = new Uint32Array(2 ** Math.ceil(Math.log2(slot + 1)))
      wider.set(this.#counts)
      this.#counts = wider
    }
    const before = this.#counts[slot]!
    this.#counts[slot] = before + 1
    if (before === 0) this.#touched.push(slot)
  }

  take(): MeasuredReport['slots'] {
    const taken = this.#touched.map((slot) => [slot, this.#counts[slot]!] as const)
    for (const slot of this.#touched) this.#counts[slot] = 0
    this.#touched = []
    return taken
  }
}

interface StatementCounter {
  readonly source: ArmCounter
  readonly target: ArmCounter
  usedMs: number
}

type Changing<T> = { -readonly [K in keyof T]: T[K] }
interface KeyCounter {
  requests: number
  commits: number
  targetCommits: number
  retries: number
  readonly holds: Changing<MeasuredHolds>
}

export class ArmMeter implements ContentionSink {
  readonly #clock: Clock
  readonly #board: HotKeyBoard
  /** The board's own, at hand for each statement. */
  readonly #requests: Readonly<Record<Owner, HotKeys>>
  readonly #statements = new Map<string, StatementCounter>()
  readonly #slots = new SlotCounts()
  #holds = noHolds()
  #keys = new Map<AggregateKey, KeyCounter>()
  readonly #beganMs: number
  #sinceMs: number
  #hotDueMs: number
  #lostMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
    this.#beganMs = clock.monotonicMs()
    this.#sinceMs = this.#beganMs
    this.#hotDueMs = this.#sinceMs
    this.#board = new HotKeyBoard({ nowMs: this.#sinceMs })
    this.#requests = { source: this.#board.of('source', 'requests'), target: this.#board.of('target', 'requests') }
  }

  statement({ arm, label, key, slot, ms, failed, commits }: Answered): void {
    const counter = (this.#statements.get(label) ?? this.#newStatement(label))[arm]
    counter.requests++
    if (failed) counter.errors++
    counter.latencies.record(ms)
    this.#slots.add(slot)
    if (key.length > MEASURED_KEY_CHARACTERS_MAX) return
    this.#requests[arm].record(key)
    const own = this.#keys.get(key)
    if (own === undefined) return
    own.requests++
    if (!commits) return
    own.commits++
    if (arm === 'target') own.targetCommits++
  }

  casLost(key: AggregateKey): void {
    this.#weigh(key, 'casRetries', 1)
    const own = this.#keys.get(key)
    if (own !== undefined) own.retries++
  }

  queued(key: AggregateKey, waitedMs: number): void {
    this.#weigh(key, 'queueMs', waitedMs)
  }

  held(key: AggregateKey, heldMs: number): void {
    addHold(this.#holds, heldMs)
    const own = this.#keys.get(key)
    if (own !== undefined) addHold(own.holds, heldMs)
  }

  /** Everything since the last call. */
  take(): MeasuredReport {
    const nowMs = this.#clock.monotonicMs()
    this.#board.pass(nowMs)
    const statements = [...this.#statements].flatMap(([label, counters]) => {
      const [source, target] = [counters.source.take(), counters.target.take()]
      if (source === null && target === null) return []
      counters.usedMs = nowMs
      return [{ label, source, target }]
    })
    const hot = nowMs < this.#hotDueMs ? null : { source: this.#hot('source'), target: this.#hot('target') }
    // The first keys are told at once.
    if (hot !== null && namesIn(hot).length > 0) this.#hotDueMs = nowMs + HOT_TOLD_EVERY_MS
    const report: MeasuredReport = {
      overMs: nowMs - this.#sinceMs,
      fromMs: this.#sinceMs - this.#beganMs,
      lostMs: this.#lostMs,
      statements,
      slots: this.#slots.take(),
      holds: this.#holds,
      keys: [...this.#keys].flatMap(([key, own]): MeasuredKey[] =>
        own.requests + own.holds.commits + own.retries > 0 ? [{ key, ...own }] : [],
      ),
      hot,
    }
    this.#begin(nowMs, hot)
    this.#lostMs = 0
    return report
  }

  /** No one can be told now: what is too old is let go. */
  keep(): void {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#sinceMs <= MEASURED_KEPT_MS) return
    const lostMs = this.#lostMs + nowMs - this.#sinceMs
    this.take()
    this.#lostMs = lostMs
  }

  #begin(nowMs: number, hot: MeasuredReport['hot']): void {
    this.#sinceMs = nowMs
    this.#holds = noHolds()
    this.#keys = new Map((hot === null ? [...this.#keys.keys()] : namesIn(hot)).map((key) => [key, noActivity()]))
    if (this.#statements.size < MEASURED_LABELS_MAX - 1) return
    for (const [label, { usedMs }] of this.#statements) if (nowMs - usedMs > LABEL_IDLE_MS) this.#statements.delete(label)
  }

  #newStatement(label: string): StatementCounter {
    const name = this.#statements.size < MEASURED_LABELS_MAX - 1 ? label : OTHER_STATEMENTS
    let counter = this.#statements.get(name)
    if (counter === undefined) {
      counter = { source: new ArmCounter(), target: new ArmCounter(), usedMs: this.#sinceMs }
      this.#statements.set(name, counter)
    }
    return counter
  }

  #weigh(key: AggregateKey, weight: HotKeyWeight, by: number): void {
    if (key.length <= MEASURED_KEY_CHARACTERS_MAX) this.#board.of('target', weight).record(key, by)
  }

  #hot(arm: Owner): MeasuredHot {
    const told = (weight: HotKeyWeight, most: number): MeasuredSketch | null => {
      const sketch = this.#board.of(arm, weight)
      return sketch.size === 0 ? null : sketch.toPlain({ most, nameOf: (key) => key })
    }
    return {
      requests: told('requests', HOT_BY_REQUESTS_MAX),
      casRetries: told('casRetries', HOT_BY_OTHERS_MAX),
      queueMs: told('queueMs', HOT_BY_OTHERS_MAX),
    }
  }
}

function namesIn(hot: Readonly<Record<Owner, MeasuredHot>>): AggregateKey[] {
  const sketches = Object.values(hot).flatMap(({ requests, casRetries, queueMs }) => [requests, casRetries, queueMs])
  return sketches.flatMap((sketch) => sketch?.keys.map(([key]) => key) ?? [])
}

function noHolds(): Changing<MeasuredHolds> {
  return { commits: 0, sumMs: 0, sumSquaresMs: 0, maxMs: 0 }
}

function noActivity(): KeyCounter {
  return { requests: 0, commits: 0, targetCommits: 0, retries: 0, holds: noHolds() }
}

function addHold(holds: Changing<MeasuredHolds>, heldMs: number): void {
  if (!(heldMs >= 0 && heldMs < Number.POSITIVE_INFINITY)) return
  holds.commits++
  holds.sumMs += heldMs
  holds.sumSquaresMs += heldMs * heldMs
  if (heldMs > holds.maxMs) holds.maxMs = heldMs
}
