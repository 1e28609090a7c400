// Promises: runs the steps of a flip, cancels before the point of no return, completes after it (INV-7), and takes up what a dead
// leader left open.
import type { FlipRecord, FlipStep } from '../model/control.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import type { FlipParts } from './parts.ts'
import { precheck } from './precheck.ts'
import { type FlipRun, STEPS, type Step } from './steps.ts'

export interface FlipResult {
  /** Null: no slot may go before the target answers, `waiting` has them all. */
  readonly flip: FlipRecord | null
  readonly steps: readonly FlipStep[]
  /** From the first parked statement possible to the new owner serving: the longest that a client can have waited. */
  readonly windowMs: number
  readonly held: readonly { readonly slot: SlotId; readonly because: string }[]
  /** Slots that stay parked under an open flip, since the target does not answer: to be cancelled, and flipped anew when it does. */
  readonly waiting: FlipRun['waiting']
}

/**
 * Moves the slots to a new owner, all or none.
 * @throws FLIP_NOT_READY with the failed checks (nothing was changed), FLIP_CANCELLED with what it waited for (the old owner serves),
 *   TOKEN_STALE (another leader takes it up).
 */
export async function runFlip(parts: FlipParts, to: Owner, slots: readonly SlotId[], signal: AbortSignal): Promise<FlipResult> {
  const checked = await timed(parts, null, 'precheck', async () => {
    const observation = await parts.observe(to, slots)
    return precheck(to, observation, parts.limits)
  })
  if (checked.value.blockers.length > 0) throw new SwitchbackError('FLIP_NOT_READY', { checks: checked.value.blockers })
  if (checked.value.slots.length === 0) throw new SwitchbackError('FLIP_NOTHING_TO_DO', { to })
  const intent = await timed(parts, null, 'intent', () =>
    parts.control.writeIntent({ to, slots: checked.value.slots, deadlineMs: parts.limits.flipDeadlineMs }),
  )
  const run = newRun(intent.value, { held: false, ended: signal })
  const done: FlipStep[] = [
    { step: 'precheck', ms: checked.ms, detail: checked.value.notes.join(' ') },
    { step: 'intent', ms: intent.ms, detail: intent.value.id },
  ]
  const startedMs = parts.clock.monotonicMs()
  if (to === 'source') run.asked = askTarget(parts, run, signal)
  await runSteps(parts, run, STEPS[to], done, signal)
  const windowMs = parts.clock.monotonicMs() - startedMs
  const { held } = checked.value
  if (nothingGoes(run)) return { flip: null, steps: done, windowMs, held, waiting: run.waiting }
  const flip = await parts.control.finishFlip(run.flip, done)
  return { flip, steps: done, windowMs, held, waiting: run.waiting }
}

/** While the gateways empty: a flip with a target that answers does not wait for it. */
async function askTarget(parts: FlipParts, run: FlipRun, signal: AbortSignal): Promise<void> {
  run.answers = await parts.targetAnswers(signal)
}

function newRun(flip: FlipRecord, { held, ended }: Pick<FlipRun, 'held' | 'ended'>): FlipRun {
  return {
    flip,
    leases: [],
    waitingFor: [],
    answers: null,
    asked: Promise.resolve(),
    owed: false,
    waiting: null,
    standing: null,
    held,
    ended,
  }
}

/** Its slots stay parked, all of them. */
function nothingGoes({ flip, waiting }: FlipRun): boolean {
  return waiting?.flip.id === flip.id
}

/** Takes up the flips that a dead leader left open: completes what is committed, cancels the rest. */
export async function resumeFlips(parts: FlipParts, signal: AbortSignal): Promise<readonly FlipRecord[]> {
  const resumed: FlipRecord[] = []
  for (const flip of await parts.control.openFlips()) {
    if (flip.state !== 'committed') {
      resumed.push(await parts.control.cancelFlip(flip, 'the controller that ran it is gone'))
      continue
    }
    const run = newRun(flip, { held: true, ended: signal })
    const done: FlipStep[] = [...flip.steps]
    const afterCommit = STEPS[flip.to].filter((step) => step.name === 'route')
    await runSteps(parts, run, afterCommit, done, signal)
    resumed.push(await parts.control.finishFlip(run.flip, done))
  }
  return resumed
}

async function runSteps(parts: FlipParts, run: FlipRun, steps: readonly Step[], done: FlipStep[], signal: AbortSignal): Promise<void> {
  const deadline = new AbortController()
  const stop = () => deadline.abort()
  const disarm = parts.clock.after(parts.limits.flipDeadlineMs, stop)
  signal.addEventListener('abort', stop, { once: true })
  try {
    for (const step of steps) {
      if (nothingGoes(run)) return
      if (!step.pointOfNoReturn) await beforeNoReturn(parts, run, step, done, deadline.signal)
      else await afterNoReturn(parts, run, step, done, deadline.signal)
    }
  } finally {
    disarm()
    signal.removeEventListener('abort', stop)
  }
}

async function beforeNoReturn(parts: FlipParts, run: FlipRun, step: Step, done: FlipStep[], signal: AbortSignal): Promise<void> {
  try {
    const { ms, value } = await timed(parts, run.flip.id, step.name, () => step.run(parts, run, signal))
    if (signal.aborted) throw new SwitchbackError('FLIP_DEADLINE', { flip: run.flip.id, step: step.name, waitingFor: run.waitingFor })
    done.push({ step: step.name, ms, detail: value })
  } catch (error) {
    await cancelAfter(parts, run, step, error)
  }
}

async function afterNoReturn(parts: FlipParts, run: FlipRun, step: Step, done: FlipStep[], signal: AbortSignal): Promise<void> {
  try {
    const { ms, value } = await timed(parts, run.flip.id, step.name, () => step.run(parts, run, signal))
    done.push({ step: step.name, ms, detail: value })
  } catch (error) {
    // A commit that threw may have happened: only the journal knows. One that it refused (catalog, locks) has not.
    if (step.name !== 'commit') throw error
    const open = (await parts.control.openFlips()).find((flip) => flip.id === run.flip.id)
    if (open !== undefined && open.state === 'committed') {
      run.flip = open
      return
    }
    await cancelAfter(parts, run, step, error)
  }
}

async function cancelAfter(parts: FlipParts, run: FlipRun, step: Step, error: unknown): Promise<never> {
  if (hasCode(error, 'TOKEN_STALE')) throw error
  const because = error instanceof Error ? error.message : String(error)
  run.flip = await parts.control.cancelFlip(run.flip, `${step.name}: ${because}`)
  parts.onStep({ flip: run.flip.id, step: 'cancel', phase: 'end', detail: because })
  throw new SwitchbackError('FLIP_CANCELLED', { flip: run.flip.id, step: step.name, because, waitingFor: run.waitingFor }, error)
}

async function timed<T>(parts: FlipParts, flip: string | null, step: string, work: () => Promise<T>): Promise<{ ms: number; value: T }> {
  parts.onStep({ flip, step, phase: 'begin', detail: '' })
  const startedMs = parts.clock.monotonicMs()
  const value = await work()
  const ms = parts.clock.monotonicMs() - startedMs
  parts.onStep({ flip, step, phase: 'end', detail: typeof value === 'string' ? value : '' })
  return { ms, value }
}
