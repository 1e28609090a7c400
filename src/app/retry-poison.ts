// Promises: halted keys are tried again by the leader that runs, and what came of each is told: applied, refused once more, or not tried
// yet. Nothing is skipped or dropped: a key is free when PostgreSQL has taken its transaction (INV-6, INV-11).
import { systemClock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateKey } from '../model/key.ts'
import { readPoison, retryPoison } from '../store/poison.ts'
import type { Session } from '../store/session.ts'

export interface RetryOutcome {
  readonly applied: readonly AggregateKey[]
  readonly refused: readonly { readonly key: AggregateKey; readonly sqlstate: string; readonly message: string }[]
  /** The order stands; nobody has tried them yet. */
  readonly pending: readonly AggregateKey[]
  readonly waitedMs: number
}

const LOOK_MS = 50
/** A leader looks every quarter of a second; a new one leads within five. */
const TRIED_WITHIN_MS = 15_000

/** `keys` null: all. @throws POISON_UNKNOWN */
export async function retryNow(
  session: Session,
  keys: readonly AggregateKey[] | null,
  signal: AbortSignal,
  withinMs = TRIED_WITHIN_MS,
): Promise<RetryOutcome> {
  const beganMs = systemClock.monotonicMs()
  const asked = await retryPoison(session, keys)
  const unknown = (keys ?? []).filter((key) => !asked.includes(key))
  if (asked.length === 0 || unknown.length > 0) {
    throw new SwitchbackError('POISON_UNKNOWN', { what: keys === null ? 'any key' : `key ${unknown.join(', ')}` })
  }
  for (;;) {
    const left = await readPoison(session, asked)
    const pending = left.filter(({ retrying }) => retrying).map(({ key }) => key)
    const waitedMs = Math.round(systemClock.monotonicMs() - beganMs)
    if (pending.length === 0 || waitedMs > withinMs || signal.aborted) {
      const halted = new Set(left.map(({ key }) => key))
      const refused = left.filter(({ retrying }) => !retrying).map(({ key, sqlstate, message }) => ({ key, sqlstate, message }))
      return { applied: asked.filter((key) => !halted.has(key)), refused, pending, waitedMs }
    }
    await systemClock.sleep(LOOK_MS, signal)
  }
}
