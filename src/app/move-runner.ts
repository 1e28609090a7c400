// Promises: carries out orders to move slots, batch by batch, so that the pause of one batch does not grow with the ramp; writes
// progress durably after each; stops before the next flip when the order is held. A new leader goes on where the old one stopped:
// what has moved is seen in the ownership rows, not remembered.
import type { Logger } from 'pino'
import { inBatches } from '../flip/batches.ts'
import type { FlipParts } from '../flip/parts.ts'
import { type FlipResult, runFlip } from '../flip/run-flip.ts'
import type { FlipParked, FlipRecord } from '../model/control.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'
import type { Job, JobArguments, Jobs } from '../store/jobs.ts'
import { flipWaiting, giveUp, type Waiting } from './flip-waiting.ts'
import { type ReadOnlyFirst, readOnlyFirst, setReadOnly } from './read-only.ts'

type Move = Extract<JobArguments, { kind: 'move' }>

interface FlipDone {
  readonly id: string
  readonly to: string
  readonly slots: number
  readonly windowMs: number
  /** What the gateways saw of it; null: none has told yet. */
  readonly parked: FlipParked | null
}

export interface MoveParts {
  readonly jobs: Jobs
  readonly token: number
  readonly flips: FlipParts
  readonly slotsPerFlip: number
  readonly log: Logger
  /** Before the first key may go to the target; `tell` what is waited for. */
  arm(tell: (step: string) => Promise<void>, signal: AbortSignal): Promise<readonly string[]>
  /** By flip, as far as gateways have told. */
  parked(flips: readonly string[]): Promise<ReadonlyMap<string, FlipParked>>
}

/**
 * The judge's order goes home in one flip, since what hurts the canary hurts every key of it until its turn comes: 4,096 slots in one take
 * about as long as three flips of 256. What is in flight, a lease that ends and a silent target may take so long of it.
 */
const AT_ONCE_DEADLINE_MS = 4_000
/** A flip that was cancelled (a long transaction, a gateway that restarted) is tried again so often before the order fails. */
const CANCELLED_TRIES_MAX = 6
const RETRY_MS = 250
/** Rows are named in the log, not where everybody reads. */
const DIFFERS = 'rows of it differ between the stores: see `switchback parity --repair`'
/** Gateways tell what they saw of a flip a little after it; the order waits so long for the last one's. */
const PARKED_WAIT_MS = 500
const PARKED_LOOK_MS = 10

export async function runMoveJob(parts: MoveParts, job: Job, move: Move, signal: AbortSignal): Promise<void> {
  const { jobs, token, flips, log } = parts
  const startedMs = flips.clock.monotonicMs()
  const done: FlipDone[] = [...((job.progress as { flips?: FlipDone[] }).flips ?? [])]
  const held: { slot: SlotId; because: string }[] = []
  const slots = await movable(parts, move)
  const total = slots.length + done.reduce((sum, flip) => sum + flip.slots, 0)
  const tell = (step: string) => progress(parts, job, { flips: done, total, step })
  if (move.to === 'target') for (const note of await parts.arm(tell, signal)) log.warn(note)
  let first: ReadOnlyFirst | null = null
  // Nothing is left to go where the way home by verdict came between: then writes are only accepted again.
  if (move.readOnlyFirst && slots.length > 0) {
    first = await readOnlyFirst(flips, { all: move.slots, onTarget: slots }, tell, signal)
    if (signal.aborted) return
  }
  await flipAll(parts, move, slots, { done, held, tell }, signal)
  if (signal.aborted) return
  if (move.readOnlyFirst) await setReadOnly(flips, move.slots, false, signal)
  const durationMs = Math.round(flips.clock.monotonicMs() - startedMs)
  const readOnly = first === null ? null : { ...first, totalMs: durationMs }
  await jobs.end(job.id, token, 'done', { flips: await withParked(parts, done, signal), held, durationMs, readOnly })
}

interface MoveSoFar {
  readonly done: FlipDone[]
  readonly held: { slot: SlotId; because: string }[]
  readonly tell: (step: string) => Promise<void>
}

/** All that can go now, then, as soon as the target answers, what could not go without it. */
async function flipAll(parts: MoveParts, move: Move, slots: readonly SlotId[], soFar: MoveSoFar, signal: AbortSignal): Promise<void> {
  const { flips } = parts
  const waiting: Waiting[] = []
  const flipped = (result: FlipResult) => {
    soFar.held.push(...result.held)
    if (result.waiting !== null) waiting.push(result.waiting)
    if (result.flip !== null) soFar.done.push(flipDone(result, result.flip))
  }
  try {
    const left = move.verdict === undefined ? slots : await atOnce(parts, move, slots, { tell: soFar.tell, flipped }, signal)
    for (const batch of inBatches(left, parts.slotsPerFlip)) {
      await soFar.tell(`flipping ${batch.length} slots`)
      const result = await flipUntilDone(parts, move, batch, signal)
      flipped(result)
      // What was done is in the report of whoever goes on with it.
      if (signal.aborted) return await soFar.tell('stopped')
    }
    const flipAgain = async (rest: readonly SlotId[]) => flipped(await flipUntilDone(parts, move, rest, signal))
    await flipWaiting({ flips, tell: soFar.tell, flipAgain }, waiting, signal)
  } finally {
    await giveUp(flips, waiting)
  }
}

/** All in one flip; where that cannot go, each batch by one try, so that what holds up one keeps no other. Returns what did not go yet. */
async function atOnce(
  parts: MoveParts,
  move: Move,
  slots: readonly SlotId[],
  { tell, flipped }: Pick<MoveSoFar, 'tell'> & { flipped(result: FlipResult): void },
  signal: AbortSignal,
): Promise<readonly SlotId[]> {
  const { flips, log } = parts
  const flipDeadlineMs = Math.min(flips.limits.flipDeadlineMs, AT_ONCE_DEADLINE_MS)
  const quick = { ...parts, flips: { ...flips, limits: { ...flips.limits, flipDeadlineMs } } }
  let left: readonly SlotId[] = slots
  for (const size of [slots.length, parts.slotsPerFlip]) {
    const batches = inBatches(left, Math.max(1, size))
    left = []
    for (const batch of batches) {
      try {
        await tell(`flipping ${batch.length} slots`)
        flipped(await flipUntilDone(quick, move, batch, signal, 1))
      } catch (error) {
        if (!hasCode(error, 'FLIP_CANCELLED', 'FLIP_NOT_READY') || signal.aborted) throw error
        log.warn({ error: (error as Error).message, slots: batch.length }, 'these slots cannot go home together yet')
        left = [...left, ...batch]
      }
    }
  }
  return left
}

function flipDone({ windowMs }: FlipResult, { id, to, slots }: FlipRecord): FlipDone {
  return { id, to, slots: slots.length, windowMs: Math.round(windowMs * 10) / 10, parked: null }
}

async function withParked(parts: MoveParts, done: readonly FlipDone[], signal: AbortSignal): Promise<readonly FlipDone[]> {
  const last = done.at(-1)
  if (last === undefined) return done
  const { clock, control } = parts.flips
  const untilMs = clock.monotonicMs() + PARKED_WAIT_MS
  const gateways = (await control.leases()).filter((lease) => !lease.over).length
  for (;;) {
    const parked = await parts.parked(done.map((flip) => flip.id))
    if ((parked.get(last.id)?.gateways ?? 0) >= gateways || signal.aborted || clock.monotonicMs() >= untilMs)
      return done.map((flip) => ({ ...flip, parked: parked.get(flip.id) ?? null }))
    await clock.sleep(PARKED_LOOK_MS, signal)
  }
}

async function movable(parts: MoveParts, move: Move): Promise<SlotId[]> {
  const view = await parts.flips.control.view()
  const slots = move.slots.filter((slot) => view.ownership(slot)?.owner !== move.to)
  // Going home, neighbours together: fewer outboxes to drain a flip. Going out, in the canary's order: the slots spread evenly.
  return move.to === 'source' ? slots.toSorted((a, b) => a - b) : slots
}

/** Going home, slots whose rows differ stay where they are, by name, as those with poison do; the others go. */
async function flipUntilDone(
  parts: MoveParts,
  move: Move,
  batch: readonly SlotId[],
  signal: AbortSignal,
  triesMax = CANCELLED_TRIES_MAX,
): Promise<FlipResult> {
  let left = batch
  const held: { slot: SlotId; because: string }[] = []
  for (let tries = 1; ; tries++) {
    try {
      if (left.length === 0) return { flip: null, steps: [], windowMs: 0, held, waiting: null }
      const result = await runFlip(parts.flips, move.to, left, signal)
      return { ...result, held: [...result.held, ...held] }
    } catch (error) {
      const differing = move.to === 'source' ? differingSlots(error) : []
      if (differing.length > 0 && !signal.aborted) {
        const because = (error as Error).message
        parts.log.error({ slots: differing, because }, 'slots whose rows differ between the stores do not go home with the others')
        held.push(...differing.map((slot) => ({ slot, because: DIFFERS })))
        left = left.filter((slot) => !differing.includes(slot))
        tries = 0
        continue
      }
      const again = hasCode(error, 'FLIP_CANCELLED', 'FLIP_NOT_READY') && tries < triesMax && !signal.aborted
      if (!again) throw error
      parts.log.warn({ error: (error as Error).message, tries }, 'the flip did not go through; tried again')
      await parts.flips.clock.sleep(RETRY_MS * tries, signal)
    }
  }
}

/** Of a flip that was cancelled for them. */
function differingSlots(error: unknown): readonly SlotId[] {
  const cause = error instanceof SwitchbackError ? error.cause : undefined
  return cause instanceof SwitchbackError && cause.code === 'FLIP_DIFFERENCES'
    ? ((cause.details['slots'] ?? []) as readonly string[]).map(Number)
    : []
}

async function progress(parts: MoveParts, job: Job, at: { flips: readonly FlipDone[]; total: number; step: string }): Promise<void> {
  const slotsDone = at.flips.reduce((sum, flip) => sum + flip.slots, 0)
  await parts.jobs.progress(job.id, parts.token, { slotsDone, slotsTotal: at.total, step: at.step, flips: at.flips })
}
