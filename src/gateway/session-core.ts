// Promises: what active mode knows of its session, and what it asks PostgreSQL for itself over the session's own connection:
// settings, descriptions, permission checks, sequences. Everything runs in the order of the client's batches, one at a time.
import { SwitchbackError } from '../model/errors.ts'
import type { KeyedPlan, PlannedStatement } from '../model/plan.ts'
import type { Cell } from '../model/row.ts'
import { BACKEND, decodeBackend } from '../wire/backend.ts'
import { encodeFrontends, type FrontendMessage } from '../wire/frontend.ts'
import { AnswerTally } from './answer-tally.ts'
import type { GatewayContext } from './context.ts'
import type { Description } from './descriptions.ts'
import type { Work } from './fence-gate.ts'
import { queryMessage, SYNC } from './messages.ts'
import { asDeclared, QUOTED_OTHERWISE } from './plan-doubts.ts'
import { ServerError } from './server-error.ts'
import type { ExchangeResult, Kept, ServerLink } from './server-link.ts'
import { readSettings, type SessionSettings, settingsQuery, textRows } from './settings.ts'
import type { Prepared, PreparedStatements } from './statements.ts'
import { IDLE, type Portal, type Transaction } from './transaction.ts'

/** Prepared on PostgreSQL by the gateway for its permission checks. */
const CHECK_NAME = 'switchback: permission check'
/** Assumed while PostgreSQL cannot be asked (a failed transaction); keyed plans are not used then. */
const UNKNOWN_SETTINGS: SessionSettings = {
  role: '',
  searchPath: ['public'],
  searchPathText: '',
  dateStyle: 'ISO, MDY',
  timeZone: 'UTC',
  intervalStyle: 'postgres',
  byteaOutput: 'hex',
  extraFloatDigits: '1',
  clientEncoding: 'UTF8',
  isolation: 'read committed',
  readOnly: false,
  statementTimeoutMs: 0,
  standardStrings: false,
  backendPid: -1,
  shadowed: true,
}

export class SessionCore {
  readonly context: GatewayContext
  readonly link: ServerLink
  readonly statements: PreparedStatements
  readonly portals = new Map<string, Portal>()
  readonly toClient: (bytes: Buffer) => void
  transaction: Transaction = IDLE
  /** One statement, or an implicit transaction, on PostgreSQL. */
  sourceWork: Work | null = null
  /** PostgreSQL has messages of the extended protocol with no Sync behind them. */
  unsynced = false
  /** Something of them has been bound or executed: an implicit transaction is open there. */
  implicit = false
  /** After an error in the extended protocol, until Sync. */
  skipping = false
  /** INV-9: what has been sent may take effect, whatever becomes of the connection. */
  atRisk = false
  settings: SessionSettings = UNKNOWN_SETTINGS
  settingsStale = true
  /** SET was seen in the open transaction: its end may take it back. */
  settingsStaleAtEnd = false
  /** Ends the waiting of the statement under way. */
  cancel = new AbortController()
  /** What the metrics are told of the batch under way. */
  readonly tally: AnswerTally

  constructor(options: { context: GatewayContext; link: ServerLink; statements: PreparedStatements; toClient: (bytes: Buffer) => void }) {
    this.context = options.context
    this.link = options.link
    this.statements = options.statements
    this.toClient = options.toClient
    this.tally = new AnswerTally(options.context)
  }

  /** An exchange of the gateway's own, to ReadyForQuery. Throws ServerError. */
  async ask(messages: readonly Buffer[]): Promise<readonly Kept[]> {
    // A Query drops PostgreSQL's unnamed statement, and a Parse of ours replaces it.
    this.statements.unnamedReplaced()
    const result = await this.link.exchange(messages, { relay: false, until: 'ready' })
    return orThrow(result)
  }

  async askRows(sql: string): Promise<(string | null)[][]> {
    return textRows(await this.ask([queryMessage(sql)]))
  }

  /** Before a batch is planned. In a failed transaction PostgreSQL answers nothing, and refuses the batch itself. */
  async ensureSettings(): Promise<void> {
    if (!this.settingsStale || this.unsynced || this.link.status === 'failed') return
    this.settingsStale = false
    try {
      const tables = this.context.mapping.tables.map((table) => table.table)
      const settings = readSettings(await this.ask([queryMessage(settingsQuery(tables))]))
      if (settings === null) throw new SwitchbackError('PROTOCOL_VIOLATION', { what: 'PostgreSQL did not answer with its settings' })
      this.settings = settings
    } catch (error) {
      this.settingsStale = true
      throw error
    }
  }

  async plan(prepared: Prepared): Promise<PlannedStatement> {
    const path = `${this.context.permissions.digest}\0${this.settings.searchPathText}\0${this.settings.standardStrings}`
    if (prepared.planned && prepared.plannedFor === path) return prepared.planned
    const list = await this.planText(prepared.sql)
    // Empty, or several statements in one Parse: PostgreSQL answers that itself.
    const one: PlannedStatement = list.length === 1 ? list[0]! : { plan: { kind: 'pass', pins: false }, sql: prepared.sql }
    prepared.planned = asDeclared(one, prepared.declaredOids)
    prepared.plannedFor = path
    return prepared.planned
  }

  async planText(sql: string): Promise<readonly PlannedStatement[]> {
    const { planner } = this.context
    if (!this.settings.standardStrings && sql.includes('\\')) return [{ plan: QUOTED_OTHERWISE, sql }]
    return planner.cached(sql, this.settings.searchPath) ?? (await planner.plan(sql, this.settings.searchPath))
  }

  /** Parameter and column types, PostgreSQL's own; remembered. Throws ServerError. */
  async describe(prepared: Prepared): Promise<Description> {
    const { role, searchPathText } = this.settings
    const describedFor = this.describedFor()
    if (prepared.description !== undefined && prepared.describedFor === describedFor) return prepared.description
    const key = { sql: prepared.sql, searchPath: searchPathText, role, declaredOids: prepared.declaredOids }
    let description = this.context.descriptions.get(key)
    if (description === undefined) {
      const kept = await this.askMessages([
        { kind: 'parse', name: '', sql: prepared.sql, parameterTypes: [...prepared.declaredOids] },
        { kind: 'describe', target: 'statement', name: '' },
      ])
      description = descriptionOf(kept)
      this.context.descriptions.set(key, description)
    }
    prepared.description = description
    prepared.describedFor = describedFor
    return description
  }

  /** Before timestamptz values are shown: whether the session's zone means the same here. */
  async compareZone(): Promise<void> {
    const { zones } = this.context
    await zones.compare(this.settings.timeZone, async (sql) => (await this.askRows(sql))[0]?.[0] ?? null)
  }

  /** What a remembered description holds for. */
  describedFor(): string {
    return `${this.context.permissions.digest}\0${this.settings.role}\0${this.settings.searchPathText}`
  }

  askMessages(messages: readonly FrontendMessage[]): Promise<readonly Kept[]> {
    return this.ask([encodeFrontends(messages), SYNC])
  }

  /** PostgreSQL's own check of the rights of this role on this statement (protocols.md, Reads). Throws ServerError. */
  async checkPermission(prepared: Prepared, description: Description): Promise<void> {
    const { permissions } = this.context
    const { role, searchPathText } = this.settings
    if (permissions.has(role, searchPathText, prepared.sql)) return
    const digest = permissions.digest
    await this.askMessages([
      { kind: 'close', target: 'statement', name: CHECK_NAME },
      { kind: 'parse', name: CHECK_NAME, sql: prepared.sql, parameterTypes: [...description.paramOids] },
    ])
    const values = description.paramOids.map(() => 'null').join(', ')
    await this.ask([queryMessage(`explain (costs off) execute "${CHECK_NAME}"${values === '' ? '' : `(${values})`}`)])
    permissions.pass(role, searchPathText, prepared.sql, digest)
  }

  /** Values that only PostgreSQL can give, one list a row: nextval is asked of it also for keys that have moved. */
  async answers(plan: KeyedPlan): Promise<readonly (readonly Cell[])[]> {
    if (plan.asks.length === 0 || plan.insertedRows === 0) return []
    const list = plan.asks.map((ask) => `(${ask})::text`).join(', ')
    return this.askRows(`select ${list} from pg_catalog.generate_series(1, ${plan.insertedRows})`)
  }

  /** The transaction, explicit or not, has ended on PostgreSQL or on the target. */
  transactionEnded(): void {
    if (this.transaction.kind === 'source') this.transaction.work?.end()
    this.transaction = IDLE
    this.tally.open = null
    this.portals.clear()
    if (this.settingsStaleAtEnd) this.settingsStale = true
    this.settingsStaleAtEnd = false
  }
}

export function orThrow(result: ExchangeResult): readonly Kept[] {
  if (result.failed === null) return result.kept
  const error = result.kept.find(({ type }) => type === BACKEND.errorResponse)
  throw new ServerError(error?.body ?? Buffer.alloc(1))
}

export function descriptionOf(kept: readonly Kept[]): Description {
  let paramOids: readonly number[] = []
  let fields: Description['fields'] = null
  for (const { type, body } of kept) {
    if (type !== BACKEND.parameterDescription && type !== BACKEND.rowDescription) continue
    const message = decodeBackend(type, body)
    if (message.kind === 'parameterDescription') paramOids = message.parameterTypes
    if (message.kind === 'rowDescription') fields = message.fields
  }
  return { paramOids, fields }
}
