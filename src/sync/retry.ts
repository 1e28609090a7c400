// Promises: what may be tried again is tried again, for ever but counted, with backoff; what may not ends the caller.
import { BugError } from '../lib/assert.ts'
import { type BackoffLimits, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'

export interface RetryOptions {
  readonly clock: Clock
  readonly random: Random
  readonly backoff: BackoffLimits
  /** Named and counted: nothing is retried silently (INV-11). */
  readonly onRetry: (error: unknown, attempt: number) => void
}

/** Of PostgreSQL's errors: a connection, a conflict, a server that stops or starts, a lock or a time-out, connections or memory short. */
const PASSING_SQLSTATE = /^(08|40|57P|57014$|55P03$|53[234]00$)/

/** Stores that do not answer and errors without a code may pass; a fence, a violation, a bug, a refusal, a full disk do not. */
export function isRetryable(error: unknown): boolean {
  if (error instanceof SwitchbackError) {
    return error.kind === 'transient' || error.kind === 'unknown' || error.code.endsWith('_UNREACHABLE')
  }
  const code = (error as { code?: unknown } | null)?.code
  // EPIPE is as long as an SQLSTATE, and has no digit.
  if (typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code)) return PASSING_SQLSTATE.test(code)
  return !(error instanceof BugError)
}

export const ABORTED = Symbol('aborted')

/** Resolves with the first success, or with ABORTED once the signal has aborted; rejects with what may not be retried. */
export async function untilDone<T>(attempt: () => Promise<T>, options: RetryOptions, signal: AbortSignal): Promise<T | typeof ABORTED> {
  for (let tries = 0; ; tries++) {
    if (signal.aborted) return ABORTED
    try {
      return await attempt()
    } catch (error) {
      if (signal.aborted) return ABORTED
      if (!isRetryable(error)) throw error
      options.onRetry(error, tries)
      await options.clock.sleep(backoffMs(tries, options.backoff, options.random), signal)
    }
  }
}

/** How an error is named in counts and progress. */
export function nameOf(error: unknown): string {
  if (error instanceof SwitchbackError) return error.code
  return error instanceof Error ? error.name : typeof error
}
