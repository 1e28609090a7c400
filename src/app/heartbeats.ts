// Promises: how long the oldest heartbeat has been on its way through WAL and forward sync. A stream that stands still shows as an age
// that grows, though nobody writes.
import { type Clock, systemClock } from '../lib/clock.ts'

export const HEARTBEAT = 'heartbeat:'
/** Of those under way: beyond it the oldest counts for those after it. */
const UNDER_WAY_MAX = 1_000

export class Heartbeats {
  readonly #clock: Clock
  readonly #underWay = new Map<string, number>()
  #count = 0
  #anyPassed = false

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
  }

  /** The content of the next one, which leaves now. */
  next(token: number): string {
    const content = `${HEARTBEAT}${token}:${++this.#count}`
    if (this.#underWay.size < UNDER_WAY_MAX) this.#underWay.set(content, this.#clock.monotonicMs())
    return content
  }

  /** Everything before it is durable on the target, older heartbeats included. An older leader's is not known here. */
  passed(content: string): void {
    if (!this.#underWay.has(content)) return
    this.#anyPassed = true
    for (const older of this.#underWay.keys()) {
      this.#underWay.delete(older)
      if (older === content) return
    }
  }

  /** 0: all have passed; undefined: none ever has. */
  oldestMs(): number | undefined {
    if (!this.#anyPassed) return undefined
    const [oldest] = this.#underWay.values()
    return oldest === undefined ? 0 : this.#clock.monotonicMs() - oldest
  }
}
