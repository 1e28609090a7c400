// Promises: a loop of the leader that has nothing to do costs a look a second, and yet hears at once of what is placed: it is woken by
// PostgreSQL's NOTIFY, which is a hint that may be lost; the look is what counts.
import type { Clock } from '../lib/clock.ts'

export interface Waits {
  readonly clock: Clock
  /** Resolves when something may have been placed; aborted, it waits no more. */
  nextOrder(signal: AbortSignal): Promise<void>
}

/** With nothing there, and nobody who says that something came. */
export const IDLE_LOOK_MS = 1_000
/** To abort without a reason makes an error with a stack, at each look. */
const LOOKED = new Error('this look is over')

/** What the look finds; null: nothing, and then somebody said that something came, or the time was over. */
export async function lookOrWait<T>(look: () => Promise<T | null>, { clock, nextOrder }: Waits, signal: AbortSignal): Promise<T | null> {
  const over = new AbortController()
  const end = () => over.abort(LOOKED)
  const disarm = clock.after(IDLE_LOOK_MS, end)
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  try {
    // Before the look: what is placed after it wakes.
    const placed = nextOrder(over.signal)
    const found = await look()
    if (found === null) await placed
    return found
  } finally {
    disarm()
    signal.removeEventListener('abort', end)
    // Who found something waits no more.
    end()
  }
}
