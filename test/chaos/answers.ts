// Promises: from when on a gateway serves again: by a write that was sent after that, as its client saw it.
import type { LoadProcess } from '../../examples/ledger/load-process.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { ACCOUNTS } from './scene.ts'

const SLOTS = new Map(Array.from({ length: ACCOUNTS }, (_, i) => [i + 1, hashSlotOf(String(i + 1))]))

/** So many accounts' writes do not keep anybody waiting who asks for one of them. */
const WRITTEN_ACCOUNTS_MIN = 20

/** Slots of a command that was killed may have no account at all: a write to them is never sent (seed 7001). */
export function isWritten(slots: ReadonlySet<number>): boolean {
  return [...SLOTS.values()].filter((slot) => slots.has(slot)).length >= WRITTEN_ACCOUNTS_MIN
}

/** When it was acknowledged, wall clock ms. */
export function firstAnswer(
  load: LoadProcess,
  { from, sinceMs, slots }: { readonly from: number; readonly sinceMs: number; readonly slots: ReadonlySet<number> | null },
): number | undefined {
  // Samples come when they are done, so that what was sent since then is not far back.
  for (let i = Math.max(0, from - 100); i < load.samples.length; i++) {
    const { kind, outcome, intendedMs, latencyMs, account } = load.samples[i]!
    if (kind !== 'write' || outcome !== 'acknowledged' || intendedMs < sinceMs) continue
    if (slots === null || slots.has(SLOTS.get(account)!)) return intendedMs + latencyMs
  }
  return undefined
}
