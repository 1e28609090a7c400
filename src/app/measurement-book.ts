// Promises: the leader's book of what its gateways measured: spans for the judge, and the traffic of the last minutes by slot and key. A
// gateway that holds a lease and tells nothing is named, and then nothing of that span is judged: of its clients nothing is known (INV-10).
// A lease that is renewed no more is over for its gateway too (INV-8), so that a dead one is not waited for.
import { type ArmCounts, type Arms, mergeCounts, NO_COUNTS } from '../canary/arm-counts.ts'
import { type HotKey, HotKeys, type HotKeyWeight } from '../canary/hot-keys.ts'
import type { TrafficProfile } from '../canary/ramp.ts'
import { type KeySaturation, type KeyTraffic, saturation } from '../canary/saturation.ts'
import type { Clock } from '../lib/clock.ts'
import type { LeaseRow } from '../model/control.ts'
import type { LeaseId, Owner, SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import {
  HOT_BY_OTHERS_MAX,
  HOT_BY_REQUESTS_MAX,
  type MeasuredArm,
  type MeasuredHot,
  type MeasuredReport,
  OTHER_STATEMENTS,
} from '../model/measured.ts'
import type { Measurements } from './judging-parts.ts'
import { KeyWindow } from './key-window.ts'
import { type LostMeasurements, LostReports } from './lost-reports.ts'

export interface MeasurementBookOptions {
  /** As they were read last. */
  readonly leases: () => readonly LeaseRow[]
  /** Unrenewed for so long, it is over. */
  readonly leaseOverMs: number
  readonly slotOf: (key: AggregateKey) => SlotId
  readonly ownerOf: (slot: SlotId) => Owner | undefined
  /** Whether sessions queue for a key (`gateway.fifo`). */
  readonly queued: boolean
  readonly clock: Clock
}

/** Reports come once a second. */
export const SILENT_AFTER_MS = 5_000
const PROFILE_MS = 300_000
/** Long enough for bounds of a key with a commit every other second, short enough to see within minutes that the load has grown. */
const SATURATION_MS = 120_000
/** Several gateways, each with its own. */
const LABELS_MAX = 256

interface LeaseSeen {
  renewals: number
  renewedMs: number
  /** When it was first seen, or something came of it last. */
  heardMs: number
  hot: Readonly<Record<Owner, MeasuredHot>> | null
}

export class MeasurementBook implements Measurements {
  readonly #options: MeasurementBookOptions
  readonly #leases = new Map<LeaseId, LeaseSeen>()
  #span = new Map<string, Arms>()
  readonly #window: KeyWindow
  readonly #lost = new LostReports()

  constructor(options: MeasurementBookOptions) {
    this.#options = options
    this.#window = new KeyWindow({ nowMs: options.clock.monotonicMs(), keptMs: PROFILE_MS })
  }

  /** Of the gateway that holds this lease. */
  report(lease: LeaseId, report: MeasuredReport): void {
    const { clock, leases } = this.#options
    const nowMs = clock.monotonicMs()
    const gateway = leases().find((row) => row.lease === lease)?.gateway ?? `of lease ${lease}`
    this.#lost.add(lease, gateway, report, { nowMs: clock.nowMs(), monotonicMs: nowMs })
    for (const { label, source, target } of report.statements) this.#count(label, { control: countsOf(source), canary: countsOf(target) })
    this.#window.add(report, nowMs)
    const seen = this.#seen(lease, nowMs)
    seen.heardMs = nowMs
    if (report.hot !== null) seen.hot = report.hot
  }

  lost(): readonly LostMeasurements[] {
    return this.#lost.sums(this.#options.clock.monotonicMs())
  }

  takeSpan(): ReturnType<Measurements['takeSpan']> {
    const span = this.#span
    this.#span = new Map()
    const silent = this.#silent(this.#options.clock.monotonicMs())
    return { statements: silent.length > 0 ? null : Object.fromEntries(span), silent }
  }

  profile(): TrafficProfile {
    const { slots, keys } = this.#window.sums(this.#options.clock.monotonicMs(), PROFILE_MS)
    const hottest = [...keys].map(([key, { requests }]) => ({ key, slot: this.#options.slotOf(key), requests }))
    return { slots, keys: hottest.filter(({ requests }) => requests > 0).sort((a, b) => b.requests - a.requests) }
  }

  hotKeys(): ReturnType<Measurements['hotKeys']> {
    const arm = (owner: Owner) => ({
      requests: this.#merged(owner, 'requests').top(HOT_BY_REQUESTS_MAX),
      casRetries: this.#merged(owner, 'casRetries').top(HOT_BY_OTHERS_MAX),
      queueMs: this.#merged(owner, 'queueMs').top(HOT_BY_OTHERS_MAX),
    })
    return { source: arm('source'), target: arm('target') } satisfies Record<Owner, Record<HotKeyWeight, HotKey[]>>
  }

  saturation(growth: number): readonly KeySaturation[] {
    const { slotOf, ownerOf, queued, clock } = this.#options
    const { keys, holds, windowMs } = this.#window.sums(clock.monotonicMs(), SATURATION_MS)
    const traffic = [...keys].map(([key, { commits, targetCommits, retries, holds: own }]): KeyTraffic => {
      const moved = ownerOf(slotOf(key)) === 'target' ? { holds: own, commits: targetCommits, retries } : null
      return { key, arrivals: { count: commits, error: 0 }, moved }
    })
    return saturation({ windowMs, queued, keys: traffic, pool: holds, growth })
  }

  #merged(owner: Owner, weight: HotKeyWeight): HotKeys {
    const merged = new HotKeys()
    for (const { hot } of this.#leases.values()) {
      const sketch = HotKeys.fromPlain(hot?.[owner][weight])
      if (sketch !== null) merged.merge(sketch)
    }
    return merged
  }

  #count(label: string, arms: Arms): void {
    const name = this.#span.has(label) || this.#span.size < LABELS_MAX ? label : OTHER_STATEMENTS
    const before = this.#span.get(name)
    const merged =
      before === undefined ? arms : { canary: mergeCounts(before.canary, arms.canary), control: mergeCounts(before.control, arms.control) }
    this.#span.set(name, merged)
  }

  #seen(lease: LeaseId, nowMs: number): LeaseSeen {
    let seen = this.#leases.get(lease)
    if (seen === undefined) {
      seen = { renewals: -1, renewedMs: nowMs, heardMs: nowMs, hot: null }
      this.#leases.set(lease, seen)
    }
    return seen
  }

  /** Names of gateways that serve clients and have told nothing for too long. Forgets leases that are over. */
  #silent(nowMs: number): string[] {
    const silent = new Set<string>()
    const held = new Set<LeaseId>()
    for (const { lease, gateway, renewals, over } of this.#options.leases()) {
      if (over) continue
      const seen = this.#seen(lease, nowMs)
      if (seen.renewals !== renewals) {
        seen.renewals = renewals
        seen.renewedMs = nowMs
      }
      if (nowMs - seen.renewedMs > this.#options.leaseOverMs) {
        seen.hot = null
        // Kept while its row stands, so that it is not taken for a new one.
        held.add(lease)
        continue
      }
      held.add(lease)
      if (nowMs - seen.heardMs > SILENT_AFTER_MS) silent.add(gateway)
    }
    for (const [lease, { heardMs }] of this.#leases) {
      if (held.has(lease) || nowMs - heardMs <= SILENT_AFTER_MS) continue
      this.#leases.delete(lease)
      this.#lost.forget(lease)
    }
    return [...silent]
  }
}

function countsOf(arm: MeasuredArm | null): ArmCounts {
  if (arm === null) return NO_COUNTS
  const { requests, errors, buckets, counts } = arm
  return { requests, errors, wrongWrites: 0, latencies: { buckets, counts } }
}
