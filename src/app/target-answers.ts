// Promises: whether the target answers anything at all, in bounded time and by one small read; tried again while there is time, since
// one lost request is no silence.
import type { Clock } from '../lib/clock.ts'
import { inTime } from '../lib/in-time.ts'
import { hasCode } from '../model/errors.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Target } from '../model/target.ts'

export interface AnswerLimits {
  /** Without an answer for so long, a flip to PostgreSQL goes on without the target. */
  readonly targetAnswerMs: number
  /** The same for the next flip of a silent target: an order of many flips does not wait so long for each. */
  readonly silentAnswerMs: number
  readonly againMs: number
}

export const ANSWER_LIMITS: AnswerLimits = { targetAnswerMs: 1_500, silentAnswerMs: 200, againMs: 100 }

export interface AnswerParts {
  readonly target: Pick<Target, 'readHead'>
  /** An aggregate that may be asked for at any time. */
  readonly key: AggregateKey
  readonly clock: Clock
}

/** A function that asks, and remembers whether it was silent last. */
export function createTargetAnswers(parts: AnswerParts, limits: AnswerLimits = ANSWER_LIMITS): (signal: AbortSignal) => Promise<boolean> {
  let answered = true
  return async (signal) => {
    answered = await askFor(parts, answered ? limits.targetAnswerMs : limits.silentAnswerMs, limits.againMs, signal)
    return answered
  }
}

async function askFor({ target, key, clock }: AnswerParts, forMs: number, againMs: number, signal: AbortSignal): Promise<boolean> {
  const end = new AbortController()
  const stop = () => end.abort()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return (
      (await inTime(
        clock,
        forMs,
        asking(() => target.readHead(key), { clock, againMs }, end.signal),
        signal,
      )) === true
    )
  } finally {
    stop()
    signal.removeEventListener('abort', stop)
  }
}

/** A refusal is an answer; a connection that is refused or reset, a time-out, or a store that throttles everything, is none. */
export function isSilence(error: unknown): boolean {
  return !hasCode(error, 'TARGET_REFUSED')
}

async function asking(ask: () => Promise<unknown>, { clock, againMs }: { clock: Clock; againMs: number }, signal: AbortSignal) {
  while (!signal.aborted) {
    try {
      await ask()
      return true
    } catch (error) {
      if (!isSilence(error)) return true
    }
    await clock.sleep(againMs, signal)
  }
  return false
}
