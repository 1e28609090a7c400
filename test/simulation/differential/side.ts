// Promises: what PostgreSQL and its model are asked alike, and what is seen of them: answers, who waits for whom, and what the slot delivers.

import type { SourceChange, SourceTransaction } from '../../../src/model/change.ts'
import type { Lsn, SlotId } from '../../../src/model/ids.ts'
import { hashSlotOf } from '../../../src/model/key.ts'
import { KEY_COUNT, SLOT_COUNT, type Step } from './schedule.ts'

export const START_AMOUNT = '100'
export const LEADER = 'leader'

export interface Observed {
  /** By who had asked: rows, or the refusal's code. Of others than the step's own: the step let them go on. */
  readonly answers: Readonly<Record<string, string>>
  /** Whom each session that waits waits for in the end. */
  readonly waiting: Readonly<Record<string, readonly string[]>>
}

export interface Side {
  /** Begins the step, and looks once nothing moves any more. `number` names what it writes. */
  step(step: Step, number: number): Promise<Observed>
}

/** A schedule's own keys, so that none meets what an earlier one has left. */
export interface Keys {
  readonly keys: readonly string[]
  readonly slots: readonly SlotId[]
  /** The slot of each key. */
  readonly slotOf: ReadonlyMap<string, number>
}

/** Keys of schedule after schedule, of slots that no other has. */
export function* keysOfSchedules(): Generator<Keys> {
  const alone = new Map<SlotId, string>()
  const used = new Set<SlotId>()
  for (let n = 0; ; n++) {
    const key = `k${n}`
    const slot = hashSlotOf(key)
    const twin = alone.get(slot)
    if (used.has(slot)) continue
    if (twin === undefined) {
      alone.set(slot, key)
      continue
    }
    const other = [...alone].find(([candidate]) => candidate !== slot)
    if (other === undefined) continue
    for (const taken of [slot, other[0]]) {
      alone.delete(taken)
      used.add(taken)
    }
    const keys = [twin, other[1], key]
    const slots = [slot, other[0]]
    if (keys.length !== KEY_COUNT || slots.length !== SLOT_COUNT) throw new Error('the schedule has other counts')
    yield { keys, slots, slotOf: new Map(keys.map((one) => [one, hashSlotOf(one)])) }
  }
}

/** From the direct holders of locks to those who wait for nobody. */
export function roots(of: string, holders: ReadonlyMap<string, readonly string[]>): string[] {
  const found = new Set<string>()
  const seen = new Set([of])
  const follow = (name: string) => {
    for (const holder of holders.get(name) ?? []) {
      if (seen.has(holder)) continue
      seen.add(holder)
      if ((holders.get(holder) ?? []).length === 0) found.add(holder)
      else follow(holder)
    }
  }
  follow(of)
  return [...found].sort()
}

/** What the slot has delivered on one connection; empty transactions, which PostgreSQL leaves out, are left out. */
export class Delivered {
  readonly #all: { readonly text: string; readonly endLsn: Lsn }[] = []
  #told = 0
  #last: SourceTransaction | null = null
  readonly #shownMarker: (content: string) => string | null

  constructor(shownMarker: (content: string) => string | null) {
    this.#shownMarker = shownMarker
  }

  take(transaction: SourceTransaction): void {
    const last = this.#last
    const follows = transaction.endLsn > transaction.commitLsn && (last === null || transaction.commitLsn >= last.endLsn)
    this.#last = transaction
    const text = transaction.changes.map((change) => this.#shown(change)).filter((one) => one !== null)
    if (!follows) text.push('and the positions go back')
    if (text.length > 0) this.#all.push({ text: text.join(', '), endLsn: transaction.endLsn })
  }

  /** What has come since it was told last. */
  news(): string {
    const fresh = this.#all.slice(this.#told)
    this.#told = this.#all.length
    return fresh.map(({ text }) => text).join('; ')
  }

  endOfAllBut(last: number): Lsn | null {
    return this.#all[this.#all.length - 1 - last]?.endLsn ?? null
  }

  #shown(change: SourceChange): string | null {
    switch (change.kind) {
      case 'message':
        return this.#shownMarker(change.content)
      case 'truncate':
        return 'truncate'
      case 'insert':
        return `insert ${change.after}`
      case 'update':
        return `update ${change.before === null ? '' : `${change.before} to `}${change.after}`
      case 'delete':
        return `delete ${change.before}`
    }
  }
}
