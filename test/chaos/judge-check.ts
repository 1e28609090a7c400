// Promises: what must hold of the judge's rollbacks, checked on what PostgreSQL has of them at a round's end: the journal replayed in its
// order, verdicts, flips and orders. Pure. The journal's order is that of the acts: a verdict and a commit lock the same row.

/** A way home may wait for a leader, a store that comes back and a process that stands still. */
export const HOME_MS = 90_000
/** PostgreSQL rounds times to microseconds, the report to milliseconds. */
const ROUNDING_MS = 2

export interface JudgeRows {
  /** Of act rollback, the oldest first. */
  readonly verdicts: readonly VerdictSeen[]
  /** By its number. */
  readonly journal: readonly JournalSeen[]
  readonly flips: readonly FlipSeen[]
  /** Orders of moves, by their number. */
  readonly moves: readonly MoveSeen[]
}

export interface VerdictSeen {
  readonly id: number
  readonly atMs: number
  readonly detector: string
  readonly hasEvidence: boolean
  readonly reportWhole: boolean
  /** As the report says. */
  readonly offMs: number | null
}

export interface JournalSeen {
  readonly atMs: number
  readonly kind: string
  readonly flip: string | null
  readonly verdict: number | null
  /** Of `finish`: how the flip ended. */
  readonly ended: string | null
}

export interface FlipSeen {
  readonly id: string
  readonly to: string
  readonly slots: readonly number[]
}

export interface MoveSeen {
  readonly id: number
  readonly to: string
  /** Of an order of the judge. */
  readonly verdict: number | null
  readonly state: string
  /** Slots that it left where they were, by name. */
  readonly leftSlots: number
  readonly orderedMs: number
  readonly endedMs: number | null
}

export const JUDGE_CHECKS = [
  'withoutEvidence',
  'withoutOrder',
  'withoutReport',
  'reportedWrong',
  'notHome',
  'wentOutWhileOff',
  'endedThoughHeld',
  'wrongWriteVerdicts',
] as const
export type JudgeCheck = (typeof JUDGE_CHECKS)[number]

export interface JudgeChecked {
  readonly verdicts: number
  readonly ordersHome: number
  /** Moves to the target that a verdict held. */
  readonly movesHeld: number
  /** A person started again after a verdict. */
  readonly restarts: number
  readonly verdictToOffMs: readonly number[]
  readonly failures: readonly { readonly check: JudgeCheck; readonly what: string }[]
}

export function checkJudge(rows: JudgeRows): JudgeChecked {
  const played = replayed(rows)
  const failures = [...played.failures, ...rows.verdicts.flatMap((verdict) => failuresOf(verdict, rows, played.ways.get(verdict.id)))]
  const home = rows.moves.filter(({ verdict }) => verdict !== null)
  return {
    verdicts: rows.verdicts.length,
    ordersHome: home.length,
    movesHeld: rows.moves.filter(({ to, state }) => to === 'target' && state === 'held').length,
    restarts: rows.journal.filter(({ kind }) => kind === 'canary again').length,
    verdictToOffMs: [...played.ways.values()].flatMap(({ offMs }) => (offMs === null ? [] : [offMs])),
    failures,
  }
}

/** What the target had when a verdict was recorded, on its way home. */
interface WayHome {
  readonly sinceMs: number
  readonly left: Set<number>
  /** Null: nothing was there to go home, or it is not all home. */
  offMs: number | null
  /** Before all was home. */
  startedAgain: boolean
}

interface Replayed {
  readonly ways: ReadonlyMap<number, WayHome>
  readonly failures: JudgeChecked['failures']
}

function replayed({ verdicts, journal, flips }: JudgeRows): Replayed {
  const flipOf = new Map(flips.map((flip) => [flip.id, flip]))
  const rollbacks = new Map(verdicts.map(({ id, atMs }) => [id, atMs]))
  const onTarget = new Set<number>()
  const ways = new Map<number, WayHome>()
  const failures: { check: JudgeCheck; what: string }[] = []
  let standing: number | null = null
  for (const { kind, flip: id, verdict, ended, atMs } of journal) {
    const flip = id === null ? undefined : flipOf.get(id)
    const sinceMs = kind === 'verdict' && verdict !== null ? rollbacks.get(verdict) : undefined
    if (sinceMs !== undefined) {
      standing = verdict
      ways.set(verdict!, { sinceMs, left: new Set(onTarget), offMs: null, startedAgain: false })
    } else if (kind === 'canary again') {
      standing = null
      for (const way of ways.values()) way.startedAgain ||= way.left.size > 0
    } else if (kind === 'commit' && flip?.to === 'target') {
      const what = `flip ${flip.id} took ${flip.slots.length} slots to the target after verdict ${standing}, and nobody had started again`
      if (standing !== null) failures.push({ check: 'wentOutWhileOff', what })
      for (const slot of flip.slots) onTarget.add(slot)
    } else if (kind === 'commit' && flip !== undefined) for (const slot of flip.slots) onTarget.delete(slot)
    else if (kind === 'finish' && ended === 'routed' && flip?.to === 'source') wentHome(ways, flip, atMs)
  }
  return { ways, failures }
}

function wentHome(ways: ReadonlyMap<number, WayHome>, { slots }: FlipSeen, atMs: number): void {
  for (const way of ways.values()) {
    if (way.left.size === 0 || way.startedAgain) continue
    for (const slot of slots) way.left.delete(slot)
    if (way.left.size === 0) way.offMs = atMs - way.sinceMs
  }
}

const OFF: ReadonlySet<string> = new Set(['held', 'failed'])

function failuresOf(verdict: VerdictSeen, { moves }: JudgeRows, way: WayHome | undefined): { check: JudgeCheck; what: string }[] {
  const failures: { check: JudgeCheck; what: string }[] = []
  const fail = (check: JudgeCheck, what: string) => failures.push({ check, what: `verdict ${verdict.id} (${verdict.detector}) ${what}` })
  if (!verdict.hasEvidence) fail('withoutEvidence', 'has no evidence')
  if (!verdict.reportWhole) fail('withoutReport', 'has no whole report')
  // Chaos loses and doubles nothing, so that no write is wrong.
  if (verdict.detector === 'wrong-write') fail('wrongWriteVerdicts', 'says that a write is wrong')
  const order = moves.find((move) => move.verdict === verdict.id)
  if (order === undefined) fail('withoutOrder', 'has no order home')
  // Its own transaction held what was open before it placed the order; one that came between is refused.
  else
    for (const { id, to, state, endedMs } of moves)
      if (to === 'target' && id < order.id && (endedMs ?? Number.POSITIVE_INFINITY) > order.orderedMs && !OFF.has(state))
        fail('endedThoughHeld', `held order ${id} to the target, which is ${state} afterwards`)
  if (way === undefined) fail('notHome', 'is not in the journal')
  else if (way.startedAgain && order?.state === 'done' && order.leftSlots === 0)
    fail('notHome', `left ${way.left.size} slots on the target until a person started again, and its order says that it is done`)
  else if (way.left.size > 0 && !way.startedAgain) fail('notHome', `left ${way.left.size} slots on the target`)
  else if (way.offMs !== null && way.offMs > HOME_MS) fail('notHome', `was home after ${Math.round(way.offMs)} ms`)
  if (verdict.reportWhole && way?.offMs != null && differ(verdict.offMs, way.offMs))
    fail('reportedWrong', `was home after ${Math.round(way.offMs)} ms, and the report says ${verdict.offMs}`)
  return failures
}

function differ(told: number | null, isMs: number): boolean {
  return told === null || Math.abs(told - isMs) > ROUNDING_MS
}
