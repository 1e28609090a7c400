// Promises: a clock whose time is set by hand, and answered statements as a gateway tells them.
import type { Answered } from '../../src/gateway/context.ts'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { hashSlotOf } from '../../src/model/key.ts'

export function handClock(): Clock & { at: number } {
  const clock = { ...systemClock, at: 1_000_000, monotonicMs: () => clock.at }
  return clock
}

export function answered(key: string, more: Partial<Answered> = {}): Answered {
  return { arm: 'source', label: 'select ?', key, slot: hashSlotOf(key), ms: 5, failed: false, commits: false, ...more }
}
