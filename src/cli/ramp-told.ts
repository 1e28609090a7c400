// Promises: a ramp in sentences and as JSON: its plan with each step's blast radius, a line a change, where it stands. Pure.

import { heldSlots, type RampRow } from '../app/ramp-decision.ts'
import { kindOf } from '../app/ramp-loop.ts'
import { isMoving, rampReasons, rampState } from '../app/ramp-standing.ts'
import type { HotShare, PlannedStep, RampPlan, RampSettings } from '../canary/ramp.ts'
import { significant } from '../lib/significant.ts'
import type { SlotId } from '../model/ids.ts'
import { HASH_SLOTS } from '../model/key.ts'
import { bar } from './output.ts'

const TOLD_KEYS_MAX = 3
const TOLD_RANGES_MAX = 8
/** A leader says something of its ramp each second. */
const LEADER_SILENT_MS = 10_000

/** `10 min`, `90 s`. */
export function duration(ms: number): string {
  for (const [unit, length] of [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1_000],
  ] as const)
    if (ms >= length && ms % length === 0) return `${ms / length} ${unit}`
  return `${ms} ms`
}

/** `0-3, 17`. */
export function slotRanges(slots: readonly SlotId[]): (readonly [SlotId, SlotId])[] {
  const ranges: [SlotId, SlotId][] = []
  for (const slot of slots.toSorted((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last !== undefined && slot === last[1] + 1) last[1] = slot
    else ranges.push([slot, slot])
  }
  return ranges
}

export function planLines(plan: RampPlan, { withSlots }: { readonly withSlots: boolean }): string[] {
  return plan.steps.flatMap((step, i) => {
    const lines = [`Step ${i + 1} of ${plan.steps.length}, ${step.percent} %: ${stepRadius(step)}.`]
    if (withSlots && step.adds.length > 0) lines.push(`  slots ${rangesText(step.adds)}`)
    if (step.hotKeys.length > 0) lines.push(`  hottest keys that it adds: ${step.hotKeys.slice(0, TOLD_KEYS_MAX).map(hotKey).join(', ')}`)
    return lines
  })
}

function stepRadius({ adds, slots, requestShare, distance, bakeMs }: PlannedStep): string {
  const share = requestShare === null ? 'requests unknown' : `${percentText(requestShare)} of all requests`
  const far = distance === null ? '' : `, profile ${distance.toFixed(2)} from production's`
  return `${adds.length} more slots, then ${slots} of ${HASH_SLOTS}, ${share}${far}; out for ${duration(bakeMs)} at least`
}

function rangesText(slots: readonly SlotId[]): string {
  const ranges = slotRanges(slots)
  const told = ranges.slice(0, TOLD_RANGES_MAX).map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`))
  const more = ranges.length - told.length
  return `${told.join(', ')}${more > 0 ? ` and ${more} ranges more (--json has all)` : ''}`
}

function hotKey({ key, share }: HotShare): string {
  return `${key} (${percentText(share)})`
}

function percentText(share: number): string {
  return `${significant(share * 100, 2)} %`
}

/** What happened since the last look. `before`: null at the first. */
export function changesOf(before: RampRow | null, now: RampRow): string[] {
  const lines: string[] = []
  if (before === null) lines.push(`Ramp ${now.id}: ${stepsText(now.config)}.`)
  if (now.state !== before?.state) lines.push(...stateLines(now))
  if (phaseOf(now) !== (before === null ? '' : phaseOf(before))) lines.push(...phaseLines(now))
  const because = rampReasons(now)
  if (because.length > 0 && kindOf(because) !== (before === null ? '' : kindOf(rampReasons(before))))
    lines.push(`Holds: ${because.join('; ')}.`)
  return lines
}

function stateLines(now: RampRow): string[] {
  if (now.state === 'arming') return ['Gateways and guard are armed: from here on nobody serves a mapped key without a lease.']
  if (now.state === 'observing') return [`The traffic is observed for ${duration(now.config.observeMs)}; the slots are chosen by it.`]
  if (now.state === 'running' && now.plan !== null) return planLines(now.plan, { withSlots: false })
  if (now.state === 'done') return [doneLine(now)]
  if (now.state === 'rolled back')
    return [`ROLLED BACK: ${now.because}. The ramp goes on no more; \`switchback status\` shows who owns what.`]
  if (now.state === 'stopped') return [`Stopped: ${now.because}. What has moved stays; run the command again to go on from there.`]
  return []
}

/** Within `running`: which step, and whether its slots move or are out. */
function phaseOf(ramp: RampRow): string {
  if (ramp.state !== 'running' || ramp.step < 0) return ''
  return `${ramp.step} ${isMoving(ramp) ? 'moves' : 'is out'}`
}

function phaseLines(now: RampRow): string[] {
  if (phaseOf(now) === '') return []
  return isMoving(now) ? [`${stepText(now)}: its slots move.`] : [outLine(now)]
}

function doneLine(now: RampRow): string {
  const held = heldSlots(now)
  const stay = held.length === 0 ? '' : ` ${held.map(({ slot, because }) => `Slot ${slot} stays where it is: ${because}.`).join(' ')}`
  return `Done: the last step, ${now.config.steps.at(-1)!.percent} %, is out and has baked.${stay}`
}

function outLine(now: RampRow): string {
  const held = now.job?.held.length ?? 0
  const stay = held > 0 ? ` ${held} slots stay where they are.` : ''
  return `${stepText(now)} is out.${stay} It bakes for ${duration(now.plan!.steps[now.step]!.bakeMs)} at least, and goes on when the judge promotes it.`
}

function stepText({ step, plan }: RampRow): string {
  return `Step ${step + 1} of ${plan!.steps.length} (${plan!.steps[step]!.percent} %)`
}

function stepsText({ steps }: RampSettings): string {
  return steps.map(({ percent, bakeMs }) => `${percent} %${bakeMs > 0 ? ` for ${duration(bakeMs)}` : ''}`).join(', then ')
}

function isOut(ramp: RampRow): boolean {
  return ramp.state === 'running' && ramp.plan !== null && ramp.step >= 0 && !isMoving(ramp)
}

/** In one line that is written anew. */
export function standingOf(ramp: RampRow): string {
  const silent =
    ramp.toldAgeMs > LEADER_SILENT_MS && !isMoving(ramp)
      ? `, but no controller has said anything for ${duration(Math.floor(ramp.toldAgeMs / 1_000) * 1_000)}`
      : ''
  if (isMoving(ramp) && ramp.state === 'running')
    return `${bar(ramp.job!.slotsDone, ramp.job!.slotsTotal)} ${stepText(ramp)}: ${ramp.job!.slotsDone} of ${ramp.job!.slotsTotal} slots`
  const { heldBecause } = ramp
  const at = isOut(ramp) ? `${stepText(ramp)} is out` : ramp.state
  return `${at}${heldBecause.length > 0 && !isMoving(ramp) ? `; ${heldBecause.join('; ')}` : ''}${silent}`
}

export function resultOf(ramp: RampRow): Record<string, unknown> {
  return {
    ok: ramp.state === 'done' && heldSlots(ramp).length === 0,
    ramp: ramp.id,
    state: rampState(ramp),
    because: ramp.because,
    basis: ramp.plan?.basis ?? null,
    steps: ramp.plan === null ? [] : ramp.plan.steps.map((step, i) => stepResult(ramp, step, i)),
    hottest: ramp.plan?.hottest ?? [],
    held: heldSlots(ramp),
    ...(ramp.heldBecause.length === 0 ? {} : { heldBecause: ramp.heldBecause }),
  }
}

function stepResult(ramp: RampRow, { adds, ...step }: PlannedStep, i: number): Record<string, unknown> {
  const passed = ramp.passed[i] ?? null
  const bakedMs = i === ramp.step ? ramp.bakedMs : (passed?.bakedMs ?? null)
  const state = i > ramp.step ? 'not begun' : i < ramp.step ? 'passed' : isMoving(ramp) ? 'moving' : 'out'
  return { ...step, adds: adds.length, state, bakedMs: i > ramp.step ? null : bakedMs }
}

/** Of `--dry-run`: every slot of each step. */
export function previewResult(plan: RampPlan): Record<string, unknown> {
  return {
    basis: plan.basis,
    steps: plan.steps.map(({ adds, ...step }) => ({ ...step, adds: slotRanges(adds) })),
    hottest: plan.hottest,
  }
}
