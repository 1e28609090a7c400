// Promises: requests that are repeated, and what ends the repeating. INV-8: the lease is looked at before each send and after each
// reply; a reply that comes after the lease has ended is the end, whatever it says.
import { backoffMs } from '../lib/backoff.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { LeaseHandle } from '../model/executor.ts'
import type { CommitContext, TargetOperation } from './context.ts'

/** The lease has ended: nothing more is sent. */
export const OVER = Symbol('the lease is over')
export type Over = typeof OVER

type Needs = Pick<CommitContext, 'clock' | 'random' | 'limits' | 'observer'>

/** For what must come to its end whoever waits (steps 2 and 3, helping): repeated until it succeeds or the lease ends. */
export async function insist<T>(ctx: Needs, lease: LeaseHandle, operation: TargetOperation, call: () => Promise<T>): Promise<T | Over> {
  for (let tries = 0; ; tries++) {
    if (!lease.holds()) return OVER
    try {
      const value = await call()
      return lease.holds() ? value : OVER
    } catch (error) {
      ctx.observer.repeated(operation, error)
    }
    if (!lease.holds()) return OVER
    await pause(ctx, tries)
  }
}

/** For reads of a statement: repeated until the statement's deadline, which one without an answer does not outlast. Throws LEASE_OVER,
 * TARGET_SILENT or what the target refused. */
export async function attempt<T>(
  ctx: Needs,
  lease: LeaseHandle,
  deadlineMs: number,
  operation: TargetOperation,
  call: () => Promise<T>,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    mustHold(lease)
    let failure: unknown
    try {
      const value = await within(ctx, deadlineMs, operation, call())
      mustHold(lease)
      return value
    } catch (error) {
      mustHold(lease)
      if (hasCode(error, 'LEASE_OVER', 'TARGET_REFUSED', 'AGGREGATE_TOO_LARGE', 'TARGET_SILENT')) throw error
      failure = error
    }
    ctx.observer.repeated(operation, failure)
    mustHold(lease)
    if (ctx.clock.monotonicMs() >= deadlineMs) throw silent(ctx, operation, failure)
    await pause(ctx, tries)
  }
}

export function mustHold(lease: LeaseHandle): void {
  if (!lease.holds()) throw new SwitchbackError('LEASE_OVER', { lease: lease.id })
}

/** The value, or a TARGET_SILENT when the statement's deadline comes first; what was begun goes on. */
export function within<T>(ctx: Needs, deadlineMs: number, operation: TargetOperation, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = ctx.clock.after(Math.max(0, deadlineMs - ctx.clock.monotonicMs()), () => reject(silent(ctx, operation, undefined)))
    const done = (settle: () => void) => {
      cancel()
      settle()
    }
    work.then(
      (value) => done(() => resolve(value)),
      (error) => done(() => reject(error)),
    )
  })
}

export function pause(ctx: Needs, tries: number): Promise<void> {
  return ctx.clock.sleep(backoffMs(tries, { firstMs: ctx.limits.retryFirstMs, capMs: ctx.limits.retryCapMs }, ctx.random))
}

function silent(ctx: Needs, operation: TargetOperation, cause: unknown): SwitchbackError {
  const reason = cause instanceof Error ? cause.message : 'no reply yet'
  return new SwitchbackError('TARGET_SILENT', { operation, deadlineMs: ctx.limits.commitDeadlineMs, reason }, cause)
}
