// Promises: says whether the way back has been written since this controller began (protocols.md, The flip, 1). Again and again it
// commits a write of the probe aggregate on the target, through the commit engine, under a lease of its own, and sees it come back in
// PostgreSQL. It tells the reverse sync of nothing: the entry is found in the outbox, its head read, its rows put, as after a crash.
// Unproven until then, and again when the last proof has grown old (INV-10).

import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { createExecutor } from '../commit/executor.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import { systemRandom } from '../lib/prng.ts'
import type { LeaseHandle } from '../model/executor.ts'
import { bucketOf, type OutboxId } from '../model/head.ts'
import type { Mapping } from '../model/mapping.ts'
import type { KeyedPlan } from '../model/plan.ts'
import type { Target } from '../model/target.ts'
import type { Session } from '../store/session.ts'
import { ownPlan } from './own-plan.ts'
import { PROBE_GROUP, PROBE_SLOT, probeMapping, probeOwnership } from './probe-mapping.ts'

export interface Probe {
  /** The aggregate's key, which is no key of the service. */
  readonly key: string
  readonly token: number
  proven(): boolean
  /** From the write's begin to its being seen in PostgreSQL, of the last one; null: none yet. */
  roundTripMs(): number | null
  /** True as soon as it is proven, false after so long. */
  awaitProven(ms: number, signal: AbortSignal): Promise<boolean>
  /** Where something may be on its way. */
  outboxes(): readonly OutboxId[]
  /** Runs until the signal aborts, and leaves nothing of older leaders' probes; what fails is told and tried again. */
  run(signal: AbortSignal): Promise<void>
}

export interface ProbeOptions {
  readonly session: Session
  /** Knows the probe's table (probe-mapping.ts). */
  readonly target: Target
  readonly mapping: Mapping
  readonly token: number
  readonly log: Pick<Logger, 'warn' | 'info'>
  readonly clock?: Clock
  readonly limits?: Partial<ProbeLimits>
}

export interface ProbeLimits {
  readonly everyMs: number
  /** A proof older than this is none. */
  readonly staleMs: number
  /** A write that has not come back by then is given up, and another one is sent. */
  readonly returnMs: number
  readonly lookMs: number
}

const LIMITS: ProbeLimits = { everyMs: 2_000, staleMs: 30_000, returnMs: 10_000, lookMs: 20 }
/** Buckets of an older leader's probe that are deleted: those its position had reached, and the one it may have written since. */
const BUCKETS_BEHIND_MAX = 8

export async function openProbe(options: ProbeOptions): Promise<Probe> {
  const [row] = await options.session.query('select id, n from switchback.probe')
  const outbox = { group: PROBE_GROUP, lease: `probe ${options.token}` }
  return new WayBackProbe(options, { key: row!['id']!, n: Number(row!['n']), outbox })
}

async function retireOlder({ session, target }: ProbeOptions, mine: string): Promise<void> {
  const older = await session.query('select lease, sequence from switchback.position where slot_group = $1 and lease <> $2', [
    PROBE_GROUP,
    mine,
  ])
  for (const row of older) {
    const last = bucketOf(Number(row['sequence']) + 1) + 1
    for (let bucket = Math.max(0, last - BUCKETS_BEHIND_MAX); bucket <= last; bucket++)
      await target.deleteBucket({ group: PROBE_GROUP, lease: row['lease']! }, bucket)
    await session.query('delete from switchback.position where slot_group = $1 and lease = $2', [PROBE_GROUP, row['lease']])
  }
}

class WayBackProbe implements Probe {
  readonly key: string
  readonly token: number
  readonly #options: ProbeOptions
  readonly #limits: ProbeLimits
  readonly #clock: Clock
  readonly #outbox: OutboxId
  readonly #came = new Signal()
  #n: number
  #underWay = false
  #provenAtMs: number | null = null
  #roundTripMs: number | null = null

  constructor(options: ProbeOptions, start: { readonly key: string; readonly n: number; readonly outbox: OutboxId }) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#clock = options.clock ?? systemClock
    this.key = start.key
    this.token = options.token
    this.#n = start.n
    this.#outbox = start.outbox
  }

  proven(): boolean {
    return this.#provenAtMs !== null && this.#clock.monotonicMs() - this.#provenAtMs < this.#limits.staleMs
  }

  roundTripMs(): number | null {
    return this.#roundTripMs
  }

  async awaitProven(ms: number, signal: AbortSignal): Promise<boolean> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(ms)])
    while (!deadline.aborted) {
      const next = this.#came.next(deadline)
      if (this.proven()) return true
      await next
    }
    return this.proven()
  }

  outboxes(): readonly OutboxId[] {
    return this.#underWay ? [this.#outbox] : []
  }

  async run(signal: AbortSignal): Promise<void> {
    const { target, mapping, log } = this.#options
    // Its lease is its lead: an older leader's is over by its token (probe-mapping.ts).
    const lease: LeaseHandle = { id: this.#outbox.lease, holds: () => !signal.aborted }
    const executor = createExecutor({
      target,
      mapping: probeMapping(mapping),
      clock: this.#clock,
      random: systemRandom,
      flights: { enter() {}, leave() {} },
      settled: { settled() {} },
      txnIds: randomUUID,
      limits: { commitDeadlineMs: this.#limits.returnMs },
    })
    const { tenure, base } = probeOwnership(this.token)
    const address = { key: this.key, slot: PROBE_SLOT, group: PROBE_GROUP, tenure, base }
    const env = { nowText: '', answers: [], uuid: randomUUID }
    let lost = 0
    let retired = false
    while (!signal.aborted) {
      const beganMs = this.#clock.monotonicMs()
      try {
        this.#underWay = true
        // With a target that is silent a leader leads all the same, so this waits here.
        if (!retired) await retireOlder(this.#options, this.#outbox.lease)
        retired = true
        await executor.autocommit(lease, address, planOf(this.key), [String(++this.#n)], env)
        const back = await this.#seen(this.#n, signal)
        if (back) {
          this.#provenAtMs = beganMs
          this.#roundTripMs = Math.round(this.#clock.monotonicMs() - beganMs)
          this.#underWay = false
          if (lost > 0) log.info({ lost }, 'the way back is proven again')
          lost = 0
          this.#came.notify()
        } else if (!signal.aborted && lost++ === 0) log.warn('a write of the probe has not come back through the reverse sync')
      } catch (error) {
        if (!signal.aborted && lost++ === 0) log.warn({ error: String(error) }, 'the probe of the way back could not be written')
      }
      await this.#clock.sleep(this.#limits.everyMs, signal)
    }
  }

  async #seen(n: number, signal: AbortSignal): Promise<boolean> {
    const deadlineMs = this.#clock.monotonicMs() + this.#limits.returnMs
    while (!signal.aborted && this.#clock.monotonicMs() < deadlineMs) {
      await this.#clock.sleep(this.#limits.lookMs, signal)
      const [row] = await this.#options.session.query('select n from switchback.probe where id = $1', [this.key])
      if (row !== undefined && Number(row['n']) >= n) return true
    }
    return false
  }
}

function planOf(key: string): KeyedPlan {
  return ownPlan({
    key,
    insertedRows: 1,
    reads: () => [],
    run: ([n]) => ({
      rows: [],
      commandTag: 'INSERT 0 1',
      changes: [{ table: 'switchback.probe', clustering: [], values: [key, n ?? null] }],
    }),
  })
}
