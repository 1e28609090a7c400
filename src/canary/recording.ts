// Promises: the evidence that a verdict came from, as a small file that is judged again to the same verdict: the judge's state some minutes
// before, and every span since. JSON lines: a head with configuration and state, an evidence a line, the verdict. Pure.
import { SwitchbackError } from '../model/errors.ts'
import { type Evidence, type JudgeConfig, type JudgeState, judge } from './judge.ts'
import type { RecordedEvidence } from './onset.ts'
import type { JudgeVerdict } from './verdict.ts'

const FORMAT = 'switchback evidence 1'
/** Between two states that are kept; a file has at least so many spans, and at most twice as many. */
const SPANS_KEPT = 300

interface Part {
  readonly state: JudgeState
  readonly spans: Evidence[]
}

/** Keeps what the file of a verdict would need, for as long as there is none. */
export class EvidenceRecorder {
  readonly #config: JudgeConfig
  #before: Part | null = null
  #now: Part | null = null

  constructor(config: JudgeConfig) {
    this.#config = config
  }

  /** The judge is about to judge this, in this state. */
  add(state: JudgeState, evidence: Evidence): void {
    if (this.#now === null || this.#now.spans.length >= SPANS_KEPT) {
      this.#before = this.#now
      this.#now = { state, spans: [] }
    }
    this.#now.spans.push(evidence)
  }

  /** Of the verdict that the last evidence came to. */
  file(verdict: JudgeVerdict): string {
    const spans = [...(this.#before?.spans ?? []), ...(this.#now?.spans ?? [])]
    const head = { format: FORMAT, config: this.#config, state: (this.#before ?? this.#now)?.state ?? null }
    return `${[head, ...spans, { verdict }].map((line) => JSON.stringify(line)).join('\n')}\n`
  }
}

export interface Recheck {
  readonly spans: number
  readonly recorded: JudgeVerdict
  /** What the same evidence comes to now; null: nothing. */
  readonly again: JudgeVerdict | null
  readonly same: boolean
}

/** @throws EVIDENCE_INVALID */
export function recheck(file: string, text: string): Recheck {
  const invalid = (line: number, problem: string) => new SwitchbackError('EVIDENCE_INVALID', { file, line, problem })
  const lines = text.split('\n')
  // A whole file ends its last line.
  if (lines.pop() !== '') throw invalid(lines.length + 1, 'the file ends in the middle of a line')
  const parsed = lines.map((line, i) => objectOf(line) ?? invalid(i + 1, 'this is no JSON object'))
  const broken = parsed.find((one) => one instanceof SwitchbackError)
  if (broken !== undefined) throw broken
  const [head, ...spans] = parsed as Record<string, unknown>[]
  const last = spans.pop()
  if (head === undefined || head['format'] !== FORMAT) throw invalid(1, `this is no head of "${FORMAT}"`)
  const recorded = last?.['verdict'] as JudgeVerdict | undefined
  if (recorded === undefined || typeof recorded !== 'object') throw invalid(lines.length, 'the verdict is missing: the file was cut off')
  let state = head['state'] as JudgeState
  let again: JudgeVerdict | null = null
  for (const [i, span] of spans.entries()) {
    try {
      const judged = judge(state, span as unknown as Evidence, head['config'] as JudgeConfig)
      state = judged.state
      again = judged.verdicts.find((verdict) => sameVerdict(verdict, recorded)) ?? judged.verdicts.find(isRollback) ?? again
    } catch (error) {
      // The judge itself throws at nothing that a recorder wrote.
      throw invalid(i + 2, `this is no evidence (${(error as Error).message})`)
    }
  }
  return { spans: spans.length, recorded, again, same: again !== null && sameVerdict(again, recorded) }
}

/** What a file has, for who looks into it; null: it is none. */
export function evidenceOf(text: string): RecordedEvidence | null {
  const lines = text.trimEnd().split('\n').map(objectOf)
  const head = lines[0]
  if (head == null || head['format'] !== FORMAT || lines.includes(null)) return null
  const spans = lines.slice(1, -1) as unknown as Evidence[]
  return { config: head['config'] as JudgeConfig, state: head['state'] as JudgeState, spans }
}

function isRollback({ act }: JudgeVerdict): boolean {
  return act === 'rollback'
}

function sameVerdict(a: JudgeVerdict, b: JudgeVerdict): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

function objectOf(line: string): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(line)
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Record<string, unknown>) : null
  } catch {
    return null
  }
}
