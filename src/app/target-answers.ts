// Promises: whether the target answers anything at all, in bounded time and by one small read. As long as the target owns anything it is
// watched, so that a flip which begins in a silence does not wait for one to be seen; that flip asks once more all the same, and whoever
// answers then, answers. One lost request is no silence.
import type { Clock } from '../lib/clock.ts'
import { inTime } from '../lib/in-time.ts'
import { hasCode } from '../model/errors.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Target } from '../model/target.ts'

export interface AnswerLimits {
  /** Without an answer for so long, a flip to PostgreSQL goes on without the target. What was watched of it counts. */
  readonly targetAnswerMs: number
  /** Every flip asks for so long, however long the silence has been. */
  readonly silentAnswerMs: number
  /** Between one flip's requests: the next is sent whether the one before hangs or has failed. */
  readonly againMs: number
  /** Of the watch: a look that has no answer when the next one is due has none. */
  readonly lookMs: number
  /** So many looks without an answer, one after the other, or it is no silence yet. */
  readonly looksMin: number
  /** A silence that nobody has looked at for so long says nothing any more (INV-10). */
  readonly staleMs: number
  /** Requests that hang, of the watch and of a flip each: no more are sent meanwhile. */
  readonly hangingMax: number
}

export const ANSWER_LIMITS: AnswerLimits = {
  targetAnswerMs: 1_500,
  silentAnswerMs: 200,
  againMs: 100,
  lookMs: 500,
  looksMin: 2,
  staleMs: 5_000,
  hangingMax: 8,
}

export interface AnswerParts {
  readonly target: Pick<Target, 'readHead'>
  /** An aggregate that may be asked for at any time. */
  readonly key: AggregateKey
  readonly clock: Clock
  /** The target owns something: only then is it watched. */
  readonly watched: () => boolean
}

export interface TargetAnswers {
  /** False: it has answered nothing for targetAnswerMs, of which what was watched before counts, and nothing that this has asked. */
  ask(signal: AbortSignal): Promise<boolean>
  /** Watches until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
}

/** Nothing has been answered, by the monotonic clock. */
export interface Silence {
  /** When the first request was sent that got no answer. */
  readonly sinceMs: number
  /** When it was last seen to go on. */
  readonly seenMs: number
  readonly looks: number
}

/** How long a flip that begins now asks before it goes on without the target. Pure. */
export function askForMs(silence: Silence | null, nowMs: number, limits: AnswerLimits): number {
  const { targetAnswerMs, silentAnswerMs, looksMin, staleMs } = limits
  if (silence === null || silence.looks < looksMin || nowMs - silence.seenMs > staleMs) return targetAnswerMs
  return Math.max(silentAnswerMs, targetAnswerMs - (nowMs - silence.sinceMs))
}

/** After `looks` requests, the first sent at `askedMs`, that have had no answer until `nowMs`. Pure. */
export function silenceAfter(before: Silence | null, looked: { askedMs: number; nowMs: number; looks: number }, staleMs: number): Silence {
  const { askedMs, nowMs, looks } = looked
  const goesOn = before !== null && askedMs - before.seenMs <= staleMs
  return goesOn ? { ...before, seenMs: nowMs, looks: before.looks + looks } : { sinceMs: askedMs, seenMs: nowMs, looks }
}

/** A refusal is an answer; a connection that is refused or reset, a time-out, or a store that throttles everything, is none. */
export function isSilence(error: unknown): boolean {
  return !hasCode(error, 'TARGET_REFUSED')
}

export function createTargetAnswers(parts: AnswerParts, limits: AnswerLimits = ANSWER_LIMITS): TargetAnswers {
  return new Answers(parts, limits)
}

class Answers implements TargetAnswers {
  readonly #parts: AnswerParts
  readonly #limits: AnswerLimits
  #silence: Silence | null = null
  #looksHanging = 0

  constructor(parts: AnswerParts, limits: AnswerLimits) {
    this.#parts = parts
    this.#limits = limits
  }

  async ask(signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#parts
    const askedMs = clock.monotonicMs()
    const asking = { looks: 0 }
    const end = new AbortController()
    const stop = () => end.abort()
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    try {
      const forMs = askForMs(this.#silence, askedMs, this.#limits)
      if ((await inTime(clock, forMs, this.#askAgain(asking, end.signal), signal)) === true) return true
      // Who was stopped has seen no silence.
      if (!signal.aborted) this.#unanswered(askedMs, asking.looks)
      return false
    } finally {
      stop()
      signal.removeEventListener('abort', stop)
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#parts.watched()) await this.#look(signal)
      else {
        this.#silence = null
        await this.#parts.clock.sleep(this.#limits.lookMs, signal)
      }
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    const { lookMs, hangingMax } = this.#limits
    const askedMs = clock.monotonicMs()
    let heard = false
    if (this.#looksHanging < hangingMax) {
      this.#looksHanging++
      void this.#answers().then((answered) => {
        this.#looksHanging--
        heard = answered
      })
    }
    await clock.sleep(lookMs, signal)
    if (!heard && !signal.aborted) this.#unanswered(askedMs, 1)
  }

  /** True as soon as one of its requests is answered. */
  #askAgain(asking: { looks: number }, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#parts
    const { againMs, hangingMax } = this.#limits
    return new Promise((resolve) => {
      let hanging = 0
      const request = async () => {
        hanging++
        asking.looks++
        if (await this.#answers()) resolve(true)
        hanging--
      }
      const again = async () => {
        for (; !signal.aborted; await clock.sleep(againMs, signal)) if (hanging < hangingMax) void request()
        resolve(false)
      }
      void again()
    })
  }

  /** One request. An answer ends the silence whenever it comes. */
  async #answers(): Promise<boolean> {
    const { target, key } = this.#parts
    try {
      await target.readHead(key)
    } catch (error) {
      if (isSilence(error)) return false
    }
    this.#silence = null
    return true
  }

  #unanswered(askedMs: number, looks: number): void {
    const looked = { askedMs, nowMs: this.#parts.clock.monotonicMs(), looks }
    this.#silence = silenceAfter(this.#silence, looked, this.#limits.staleMs)
  }
}
