// Promises: one canonical text a partition key value, and its slot; the same as switchback.slot_of() computes in PostgreSQL.
import { first12BitsOfSha256 } from '../lib/hash.ts'
import { SwitchbackError } from './errors.ts'
import type { SlotId } from './ids.ts'
import type { KeyType } from './mapping.ts'

/** Canonical text of a partition key value: the identity of an aggregate. */
export type AggregateKey = string

export const HASH_SLOTS = 4096
/** Slots a slot group: one outbox stream a (group, lease). */
export const SLOTS_PER_GROUP = 64
export const SLOT_GROUPS = HASH_SLOTS / SLOTS_PER_GROUP

const INTEGER = /^\s*([+-]?)0*(\d{1,19})\s*$/
/** Canonical already, and exact as a number. */
const PLAIN_INTEGER = /^(?:0|-?[1-9]\d{0,14})$/
const INTEGER_BOUNDS: Partial<Record<KeyType, bigint>> = { int2: 1n << 15n, int4: 1n << 31n, int8: 1n << 63n }

/** Normalises a text-format value to the aggregate's key: int4 42, int8 42 and " 042" are one key. Throws KEY_INVALID. */
export function canonicalKey(type: KeyType, text: string): AggregateKey {
  const bound = INTEGER_BOUNDS[type]
  if (bound !== undefined) {
    if (PLAIN_INTEGER.test(text) && Number(text) < bound && Number(text) >= -bound) return text
    const match = INTEGER.exec(text)
    const value = match ? BigInt(match[1] === '-' ? `-${match[2]}` : match[2]!) : null
    if (value === null || value >= bound || value < -bound) throw new SwitchbackError('KEY_INVALID', { type, text: text.slice(0, 80) })
    return value.toString()
  }
  if (type === 'uuid') {
    const hex = text
      .trim()
      .replace(/^\{(.*)\}$/, '$1')
      .replaceAll('-', '')
      .toLowerCase()
    if (!/^[0-9a-f]{32}$/.test(hex)) throw new SwitchbackError('KEY_INVALID', { type, text: text.slice(0, 80) })
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }
  return text
}

/** The hash slot of an aggregate; a pin of the routing view goes before it. */
export function hashSlotOf(key: AggregateKey): SlotId {
  return first12BitsOfSha256(key)
}

export function groupOfHashSlot(slot: SlotId): number {
  return Math.floor(slot / SLOTS_PER_GROUP)
}
