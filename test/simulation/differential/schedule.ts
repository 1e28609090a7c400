// Promises: what a few sessions and a leader do, step by step, from a seed alone: the same seed, the same schedule. Whether a step is possible
// when its turn comes is not known here: who runs it leaves out what is not.
import { type Random, seededRandom } from '../../../src/lib/prng.ts'
import type { Owner } from '../../../src/model/ids.ts'
import type { RowAct } from '../acts.ts'

export const SESSIONS = ['s1', 's2', 's3'] as const
export type SessionName = (typeof SESSIONS)[number]
/** The first and the last share a slot. */
export const KEY_COUNT = 3
export const SLOT_COUNT = 2
export const POTS = ['n', 'x', 'y'] as const
export type Pot = (typeof POTS)[number]
/** That comes and goes, and is not there at first. */
export const NOTE: Pot = 'n'

export type Isolation = 'read committed' | 'repeatable read'
export type LeaderAct = 'park' | 'fence' | 'mark' | 'commit' | 'commit, held' | 'release' | 'finish' | 'cancel'

export type Step =
  | { readonly kind: 'begin'; readonly session: SessionName; readonly isolation: Isolation }
  | { readonly kind: 'write'; readonly session: SessionName; readonly key: number; readonly pot: Pot; readonly act: RowAct }
  | { readonly kind: 'move'; readonly session: SessionName; readonly from: number; readonly to: number; readonly pot: Pot }
  | { readonly kind: 'read'; readonly session: SessionName; readonly key: number }
  | { readonly kind: 'commit' | 'rollback' | 'kill'; readonly session: SessionName }
  | { readonly kind: 'intent'; readonly slot: number; readonly to: Owner }
  /** `open`: what it changed stays invisible, and its locks stay, until `close`. */
  | { readonly kind: 'flip'; readonly slot: number; readonly act: LeaderAct; readonly open: boolean }
  | { readonly kind: 'read-only'; readonly slot: number; readonly on: boolean; readonly open: boolean }
  | { readonly kind: 'close' | 'writers' | 'owners' }
  | StreamStep

/** `acknowledge`: all but the last so many of what was delivered. */
export type StreamStep = { readonly kind: 'stream' | 'reconnect' } | { readonly kind: 'acknowledge'; readonly butLast: number }

const STEPS = { min: 25, max: 60 }
/** Of a flip that goes well, so that owners do change; any other order comes from chance. */
const WAY: readonly LeaderAct[] = ['park', 'fence', 'mark', 'commit', 'finish']

export function scheduleOf(seed: number): Step[] {
  const random = seededRandom(seed)
  const steps: Step[] = []
  const open = new Set<SessionName>()
  /** How far each slot's flip has come; -1: there is none. */
  const along = Array.from({ length: SLOT_COUNT }, () => -1)
  // What a schedule is about: sessions among themselves, the guard, or the slot.
  const control = oneOf(random, [0.05, 0.3, 0.5])
  const strict = oneOf(random, [0.1, 0.5, 0.9])
  // Where sessions meet: spread over all rows they seldom would.
  const focus = random.int(KEY_COUNT)
  for (let key = 0; key < KEY_COUNT; key++) if (random.next() < 0.5) steps.push(...noted(key))
  const length = STEPS.min + random.int(STEPS.max - STEPS.min)
  while (steps.length < length) {
    const dice = random.next()
    if (dice < control) steps.push(leaderStep(random, along))
    else if (dice < control + 0.08) steps.push(lookStep(random))
    else steps.push(sessionStep(random, open, { strict, focus }))
  }
  return steps
}

/** A note that is there before anything else. */
function noted(key: number): Step[] {
  return [
    { kind: 'begin', session: 's1', isolation: 'read committed' },
    { kind: 'write', session: 's1', key, pot: NOTE, act: 'insert' },
    { kind: 'commit', session: 's1' },
  ]
}

interface About {
  /** Share of REPEATABLE READ. */
  readonly strict: number
  readonly focus: number
}

function sessionStep(random: Random, open: Set<SessionName>, { strict, focus }: About): Step {
  const session = oneOf(random, SESSIONS)
  if (!open.has(session)) {
    open.add(session)
    return { kind: 'begin', session, isolation: random.next() < strict ? 'repeatable read' : 'read committed' }
  }
  const dice = random.next()
  if (dice < 0.22) {
    open.delete(session)
    const end = random.next()
    return { kind: end < 0.65 ? 'commit' : end < 0.85 ? 'rollback' : 'kill', session }
  }
  const key = random.next() < 0.5 ? focus : random.int(KEY_COUNT)
  if (dice < 0.37) return { kind: 'read', session, key }
  if (dice < 0.52) {
    const from = random.int(KEY_COUNT - 1)
    return { kind: 'move', session, from, to: from + 1 + random.int(KEY_COUNT - 1 - from), pot: oneOf(random, ['n', 'n', 'x'] as const) }
  }
  const pot = oneOf(random, ['n', 'n', 'n', 'x', 'x', 'y'] as const)
  const act = pot === NOTE ? oneOf(random, ['insert', 'delete', 1, 2] as const) : 1 + random.int(9)
  return { kind: 'write', session, key, pot, act }
}

function leaderStep(random: Random, along: number[]): Step {
  const slot = random.int(SLOT_COUNT)
  const open = random.next() < 0.25
  const dice = random.next()
  if (dice < 0.2) return { kind: 'read-only', slot, on: random.next() < 0.4, open }
  if (dice < 0.35) return flipStep(slot, oneOf(random, [...WAY, 'cancel', 'commit, held', 'release'] as const), open)
  const next = along[slot]!
  if (next === -1) {
    along[slot] = 0
    return { kind: 'intent', slot, to: random.next() < 0.7 ? 'target' : 'source' }
  }
  along[slot] = next + 1 < WAY.length ? next + 1 : -1
  return flipStep(slot, WAY[next]!, open)
}

/** A marker is not left open: the model has an act that is open in its WAL already, and PostgreSQL has not. */
function flipStep(slot: number, act: LeaderAct, open: boolean): Step {
  return { kind: 'flip', slot, act, open: open && act !== 'mark' }
}

function lookStep(random: Random): Step {
  const dice = random.next()
  if (dice < 0.2) return { kind: 'stream' }
  if (dice < 0.4) return { kind: 'acknowledge', butLast: random.int(3) }
  if (dice < 0.5) return { kind: 'reconnect' }
  return { kind: dice < 0.75 ? 'writers' : 'owners' }
}

function oneOf<T>(random: Random, list: readonly T[]): T {
  return list[random.int(list.length)]!
}

/** As a failure prints it. */
export function shown(step: Step): string {
  const { kind, ...rest } = step
  return `${kind} ${Object.values(rest).join(' ')}`.trimEnd()
}
