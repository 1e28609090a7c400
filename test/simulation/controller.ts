// Promises: a controller process: it takes the lead as store/leadership.ts does, resumes what a dead leader left open, and carries out the
// operator's orders with the product's flip, syncs, drain and tenure reader.

import { flipWaiting, giveUp, type Waiting } from '../../src/app/flip-waiting.ts'
import { readOnlyFirst, setReadOnly } from '../../src/app/read-only.ts'
import { type StandbyWatch, watchStandbys } from '../../src/app/standby-watch.ts'
import type { TargetAnswers } from '../../src/app/target-answers.ts'
import type { FlipParts } from '../../src/flip/parts.ts'
import { resumeFlips, runFlip } from '../../src/flip/run-flip.ts'
import { awaitAcks } from '../../src/flip/waits.ts'
import { Signal } from '../../src/lib/latch.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import { hasCode, SwitchbackError } from '../../src/model/errors.ts'
import { formatLsn, type Owner, type SlotId } from '../../src/model/ids.ts'
import type { RoutingView } from '../../src/model/ownership.ts'
import { runForward } from '../../src/sync/forward.ts'
import { createReverseSync, type ReverseSync } from '../../src/sync/reverse.ts'
import type { OutboxPosition } from '../../src/sync/reverse-parts.ts'
import { createTenureReader } from '../../src/sync/tenure-reader.ts'
import { MAPPING } from '../commit/fake-plans.ts'
import { mustBeApplied, observation, verified } from './checks.ts'
import { leaderControl, type SimulatedLeader, viewOf } from './control.ts'
import type { Step } from './coverage.ts'
import type { Host } from './kernel.ts'
import { ORIGIN, openStream, reverseApplier } from './leader-parts.ts'
import { linkedAnswers } from './linked-answers.ts'
import { linkedTarget } from './linked-target.ts'
import { type Job, PgError } from './postgres-parts.ts'
import { Connection, ConnectionLost } from './sessions.ts'
import { STANDBY, STANDBY_LOST_MS } from './standby.ts'
import { ENTRIES_PER_BUCKET, LEASE, SLOT_GROUPS, type World } from './world.ts'

const LEADER_LOST_MS = 400
const BEAT_MS = 80
const WATCH_MS = 100
const REFRESH_MS = 90
const FLIP_DEADLINE_MS = 2_500
const JOB_RETRY_MS = 60
const VERIFY_MS = 8
const READ_ONLY_MS = 250

/** What a gateway's feed finds at the other end. */
export interface Lead {
  readonly host: Host
  readonly reverse: ReverseSync
  readonly ended: boolean
}

export class Controller {
  readonly name: string
  readonly world: World
  host: Host
  lead: Lead | null = null
  /** Tells gateways of durable positions. */
  onPositions: (positions: readonly OutboxPosition[]) => void = () => undefined

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
    this.host = world.kernel.host(name)
    this.start()
  }

  start(): void {
    this.host = this.world.kernel.host(this.name)
    this.lead = null
    this.world.kernel.told(this.name, () => 'starts')
    void this.#run(this.host)
  }

  crash(): void {
    const { kernel, postgres } = this.world
    kernel.told(this.name, () => 'kill -9')
    const { host } = this
    host.dead = true
    this.lead = null
    postgres.clientDied(host)
  }

  async #run(host: Host): Promise<void> {
    const { kernel } = this.world
    for (;;) {
      await kernel.sleep(host, kernel.between(5, WATCH_MS))
      try {
        const lead = await this.#takeToken(host)
        if (lead !== null) await this.#leadUntilLost(host, lead)
      } catch (error) {
        if (!isWeather(error)) kernel.violated('bug', String(error instanceof Error ? error.stack : error))
      }
    }
  }

  /** As store/leadership.ts: a heart that stood still for long is dead; its backends end before the token rises, and after. */
  async #takeToken(host: Host): Promise<{ token: number; connection: Connection } | null> {
    const { kernel, postgres } = this.world
    const clock = kernel.clock(host)
    const connection = await Connection.open(kernel, postgres, host, 'standby')
    const beats = () =>
      connection.call(async (backend) => postgres.step(backend).then(() => ({ beats: postgres.beats, token: postgres.token })))
    try {
      const first = await beats()
      const deadline = clock.monotonicMs() + LEADER_LOST_MS
      const leads = () => [...postgres.backends].some(({ applicationName }) => applicationName === `leader ${first.token} lead`)
      while (clock.monotonicMs() < deadline && first.token > 0 && leads()) {
        await kernel.sleep(host, WATCH_MS)
        const now = await beats()
        if (now.beats !== first.beats || now.token !== first.token) {
          connection.close()
          return null
        }
      }
      const token = await connection.call(async (backend) => {
        this.#endOlder(first.token)
        await postgres.step(backend)
        if (postgres.token !== first.token) return null
        const raised = await postgres.raiseToken(backend)
        backend.applicationName = `leader ${raised} lead`
        this.#endOlder(raised - 1)
        return raised
      })
      if (token === null) {
        connection.close()
        return null
      }
      kernel.told(this.name, () => `leads with token ${token}`)
      return { token, connection }
    } catch (error) {
      connection.close()
      throw error
    }
  }

  #endOlder(upTo: number): void {
    const { postgres } = this.world
    for (const backend of [...postgres.backends]) {
      const token = /^leader (\d+) /.exec(backend.applicationName)?.[1]
      if (token !== undefined && Number(token) <= upTo) postgres.terminate(backend)
    }
  }

  async #leadUntilLost(host: Host, { token, connection }: { token: number; connection: Connection }): Promise<void> {
    const { kernel, postgres } = this.world
    const lost = new AbortController()
    const control = leaderControl(this.world, host, token)
    const applier = reverseApplier(this.world, host, token)
    const beat = async () => {
      while (!lost.signal.aborted) {
        await connection.call(async (backend) => {
          await postgres.step(backend)
          if (postgres.token !== token) throw new PgError('TOKEN_STALE', 'another controller leads')
          postgres.beats++
        })
        await kernel.sleep(host, BEAT_MS)
      }
    }
    const work = [beat()]
    try {
      const standbys = await this.#standbys(host, control)
      const parts = new LeaderParts({ world: this.world, host, control, applier, standbys, onPositions: (p) => this.onPositions(p) })
      work.push(parts.run(lost.signal))
      // With none named it has nothing to do, and ends at once.
      if (this.world.standby !== null) work.push(standbys.run(lost.signal))
      this.lead = { host, reverse: parts.reverse, ended: false }
      await Promise.race(work)
    } finally {
      lost.abort()
      if (this.lead !== null && this.lead.host === host) this.lead = null
      control.session.close()
      applier.close()
      connection.close()
      await Promise.allSettled(work)
      kernel.told(this.name, () => `leads no more (token ${token})`)
    }
  }

  #standbys(host: Host, control: SimulatedLeader): Promise<StandbyWatch> {
    const { kernel, standby } = this.world
    const told = ({ standby: name }: { standby: string }, what: string) => kernel.told(this.name, () => `${name}: ${what}`)
    const source = { urlEnv: '', standbys: standby === null ? [] : [STANDBY], standbyLostMs: STANDBY_LOST_MS }
    return watchStandbys({ source, control, clock: kernel.clock(host), log: { warn: told, info: told } as never })
  }
}

interface LeaderOptions {
  readonly world: World
  readonly host: Host
  readonly control: SimulatedLeader
  readonly applier: ReturnType<typeof reverseApplier>
  readonly standbys: StandbyWatch
  readonly onPositions: (positions: readonly OutboxPosition[]) => void
}

/** One lead. */
class LeaderParts {
  readonly reverse: ReverseSync
  readonly #options: LeaderOptions
  readonly #markers = new Set<string>()
  readonly #marked = new Signal()
  readonly #woken = new Signal()
  readonly #answers: TargetAnswers
  #view: RoutingView
  #leases: readonly LeaseRow[] = []

  constructor(options: LeaderOptions) {
    const { world, host, applier, standbys } = options
    this.#options = options
    this.#view = viewOf(world.postgres)
    options.control.onLeaseChange(() => this.#woken.notify())
    this.#answers = linkedAnswers(world, host, () => this.#view)
    this.reverse = createReverseSync({
      target: linkedTarget(world, host, 'sync'),
      applier,
      leases: () => this.#leases,
      slotGroups: SLOT_GROUPS,
      view: () => this.#view,
      refreshView: () => void this.#refresh().catch(() => undefined),
      onPositions: options.onPositions,
      awaitFlushed: (signal) => standbys.awaitFlushed(signal),
      onAlarm: (alarm) => {
        if (alarm.kind === 'contradiction') world.kernel.violated('INV-6', alarm.because)
      },
      limits: {
        tickMs: 25,
        feedGraceMs: 40,
        holeGraceMs: 40,
        pollFeedAliveMs: 800,
        pollFeedDeadMs: 80,
        // A leader may die before it has saved that it read an outbox to its end.
        positionsSaveMs: world.kernel.oneOf([20, 120]),
        outboxPageEntries: 8,
        applyBatchMax: 6,
        applyRunMax: 3,
        copiesWaitMs: 100,
        entriesPerBucket: ENTRIES_PER_BUCKET,
        backoff: { firstMs: 5, capMs: 80 },
      },
      clock: world.kernel.clock(host),
      random: world.kernel.random,
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const end = () => stop.abort()
    signal.addEventListener('abort', end, { once: true })
    await this.#refresh()
    const until = stop.signal
    const parts = [this.#forward(until), this.reverse.run(until), this.#keepFresh(until), this.#answers.run(until), this.#jobs(until)]
    try {
      await Promise.race(parts)
    } finally {
      stop.abort()
      await Promise.allSettled(parts)
    }
  }

  async #refresh(): Promise<void> {
    const { control } = this.#options
    const [view, leases] = await Promise.all([control.view(), control.leases()])
    if (view.epoch >= this.#view.epoch) this.#view = view
    this.#leases = leases
  }

  async #keepFresh(signal: AbortSignal): Promise<void> {
    const { world, host } = this.#options
    while (!signal.aborted) {
      await this.#refresh().catch(endsLead)
      await world.kernel.sleep(host, REFRESH_MS)
    }
  }

  async #forward(signal: AbortSignal): Promise<void> {
    const { world, host, control } = this.#options
    const { kernel, postgres } = world
    while (!signal.aborted) {
      try {
        const tenures = await createTenureReader({ control })
        const stream = await openStream(kernel, postgres, host, control.token, (from, to) => mustBeApplied(world, from, to))
        try {
          await runForward(
            {
              stream,
              target: linkedTarget(world, host, 'sync'),
              mapping: MAPPING,
              tenures,
              ownOrigins: new Set([ORIGIN]),
              onMarker: (content) => {
                this.#markers.add(content)
                this.#marked.notify()
              },
              onViolation: async ({ key, commitLsn }) =>
                kernel.violated('INV-1', `the stream has a write to ${key} at ${formatLsn(commitLsn)}, in a tenure of the target`),
              limits: {
                batchRowsMax: 4,
                batchesInFlightMax: 4,
                pendingRowsMax: 40,
                transactionsPendingMax: 40,
                backoff: { firstMs: 5, capMs: 80 },
              },
              clock: kernel.clock(host),
              random: kernel.random,
            },
            signal,
          )
        } finally {
          await stream.close()
        }
      } catch (error) {
        if (!isWeather(error)) kernel.violated('bug', String(error instanceof Error ? error.stack : error))
        endsLead(error)
      }
      await kernel.sleep(host, 30)
    }
  }

  async #passed(marker: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const next = this.#marked.next(signal)
      if (this.#markers.has(marker) || signal.aborted) return
      await next
    }
  }

  #flipParts(cancelAt: string | null, cancel: () => void): FlipParts {
    const { world, host, control, standbys } = this.#options
    const { kernel } = world
    let ended = () => {}
    return {
      control,
      passed: (marker, signal) => this.#passed(marker, signal),
      drain: (slots, leases, signal) => this.reverse.drain(slots, leases, signal),
      targetAnswers: (signal) => this.#answers.ask(signal),
      drainHeld: (request, signal) => this.reverse.drainHeld(request, signal),
      // An old leader that wakes late may look at anything: its commit is refused.
      verify: async (slots) => {
        await control.view()
        await kernel.sleep(host, kernel.between(0, VERIFY_MS))
        return verified(world, control.token === world.postgres.token ? slots : [])
      },
      standbys,
      recordOwner: async () => undefined,
      nextWake: (signal) => this.#woken.next(signal),
      observe: async (_, slots) => {
        const [view, leases, open] = await Promise.all([control.view(), control.leases(), control.openFlips()])
        return observation(
          slots,
          view,
          leases,
          open.map(({ id }) => id),
        )
      },
      onStep: ({ flip, step, phase }) => {
        ended()
        if (phase === 'begin') ended = world.coverage.begun(`flip: ${step}` as Step, host)
        if (phase === 'begin' || step === 'cancel') kernel.told(host.name, () => `${flip ?? 'flip'}: ${step}`)
        if (phase === 'begin' && step === cancelAt) cancel()
      },
      clock: kernel.clock(host),
      limits: {
        flipDeadlineMs: FLIP_DEADLINE_MS,
        forwardLagMaxMs: 1_000,
        lease: { lengthMs: LEASE.lengthMs, marginMs: LEASE.lengthMs * LEASE.marginRatio },
        pollMs: 40,
        routeDeadlineMs: 800,
      },
    }
  }

  async #jobs(signal: AbortSignal): Promise<void> {
    const { world, host } = this.#options
    const { kernel, postgres } = world
    let resumed = false
    while (!signal.aborted) {
      await kernel.sleep(host, kernel.between(10, JOB_RETRY_MS))
      try {
        if (!resumed)
          await resumeFlips(
            this.#flipParts(null, () => undefined),
            signal,
          )
        resumed = true
        const job = postgres.jobs.find(({ state }) => state === 'open')
        if (job !== undefined) await this.#carryOut(job, signal)
      } catch (error) {
        if (hasCode(error, 'FLIP_NOTHING_TO_DO') || hasCode(error, 'FLIP_CANCELLED') || hasCode(error, 'FLIP_NOT_READY')) continue
        if (error instanceof SwitchbackError && error.kind !== 'bug') {
          endsLead(error)
          // What was open stays in the journal: it is taken up as a new leader would.
          resumed = false
          continue
        }
        throw error
      }
    }
  }

  /** As app/move-runner.ts: what cannot go without the target goes when it answers. */
  async #flipAll(parts: FlipParts, to: Owner, slots: readonly SlotId[], signal: AbortSignal): Promise<void> {
    const waiting: Waiting[] = []
    const flipped = ({ waiting: rest }: Awaited<ReturnType<typeof runFlip>>) => {
      if (rest !== null) waiting.push(rest)
    }
    try {
      flipped(await runFlip(parts, to, slots, signal))
      const flipAgain = async (rest: readonly SlotId[]) => flipped(await runFlip(parts, to, rest, signal))
      await flipWaiting({ flips: parts, tell: async () => undefined, flipAgain }, waiting, signal)
    } finally {
      await giveUp(parts, waiting)
    }
  }

  /** As app/debts.ts, but for the repair: in this world no row is ever lost by the store itself. */
  async #paid(slots: readonly SlotId[]): Promise<boolean> {
    const { world, control } = this.#options
    const owed = (await control.debts()).filter(({ slot }) => slots.includes(slot))
    if (owed.length === 0) return true
    const { postgres } = world
    // Everything before this is on the target.
    if (postgres.confirmed < (postgres.wal.at(-1)?.endLsn ?? 0n)) return false
    if (world.kernel.chance(0.5)) verified(world, slots)
    await control.settleDebts(owed)
    return true
  }

  /** As app/job-loop.ts. */
  async #window(job: Job, signal: AbortSignal): Promise<void> {
    const { world, host } = this.#options
    const parts = this.#flipParts(null, () => undefined)
    await setReadOnly(parts, job.slots, true, signal)
    this.#inForce(job.slots)
    await world.kernel.sleep(host, world.kernel.between(0, READ_ONLY_MS))
    if (signal.aborted) return
    await setReadOnly(parts, job.slots, false, signal)
    this.#done(job)
  }

  /** As jobs.end of the store: an old leader ends no order, which a new one may have begun anew. */
  #done(job: Job): void {
    const { world, control } = this.#options
    if (control.token === world.postgres.token) job.state = 'done'
  }

  /** Said by who leads, of what nobody has taken back since. */
  #inForce(slots: readonly SlotId[]): void {
    const { world, control } = this.#options
    const { postgres } = world
    if (control.token !== postgres.token) return
    for (const slot of slots) if (postgres.owned(slot).readOnly) postgres.closed.add(slot)
  }

  async #carryOut(job: Job, signal: AbortSignal): Promise<void> {
    if (job.readOnly === 'window') return this.#window(job, signal)
    const { world, control } = this.#options
    const { kernel, postgres } = world
    const slots = job.slots.filter((slot) => postgres.owned(slot).owner !== job.to)
    if (slots.length === 0) {
      // A leader may have died between its last flip and the end of read-only.
      const parts = this.#flipParts(null, () => undefined)
      if (job.slots.some((slot) => postgres.owned(slot).readOnly)) await setReadOnly(parts, job.slots, false, signal)
      this.#done(job)
      return
    }
    const stop = new AbortController()
    const end = () => stop.abort()
    signal.addEventListener('abort', end, { once: true })
    const steps = ['park', 'fence', 'drain', 'verify']
    const cancelAt = job.cancels ? kernel.oneOf(steps) : null
    const parts = this.#flipParts(cancelAt, () => stop.abort())
    try {
      // As app/arming.ts: leases of processes that died before they acked are called over.
      if (job.to === 'target' && (await awaitAcks(parts, await control.bind(), stop.signal, () => undefined)) === null) return
      if (job.to === 'target' && !(await this.#paid(slots))) return
      if (job.readOnly === 'first') {
        await readOnlyFirst(parts, { all: job.slots, onTarget: slots }, async () => undefined, stop.signal)
        if (!stop.signal.aborted) this.#inForce(job.slots)
      }
      await this.#flipAll(parts, job.to, slots, stop.signal)
      if (job.readOnly === 'first') await setReadOnly(parts, job.slots, false, stop.signal)
      this.#done(job)
    } catch (error) {
      // Cancelled as it was meant to be: the order is done with.
      if (hasCode(error, 'FLIP_CANCELLED') && job.cancels) this.#done(job)
      throw error
    } finally {
      signal.removeEventListener('abort', end)
    }
  }
}

/** Of the world, not of the code. */
function isWeather(error: unknown): boolean {
  return error instanceof ConnectionLost || error instanceof PgError || (error instanceof SwitchbackError && error.kind !== 'bug')
}

/** Another leader ends this lead; anything else passes. */
function endsLead(error: unknown): void {
  if (hasCode(error, 'TOKEN_STALE')) throw error
}
