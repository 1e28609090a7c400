// Promises: a controller process: stands by until it leads, leads until it does not, and begins again. One leader at a time; what a
// dead one left open is taken up first (INV-7).
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { resumeFlips } from '../flip/run-flip.ts'
import { systemClock } from '../lib/clock.ts'
import { inTime, LATE } from '../lib/in-time.ts'
import { Signal } from '../lib/latch.ts'
import { systemRandom } from '../lib/prng.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Mapping } from '../model/mapping.ts'
import type { Target } from '../model/target.ts'
import { targetReader } from '../parity/target-reader.ts'
import { createApplierRole } from '../source/applier-role.ts'
import { sourceParityReader } from '../source/parity-reader.ts'
import { createSource } from '../source/postgres-source.ts'
import { createReverseApplier, type PostgresReverseApplier } from '../source/reverse-applier.ts'
import { isFinal } from '../store/final.ts'
import { createJobs, type Job } from '../store/jobs.ts'
import { type PostgresLeaderControl, takeLead } from '../store/leader-control.ts'
import { leaderApplicationName } from '../store/leadership.ts'
import { trimLeases } from '../store/lease-history.ts'
import { readParked } from '../store/parked.ts'
import { writeReport } from '../store/reports.ts'
import { controlConnector } from '../store/session.ts'
import { arm } from './arming.ts'
import { payDebts } from './debts.ts'
import { type FinalizeParts, finalize, leadFinal } from './finalize.ts'
import { flipParts } from './flip-parts.ts'
import { runJobs } from './job-loop.ts'
import { type LeaderJudge, openLeaderJudge } from './leader-judge.ts'
import { runLeaderRamps } from './leader-ramps.ts'
import { applierRoleOf, originNameOf, slotNameOf } from './names.ts'
import { openWorkspaceTarget } from './open-parts.ts'
import { type OwnerRecord, openOwnerRecord } from './owner-record.ts'
import { openProbe, type Probe } from './probe.ts'
import { PROBE_SLOT, withProbe } from './probe-mapping.ts'
import { slotsOnTarget } from './slots-on-target.ts'
import { openSourceQuery } from './source-query.ts'
import { type StandbyWatch, watchStandbys } from './standby-watch.ts'
import { openSyncs, type Syncs } from './syncs.ts'
import { createTargetAnswers, isSilence, type TargetAnswers } from './target-answers.ts'
import { checkRecentRows, type VerifyParts } from './verify-slots.ts'
import { walBudgetOf, watchWalBudget } from './wal-budget.ts'
import { reopenWorkspace, type Workspace } from './workspace.ts'

export interface ControllerOptions {
  readonly workspace: Workspace
  readonly env: NodeJS.ProcessEnv
  readonly name: string
  readonly log: Logger
  /** Told when it begins to lead. */
  readonly onLead?: (token: number) => void
  /** Told when another one leads. */
  readonly onStandby?: () => void
  readonly signal: AbortSignal
}

/** How long a new leader of a move that has begun waits for the target. */
const TARGET_WAIT_MS = 2_000
const STANDBY_LOOK_MS = 250
const AFTER_FAILURE_MS = 500
const REPORT_MS = 250
const SLOTS_PER_FLIP = 256
const ORIGIN_WAIT_MS = 50
const ORIGIN_TRIES_MAX = 100
const PARITY_SEGMENTS = 2
const LEASES_TRIM_MS = 30_000
const PROBE_WAIT_MS = 10_000

export async function runController(options: ControllerOptions): Promise<void> {
  const { workspace, log, signal, name } = options
  const connect = controlConnector({ connectionString: workspace.url })
  let standing = false
  // What is wrong with the environment at the start is the operator's to mend; later it is weather.
  let served = false
  while (!signal.aborted) {
    const lost = new AbortController()
    try {
      const control = await takeLead({ connect, name, onLost: (error) => lost.abort(error) })
      if (control === null) {
        if (!standing) log.info('another controller leads; this one stands by')
        if (!standing) options.onStandby?.()
        standing = true
        served = true
        await systemClock.sleep(STANDBY_LOOK_MS, signal)
        continue
      }
      standing = false
      log.info({ token: control.token }, 'this controller leads')
      const onLead = (token: number) => {
        served = true
        options.onLead?.(token)
      }
      await leadOn({ ...options, onLead }, control, AbortSignal.any([signal, lost.signal])).finally(() => control.close())
    } catch (error) {
      if (!served && error instanceof SwitchbackError && error.kind === 'operator') throw error
      log.warn(
        { error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
        'this controller leads no more; it begins again',
      )
      await systemClock.sleep(AFTER_FAILURE_MS, signal)
    }
  }
}

async function leadOn(begun: ControllerOptions, control: PostgresLeaderControl, signal: AbortSignal): Promise<void> {
  // Once keys may have moved, a target that is silent keeps no leader from leading the way back.
  const bound = (await control.view()).bindingEpoch !== null
  const workspace = await reopenWorkspace(begun.workspace)
  const options = { ...begun, workspace }
  const { log } = options
  const mapping = withProbe(workspace.mapping)
  const silent = bound ? { silentAfterMs: TARGET_WAIT_MS } : {}
  const target = await openWorkspaceTarget({ ...workspace, mapping }, options.env, silent).catch(async (error: unknown) => {
    await workspace.close()
    throw error
  })
  let applier: PostgresReverseApplier | null = null
  let syncs: Syncs | null = null
  try {
    if (await isFinal(workspace.session)) {
      options.onLead?.(control.token)
      return await leadFinal({ workspace, control, target }, signal)
    }
    await prepared(target, mapping, bound, log)
    applier = await openApplier(workspace, control.token)
    const source = createSource({
      url: workspace.url,
      mapping: workspace.mapping,
      migration: workspace.config.migration,
      clock: systemClock,
      streamApplicationName: leaderApplicationName(control.token, 'stream'),
    })
    const ownOrigins = new Set([originNameOf(workspace.config.migration)])
    const probe = await openProbe({ session: workspace.session, target, mapping, token: control.token, log: options.log })
    const standbys = await watchStandbys({ source: workspace.config.source, control, clock: systemClock, log: options.log })
    const ownerRecord = openOwnerRecord({
      session: workspace.session,
      control,
      target,
      clock: systemClock,
      random: systemRandom,
      log: options.log,
    })
    await ownerRecord.check()
    syncs = await openSyncs({ workspace, control, source, target, applier, ownOrigins, probe, standbys, log: options.log })
    options.onLead?.(control.token)
    await workAsLeader(options, { control, syncs, store: target, probe, standbys, ownerRecord }, signal)
  } finally {
    await syncs?.close()
    await applier?.close()
    await target.close()
    await workspace.close()
  }
}

/** Once keys may have moved, the tables are there. */
async function prepared(target: Target, mapping: Mapping, bound: boolean, log: Logger): Promise<void> {
  if (!bound) return target.prepare(mapping)
  const silent = () => log.warn('the target does not answer; this controller leads without it')
  const preparing = target.prepare(mapping).catch((error: unknown) => {
    if (!isSilence(error)) throw error
    silent()
  })
  if ((await inTime(systemClock, TARGET_WAIT_MS, preparing)) === LATE) silent()
}

interface Led {
  readonly control: PostgresLeaderControl
  readonly syncs: Syncs
  readonly store: Target
  readonly probe: Probe
  readonly standbys: StandbyWatch
  readonly ownerRecord: OwnerRecord
}

async function workAsLeader(options: ControllerOptions, led: Led, signal: AbortSignal): Promise<void> {
  const { workspace, log } = options
  const { control, syncs, store, probe, standbys, ownerRecord } = led
  const query = openSourceQuery({ url: workspace.url, applicationName: leaderApplicationName(control.token, 'verify') })
  const target = targetReader(store, PARITY_SEGMENTS)
  const verify: VerifyParts = { mapping: workspace.mapping, source: sourceParityReader(query.query), target, recent: syncs.recent }
  const answers = targetAnswersOf(led)
  const parts = flipParts({
    workspace,
    control,
    syncs,
    standbys,
    ownerRecord,
    verify,
    answers,
    wayBackProven: () => probe.proven(),
    onStep: ({ flip, step, phase, detail }) => log.info({ flip, step, phase, detail }, 'flip'),
  })
  const judge = await openLeaderJudge({
    workspace,
    token: control.token,
    target: store,
    measurements: syncs.measurements,
    view: () => syncs.view(),
    reverseLagMs: () => syncs.reverse.progress().oldestMs,
    differs: (row) => syncs.recent.changed(row),
    log,
  })
  const stop = new AbortController()
  const onAbort = () => stop.abort()
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) stop.abort()
  const ended = new AbortController()
  const untilFinal = AbortSignal.any([stop.signal, ended.signal])
  const work = [
    syncs.run(stop.signal),
    standbys.run(stop.signal),
    probe.run(untilFinal),
    answers.run(untilFinal),
    judge.run(untilFinal),
    runLeaderRamps({ workspace, control, measurements: syncs.measurements, judge: judge.judging, keyName: judge.keyName, log }, untilFinal),
    keepLeasesFew(workspace, control.token, stop.signal),
    report(workspace, control.token, { syncs, probe, judge }, stop.signal),
    watchWalBudget(
      {
        ...walBudgetOf(workspace.config.source),
        session: workspace.session,
        control,
        slotName: slotNameOf(workspace.config.migration),
        clock: systemClock,
        log,
      },
      stop.signal,
    ),
    checkRecentRows(
      verify,
      {
        clock: systemClock,
        onDrift: (text, row) => {
          log.error({ row: text }, 'DRIFT: a row stands still and differs')
          judge.suspect(row.key)
        },
        onFailed: (error) => log.warn({ error: String(error) }, 'rows could not be compared; tried again'),
      },
      stop.signal,
    ),
    takeOrders(
      { workspace, control, syncs, flips: parts, target: store, against: () => judge.judging.against(), onFinal: () => ended.abort() },
      { probe, judge, log },
      stop.signal,
    ),
  ]
  try {
    await Promise.all(work)
  } finally {
    stop.abort()
    await Promise.allSettled(work)
    await judge.close()
    await query.close()
    signal.removeEventListener('abort', onAbort)
  }
}

function targetAnswersOf({ store, probe, syncs }: Led): TargetAnswers {
  const onTarget = slotsOnTarget(() => syncs.view())
  return createTargetAnswers({ target: store, key: probe.key, clock: systemClock, watched: () => onTarget() > 0 })
}

interface OrderParts {
  readonly probe: Probe
  readonly judge: LeaderJudge
  readonly log: Logger
}

/** First what a dead leader left open, then orders. */
async function takeOrders(parts: FinalizeParts, { probe, judge, log }: OrderParts, signal: AbortSignal): Promise<void> {
  const { workspace, control, flips, target } = parts
  for (const flip of await resumeFlips(flips, signal))
    log.info({ flip: flip.id, state: flip.state }, 'a flip that was left open is settled')
  const applierRole = applierRoleOf(workspace.config.migration)
  const placed = new Signal()
  const off = control.onOrder(() => placed.notify())
  const orders = {
    nextOrder: (wait: AbortSignal) => placed.next(wait),
    jobs: createJobs(workspace.session),
    token: control.token,
    flips,
    parked: (ids: readonly string[]) => readParked(workspace.session, ids),
    slotsPerFlip: workspace.config.controller?.slotsPerFlip ?? SLOTS_PER_FLIP,
    log,
    async arm(tell: (step: string) => Promise<void>, armSignal: AbortSignal) {
      // A leader that has just begun has not proven it yet; without proof the flip's own check says so.
      await probe.awaitProven(PROBE_WAIT_MS, armSignal)
      await payDebts({ workspace, control, target, log }, armSignal)
      return arm(workspace, control, flips, { applierRole, tell }, armSignal)
    },
    admit: (job: Job) => judge.judging.admit(job),
    finalize: (finalizeSignal: AbortSignal) => finalize(parts, finalizeSignal),
  }
  try {
    await runJobs(orders, signal)
  } finally {
    off()
  }
}

/** An older leader's applier holds the origin until its backend has ended. */
async function openApplier(workspace: Workspace, token: number): Promise<PostgresReverseApplier> {
  const role = applierRoleOf(workspace.config.migration)
  const password = randomBytes(24).toString('base64url')
  const mapping = withProbe(workspace.mapping)
  await createApplierRole(workspace.client, { role, password, mapping })
  const url = new URL(workspace.url)
  url.username = role
  url.password = password
  for (let tries = 1; ; tries++) {
    try {
      return await createReverseApplier({
        url: url.toString(),
        mapping,
        leaderToken: token,
        probeSlot: PROBE_SLOT,
        originName: originNameOf(workspace.config.migration),
        clock: systemClock,
      })
    } catch (error) {
      if (!hasCode(error, 'ORIGIN_IN_USE') || tries >= ORIGIN_TRIES_MAX) throw error
      await systemClock.sleep(ORIGIN_WAIT_MS * systemRandom.next() * 2)
    }
  }
}

async function keepLeasesFew({ session }: Workspace, token: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await trimLeases(session, token)
    await systemClock.sleep(LEASES_TRIM_MS, signal)
  }
}

interface Reported {
  readonly syncs: Syncs
  readonly probe: Probe
  readonly judge: LeaderJudge
}

async function report(workspace: Workspace, token: number, { syncs, probe, judge }: Reported, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const forward = syncs.forward()
    const reverse = syncs.reverse.progress()
    const forwardLagMs = syncs.forwardLagMs()
    await writeReport(workspace.session, token, {
      forwardLagMs: forwardLagMs === undefined ? null : Math.round(forwardLagMs),
      forwardLagBytes: forward === null ? null : forward.lagBytes,
      forwardTransactions: forward?.transactions ?? 0,
      forwardStopped: syncs.forwardStopped(),
      frozenSlots: forward?.frozenSlots ?? [],
      refusedRows: forward?.refused.length ?? 0,
      reverseLagMs: Math.round(reverse.oldestMs),
      reverseUnsettled: reverse.itemsUnsettled,
      reverseCounts: reverse.counts,
      halted: reverse.halted.length,
      wayBackProven: probe.proven(),
      wayBackMs: probe.roundTripMs(),
      judge: judge.judging.standing(),
    })
    await systemClock.sleep(REPORT_MS, signal)
  }
}
