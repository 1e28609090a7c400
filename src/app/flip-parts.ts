// Promises: a flip's parts over the real syncs, control schema and stores.

import type { FlipParts, FlipStandbys, StepEvent } from '../flip/parts.ts'
import type { FlipObservation } from '../flip/precheck.ts'
import { systemClock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import { standbysNotNamed } from '../model/standby.ts'
import { checkGuard } from '../source/guard.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import { type FrozenSlot, frozenSlots } from '../store/violations.ts'
import { readStanding, stoppedSentence } from './backfill-standing.ts'
import { debtSentences } from './debts.ts'
import { leaseSettings } from './load-config.ts'
import { slotNameOf } from './names.ts'
import type { OwnerRecord } from './owner-record.ts'
import type { Syncs } from './syncs.ts'
import type { TargetAnswers } from './target-answers.ts'
import { type VerifyParts, verifySlots } from './verify-slots.ts'
import type { Workspace } from './workspace.ts'

export interface FlipPartsOptions {
  readonly workspace: Workspace
  readonly control: PostgresLeaderControl
  readonly syncs: Syncs
  readonly standbys: FlipStandbys
  readonly ownerRecord: OwnerRecord
  readonly verify: VerifyParts
  readonly answers: Pick<TargetAnswers, 'ask'>
  readonly wayBackProven: () => boolean
  readonly onStep: (event: StepEvent) => void
}

const FLIP_DEADLINE_MS = 10_000
const FORWARD_LAG_MAX_MS = 2_000
const POLL_MS = 50
const ROUTE_DEADLINE_MS = 5_000

export function flipParts(options: FlipPartsOptions): FlipParts {
  const { workspace, control, syncs } = options
  const { config, mapping, admin } = workspace
  const lease = leaseSettings(config)
  const woken = new Signal()
  control.onLeaseChange(() => woken.notify())
  return {
    control,
    passed: (marker, signal) => syncs.passed(marker, signal),
    drain: (slots, leases, signal) => syncs.reverse.drain(slots, leases, signal),
    targetAnswers: (signal) => options.answers.ask(signal),
    drainHeld: (request, signal) => syncs.reverse.drainHeld(request, signal),
    verify: (slots, _to, signal) => verifySlots(options.verify, slots, systemClock, signal),
    standbys: options.standbys,
    recordOwner: (flip, how, signal) => options.ownerRecord.write(flip, how, signal),
    nextWake: (signal) => woken.next(signal),
    observe: (to, slots) => observe(options, to, slots, admin, mapping),
    onStep: options.onStep,
    clock: systemClock,
    limits: {
      flipDeadlineMs: config.controller?.flipDeadlineMs ?? FLIP_DEADLINE_MS,
      forwardLagMaxMs: FORWARD_LAG_MAX_MS,
      lease: { lengthMs: lease.lengthMs, marginMs: lease.marginMs },
      pollMs: POLL_MS,
      routeDeadlineMs: ROUTE_DEADLINE_MS,
    },
  }
}

function frozenSentence({ slot, lsn }: FrozenSlot): string {
  return `Slot ${slot} is frozen: PostgreSQL took a write to it at ${lsn} while the target owned it. Find out who wrote past the guard, then run \`switchback parity --repair --apply\`.`
}

async function observe(
  options: FlipPartsOptions,
  to: Owner,
  slots: readonly SlotId[],
  admin: Workspace['admin'],
  mapping: Workspace['mapping'],
): Promise<FlipObservation> {
  const { control, syncs, workspace } = options
  const [view, leases, poison, openFlips, debts, frozen, standing] = await Promise.all([
    control.view(),
    control.leases(),
    control.poison(),
    control.openFlips(),
    control.debts(),
    to === 'target' ? frozenSlots(workspace.session) : [],
    // Nothing holds a move back to PostgreSQL, so nothing is asked for it.
    to === 'target' ? readStanding(workspace.session, slotNameOf(workspace.config.migration)).then((read) => read.standing) : null,
  ])
  const asked = new Set(slots)
  const [guardProblems, catalogUnchanged, standbys, owed] =
    to === 'source'
      ? [[], undefined, [], []]
      : await Promise.all([
          checkGuard(admin, mapping),
          control.catalogUnchanged(),
          control.standbys().then(({ rows }) => standbysNotNamed(workspace.config.source.standbys ?? [], rows)),
          options.ownerRecord.payDebt(),
        ])
  return {
    rows: slots.map((slot) => view.ownership(slot)).filter((row) => row !== undefined),
    leases,
    // What the newest finished flip needed acked: a gateway that has not taken it yet is not ready for the next.
    epoch: view.bindingEpoch ?? 0,
    poison,
    forwardLagMs: syncs.forwardLagMs(),
    backfillDone: standing?.kind === 'whole',
    forwardStopped: standing?.kind === 'stopped' ? stoppedSentence(standing.because) : null,
    guardProblems: [...guardProblems, ...frozen.filter(({ slot }) => asked.has(slot)).map(frozenSentence)],
    catalogUnchanged,
    wayBackProven: options.wayBackProven(),
    openFlips: openFlips.map((flip) => flip.id),
    debts: [...debtSentences(debts), ...owed],
    gates: [],
    standbysNotNamed: standbys,
  }
}
