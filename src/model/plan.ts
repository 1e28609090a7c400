// Promises: what a statement means for routing, and how a keyed one runs on the target: first which rows it needs, then, those
// given, what it answers and changes. Pure both; the gateway and the commit engine do the I/O between. Made by src/sql.
import type { AggregateKey } from './key.ts'
import type { ColumnType, TableName } from './mapping.ts'
import type { Cell, Row, RowChange } from './row.ts'

/** A bound parameter, already decoded to text (INV-12); null is SQL's null. */
export type Params = readonly Cell[]

/** Rows of the aggregate that a statement needs before it can run. */
export type ReadRequest =
  | { readonly kind: 'point'; readonly table: TableName; readonly clustering: readonly string[] }
  /** All rows of the table in this aggregate; `limit` where fewer suffice in clustering order. */
  | { readonly kind: 'range'; readonly table: TableName }

/** What has been read, tombstones left out, the transaction's own earlier changes folded in. */
export interface AggregateRows {
  point(table: TableName, clustering: readonly string[]): Row | undefined
  /** In clustering order as PostgreSQL orders it is not promised: the plan sorts. */
  range(table: TableName): readonly Row[]
}

export interface StatementEnv {
  /** now(), as PostgreSQL prints a timestamptz in UTC: one value a transaction. */
  readonly nowText: string
  /** Values that only PostgreSQL can give (nextval, volatile defaults), asked before, by the plan's `asks` in order, one list a row. */
  readonly answers: readonly (readonly Cell[])[]
  /** Random source for gen_random_uuid(). */
  readonly uuid: () => string
}

export interface StatementResult {
  /** Result rows, text, in the order of the statement's own select list or RETURNING; empty where it returns none. */
  readonly rows: readonly Row[]
  /** As CommandComplete says it: `SELECT 3`, `INSERT 0 1`, `UPDATE 2`. */
  readonly commandTag: string
  readonly changes: readonly RowChange[]
}

export interface KeyedPlan {
  readonly kind: 'keyed'
  /** Reads only: no lock, no change. */
  readonly readOnly: boolean
  /** `select ... for update`: holds the aggregate's place. */
  readonly locks: boolean
  readonly returnsRows: boolean
  /**
   * The types its parameters were taken for, null where none was needed. A client may declare others in Parse, and then PostgreSQL
   * resolves other operators: only a statement whose parameters have these types, by PostgreSQL's own word, runs by this plan.
   */
  readonly parameterTypes: readonly (ColumnType | null)[]
  /**
   * The key of the one aggregate it touches. Throws KEY_INVALID; null where the key is SQL's null, or a value that no key can have:
   * then no row matches, and `run` needs no rows: it matches nothing, or throws 23502 where it would insert.
   */
  key(params: Params): AggregateKey | null
  /** SQL expressions that PostgreSQL must answer for each inserted row, e.g. nextval('entries_id_seq'). */
  readonly asks: readonly string[]
  readonly insertedRows: number
  /** With `env`, rows whose key is asked of PostgreSQL are read by point; without, their whole table is. */
  reads(params: Params, env?: StatementEnv): readonly ReadRequest[]
  /** Throws a SqlError for what PostgreSQL would refuse (constraint, overflow, division by zero). */
  run(params: Params, rows: AggregateRows, env: StatementEnv): StatementResult
}

export type TransactionControl = 'begin' | 'commit' | 'abort' | 'savepoint' | 'release' | 'rollback to' | 'prepare transaction'

export type Plan =
  /**
   * Touches no mapped table in its catalog closure. `pins`: it leaves state on PostgreSQL that outlives it (a temporary table, an
   * advisory lock, LISTEN, a cursor, SET LOCAL): it never belongs to a transaction on the target, and what plans depend on is read
   * again after it.
   */
  | { readonly kind: 'pass'; readonly pins: boolean }
  | KeyedPlan
  /** On PostgreSQL while no slot has moved; after that reads by policy, writes refused with 0A000 and the reason. */
  | { readonly kind: 'unroutable'; readonly reads: boolean; readonly because: string; readonly wouldRoute: string }
  | {
      readonly kind: 'control'
      readonly control: TransactionControl
      readonly isolation: string | null
      readonly readOnly: boolean | null
      /** COMMIT or ROLLBACK AND CHAIN: the next transaction begins at once, like the one that ends. */
      readonly chain: boolean
    }
  /** SET, RESET, SHOW, DISCARD, DEALLOCATE ... : session state. */
  | { readonly kind: 'session'; readonly statement: string }

/** What PostgreSQL would have answered: an error of the statement, not of Switchback. */
export class SqlError extends Error {
  override readonly name = 'SqlError'
  readonly sqlstate: string
  readonly detail: string | null
  readonly constraint: string | null
  readonly table: TableName | null
  readonly column: string | null

  constructor(sqlstate: string, message: string, more: { detail?: string; constraint?: string; table?: TableName; column?: string } = {}) {
    super(message)
    this.sqlstate = sqlstate
    this.detail = more.detail ?? null
    this.constraint = more.constraint ?? null
    this.table = more.table ?? null
    this.column = more.column ?? null
  }
}

/** One statement of a text that may hold several. */
export interface PlannedStatement {
  readonly plan: Plan
  /** Its own text, without what stands before and after it. */
  readonly sql: string
  /** What it is counted under, of a keyed one: its text without values (sql/label.ts). */
  readonly label?: string
}

export interface StatementPlanner {
  /**
   * Plans a text under a search_path. Text that PostgreSQL's grammar refuses gives one `pass` plan: PostgreSQL itself answers the
   * error. Never throws for what a client sent; rejects only when the parser's worker is gone.
   */
  plan(sql: string, searchPath: readonly string[]): Promise<readonly PlannedStatement[]>
  /** The same from the cache, without waiting; undefined where it has not been planned yet. */
  cached(sql: string, searchPath: readonly string[]): readonly PlannedStatement[] | undefined
}
