// Promises: a team's own history of requests, a JSON line each, folded into what the judge takes: both arms' counts, by statement, of each
// second, in order. Nothing silent (INV-11): every line is counted as a request or, by its reason, as skipped; what would make the whole
// answer wrong is one clear error. Lines are read once and not kept; docs/operating/judge.md has the format.
// A slow request is often written when it ends, so after quick ones that began later. A second is therefore closed only when a request of
// REORDER_MS later has come: to skip late lines would be to skip the slow ones.
import type { ArmCounts, Arms } from '../canary/arm-counts.ts'
import { MOST_STATEMENTS } from '../canary/judge.ts'
import { latenciesOf, NO_LATENCIES } from '../canary/latencies.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Owner } from '../model/ids.ts'

export const REORDER_MS = 60_000
/** Statements told apart; the judge's own limit (canary/judge.ts) leaves room for the rest. */
export const TRACE_STATEMENTS_MAX = MOST_STATEMENTS - 1
export const OTHER_STATEMENTS = 'all other statements'
/** So many lines, none of which is a request: this is no trace. */
const HEADLESS_LINES_MAX = 100
/** A request is a few hundred characters. */
export const TRACE_LINE_CHARACTERS_MAX = 1 << 20
/** Requests whose second is still open; beyond, the oldest second is closed before its time. */
const OPEN_REQUESTS_MAX = 4_000_000
const SECOND_MS = 1_000

/** One request, as a line has it. */
export interface TraceLine {
  /** When it arrived, in milliseconds from any beginning. */
  readonly tMs: number
  readonly arm: Owner
  readonly statement: string
  readonly key: string | number
  /** From arrival to answer. */
  readonly latencyMs: number
  readonly ok: boolean
}

export interface TraceSecond {
  readonly fromMs: number
  readonly statements: Readonly<Record<string, Arms>>
}

/** Why a line was skipped. */
export interface TraceSkips {
  /** Not JSON, or no object. */
  notJson: number
  /** A field is missing or is not what it should be: a time or a latency that is negative or no number. */
  invalid: number
  /** More than REORDER_MS before a request that came earlier in the file. */
  late: number
  /** The last line ends in the middle. */
  torn: number
}

export interface TraceTotals {
  readonly lines: number
  readonly requests: number
  readonly byArm: Readonly<Record<Owner, number>>
  /** From the first request's time to the last one's. */
  readonly spanMs: number
  readonly skipped: Readonly<TraceSkips>
}

interface OpenArm {
  errors: number
  readonly latenciesMs: number[]
}

interface OpenSecond {
  requests: number
  readonly statements: Map<string, Readonly<Record<Owner, OpenArm>>>
}

export class TraceReader {
  /** What was told of in errors. */
  readonly #file: string
  readonly #open = new Map<number, OpenSecond>()
  readonly #statements = new Set<string>()
  readonly #byArm: Record<Owner, number> = { source: 0, target: 0 }
  readonly #skipped: TraceSkips = { notJson: 0, invalid: 0, late: 0, torn: 0 }
  #rest = ''
  #lines = 0
  #openRequests = 0
  #firstMs = Number.POSITIVE_INFINITY
  #newestMs = Number.NEGATIVE_INFINITY
  /** Seconds before it are closed. */
  #closedTo = Number.NEGATIVE_INFINITY
  /** The second of the request before: most often this one's too. */
  #second: OpenSecond | undefined
  #secondNumber = Number.NaN

  constructor({ file }: { readonly file: string }) {
    this.#file = file
  }

  /** Takes the next part of the text, which may end anywhere; returns the seconds that it closed. */
  push(text: string): TraceSecond[] {
    const all = this.#rest === '' ? text : this.#rest + text
    let from = 0
    for (let to = all.indexOf('\n'); to >= 0; to = all.indexOf('\n', from)) {
      this.#take(all.slice(from, to), false)
      from = to + 1
    }
    this.#rest = all.slice(from)
    if (this.#rest.length > TRACE_LINE_CHARACTERS_MAX) {
      throw this.#invalid(`a line of more than ${TRACE_LINE_CHARACTERS_MAX} characters`, this.#lines + 1)
    }
    return this.#close(Math.floor((this.#newestMs - REORDER_MS) / SECOND_MS))
  }

  /** The text has ended; `torn`: where it should not have. */
  end({ torn = false }: { readonly torn?: boolean } = {}): TraceSecond[] {
    if (this.#rest.trim() !== '') this.#take(this.#rest, true)
    else if (torn) this.#skipped.torn++
    this.#rest = ''
    return this.#close(Number.POSITIVE_INFINITY)
  }

  totals(): TraceTotals {
    const requests = this.#byArm.source + this.#byArm.target
    return {
      lines: this.#lines,
      requests,
      byArm: { ...this.#byArm },
      spanMs: requests === 0 ? 0 : this.#newestMs - this.#firstMs,
      skipped: { ...this.#skipped },
    }
  }

  #take(line: string, last: boolean): void {
    this.#lines++
    const parsed = parsedLine(line)
    if (parsed === undefined) {
      if (line.trim() === '') this.#lines--
      else if (last) this.#skipped.torn++
      else this.#skip('notJson')
      return
    }
    const request = parsed as Partial<Record<keyof TraceLine, unknown>>
    const { tMs, arm, statement, key, latencyMs, ok } = request
    if (arm !== 'source' && arm !== 'target') {
      if (arm === undefined) return this.#skip('invalid')
      // Half of the requests on the wrong side, or left out, would be a verdict about something else.
      throw this.#invalid(`arm is ${JSON.stringify(arm)?.slice(0, 40)}, not "source" or "target"`)
    }
    if (!isTime(tMs) || !isTime(latencyMs) || typeof statement !== 'string' || typeof ok !== 'boolean') return this.#skip('invalid')
    if (typeof key !== 'string' && typeof key !== 'number') return this.#skip('invalid')
    this.#count(tMs, arm, statement, latencyMs, ok)
  }

  #count(tMs: number, arm: Owner, statement: string, latencyMs: number, ok: boolean): void {
    const number = Math.floor(tMs / SECOND_MS)
    if (number < this.#closedTo || tMs < this.#newestMs - REORDER_MS) return this.#skip('late')
    const open = number === this.#secondNumber ? this.#second! : this.#openSecond(number)
    let arms = open.statements.get(statement)
    if (arms === undefined) {
      const name = this.#nameOf(statement)
      arms = open.statements.get(name) ?? { source: { errors: 0, latenciesMs: [] }, target: { errors: 0, latenciesMs: [] } }
      open.statements.set(name, arms)
    }
    arms[arm].latenciesMs.push(latencyMs)
    if (!ok) arms[arm].errors++
    open.requests++
    this.#openRequests++
    this.#byArm[arm]++
    if (tMs > this.#newestMs) this.#newestMs = tMs
    if (tMs < this.#firstMs) this.#firstMs = tMs
  }

  #nameOf(statement: string): string {
    if (this.#statements.has(statement)) return statement
    if (this.#statements.size >= TRACE_STATEMENTS_MAX || statement === OTHER_STATEMENTS) return OTHER_STATEMENTS
    this.#statements.add(statement)
    return statement
  }

  #openSecond(number: number): OpenSecond {
    let open = this.#open.get(number)
    if (open === undefined) {
      open = { requests: 0, statements: new Map() }
      this.#open.set(number, open)
    }
    this.#second = open
    this.#secondNumber = number
    return open
  }

  #skip(why: keyof TraceSkips): void {
    this.#skipped[why]++
    if (this.#lines >= HEADLESS_LINES_MAX && this.#byArm.source + this.#byArm.target === 0)
      throw this.#invalid(`not one of the first ${HEADLESS_LINES_MAX} lines is a request`)
  }

  #invalid(problem: string, line = this.#lines): SwitchbackError {
    return new SwitchbackError('TRACE_INVALID', { file: this.#file, line, problem })
  }

  /** Closes the seconds before `to`, and more where too many requests are held. */
  #close(to: number): TraceSecond[] {
    if (to <= this.#closedTo && this.#openRequests <= OPEN_REQUESTS_MAX) return []
    const closed: TraceSecond[] = []
    for (const number of [...this.#open.keys()].sort((a, b) => a - b)) {
      if (number >= to && this.#openRequests <= OPEN_REQUESTS_MAX) break
      closed.push(this.#closeSecond(number))
    }
    if (to > this.#closedTo) this.#closedTo = to
    return closed
  }

  #closeSecond(number: number): TraceSecond {
    const open = this.#open.get(number)!
    this.#open.delete(number)
    this.#openRequests -= open.requests
    this.#closedTo = number + 1
    if (number === this.#secondNumber) this.#secondNumber = Number.NaN
    const statements: Record<string, Arms> = {}
    // A statement's name may be anything, "__proto__" too.
    for (const [name, { source, target }] of open.statements)
      Object.defineProperty(statements, name, { value: { canary: countsOf(target), control: countsOf(source) }, enumerable: true })
    return { fromMs: number * SECOND_MS, statements }
  }
}

/** The trace's seconds as they close; its totals at the end. `torn` says whether the text had ended where it should not. */
export async function* traceSeconds(
  reader: TraceReader,
  texts: AsyncIterable<string>,
  torn: () => boolean = () => false,
): AsyncGenerator<TraceSecond> {
  for await (const text of texts) yield* reader.push(text)
  yield* reader.end({ torn: torn() })
}

function parsedLine(line: string): object | undefined {
  try {
    const parsed: unknown = JSON.parse(line)
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? parsed : undefined
  } catch {
    return undefined
  }
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Number.POSITIVE_INFINITY
}

function countsOf({ errors, latenciesMs }: OpenArm): ArmCounts {
  const latencies = latenciesMs.length === 0 ? NO_LATENCIES : latenciesOf(latenciesMs)
  return { requests: latenciesMs.length, errors, wrongWrites: 0, latencies }
}
