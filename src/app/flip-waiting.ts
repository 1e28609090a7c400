// Promises: slots that could not go back while the target was silent stay parked, by name, until it answers; then they go by an ordinary
// flip, rows first and verified. Given up (the order is held, another leader), they return to the target as they were (INV-7).
import type { FlipParts } from '../flip/parts.ts'
import type { FlipResult } from '../flip/run-flip.ts'
import { hasCode } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'

export type Waiting = NonNullable<FlipResult['waiting']>

export interface WaitingParts {
  readonly flips: FlipParts
  /** What is waited for, for people. */
  tell(step: string): Promise<void>
  /** Adds to `waiting` what still cannot go. */
  flipAgain(slots: readonly SlotId[]): Promise<void>
}

const LOOK_MS = 250
const NAMED_MAX = 20

/** Takes from `waiting` what it has dealt with. */
export async function flipWaiting(parts: WaitingParts, waiting: Waiting[], signal: AbortSignal): Promise<void> {
  const { flips } = parts
  let told = ''
  while (waiting.length > 0 && !signal.aborted) {
    const sentence = waitingSentence(waiting)
    if (sentence !== told) await parts.tell(sentence)
    told = sentence
    if (!(await flips.targetAnswers(signal))) {
      await flips.clock.sleep(LOOK_MS, signal)
      continue
    }
    const { flip } = waiting[0]!
    // Its time has long run out, so another flip follows. What it holds back begins on the target, which answers, or waits for that one.
    await flips.control.cancelFlip(flip, 'the target answers again: another flip follows')
    waiting.shift()
    await parts.flipAgain(flip.slots)
  }
}

/** Back to the target as they were, at a fresh epoch. */
export async function giveUp({ control }: FlipParts, waiting: readonly Waiting[]): Promise<void> {
  for (const { flip } of waiting) {
    try {
      await control.cancelFlip(flip, 'the rollback stopped before the target answered')
    } catch (error) {
      if (!hasCode(error, 'TOKEN_STALE')) throw error // the next leader cancels it
    }
  }
}

function waitingSentence(waiting: readonly Waiting[]): string {
  const stay = waiting.flatMap((one) => one.stay)
  const named = stay.slice(0, NAMED_MAX).map(({ slot, because }) => `slot ${slot}: ${because}`)
  const more = stay.length > NAMED_MAX ? `; and ${stay.length - NAMED_MAX} more` : ''
  return `the target does not answer; ${stay.length} slots stay parked until it does (${named.join('; ')}${more})`
}
