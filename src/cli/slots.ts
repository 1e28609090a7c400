// Promises: the slots that `5%`, `--slots A-B` or `--key K` mean, or one clear SELECTION_INVALID. Pure.
import { canarySlots } from '../flip/batches.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'
import { canonicalKey, HASH_SLOTS, hashSlotOf } from '../model/key.ts'
import type { KeyType } from '../model/mapping.ts'

export interface Selection {
  readonly percent?: string | undefined
  readonly slots?: string | undefined
  readonly key?: string | undefined
}

/** Exactly one of the three. */
export function selectedSlots(selection: Selection, keyType: KeyType): SlotId[] {
  const given = (['percent', 'slots', 'key'] as const).filter((name) => selection[name] !== undefined)
  if (given.length !== 1) throw new SwitchbackError('SELECTION_INVALID', { problem: 'give one of: a share like 5%, --slots A-B, --key K' })
  if (selection.percent !== undefined) return canarySlots(percentOf(selection.percent))
  if (selection.slots !== undefined) return slotRange(selection.slots)
  return [hashSlotOf(canonicalKey(keyType, selection.key!))]
}

export function slotRange(text: string): SlotId[] {
  const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(text)
  const from = Number(match?.[1])
  const to = Number(match?.[2] ?? match?.[1])
  if (!match || from > to || to >= HASH_SLOTS) {
    throw new SwitchbackError('SELECTION_INVALID', {
      problem: `"${text}" is not a range of slots; slots are 0 to ${HASH_SLOTS - 1}, as in --slots 0-255`,
    })
  }
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}

function percentOf(text: string): number {
  const match = /^(\d{1,3}(?:\.\d{1,4})?)\s*%$/.exec(text)
  const percent = Number(match?.[1])
  if (!match || percent <= 0 || percent > 100) {
    throw new SwitchbackError('SELECTION_INVALID', {
      problem: `"${text}" is not a share of the keys; give one like 5% (above 0, at most 100)`,
    })
  }
  return percent
}
