// Promises: what is done about a ramp, from one look at it: pure, so that no clock, order or store has a say in it. The next step is ordered
// only where the judge promotes the step that is out now (INV-10: nothing goes on by silence), has baked for its own time too, and nothing
// else is under way. The first one, before which there is no canary to promote, needs traffic that was observed for long enough.
import { NO_CANARY } from '../canary/judge.ts'
import type { RampPlan, RampSettings } from '../canary/ramp.ts'
import type { JudgeVerdict } from '../canary/verdict.ts'
import type { SlotId } from '../model/ids.ts'
import type { HeldSlot, Ramp, RampState } from '../store/ramps.ts'
import type { JudgeNow } from './judging-parts.ts'

export type RampRow = Ramp<RampSettings, RampPlan>

export interface RampLook {
  readonly ramp: RampRow
  /** Others' orders that are open. */
  readonly otherOrders: readonly number[]
  readonly onTarget: ReadonlySet<SlotId>
  readonly judge: JudgeNow
  /** Requests that the gateways have told this leader of; looked at while it observes. */
  readonly requests: number
  /** As far as this leader has observed: its profile began with it. */
  readonly observedMs: number
  readonly bakedMs: number
}

export type RampDecision =
  /** Why nothing is done yet. */
  | { readonly act: 'hold'; readonly because: readonly string[] }
  /** Arm gateways and guard; after a rollback the judge is told that a person starts again. */
  | { readonly act: 'arm'; readonly startAgain: boolean }
  | { readonly act: 'observe' }
  /** Choose the slots by what was observed. */
  | { readonly act: 'plan' }
  | { readonly act: 'step'; readonly step: number; readonly slots: readonly SlotId[] }
  | { readonly act: 'end'; readonly state: Extract<RampState, 'done' | 'stopped' | 'rolled back'>; readonly because: string | null }

const NO_REQUESTS = 'no gateway has told of a request yet: the slots are chosen by the traffic'
const UNJUDGED_STEP = 'the judge has not seen the step that is out yet'

export function decideRamp(look: RampLook): RampDecision {
  const { ramp, judge } = look
  if (ramp.state === 'ordered') return decideBegin(look)
  if (judge.rolledBack !== null) return { act: 'end', state: 'rolled back', because: verdictSentence(judge.rolledBack) }
  const { job } = ramp
  if (job !== null && (job.state === 'open' || job.state === 'running')) return hold(`order ${job.id} is under way`)
  if (job !== null && job.state !== 'done')
    return { act: 'end', state: 'stopped', because: `order ${job.id} ${job.state}: ${job.because ?? 'no reason was told'}` }
  if (ramp.state === 'arming') return { act: 'observe' }
  if (ramp.state === 'observing') return decideObserving(look)
  return decideRunning(look, ramp.plan!)
}

/** Which time goes by; null: none that counts. */
export function timeOf(look: RampLook): 'observed' | 'baked' | null {
  const { ramp, onTarget } = look
  if (ramp.state === 'observing') return look.requests > 0 && unmeasured(look).length === 0 ? 'observed' : null
  if (ramp.state !== 'running' || ramp.step < 0 || ramp.job?.state === 'open' || ramp.job?.state === 'running') return null
  return look.judge.step === onTarget.size ? 'baked' : null
}

/** The step that what has moved amounts to; -1: not the first one. */
export function stepReached({ steps }: RampPlan): number {
  const next = steps.findIndex(({ adds }) => adds.length > 0)
  return (next < 0 ? steps.length : next) - 1
}

function decideBegin({ otherOrders, judge }: RampLook): RampDecision {
  // Whatever turned traffic back is home first: the judge judges again from then on.
  if (otherOrders.length > 0) return hold(underWay(otherOrders))
  return { act: 'arm', startAgain: judge.rolledBack !== null }
}

function decideObserving(look: RampLook): RampDecision {
  const { ramp, otherOrders, requests, observedMs } = look
  const because = [...unmeasured(look)]
  if (requests === 0) because.push(NO_REQUESTS)
  const { observeMs } = ramp.config
  if (!(observedMs >= observeMs)) because.push(`observed for ${seconds(observedMs)} of ${seconds(observeMs)} s`)
  if (otherOrders.length > 0) because.push(underWay(otherOrders))
  return because.length > 0 ? { act: 'hold', because } : { act: 'plan' }
}

function decideRunning(look: RampLook, plan: RampPlan): RampDecision {
  const { ramp, onTarget, judge, otherOrders, bakedMs } = look
  const { step } = ramp
  const back = wentBack(look, plan)
  if (back.length > 0)
    return { act: 'end', state: 'stopped', because: `slots of its steps went back to PostgreSQL (${back.length}, the first is ${back[0]})` }
  const because: string[] = []
  const out = plan.steps[step]
  if (out !== undefined && !(bakedMs >= out.bakeMs)) because.push(`baked for ${seconds(bakedMs)} of ${seconds(out.bakeMs)} s`)
  if (otherOrders.length > 0) because.push(underWay(otherOrders))
  // At all of the traffic there is no control to compare with: the judge can only go back from there, and nothing is left to promote.
  const whole = step === plan.steps.length - 1 && out?.percent === 100
  if (onTarget.size > 0 && judge.step !== onTarget.size) because.push(UNJUDGED_STEP)
  else if (!whole) because.push(...(onTarget.size > 0 ? notPromoted(judge) : unmeasured(look)))
  if (because.length > 0) return { act: 'hold', because }
  if (step === plan.steps.length - 1) return { act: 'end', state: 'done', because: null }
  return { act: 'step', step: step + 1, slots: slotsUpTo(plan, step + 1).filter((slot) => !onTarget.has(slot)) }
}

/** INV-10: no promotion without the judge's own word, whatever its reasons say. */
function notPromoted({ promote, holds, saturation }: JudgeNow): readonly string[] {
  const blocked = saturation.filter(({ act }) => act === 'block').map(({ key }) => `key ${key} saturates`)
  if (promote && blocked.length === 0) return []
  const because = [...new Set([...holds, ...blocked])]
  return because.length > 0 ? because : ['the judge has not promoted it']
}

/** Why nothing is known of control, where no canary is out. With one, the judge's promotion says so before anything moves. */
function unmeasured({ judge, onTarget }: RampLook): readonly string[] {
  return onTarget.size > 0 ? [] : judge.holds.filter((one) => one !== NO_CANARY)
}

/** A person, or another leader's verdict, took them: what the ramp was about is gone. */
function wentBack({ ramp, onTarget }: RampLook, plan: RampPlan): readonly SlotId[] {
  const held = new Set(heldSlots(ramp).map(({ slot }) => slot))
  return slotsUpTo(plan, ramp.step).filter((slot) => !onTarget.has(slot) && !held.has(slot))
}

/** What a flip could not take stays where it is, by name. */
export function heldSlots({ passed, job }: Pick<RampRow, 'passed' | 'job'>): readonly HeldSlot[] {
  return [...passed.flatMap((one) => one?.held ?? []), ...(job?.held ?? [])]
}

function slotsUpTo({ steps }: RampPlan, step: number): readonly SlotId[] {
  return steps.slice(0, step + 1).flatMap(({ adds }) => adds)
}

/** As the verdict's own transaction says it (store/schema-judge.ts). */
function verdictSentence({ detector, key, evidence }: JudgeVerdict): string {
  const about = key ?? evidence.statement
  return `the judge turned the traffic back: ${detector}${about === null ? '' : ` of ${about}`}`
}

function underWay(orders: readonly number[]): string {
  return `${orders.length === 1 ? 'order' : 'orders'} ${orders.join(', ')} ${orders.length === 1 ? 'is' : 'are'} under way`
}

function hold(because: string): RampDecision {
  return { act: 'hold', because: [because] }
}

function seconds(ms: number): number {
  return Math.floor(ms / 1_000)
}
