// Promises: a schedule run on two sides step by step, each step looked at on both before the next begins; and what differed first, with all
// steps up to there. Which steps are possible is decided from what both have shown alike.
import { isDeepStrictEqual } from 'node:util'
import { KEY_COUNT, POTS, type Pot, SESSIONS, type SessionName, type Step, shown } from './schedule.ts'
import { LEADER, type Observed, type Side } from './side.ts'

/** An act stays open for so many steps at most: whoever asks a server gives up some time. */
const OPEN_STEPS_MAX = 5

interface Standing {
  open: boolean
  waits: boolean
  /** Rows are written in one order, as any service does that wants no deadlock. */
  highest: number
  /** Of the statement that waits. */
  rows: readonly number[]
}

export interface Outcome {
  /** What both said, step by step; of the schedule's own steps, then of the look at what is left. */
  readonly said: readonly string[]
  readonly steps: number
  readonly waits: number
  readonly refusals: ReadonlyMap<string, number>
}

/** @throws with the schedule as far as it went. */
export async function sameOnBoth(steps: readonly Step[], model: Side, postgres: Side): Promise<Outcome> {
  const standings = new Map(SESSIONS.map((name) => [name, { open: false, waits: false, highest: -1, rows: [] } as Standing]))
  const told: string[] = []
  const said: string[] = []
  const refusals = new Map<string, number>()
  const flips = new Set<number>()
  let openFor = 0
  let waits = 0
  const run = async (step: Step) => {
    const number = told.length + 1
    const byModel = await model.step(step, number)
    const byPostgres = await postgres.step(step, number)
    told.push(`${String(number).padStart(3)} ${shown(step).padEnd(36)} ${brief(byPostgres)}`)
    if (!isDeepStrictEqual(byModel, byPostgres))
      throw new Error(`${told.join('\n')}\n    the model says ${brief(byModel)}\n    PostgreSQL says ${brief(byPostgres)}`)
    said.push(brief(byPostgres))
    note(step, byPostgres, standings)
    if (step.kind === 'intent' && /^intent/.test(byPostgres.answers[LEADER]!)) flips.add(step.slot)
    if (openFor > 0) openFor++
    if (byPostgres.answers[LEADER] === 'open') openFor = 1
    if (step.kind === 'close') openFor = 0
    waits += Object.keys(byPostgres.waiting).length
    for (const answer of Object.values(byPostgres.answers))
      if (/^([0-9A-Z]{5}|[A-Z_]+|gone)$/.test(answer)) refusals.set(answer, (refusals.get(answer) ?? 0) + 1)
  }
  for (const step of steps) {
    if (openFor > OPEN_STEPS_MAX) await run({ kind: 'close' })
    if (!possible(step, { standings, flips, open: openFor > 0 })) continue
    await run(step)
  }
  if (openFor > 0) await run({ kind: 'close' })
  for (let left = SESSIONS.length; left > 0; left--)
    for (const [session, { open, waits: still }] of standings) if (open && !still) await run({ kind: 'rollback', session })
  for (const step of ENDS) await run(step)
  return { said, steps: told.length, waits, refusals }
}

const ENDS: readonly Step[] = [
  { kind: 'writers' },
  { kind: 'owners' },
  { kind: 'stream' },
  { kind: 'begin', session: 's1', isolation: 'repeatable read' },
  ...[0, 1, 2].map((key): Step => ({ kind: 'read', session: 's1', key })),
  { kind: 'commit', session: 's1' },
  { kind: 'reconnect' },
  { kind: 'acknowledge', butLast: 0 },
  { kind: 'reconnect' },
]

interface Now {
  readonly standings: ReadonlyMap<SessionName, Standing>
  readonly flips: ReadonlySet<number>
  readonly open: boolean
}

function possible(step: Step, { standings, flips, open }: Now): boolean {
  switch (step.kind) {
    case 'intent':
    case 'read-only':
    case 'stream':
    case 'reconnect':
    case 'acknowledge':
      return !open
    case 'flip':
      return !open && flips.has(step.slot)
    case 'close':
      return open
    case 'writers':
    case 'owners':
      return true
    case 'begin':
      return !standings.get(step.session)!.open
    case 'kill':
      return standings.get(step.session)!.open
    default: {
      const own = standings.get(step.session)!
      if (!own.open || own.waits) return false
      const rows = rowsOf(step)
      const asked = [...standings.values()].filter(({ waits }) => waits).flatMap((one) => one.rows)
      // Who is let go on first of two that wait for one row is chance.
      return rows.every((row) => row >= own.highest && !asked.includes(row))
    }
  }
}

const idOf = (key: number, pot: Pot) => key * POTS.length + POTS.indexOf(pot)

function rowsOf(step: Step): number[] {
  if (step.kind === 'write') return [idOf(step.key, step.pot)]
  return step.kind === 'move' ? [idOf(step.from, step.pot), idOf(step.to, step.pot)] : []
}

function note(step: Step, { answers, waiting }: Observed, standings: ReadonlyMap<SessionName, Standing>): void {
  if ('session' in step) {
    const own = standings.get(step.session)!
    if (step.kind === 'begin') Object.assign(own, { open: true, highest: -1 })
    const rows = rowsOf(step)
    if (rows.length > 0) Object.assign(own, { highest: rows.at(-1), rows })
    if (step.kind === 'kill') own.open = false
  }
  for (const [name, own] of standings) {
    // It may have locked the row where it found it: under a later key.
    if (own.waits) own.highest = Math.max(own.highest, ...own.rows.map((row) => (KEY_COUNT - 1) * POTS.length + (row % POTS.length)))
    own.waits = waiting[name] !== undefined
    const answer = answers[name]
    if (answer !== undefined && /^([0-9A-Z]{5}|gone|committed|rolled back)$/.test(answer)) own.open = false
  }
}

function brief({ answers, waiting }: Observed): string {
  const said = Object.entries(answers)
    .sort()
    .map(([name, answer]) => `${name}: ${answer === '' ? 'nothing' : answer}`)
  const waits = Object.entries(waiting)
    .sort()
    .map(([name, holders]) => `${name} waits for ${holders}`)
  return [...said, ...waits].join(' | ')
}
