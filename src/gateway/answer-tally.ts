// Promises: each keyed statement of active mode is told to the metrics once it was answered, with the store that it ran on and the time
// since the last byte of its batch came in: what it waited for before it (its session's batches, a flip, its key's queue) counts. A COMMIT
// is told for the aggregate that its transaction is on. What was never answered, as to a client that is gone, is not told.
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import { type PlannedStatement, SqlError } from '../model/plan.ts'
import { isSystemFault } from '../model/system-fault.ts'
import { labelOf } from '../sql/label.ts'
import { BACKEND, decodeBackend, ERROR_FIELD } from '../wire/backend.ts'
import type { GatewayContext } from './context.ts'
import type { Routable } from './routing.ts'
import { ServerError } from './server-error.ts'

/** The one aggregate of a transaction; of several on PostgreSQL, the first that it touched. */
export interface TransactionKey {
  readonly key: AggregateKey
  readonly slot: SlotId
  wrote: boolean
}

/** One that runs: null of what is not keyed, in its place. */
export type Run = Keyed | TransactionKey | null
type Keyed = Pick<Routable, 'planned' | 'touches'>

const COMMIT_LABEL = 'commit'

export class AnswerTally {
  readonly #context: GatewayContext
  #arrivedMs = 0
  #runs: Run[] = []
  /** How many of them have been run, and how many had been when the last ones came. */
  #ran = 0
  #mark = 0
  /** Where they run; null: that was not decided. */
  arm: Owner | null = null
  /** Of the transaction that is open on PostgreSQL. */
  open: TransactionKey | null = null
  /** The client is gone: a wait that ended with it was no answer. */
  gone = false

  constructor(context: GatewayContext) {
    this.#context = context
  }

  get measured(): boolean {
    return this.#context.metrics.statement !== undefined
  }

  /** A batch is next, whose last byte came in then. `goesOn`: in the one transaction of statements without BEGIN that is open. */
  batch(arrivedMs: number, goesOn: boolean): void {
    this.#arrivedMs = arrivedMs
    if (!goesOn) this.#clear()
  }

  /** These run next, together. What was not told yet is told with them. */
  begin(runs: readonly Run[]): void {
    this.arm = null
    this.#mark = this.#ran
    for (const run of runs) this.#runs.push(run)
  }

  /** They are run again from the first on, wherever that will be. */
  again(): void {
    this.arm = null
    this.#ran = this.#mark
  }

  /** One more, or so many more, has been run. */
  ran(count = 1): void {
    this.#ran += count
  }

  /**
   * What has been run is answered now; with an error, so is the one behind it, and what follows was skipped. `alone`: no transaction stays
   * open around them.
   */
  answered({ sqlstate, alone }: { readonly sqlstate: string | null; readonly alone: boolean }): void {
    const runs = this.#runs
    if (runs.length === 0) return this.#clear()
    const ms = this.#context.clock.monotonicMs() - this.#arrivedMs
    const ran = Math.min(this.#ran, runs.length)
    for (let i = 0; i < ran; i++) this.#tell(runs[i]!, { ms, sqlstate: null, alone })
    if (sqlstate !== null && ran < runs.length) this.#tell(runs[ran]!, { ms, sqlstate, alone })
    this.#clear()
  }

  threw(error: unknown): void {
    if (this.gone && hasCode(error, 'STATEMENT_CANCELED')) this.#clear()
    else this.answered({ sqlstate: sqlstateOf(error), alone: false })
  }

  /** COMMIT on the target, in words or by Sync behind statements without BEGIN, which are answered with it. */
  committed(of: TransactionKey & { readonly implicit: boolean }, error: unknown): void {
    if (!this.measured) return
    if (!of.implicit) this.begin([of])
    this.arm = 'target'
    // What fails is the last of them, or the COMMIT.
    if (of.implicit && error !== null) this.#ran = Math.max(0, Math.min(this.#ran, this.#runs.length) - 1)
    if (!of.implicit && error === null) this.ran()
    if (error === null) this.answered({ sqlstate: null, alone: of.implicit })
    else this.threw(error)
  }

  #clear(): void {
    if (this.#runs.length > 0) this.#runs = []
    this.#ran = 0
    this.#mark = 0
  }

  #tell(run: Run, { ms, sqlstate, alone }: { readonly ms: number; readonly sqlstate: string | null; readonly alone: boolean }): void {
    const at = placeOf(run)
    if (at === null) return
    const { key, slot, wrote } = at
    const arm = this.arm ?? this.#context.gate.view?.ownership(slot)?.owner
    if (arm === undefined) return
    const commit = run === at
    this.#context.metrics.statement?.({
      arm,
      label: commit ? COMMIT_LABEL : labelled((run as Keyed).planned),
      key,
      slot,
      ms,
      failed: sqlstate !== null && isSystemFault(sqlstate),
      commits: wrote && sqlstate === null && (commit || alone),
    })
    if (commit || alone || this.arm !== 'source') return
    if (this.open === null) this.open = { key, slot, wrote }
    else this.open.wrote ||= wrote
  }
}

/** Null: it touches no aggregate that can be told. */
function placeOf(run: Run): TransactionKey | null {
  if (run === null || 'wrote' in run) return run
  const { touches } = run
  if (touches === undefined || touches === null || touches.key === null) return null
  return { key: touches.key, slot: touches.touch as SlotId, wrote: touches.writes }
}

function labelled(planned: PlannedStatement): string {
  return planned.label ?? labelOf(planned.sql)
}

function sqlstateOf(error: unknown): string {
  if (error instanceof SwitchbackError || error instanceof SqlError) return error.sqlstate
  if (!(error instanceof ServerError)) return 'XX000'
  const message = decodeBackend(BACKEND.errorResponse, error.body)
  return message.kind === 'errorResponse' ? (message.fields[ERROR_FIELD.sqlstate] ?? '') : ''
}
