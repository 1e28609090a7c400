// Promises: the words that the model of PostgreSQL shares with those who connect to it.
import { Signal } from '../../src/lib/latch.ts'
import type { SourceChange } from '../../src/model/change.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import type { Lsn, SlotId } from '../../src/model/ids.ts'
import type { Ownership } from '../../src/model/ownership.ts'
import type { Row } from '../../src/model/row.ts'
import { POTS } from '../commit/fake-plans.ts'
import type { RowAct } from './acts.ts'
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

/** Who holds what another one waits for. The leader: an act of it. */
export type Blocker = Backend | 'leader'

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
  /** Null: it is not there any more. */
  readonly values: Row | null
  readonly by: number
  /** Another row than the one that had this key before: inserted, or come from another key. */
  readonly fresh?: boolean
  /** Its key was changed: that of the row that it is now. */
  readonly to?: string
}

/** As the stream tells of one act on a row, of which a transaction may do several. */
export function changeOf(act: RowAct, { key, pot, values }: Pick<WrittenRow, 'key' | 'pot' | 'values'>): SourceChange {
  if (values === null) return { kind: 'delete', table: POTS, before: [key, pot, undefined, undefined] }
  return act === 'insert' ? { kind: 'insert', table: POTS, after: values } : { kind: 'update', table: POTS, before: null, after: values }
}

/** Of an applier's transaction, each row once. `there`: which rows were there before. */
export function changesOf(rows: readonly WrittenRow[], there: (row: WrittenRow) => boolean): SourceChange[] {
  return rows.flatMap((row): SourceChange[] => {
    if (row.values === null) return there(row) ? [changeOf('delete', row)] : []
    return [changeOf(there(row) ? 0 : 'insert', row)]
  })
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
  /** In order, as the WAL has them. */
  readonly changes: SourceChange[]
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

export interface SavedPosition {
  readonly group: number
  readonly lease: string
  readonly sequence: number
  readonly final: boolean
  /** Each time that it was saved. */
  readonly saves: readonly { readonly sequence: number; readonly lsn: Lsn }[]
}

export interface Job {
  readonly id: number
  readonly to: 'source' | 'target'
  readonly slots: readonly SlotId[]
  readonly cancels: boolean
  /** A move to the source makes its slots read-only first; a window is nothing but that, for a while. */
  readonly readOnly: 'first' | 'window' | null
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
