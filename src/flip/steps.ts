// Promises: a flip as a checklist. `plan` prints these steps and `run` executes them: there is no other list. Each step says what
// it will do, does it under the deadline, and returns what it saw. (protocols.md, The flip; Vitess's cutover is the model.)
import type { FlipRecord, LeaseRow } from '../model/control.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import { NO_LSN, type Owner, type SlotId } from '../model/ids.ts'
import type { Ownership } from '../model/ownership.ts'
import type { Tenures } from '../model/tenures.ts'
import { newBaseFor } from './bases.ts'
import type { FlipParts, StaysParked } from './parts.ts'
import { awaitAcks, awaitWriters, describeWriter } from './waits.ts'

/** What the steps of one running flip hand on to each other. */
export interface FlipRun {
  flip: FlipRecord
  leases: readonly LeaseRow[]
  /** Named when the deadline comes: what the step was waiting for. */
  waitingFor: readonly string[]
  /** Whether the target answers, asked while the gateways empty; only of a flip to the source. Once false, the flip asks it for nothing. */
  answers: boolean | null
  asked: Promise<void>
  /** The target answers, and refuses or loses the comparison: no key is kept from going home by that, and the comparison is owed. */
  owed: boolean
  /** Slots that stay parked until it answers, under their own flip; where none may go, that is this one. */
  waiting: { readonly flip: FlipRecord; readonly stay: readonly StaysParked[] } | null
  /** Read while the gateways empty: neither changes until this flip commits. */
  standing: Promise<Standing> | null
  /** The commit is held, or may be: whoever resumes a flip cannot know. */
  held: boolean
  /** The end of this leader: what is committed is not given up for a deadline. */
  readonly ended: AbortSignal
}

interface Standing {
  readonly rows: readonly Ownership[]
  readonly history: Tenures
}

export interface Step {
  readonly name: string
  /** After it the flip can only be completed (INV-7). */
  readonly pointOfNoReturn: boolean
  describe(slots: readonly SlotId[], to: Owner): string
  run(parts: FlipParts, run: FlipRun, signal: AbortSignal): Promise<string>
}

const park: Step = {
  name: 'park',
  pointOfNoReturn: false,
  describe: (slots) =>
    `set ${slots.length} slots to parking; gateways hold back statements that begin work on them and ack when what was in flight has ended; a gateway that stays silent is waited out until its lease is over`,
  async run(parts, run, signal) {
    run.flip = await parts.control.setPhase(run.flip, 'parking', signal)
    run.standing = readStanding(parts, run.flip)
    run.standing.catch(() => undefined) // looked at by the commit
    const { epoch } = run.flip
    const report = (waiting: readonly LeaseRow[]) => {
      run.waitingFor = waiting.map((lease) => `gateway ${lease.gateway} (lease ${lease.lease}) to ack epoch ${epoch}`)
    }
    // With the target silent, work there does not end: what a gateway can say all the same has to do, and the drain weighs it.
    const leases = await awaitAcks(parts, epoch, signal, report, (row) => run.answers === false && (row.partial?.epoch ?? 0) >= epoch)
    if (leases === null) return ''
    run.leases = leases
    return `${leases.filter((lease) => !lease.over).length} gateways acked, ${leases.filter((lease) => lease.over).length} leases are over`
  },
}

const fence: Step = {
  name: 'fence',
  pointOfNoReturn: false,
  describe: () =>
    'set the slots to fenced in PostgreSQL, so that it refuses every writer, and wait for writers from before the fence to end, and for named standbys to have the fence',
  async run(parts, run, signal) {
    run.flip = await parts.control.setPhase(run.flip, 'fenced', signal)
    const [writers, behind] = await Promise.all([awaitWriters(parts, run.leases, signal), parts.standbys.awaitFlushed(signal)])
    run.waitingFor = [...writers.map(describeWriter), ...behind.map(describeStandby)]
    return run.waitingFor.length === 0 ? 'no writer from before the fence is left' : ''
  },
}

const drainForward: Step = {
  name: 'drain',
  pointOfNoReturn: false,
  describe: () => 'write a transactional marker into the WAL and wait until the forward sync has durably applied everything before it',
  async run(parts, run, signal) {
    const marker = await parts.control.writeMarker(run.flip)
    run.waitingFor = [`the forward sync to pass the marker ${marker}`]
    await parts.passed(marker, signal)
    return 'the forward sync has passed the marker'
  },
}

const drainReverse: Step = {
  name: 'drain',
  pointOfNoReturn: false,
  describe: () => 'apply every outbox entry of these slots to PostgreSQL, those of dead gateways included',
  async run(parts, run, signal) {
    await run.asked
    if (run.answers === false) return drainFromCopies(parts, run, signal)
    run.waitingFor = ['the reverse sync to apply the outboxes of these slots']
    const [report, behind] = await Promise.all([
      parts.drain(run.flip.slots, run.leases, signal),
      parts.standbys.awaitFlushed(signal), // the parking counts only there too
    ])
    if (behind.length > 0) run.waitingFor = behind.map(describeStandby)
    // INV-2: also where the reverse sync itself has ended, which this flip may hear of only later.
    if (!report.drained) throw new SwitchbackError('FLIP_DEADLINE', { flip: run.flip.id, step: 'drain', waitingFor: report.waitingFor })
    if (report.held.length > 0) {
      throw new SwitchbackError('FLIP_HELD', { flip: run.flip.id, held: report.held.map((h) => `slot ${h.slot}: ${h.because}`) })
    }
    return `${report.entriesApplied} entries applied since the park`
  },
}

/** The target answers nothing (protocols.md, The flip): what the gateways hold goes back, the rest stays parked. */
async function drainFromCopies(parts: FlipParts, run: FlipRun, signal: AbortSignal): Promise<string> {
  const { flip, leases } = run
  run.waitingFor = ['the copies that gateways hold to be applied']
  const [{ go, stay }, behind] = await Promise.all([
    parts.drainHeld({ slots: flip.slots, epoch: flip.epoch, leases }, signal),
    parts.standbys.awaitFlushed(signal), // the parking counts only there too
  ])
  if (behind.length > 0) run.waitingFor = behind.map(describeStandby)
  if (go.length === 0) run.waiting = { flip, stay }
  else if (stay.length > 0) {
    const split = await parts.control.splitFlip(flip, go)
    run.flip = split.go
    run.waiting = { flip: split.rest, stay }
  }
  return `the target does not answer: ${go.length} slots drained from what gateways hold, ${stay.length} stay parked`
}

const verify: Step = {
  name: 'verify',
  pointOfNoReturn: false,
  describe: () => 'compare on both sides what changed in these slots since their last settled check',
  async run(parts, run, signal) {
    if (run.answers === false) return 'skipped and owed: the target does not answer'
    run.waitingFor = ['the comparison of the rows that changed last']
    const report = await parts.verify(run.flip.slots, run.flip.to, signal).catch((error: unknown) => {
      if (run.flip.to === 'target' || !hasCode(error, 'TARGET_REFUSED', 'TARGET_UNKNOWN', 'TARGET_THROTTLED')) throw error
      return error
    })
    if (report instanceof SwitchbackError) {
      run.owed = true
      return `owed: ${report.message}`
    }
    if (report.differences > 0) {
      throw new SwitchbackError('FLIP_DIFFERENCES', {
        flip: run.flip.id,
        differences: report.differences,
        first: report.firstDifference ?? '',
        slots: report.differing.map(String),
      })
    }
    return `${report.rowsCompared} rows compared, no difference, ${report.notChecked} not checked`
  },
}

const commit: Step = {
  name: 'commit',
  pointOfNoReturn: true,
  describe: (_, to) =>
    `write the journal, the ownership and a new tenure in one transaction: the point of no return; owner is then the ${to}`,
  async run(parts, run) {
    const newBase = await baseOf(parts, run)
    run.held = parts.standbys.any()
    const { control } = parts
    const commit = { newBase, held: run.held }
    const inDebt = run.answers === false || run.owed
    run.flip = await (inDebt ? control.commitInDebt(run.flip, commit) : control.commitFlip(run.flip, commit))
    return `tenure ${run.flip.epoch}, base ${newBase}`
  },
}

const route: Step = {
  name: 'route',
  pointOfNoReturn: true,
  describe: () => 'once the commit is durable wherever it must be, gateways take the new owner and run what they held back',
  async run(parts, run) {
    if (run.held) {
      const behind = await parts.standbys.awaitFlushed(run.ended)
      if (behind.length > 0) throw new SwitchbackError('FLIP_UNROUTED', { flip: run.flip.id, waitingFor: behind.map(describeStandby) })
    }
    await parts.recordOwner(run.flip, { targetSilent: run.answers === false }, run.ended)
    if (run.held) run.flip = await parts.control.releaseFlip(run.flip)
    const leases = await acksInTime(parts, run)
    return leases === null
      ? 'some gateways have not acked yet; they serve nothing of these slots until they do'
      : 'all gateways route to the new owner'
  },
}

const cancel = 'before the point of no return a failure or the deadline cancels: fresh epoch, same owner, same tenure'

export const STEPS: Record<Owner, readonly Step[]> = {
  target: [park, fence, drainForward, verify, commit, route],
  source: [park, drainReverse, verify, commit, route],
}

/** What `--dry-run` prints. */
export function describeFlip(slots: readonly SlotId[], to: Owner): string[] {
  return [...STEPS[to].map((step, i) => `${i + 1}. ${step.name}: ${step.describe(slots, to)}`), `(${cancel})`]
}

/** What is committed is routed however late it is: its own bound, not the flip's. */
async function acksInTime(parts: FlipParts, run: FlipRun): Promise<readonly LeaseRow[] | null> {
  const bound = new AbortController()
  const disarm = parts.clock.after(parts.limits.routeDeadlineMs, () => bound.abort())
  const { epoch, slots } = run.flip
  // Work that a silent target holds up on other slots keeps no gateway from routing these.
  const routes = ({ partial }: LeaseRow) => partial != null && partial.epoch >= epoch && !slots.some((slot) => partial.busy.has(slot))
  return awaitAcks(parts, epoch, bound.signal, () => undefined, routes).finally(disarm)
}

function describeStandby(name: string): string {
  return `standby ${name} to flush what was committed`
}

async function readStanding(parts: FlipParts, flip: FlipRecord): Promise<Standing> {
  const [view, history] = await Promise.all([parts.control.view(), parts.control.tenures()])
  return { rows: flip.slots.map((slot) => view.ownership(slot)!), history }
}

/** After the drain: no change of these slots lies above what is read here. */
async function baseOf(parts: FlipParts, run: FlipRun): Promise<bigint> {
  const { rows, history } = await (run.standing ?? readStanding(parts, run.flip))
  // Each side's stamps have a ceiling of their own; the other one is not asked for in the pause.
  const ceiling =
    run.flip.to === 'target'
      ? { walLsn: await parts.control.currentWalLsn(), highestVersion: 0 }
      : { walLsn: NO_LSN, highestVersion: await parts.control.highestApplied(run.flip.slots) }
  return newBaseFor(run.flip.to, rows, history, ceiling)
}
