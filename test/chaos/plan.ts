// Promises: what happens in a round, drawn from its seed: who is killed and where, which line breaks and how, who stands still. Pure. The
// seed fixes all of that, and not the instant at which it happens: the processes are real.

import { LINE_FAULTS, type LineFault } from '../../examples/ledger/fault-proxy.ts'
import type { Random } from '../../src/lib/prng.ts'
import { type Armed, COMMANDS, type CommandName, drawPoint, type JudgedName } from './points.ts'

export const GATEWAYS = ['gateway-1', 'gateway-2'] as const
export const CONTROLLERS = ['controller-1', 'controller-2'] as const
export const PROCESSES = [...GATEWAYS, ...CONTROLLERS]
export const STORES = ['target', 'postgres'] as const
export type ProcessName = (typeof PROCESSES)[number]
export type StoreName = (typeof STORES)[number]

/** From a process to a store, from the service's clients to a gateway, or from the gateways to a controller: the feed. */
export interface Line {
  readonly from: ProcessName | 'clients' | 'gateways'
  readonly to: StoreName | ProcessName
}

export type Event =
  /** kill -9, by itself at the point, or from outside where it has not come there in time. `leader`: the controller that leads then. */
  | { readonly kind: 'kill process'; readonly who: ProcessName | 'leader'; readonly armed: Armed; readonly broken: BrokenLine | null }
  /** By itself at the point, while it works or waits for its order. */
  | { readonly kind: 'kill command'; readonly command: CommandName; readonly armed: Armed }
  | { readonly kind: 'kill store'; readonly who: StoreName }
  | { readonly kind: 'break line'; readonly broken: BrokenLine; readonly ms: number }
  /** The judge hears nothing of a canary until it goes back; the leader dies in the middle of that, or when a person starts again. */
  | {
      readonly kind: 'verdict'
      readonly dies: JudgedName
      readonly armed: Armed
      readonly fault: LineFault
      /** A move to the target is under way when the judge goes back. */
      readonly moving: boolean
    }
  /** SIGSTOP, for longer than its lease or its lead lasts, then SIGCONT. */
  | { readonly kind: 'stop'; readonly who: 'leader' | (typeof GATEWAYS)[number] }

export interface BrokenLine {
  readonly line: Line
  readonly fault: LineFault
}

export interface Plan {
  readonly backfill: Armed
  readonly events: readonly { readonly after: number; readonly event: Event }[]
}

export interface PlanOptions {
  /** In all, that of the backfill among them. */
  readonly kills: number
  readonly lines: number
  readonly stops: number
  /** That are brought about, with the judge on, each with a kill; null: the judge is off. */
  readonly verdicts: number | null
}

const LINES: readonly Line[] = [
  ...PROCESSES.flatMap((from) => STORES.map((to) => ({ from, to }))),
  ...GATEWAYS.map((to) => ({ from: 'clients' as const, to })),
  ...CONTROLLERS.map((to) => ({ from: 'gateways' as const, to })),
]
/** Acknowledged writes between two events. */
const BETWEEN = { least: 5, most: 40 }
const LINE_BROKEN_MS = { least: 300, most: 4_000 }
/** Of ten kills: of the processes, then of commands, the rest of the stores. */
const OF_PROCESSES = 6
const OF_COMMANDS = 2
/** Of ten verdicts: the leader dies when a person starts again after it. */
const DIES_AGAIN = 2
/** On which nothing is heard. */
const SILENT_FAULTS = ['reset', 'black hole'] as const satisfies readonly LineFault[]
/** Of ten kills of a process: with a line of its broken meanwhile. */
const WITH_BROKEN_LINE = 3

export function planRound(random: Random, { kills, lines, stops, verdicts }: PlanOptions): Plan {
  const backfill = drawPoint('backfill', random)
  const events: Event[] = [
    ...Array.from({ length: Math.max(0, kills - 1) }, () => killEvent(random)),
    ...Array.from({ length: lines }, () => lineEvent(random)),
    ...Array.from({ length: stops }, () => stopEvent(random)),
    ...Array.from({ length: verdicts ?? 0 }, () => verdictEvent(random)),
  ]
  for (let i = events.length - 1; i > 0; i--) {
    const j = random.int(i + 1)
    ;[events[i], events[j]] = [events[j]!, events[i]!]
  }
  return { backfill, events: events.map((event) => ({ after: between(random, BETWEEN), event })) }
}

function killEvent(random: Random): Event {
  const of = random.int(10)
  if (of >= OF_PROCESSES + OF_COMMANDS) return { kind: 'kill store', who: oneOf(random, STORES) }
  if (of >= OF_PROCESSES) {
    const command = oneOf(random, COMMANDS)
    return { kind: 'kill command', command, armed: drawPoint(command, random) }
  }
  // Half of them the leader: a standby's points are passed by nobody.
  const who = random.int(2) === 0 ? 'leader' : oneOf(random, GATEWAYS)
  const armed = drawPoint(who === 'leader' ? 'controller' : 'gateway', random)
  const from = who === 'leader' ? oneOf(random, CONTROLLERS) : who
  const broken = random.int(10) < WITH_BROKEN_LINE ? { line: { from, to: oneOf(random, STORES) }, fault: oneOf(random, LINE_FAULTS) } : null
  return { kind: 'kill process', who, armed, broken }
}

function lineEvent(random: Random): Event {
  return {
    kind: 'break line',
    broken: { line: oneOf(random, LINES), fault: oneOf(random, LINE_FAULTS) },
    ms: between(random, LINE_BROKEN_MS),
  }
}

function stopEvent(random: Random): Event {
  return { kind: 'stop', who: random.int(2) === 0 ? 'leader' : oneOf(random, GATEWAYS) }
}

function verdictEvent(random: Random): Event {
  const dies = random.int(10) < DIES_AGAIN ? 'again' : 'verdict'
  return { kind: 'verdict', dies, armed: drawPoint(dies, random), fault: oneOf(random, SILENT_FAULTS), moving: random.int(2) === 0 }
}

function oneOf<T>(random: Random, from: readonly T[]): T {
  return from[random.int(from.length)]!
}

function between(random: Random, { least, most }: { least: number; most: number }): number {
  return least + random.int(most - least + 1)
}
