// Promises: the judge over a trace, a second at a time on the trace's own clock, by the same code as live: what it would have done, and when.
// A trace knows of no parity, no lag and no hold times, so nothing is promoted here and no saturation predicted.
import { type Evidence, FRESH_JUDGE, type JudgeConfig, type JudgeState, judge } from '../canary/judge.ts'
import { EvidenceRecorder } from '../canary/recording.ts'
import type { JudgeVerdict } from '../canary/verdict.ts'
import type { TraceSecond } from './judge-trace.ts'

const SECOND_MS = 1_000

export class Backtest {
  readonly #config: JudgeConfig
  readonly #recorder: EvidenceRecorder
  readonly #verdicts: JudgeVerdict[] = []
  #state: JudgeState = FRESH_JUDGE
  #holds: readonly string[] = []
  /** The end of the last second that was judged. */
  #toMs: number | null = null
  #canaryOut = false

  constructor(config: JudgeConfig) {
    this.#config = config
    this.#recorder = new EvidenceRecorder(config)
  }

  /** New verdicts. Seconds come in order; those without a request need not come. */
  second({ fromMs, statements }: TraceSecond): readonly JudgeVerdict[] {
    const before = this.#verdicts.length
    // While a canary is out, a time without a request is silence, and is judged. Before that it is none.
    if (this.#canaryOut) while (this.#toMs! < fromMs && this.#state.rolledBack === null) this.#step(this.#toMs!, {})
    this.#canaryOut ||= Object.values(statements).some(({ canary }) => canary.requests > 0)
    this.#step(fromMs, statements)
    return this.#verdicts.slice(before)
  }

  get verdicts(): readonly JudgeVerdict[] {
    return this.#verdicts
  }

  /** What the judge says at the end of why nothing more is decided. */
  get holds(): readonly string[] {
    return this.#holds
  }

  /** Whether any of the canary's time was judged at all: it had control's first ten minutes to judge by, and requests. */
  get judged(): boolean {
    return this.#state.rolledBack !== null || Object.values(this.#state.statements).some(({ tail }) => tail.last !== null)
  }

  /** What the rollback was decided by, for `recheck`; null: there was none. */
  evidence(): string | null {
    const { rolledBack } = this.#state
    return rolledBack === null ? null : this.#recorder.file(rolledBack)
  }

  #step(fromMs: number, statements: Evidence['statements']): void {
    this.#toMs = fromMs + SECOND_MS
    if (this.#state.rolledBack !== null) return
    const evidence: Evidence = {
      tMs: this.#toMs,
      spanMs: SECOND_MS,
      step: this.#canaryOut ? 1 : 0,
      statements,
      parity: null,
      lag: null,
      saturation: [],
    }
    this.#recorder.add(this.#state, evidence)
    const { state, verdicts, holds } = judge(this.#state, evidence, this.#config)
    this.#state = state
    this.#holds = holds
    this.#verdicts.push(...verdicts)
  }
}
