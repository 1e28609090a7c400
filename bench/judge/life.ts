// Promises: one life of a canary in a world: the judge and what others do, on the same evidence.
import { type Arms, NO_COUNTS } from '../../src/canary/arm-counts.ts'
import { type Evidence, FRESH_JUDGE, JUDGE_DEFAULTS, type JudgeConfig, type JudgeState, judge } from '../../src/canary/judge.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { drawArms, drawSpan, type Harm, NO_HARM, type Rates } from './service.ts'
import { WORLDS, World, type WorldName } from './world.ts'

/** Something that says at the end of a span whether to go back. It forgets all when it has said so. */
export interface Watcher {
  readonly name: string
  see(arms: Arms, tMs: number, spanMs: number): string | null
}

export interface Life {
  readonly world: WorldName
  readonly seed: number
  readonly rates: Rates
  readonly spanS: number
  readonly seconds: number
  readonly onset: { readonly atS: number; readonly harm: Harm } | null
}

export interface Alarm {
  readonly watcher: string
  readonly atS: number
  readonly by: string
}

/** Until its end, or until each watcher has alarmed after the onset. */
export function live({ world, seed, rates, spanS, seconds, onset }: Life, watchers: readonly Watcher[], signal: AbortSignal): Alarm[] {
  const weather = new World(WORLDS[world], seededRandom(seed))
  const random = seededRandom(seed ^ 0x5bd1e995)
  const alarms: Alarm[] = []
  const waiting = new Set(watchers)
  for (let atS = spanS; atS <= seconds && waiting.size > 0; atS += spanS) {
    const harmed = onset !== null && atS > onset.atS
    const arms = drawArms(random, weather.next(spanS), { rates, spanS, harm: harmed ? onset.harm : NO_HARM, draw: drawSpan })
    for (const watcher of waiting) {
      const by = watcher.see(arms, atS * 1_000, spanS * 1_000)
      if (by === null) continue
      alarms.push({ watcher: watcher.name, atS, by })
      if (harmed) waiting.delete(watcher)
    }
    if (atS % 3_600 < spanS) signal.throwIfAborted()
  }
  return alarms
}

/** The judge's other answer: says once when it would take the next step, with all but the proof itself in place. */
export class PromotionWatcher implements Watcher {
  readonly name = 'promotion'
  readonly #outMs: number
  #state: JudgeState = FRESH_JUDGE
  #said = false

  /** Until `outS` there is no canary. */
  constructor(outS: number) {
    this.#outMs = outS * 1_000
  }

  see(arms: Arms, tMs: number, spanMs: number): string | null {
    if (this.#said) return null
    const step = tMs > this.#outMs ? 1 : 0
    const statements = { all: step === 1 ? arms : { canary: NO_COUNTS, control: arms.control } }
    const evidence: Evidence = { tMs, spanMs, step, statements, parity: { tMs, differences: 0 }, lag: { tMs, ms: 1 }, saturation: [] }
    const promotion = { ...JUDGE_DEFAULTS.promotion, bakeMs: 0, leastRequests: 0 }
    const { state, promote, verdicts } = judge(this.#state, evidence, { ...JUDGE_DEFAULTS, promotion })
    this.#state = state
    this.#said = promote || verdicts.length > 0
    return promote ? 'promoted' : null
  }
}

export class JudgeWatcher implements Watcher {
  readonly name = 'judge'
  readonly #config: JudgeConfig
  #state: JudgeState = FRESH_JUDGE

  constructor(config: Partial<JudgeConfig> = {}) {
    this.#config = { ...JUDGE_DEFAULTS, ...config }
  }

  see(arms: Arms, tMs: number, spanMs: number): string | null {
    const evidence: Evidence = { tMs, spanMs, step: 1, statements: { all: arms }, parity: null, lag: null, saturation: [] }
    const { state, verdicts } = judge(this.#state, evidence, this.#config)
    const back = verdicts.find(({ act }) => act === 'rollback')
    this.#state = back === undefined ? state : FRESH_JUDGE
    return back?.detector ?? null
  }
}
