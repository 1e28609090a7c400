// Promises: the one-way door (protocols.md, The ends): checks that every slot is steady on the target, without poison, frozen slot, open
// flip or a word of the judge against it; drains; has every gateway stop sending outbox entries, at an epoch that all have acked; drains again, as a flip does,
//  so that what a dead gateway left half applied is finished first (faults.md 73); makes the guard an unconditional refusal (65);
// then drops slot and outboxes. Each part may be done again after a crash; from the guard on there is no way back.

import type { FlipParts } from '../flip/parts.ts'
import { awaitAcks } from '../flip/waits.ts'
import { systemClock } from '../lib/clock.ts'
import type { LeaseRow } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import { bucketOf } from '../model/head.ts'
import type { SlotId } from '../model/ids.ts'
import type { Target } from '../model/target.ts'
import { guardFinal } from '../source/guard.ts'
import { announceEnd, isEnding } from '../store/final.ts'
import { createJobs } from '../store/jobs.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import { createRamps } from '../store/ramps.ts'
import { frozenSlots } from '../store/violations.ts'
import type { DrainResult } from '../sync/reverse-drain.ts'
import { REVERSE_LIMITS } from '../sync/reverse-parts.ts'
import { debtSentences } from './debts.ts'
import { openSource } from './open-parts.ts'
import type { Syncs } from './syncs.ts'
import type { Workspace } from './workspace.ts'

export interface FinalizeParts {
  readonly workspace: Workspace
  readonly control: PostgresLeaderControl
  readonly flips: FlipParts
  readonly syncs: Syncs
  readonly target: Target
  /** What the judge has against the canary, a sentence each. */
  against(): readonly string[]
  /** Ends what else the leader runs for the way back. */
  readonly onFinal: () => void
}

const ACKS_DEADLINE_MS = 30_000
const DRAIN_DEADLINE_MS = 60_000
const IDLE_LOOK_MS = 250

export async function finalize(parts: FinalizeParts, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
  const { workspace, control, syncs } = parts
  await checkReady(parts)
  const slots = [...(await control.view()).rows()].map((row) => row.slot)
  // Once before anything is changed: what cannot be drained now is a reason not to begin.
  await drainAll(syncs, slots, await control.leases(), 'FINALIZE_NOT_READY', signal)
  // Not behind whoever stopped it meanwhile, as a verdict does.
  if (signal.aborted) throw new SwitchbackError('FINALIZE_NOT_READY', { checks: ['The order was held.'] })
  // The point of no return: from here on it can only be completed, by this job, its successor's leader or another finalize. A verdict that
  // was recorded until now is seen there, and nothing ends.
  await allAcked(parts, signal)
  const leases = await allAcked(parts, signal)
  const drained = await drainAll(syncs, slots, leases, 'FINALIZE_INCOMPLETE', signal)
  // Which buckets are left is read from the positions: a leader that dies from here on leaves a successor that knows them all.
  if (!(await syncs.reverse.positionsSaved())) throw new SwitchbackError('FINALIZE_INCOMPLETE', { checks: ['The reverse sync has ended.'] })
  await guardFinal(workspace.admin, workspace.mapping)
  await control.journal('finalize', { slots: slots.length })
  await createRamps(workspace.session).endOpen('stopped', 'the move has ended on the target')
  parts.onFinal()
  await syncs.end()
  await dropWayBack(workspace, parts.target)
  return { slots: slots.length, entriesApplied: drained.entriesApplied }
}

type NotDone = 'FINALIZE_NOT_READY' | 'FINALIZE_INCOMPLETE'

async function drainAll(
  syncs: Syncs,
  slots: readonly SlotId[],
  leases: readonly LeaseRow[],
  code: NotDone,
  signal: AbortSignal,
): Promise<DrainResult> {
  await syncs.refresh()
  const drained = await syncs.reverse.drain(slots, leases, AbortSignal.any([signal, AbortSignal.timeout(DRAIN_DEADLINE_MS)]))
  if (drained.drained && drained.held.length === 0) return drained
  throw new SwitchbackError(code, {
    checks: [...drained.waitingFor, ...drained.held.map((h) => `slot ${h.slot}: ${h.because}`)],
  })
}

/** Leases as acked: what each wrote before it stopped sending entries. */
async function allAcked({ workspace, control, flips }: FinalizeParts, signal: AbortSignal): Promise<readonly LeaseRow[]> {
  const epoch = await announceEnd(workspace.session, control.token)
  let waiting: readonly LeaseRow[] = []
  const leases = await awaitAcks(flips, epoch, AbortSignal.any([signal, AbortSignal.timeout(ACKS_DEADLINE_MS)]), (rows) => {
    waiting = rows
  })
  if (leases === null) {
    throw new SwitchbackError('FINALIZE_INCOMPLETE', {
      checks: waiting.map(({ gateway }) => `Gateway ${gateway} has not acked epoch ${epoch}: is it running?`),
    })
  }
  return leases
}

async function checkReady({ control, workspace, against }: FinalizeParts): Promise<void> {
  const [view, poison, flips, debts, frozen, ending] = await Promise.all([
    control.view(),
    control.poison(),
    control.openFlips(),
    control.debts(),
    frozenSlots(workspace.session),
    isEnding(workspace.session),
  ])
  const elsewhere = [...view.rows()].filter((row) => row.owner !== 'target' || row.phase !== 'steady')
  const checks = [
    ...(elsewhere.length > 0 ? [`${elsewhere.length} slots are not steady on the target: run \`switchback canary advance 100%\`.`] : []),
    ...poison.map((p) => `Key ${p.key} could not be written back: ${p.message}.`),
    ...frozen.map(({ slot, lsn }) => `Slot ${slot} is frozen: PostgreSQL took a write to it at ${lsn} while the target owned it.`),
    ...flips.map((flip) => `Flip ${flip.id} is open.`),
    ...debtSentences(debts).map((debt) => `A debt is open: ${debt}.`),
    // Past the point of no return it is completed, whatever the judge says.
    ...(ending ? [] : against()),
  ]
  if (checks.length > 0) throw new SwitchbackError('FINALIZE_NOT_READY', { checks })
}

/** Idempotent. What a trim has not reached yet lies in the last buckets of an outbox. */
async function dropWayBack(workspace: Workspace, target: Target): Promise<void> {
  await openSource(workspace).dropSlot()
  const outboxes = await workspace.session.query('select slot_group, lease, sequence from switchback.position where sequence > 0')
  for (const row of outboxes) {
    const last = bucketOf(Number(row['sequence']) + 1)
    for (let bucket = Math.max(0, last - REVERSE_LIMITS.bucketsDeletedAgainMax); bucket <= last; bucket++)
      await target.deleteBucket({ group: Number(row['slot_group']), lease: row['lease']! }, bucket)
  }
  await workspace.session.query('delete from switchback.position')
}

/** What a leader does when the move is over: it completes a finalize that a crash cut short, and refuses every other order. */
export async function leadFinal(parts: Pick<FinalizeParts, 'workspace' | 'control' | 'target'>, signal: AbortSignal): Promise<void> {
  const { workspace, control, target } = parts
  const jobs = createJobs(workspace.session)
  while (!signal.aborted) {
    for (const job of await jobs.open()) {
      await jobs.begin(job.id, control.token)
      if (job.arguments.kind === 'finalize') {
        await dropWayBack(workspace, target)
        await jobs.end(job.id, control.token, 'done', {})
      } else await jobs.end(job.id, control.token, 'failed', { because: 'The move has ended on the target: there is no way back.' })
    }
    await systemClock.sleep(IDLE_LOOK_MS, signal)
  }
}
