// Promises: the messages that the gateway itself writes, to PostgreSQL and to clients, over the codec of src/wire.
import { hasCode, SwitchbackError } from '../model/errors.ts'
import { SqlError } from '../model/plan.ts'
import { encodeBackend, errorResponse, type TransactionStatus } from '../wire/backend.ts'
import { encodeFrontends, FRONTEND, type FrontendMessage } from '../wire/frontend.ts'

/** A message of the client. What goes to PostgreSQL is what the client sent: the bytes are kept. */
export interface ClientMessage {
  readonly type: number
  /** Header and body. */
  readonly bytes: Buffer
  readonly body: Buffer
}

export const PARSE_COMPLETE = encodeBackend({ kind: 'parseComplete' })
export const BIND_COMPLETE = encodeBackend({ kind: 'bindComplete' })
export const CLOSE_COMPLETE = encodeBackend({ kind: 'closeComplete' })
export const NO_DATA = encodeBackend({ kind: 'noData' })
export const EMPTY_QUERY = encodeBackend({ kind: 'emptyQueryResponse' })
export const PORTAL_SUSPENDED = encodeBackend({ kind: 'portalSuspended' })
export const FLUSH = encodeFrontends([{ kind: 'flush' }])
export const SYNC = encodeFrontends([{ kind: 'sync' }])

const READY: Readonly<Record<TransactionStatus, Buffer>> = {
  idle: encodeBackend({ kind: 'readyForQuery', status: 'idle' }),
  transaction: encodeBackend({ kind: 'readyForQuery', status: 'transaction' }),
  failed: encodeBackend({ kind: 'readyForQuery', status: 'failed' }),
}

export function readyForQuery(status: TransactionStatus): Buffer {
  return READY[status]
}

export function commandComplete(tag: string): Buffer {
  return encodeBackend({ kind: 'commandComplete', tag })
}

export function queryMessage(sql: string): Buffer {
  return encodeFrontends([{ kind: 'query', sql }])
}

/**
 * Fails the open transaction, explicit or implicit, without depending on anything: there is no such savepoint. PostgreSQL gives
 * back its locks, and savepoints of the client stay usable.
 */
export const FAIL_TRANSACTION = encodeFrontends([
  ...runUnnamed('rollback to savepoint "switchback: this transaction cannot go on"'),
  { kind: 'sync' },
])

/** Parse, Bind and Execute of a text without parameters on the unnamed statement. */
export function runUnnamed(sql: string): FrontendMessage[] {
  return [
    { kind: 'parse', name: '', sql, parameterTypes: [] },
    { kind: 'bind', portal: '', statement: '', parameterFormats: [], parameters: [], resultFormats: [] },
    { kind: 'execute', portal: '', rowsMax: 0 },
  ]
}

/** As PostgreSQL would say it, or our code's SQLSTATE, sentence and remedy; what is neither is a bug of ours and says so. */
export function errorMessage(error: unknown, severity: 'ERROR' | 'FATAL' = 'ERROR'): Buffer {
  if (error instanceof SqlError) {
    const dot = error.table?.indexOf('.') ?? -1
    return encodeBackend(
      errorResponse({
        severity,
        sqlstate: error.sqlstate,
        message: error.message,
        detail: error.detail,
        schema: dot === -1 ? null : error.table!.slice(0, dot),
        table: error.table?.slice(dot + 1) ?? null,
        column: error.column,
        constraint: error.constraint,
      }),
    )
  }
  if (hasCode(error, 'TRANSACTION_ABORTED', 'READ_ONLY_TRANSACTION')) {
    // PostgreSQL says no more either.
    return encodeBackend(errorResponse({ severity, sqlstate: error.sqlstate, message: error.message }))
  }
  if (error instanceof SwitchbackError) {
    return encodeBackend(
      errorResponse({ severity, sqlstate: error.sqlstate, message: error.message, hint: error.remedy, detail: error.code }),
    )
  }
  const message = `switchback: ${error instanceof Error ? error.message : String(error)}`
  return encodeBackend(errorResponse({ severity, sqlstate: 'XX000', message }))
}

export function warning(sqlstate: string, message: string): Buffer {
  return encodeBackend({ kind: 'noticeResponse', fields: { S: 'WARNING', V: 'WARNING', C: sqlstate, M: message } })
}

/** Types that end a batch: nothing is decided before one of them is there. */
export function endsBatch(type: number): boolean {
  return type === FRONTEND.sync || type === FRONTEND.query || type === FRONTEND.flush || type === FRONTEND.functionCall
}
