// Promises: the words that the model of PostgreSQL shares with those who connect to it.
import { Signal } from '../../src/lib/latch.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import type { SlotId } from '../../src/model/ids.ts'
import type { Ownership } from '../../src/model/ownership.ts'
import type { Row } from '../../src/model/row.ts'
import type { Host } from './kernel.ts'

export class PgError extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(`${code}: ${message}`)
    this.code = code
  }
}

/** The backend was ended, or the server has crashed: whoever waits for it hears nothing of the outcome. */
export class BackendGone extends Error {}

export interface Backend {
  readonly pid: number
  readonly client: Host
  applicationName: string
  gone: boolean
  transaction: Transaction | null
}

export interface Version<T> {
  readonly seq: number
  readonly value: T
}

export interface OwnershipRow {
  readonly versions: Version<Ownership>[]
  /** `for share`. */
  readonly sharers: Set<Transaction>
  updating: boolean
}

export interface WrittenRow {
  readonly key: string
  readonly pot: string
  readonly values: Row
  readonly by: number
}

export interface Transaction {
  readonly backend: Backend
  readonly isolation: 'read committed' | 'repeatable read'
  readonly virtualTransaction: string
  readonly startedAt: number
  snapshot: number | null
  /** Holds a lock that lets it write the mapped table. */
  writer: boolean
  readonly writes: Map<string, WrittenRow>
  readonly locked: Set<string>
  /** Its commit record is written: it keeps its locks until its changes are visible, whatever becomes of its backend. */
  recorded: boolean
  ended: boolean
}

/** What an applier's transaction writes. */
export interface Due {
  /** Folded: each row once. */
  readonly rows: readonly WrittenRow[]
  /** Transaction by transaction, in order. */
  readonly effects: readonly (readonly WrittenRow[])[]
  readonly visible: () => void
}

export interface Lease extends LeaseRow {
  readonly locked: Mutex
}

export interface Job {
  readonly id: number
  readonly to: 'source' | 'target'
  readonly slots: readonly SlotId[]
  readonly cancels: boolean
  state: 'open' | 'done'
}

/** Waited for in order. */
export class Mutex {
  #held = false
  readonly #freed = new Signal()

  async take(): Promise<void> {
    while (this.#held) await this.#freed.next()
    this.#held = true
  }

  release(): void {
    this.#held = false
    this.#freed.notify()
  }
}
