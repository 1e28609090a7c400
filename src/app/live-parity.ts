// Promises: while a canary is out, both stores are compared all the time: a rotating part of the rows, and at once each row that was written
// lately, stands still and differs. What still differs when both sides have passed the same position, and is owned by the target, is a
// wrong write. Connections of its own, at most a tenth of the time, and nobody waits for it.
import type { Logger } from 'pino'
import type { Evidence } from '../canary/judge.ts'
import type { Clock } from '../lib/clock.ts'
import { untilDeadline } from '../lib/in-time.ts'
import type { RowKey } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import type { ParityReport } from '../parity/compare.ts'
import type { Difference } from '../parity/settle.ts'
import { estimatedRows } from '../source/key-ranges.ts'
import { openSource } from './open-parts.ts'
import { parityNow, settleNow } from './run-parity.ts'
import { reopenWorkspace, type Workspace } from './workspace.ts'

export interface LiveParityParts {
  readonly workspace: Workspace
  readonly target: Target
  /** Slots that the target owns. */
  step(): number
  /** Between two comparisons, at least. */
  readonly everyMs: number
  /** A row that the target owns differs for good: a flip looks at it again, and leaves its slot where it is (INV-2). */
  differs(row: RowKey): void
  readonly clock: Clock
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
}

export const COMPARED_EVERY_MS = 60_000
const COMPARED_EVERY_LEAST_MS = 1_000
/** A part of the rows at a time: so many of them, or, of more, a part of which so many are all. */
const PART = { rowsMost: 20_000, partsMost: 64 }
const DEADLINE_MS = 600_000
/** So many times as long as a comparison took, there is none. */
const REST = 9
const SUSPECTS_MAX = 256
const LOOK_MS = 250
const NAMED_MAX = 5

/** Fresh as long as the promotion asks for it. */
export function comparedEveryMs(parityFreshMs: number): number {
  return Math.max(COMPARED_EVERY_LEAST_MS, Math.min(COMPARED_EVERY_MS, parityFreshMs / 3))
}

export interface PartChoice {
  readonly rowsMost: number
  /** Of tables with more rows than that in so many parts, more are taken. */
  readonly partsMost: number
  readonly part: number
}

export interface Compared {
  readonly report: ParityReport
  /** Of all rows. */
  readonly share: number
}

export class LiveParity {
  readonly #parts: LiveParityParts
  readonly #suspects = new Map<string, RowKey>()
  #last: Evidence['parity'] = null
  readonly #wrong = new Set<string>()
  #part = 0
  #told = ''

  constructor(parts: LiveParityParts) {
    this.#parts = parts
  }

  last(): Evidence['parity'] {
    return this.#last
  }

  takeWrongWrites(): number {
    const count = this.#wrong.size
    this.#wrong.clear()
    return count
  }

  /** A row that stands still and differs: looked into at once. */
  suspect(row: RowKey): void {
    if (this.#suspects.size >= SUSPECTS_MAX) return
    this.#suspects.set(idOf(row), row)
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    let dueMs = clock.monotonicMs()
    while (!signal.aborted) {
      if (this.#parts.step() === 0) {
        // Of another canary, nothing is known yet.
        this.#last = null
        this.#wrong.clear()
        this.#suspects.clear()
        dueMs = clock.monotonicMs()
      } else if (this.#suspects.size > 0) await this.#attempt(() => this.#settleSuspects(signal))
      else if (clock.monotonicMs() >= dueMs) {
        const startMs = clock.monotonicMs()
        await this.#attempt(() => this.#compareNext(signal))
        const endMs = clock.monotonicMs()
        dueMs = Math.max(startMs + this.#parts.everyMs, endMs + REST * (endMs - startMs))
      }
      await clock.sleep(LOOK_MS, signal)
    }
  }

  /** So much of both stores, another part with each number; null: not to its end within the deadline. */
  async compare({ rowsMost, partsMost, part }: PartChoice, signal: AbortSignal): Promise<Compared | null> {
    const { target, clock } = this.#parts
    const workspace = await reopenWorkspace(this.#parts.workspace)
    using until = untilDeadline(clock, DEADLINE_MS, signal)
    try {
      const source = openSource(workspace)
      const rows = await rowsOf(workspace)
      // Nobody has counted a large table yet.
      const parts = rows === 0 ? partsMost : Math.max(1, Math.min(partsMost, Math.ceil(rows / rowsMost)))
      const of = { share: 1 / parts, offset: part % parts, certificate: false }
      const { report } = await parityNow({ workspace, source, target, ...of, onProgress: () => undefined, signal: until.signal })
      return until.signal.aborted ? null : { report, share: of.share }
    } finally {
      await workspace.close()
    }
  }

  async #compareNext(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    const compared = await this.compare({ ...PART, part: this.#part }, signal)
    if (compared === null) return
    this.#part++
    const { report } = compared
    this.#last = { tMs: clock.nowMs(), differences: report.differences }
    this.#found(report.listed)
  }

  async #settleSuspects(signal: AbortSignal): Promise<void> {
    const { target, clock } = this.#parts
    const rows = [...this.#suspects.values()]
    this.#suspects.clear()
    const workspace = await reopenWorkspace(this.#parts.workspace)
    using until = untilDeadline(clock, DEADLINE_MS, signal)
    try {
      const differences = await settleNow({ workspace, target }, rows, until.signal)
      if (!until.signal.aborted) this.#found(differences)
    } finally {
      await workspace.close()
    }
  }

  #found(differences: readonly Difference[]): void {
    const wrong = differences.filter(({ owner }) => owner === 'target')
    if (wrong.length === 0) return
    for (const { table, key, clustering } of wrong) {
      this.#wrong.add(idOf({ table, key, clustering }))
      this.#parts.differs({ table, key, clustering })
    }
    const rows = wrong.slice(0, NAMED_MAX).map(({ table, key, clustering, kind }) => `${table} ${[key, ...clustering].join('/')}: ${kind}`)
    this.#parts.log.error({ count: wrong.length, rows }, 'rows that the target owns differ from PostgreSQL, and no write is on its way')
  }

  /** What cannot be compared is not known, and says so once: promotion waits for it. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work()
      this.#told = ''
    } catch (error) {
      const because = error instanceof Error ? error.message : String(error)
      if (because !== this.#told) this.#parts.log.warn({ because }, 'the stores could not be compared; tried again')
      this.#told = because
    }
  }
}

function idOf({ table, key, clustering }: RowKey): string {
  return JSON.stringify([table, key, clustering])
}

async function rowsOf({ client, mapping }: Workspace): Promise<number> {
  let rows = 0
  for (const table of mapping.tables) rows += await estimatedRows(client, table)
  return rows
}
