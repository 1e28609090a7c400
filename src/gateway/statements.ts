// Promises: what a session's prepared statements say. Bounded by bytes: what is forgotten still runs on PostgreSQL, as a statement
// whose key cannot be told.
import type { PlannedStatement } from '../model/plan.ts'
import type { Description } from './descriptions.ts'

export interface Prepared {
  readonly sql: string
  /** Types that the client gave with Parse. */
  readonly declaredOids: readonly number[]
  /** PostgreSQL has it under this name. The unnamed one is held back until the arm is decided. */
  onServer: boolean
  /** Null until it is planned under `plannedFor`. */
  planned?: PlannedStatement | null
  plannedFor?: string
  description?: Description
  describedFor?: string
}

export class PreparedStatements {
  readonly #bytesMax: number
  readonly #byName = new Map<string, Prepared>()
  #bytes = 0

  constructor(options: { bytesMax: number }) {
    this.#bytesMax = options.bytesMax
  }

  get(name: string): Prepared | undefined {
    return this.#byName.get(name)
  }

  set(name: string, prepared: Prepared): void {
    this.delete(name)
    this.#byName.set(name, prepared)
    this.#bytes += prepared.sql.length
    if (this.#bytes > this.#bytesMax) this.forgetAll()
  }

  delete(name: string): void {
    const prepared = this.#byName.get(name)
    if (prepared === undefined) return
    this.#byName.delete(name)
    this.#bytes -= prepared.sql.length
  }

  /** PostgreSQL's own unnamed statement is another one now. */
  unnamedReplaced(): void {
    const unnamed = this.#byName.get('')
    if (unnamed !== undefined) unnamed.onServer = false
  }

  forgetAll(): void {
    this.#byName.clear()
    this.#bytes = 0
  }
}
