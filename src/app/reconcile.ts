// Promises: after a failover, what this PostgreSQL and the target say of each other; and, when the operator says so and nothing that was
// acknowledged is lost by it, that this PostgreSQL owns the target from now on. Observed, decided, recorded (an epoch above both), done
// (the control item, by compare-and-set, last). A crash in between leaves the item as it was and an epoch that was skipped
// (protocols.md, Durable control, Reconcile).
import { createHash } from 'node:crypto'
import type { Clock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { differencesFrom } from '../model/identity.ts'
import type { Stamp } from '../model/ids.ts'
import { reasonsAgainst } from '../model/reconcile.ts'
import type { ControlItem, Target } from '../model/target.ts'
import { readIdentity } from '../store/identity.ts'
import { type PostgresLeaderControl, takeLead } from '../store/leader-control.ts'
import { readView } from '../store/read-view.ts'
import { countDebts, hasActOf, raiseEpoch, readFirstLsns, readOutboxesKnown, readSwitchPoint } from '../store/reconcile.ts'
import { controlConnector, isLockRefusal } from '../store/session.ts'
import { readStanding } from './backfill-standing.ts'
import { leaseSettings } from './load-config.ts'
import { slotNameOf } from './names.ts'
import { ITEM_PAID } from './owner-record.ts'
import { type Evidence, lookAtTarget } from './reconcile-evidence.ts'
import type { Workspace } from './workspace.ts'

export interface Reconciliation {
  readonly here: ControlItem
  /** Null: no key has moved yet, so the target belongs to nobody. */
  readonly item: ControlItem | null
  /** Empty: the target belongs to this PostgreSQL. */
  readonly differences: readonly string[]
  /** What was found on the target; null where nothing differs, so that nobody had to look. */
  readonly evidence: Evidence | null
  /** False: this role may not read where the timelines part (pg_read_server_files), so lost writes of PostgreSQL were not looked for. */
  readonly lostWritesLookedFor: boolean
  /** Why the forward sync stands still; null: it does not. */
  readonly forwardStopped: string | null
  /** Why this PostgreSQL must not be made the owner. */
  readonly reasonsAgainst: readonly string[]
  /** Names what was shown, for `--adopt`; null: nothing to do, or not to be done. */
  readonly plan: string | null
}

export interface AdoptOptions {
  readonly workspace: Workspace
  readonly target: Target
  readonly plan: string
  readonly clock: Clock
  readonly onStep: (step: string) => void
  readonly signal: AbortSignal
}

const LEAD_WAIT_MS = 10_000
const LEAD_LOOK_MS = 200
const ROWS_WAIT_MS = 10_000
const ROWS_LOOK_MS = 100
const PLAN_LENGTH = 12

export async function reconcile(workspace: Workspace, target: Target, signal: AbortSignal): Promise<Reconciliation> {
  const { session, config, mapping } = workspace
  // First the item: what it has seen was committed before it was written.
  const item = await target.readControl()
  const here = await readIdentity(session)
  const differences = differencesFrom(item, here)
  const { standing } = await readStanding(session, slotNameOf(config.migration))
  const common = { here, item, differences, forwardStopped: standing.kind === 'stopped' ? standing.because : null }
  if (item === null || differences.length === 0)
    return { ...common, evidence: null, lostWritesLookedFor: true, reasonsAgainst: [], plan: null }
  const view = await readView(session)
  const firstLsns = await readFirstLsns(session)
  const parted = here.timeline > item.timeline ? await readSwitchPoint(session, here.timeline) : null
  const ceilingOf = (slot: number): Stamp | null => {
    const first = firstLsns.get(slot)
    if (parted === null || first === undefined) return null
    return view.ownership(slot)!.base + (parted > first ? parted - first : 0n)
  }
  const outboxes = await readOutboxesKnown(session)
  const allHeads = parted === null || !(await hasActOf(session, item.epoch, ITEM_PAID))
  const evidence = await lookAtTarget({ session, target, mapping, view, outboxes, ceilingOf, allHeads, signal })
  if (signal.aborted) throw new SwitchbackError('INTERRUPTED_RECONCILE')
  const reasons = reasonsAgainst(item, here, evidence.found, { debts: await countDebts(session) })
  const plan = reasons.length > 0 ? null : planOf({ item, here, found: evidence.found })
  return { ...common, evidence, lostWritesLookedFor: parted !== null, reasonsAgainst: reasons, plan }
}

/** What the reverse sync applies meanwhile does not make it another plan. */
function planOf(of: { item: ControlItem; here: ControlItem; found: Evidence['found'] }): string {
  return createHash('sha256').update(JSON.stringify(of)).digest('hex').slice(0, PLAN_LENGTH)
}

/** @throws RECONCILE_UNSAFE, RECONCILE_PLAN, RECONCILE_BUSY: the target belongs to whom it belonged. Null: it was this one's already. */
export async function adopt(options: AdoptOptions): Promise<ControlItem | null> {
  const { workspace, target, plan, onStep, signal } = options
  if (mustFit(await reconcile(workspace, target, signal), plan) === null) return null
  onStep('taking the lead')
  const lost = new AbortController()
  const control = await leadAlone(options, (error) => lost.abort(error))
  try {
    onStep('waiting until every lease of before has run out')
    await endLeases(options, control)
    onStep('looking at both sides once more, with nobody writing')
    const item = mustFit(await reconcile(workspace, target, signal), plan)
    if (item === null) return null
    lost.signal.throwIfAborted()
    const detail = { plan, from: item }
    const epoch = await raised(options, { token: control.token, epoch: item.epoch, detail })
    const next = { ...(await readIdentity(workspace.session)), epoch }
    if (!(await target.writeControl(item, next))) throw busy('another PostgreSQL has taken the target meanwhile')
    return next
  } finally {
    await control.close()
  }
}

/** The item that is replaced. */
function mustFit(found: Reconciliation, plan: string): ControlItem | null {
  if (found.differences.length === 0) return null
  if (found.plan === null) throw new SwitchbackError('RECONCILE_UNSAFE', { reasons: found.reasonsAgainst.join('; ') })
  if (found.plan !== plan) throw new SwitchbackError('RECONCILE_PLAN', { given: plan, now: found.plan })
  return found.item
}

/** Controllers that were refused come back for a moment each time; one that leads in earnest (the target was silent) stays. */
async function leadAlone({ workspace, clock, signal }: AdoptOptions, onLost: (error: Error) => void): Promise<PostgresLeaderControl> {
  const connect = controlConnector({ connectionString: workspace.url })
  const deadline = clock.monotonicMs() + LEAD_WAIT_MS
  while (!signal.aborted && clock.monotonicMs() < deadline) {
    const control = await takeLead({ connect, name: 'switchback reconcile', onLost })
    if (control !== null) return control
    await clock.sleep(LEAD_LOOK_MS, signal)
  }
  throw busy('a controller leads')
}

/** A gateway counts its lease from its last renewal, wherever that was: one that PostgreSQL sees no more is over after its length. */
async function endLeases({ workspace, clock, signal }: AdoptOptions, control: PostgresLeaderControl): Promise<void> {
  const lease = leaseSettings(workspace.config)
  const living = async () => (await control.leases()).filter((row) => !row.over)
  const before = await living()
  await clock.sleep(lease.lengthMs + lease.marginMs, signal)
  if (signal.aborted) throw new SwitchbackError('INTERRUPTED_RECONCILE')
  await control.endLeases(before.map(({ lease: id, renewals }) => ({ lease: id, renewals })))
  const left = await living()
  if (left.length > 0) throw busy(`these gateways serve: ${[...new Set(left.map((row) => row.gateway))].join(', ')}`)
}

/** Transactions of clients may hold ownership rows for as long as they are open (Guard, Old snapshots). */
async function raised({ workspace, clock, signal }: AdoptOptions, above: Parameters<typeof raiseEpoch>[1]): Promise<number> {
  const deadline = clock.monotonicMs() + ROWS_WAIT_MS
  for (;;) {
    try {
      return await raiseEpoch(workspace.session, above)
    } catch (error) {
      if (!isLockRefusal(error)) throw error
      if (signal.aborted || clock.monotonicMs() > deadline) throw busy('open transactions that wrote mapped tables hold ownership rows')
      await clock.sleep(ROWS_LOOK_MS, signal)
    }
  }
}

function busy(because: string): SwitchbackError {
  return new SwitchbackError('RECONCILE_BUSY', { because })
}
