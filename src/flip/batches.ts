// Promises: which slots a canary of so many percent has, always the same ones first, and the batches in which they flip. Pure.

import type { SlotId } from '../model/ids.ts'
import { HASH_SLOTS } from '../model/key.ts'

/**
 * Slots in the order in which a growing canary takes them: bit-reversed, so that each step's slots are spread evenly over the
 * slot groups (outbox streams) and a larger canary always contains the smaller one (sticky by key).
 */
export function canaryOrder(): SlotId[] {
  const bits = Math.log2(HASH_SLOTS)
  return Array.from({ length: HASH_SLOTS }, (_, i) => {
    let reversed = 0
    for (let bit = 0; bit < bits; bit++) if (i & (1 << bit)) reversed |= 1 << (bits - 1 - bit)
    return reversed
  })
}

/** The slots of a canary of `percent` of the keys, at least one. */
export function canarySlots(percent: number): SlotId[] {
  return canaryOrder().slice(0, Math.max(1, Math.round((HASH_SLOTS * percent) / 100)))
}

export function inBatches<T>(items: readonly T[], size: number): T[][] {
  const batches: T[][] = []
  for (let i = 0; i < items.length; i += size) batches.push(items.slice(i, i + size))
  return batches
}
