// Promises: every error that a user or a caller can meet has a code, a kind, a cause in words and a remedy, in one catalogue.
// docs/reference/errors.md is generated from it, and a test matches both ways.
import { CATALOGUE } from './error-catalogue.ts'

/**
 * What the caller does: `operator` explain and exit 2; `client` tell the SQL client, nothing is wrong with us; `transient`
 * bounded backoff; `unknown` the request may have taken effect or may yet; `fenced` step down; `lost` stop, new backfill;
 * `violation` freeze, roll back, record; `bug` crash.
 */
export type ErrorKind = 'operator' | 'client' | 'transient' | 'unknown' | 'fenced' | 'lost' | 'violation' | 'bug'

export interface ErrorEntry {
  readonly kind: ErrorKind
  /** What a SQL client is told. */
  readonly sqlstate: string
  /** What happened, one sentence; `{name}` stands for a detail. */
  readonly message: string
  /** What was left as it was, and what to do. */
  readonly remedy: string
}

export type ErrorCode = keyof typeof CATALOGUE
export type ErrorDetails = Readonly<Record<string, string | number | bigint | boolean | null | readonly string[]>>

export class SwitchbackError extends Error {
  override readonly name = 'SwitchbackError'
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, details: ErrorDetails = {}, cause?: unknown) {
    super(fill(entryOf(code).message, details), cause === undefined ? undefined : { cause })
    this.code = code
    this.details = details
  }

  get kind(): ErrorKind {
    return entryOf(this.code).kind
  }

  get sqlstate(): string {
    return entryOf(this.code).sqlstate
  }

  get remedy(): string {
    return fill(entryOf(this.code).remedy, this.details)
  }
}

export function entryOf(code: ErrorCode): ErrorEntry {
  return CATALOGUE[code]
}

export function hasCode(error: unknown, ...codes: ErrorCode[]): error is SwitchbackError {
  return error instanceof SwitchbackError && codes.includes(error.code)
}

function fill(template: string, details: ErrorDetails): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = details[name]
    if (value === undefined) return whole
    return Array.isArray(value) ? value.join(', ') : String(value)
  })
}
