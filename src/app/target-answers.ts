// Promises: whether the target answers anything at all, in bounded time and by one small read; tried again while there is time, since
// one lost request is no silence. An answer that refuses is an answer.
import type { Clock } from '../lib/clock.ts'
import { hasCode } from '../model/errors.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Target } from '../model/target.ts'

export interface AnswerLimits {
  /** Without an answer for so long, a flip to PostgreSQL goes on without the target. */
  readonly targetAnswerMs: number
  readonly againMs: number
}

export const ANSWER_LIMITS: AnswerLimits = { targetAnswerMs: 1_500, againMs: 100 }

export async function targetAnswers(
  { target, key, clock }: { readonly target: Pick<Target, 'readHead'>; readonly key: AggregateKey; readonly clock: Clock },
  limits: AnswerLimits,
  signal: AbortSignal,
): Promise<boolean> {
  const end = new AbortController()
  const stop = () => end.abort()
  signal.addEventListener('abort', stop, { once: true })
  const disarm = clock.after(limits.targetAnswerMs, stop)
  const late = clock.sleep(limits.targetAnswerMs, end.signal).then(() => false)
  try {
    return await Promise.race([late, asking(() => target.readHead(key), { clock, againMs: limits.againMs }, end.signal)])
  } finally {
    disarm()
    stop()
    signal.removeEventListener('abort', stop)
  }
}

async function asking(ask: () => Promise<unknown>, { clock, againMs }: { clock: Clock; againMs: number }, signal: AbortSignal) {
  while (!signal.aborted) {
    try {
      await ask()
      return true
    } catch (error) {
      if (!hasCode(error, 'TARGET_UNREACHABLE')) return true
    }
    await clock.sleep(againMs, signal)
  }
  return false
}
