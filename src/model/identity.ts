// Promises: whether a PostgreSQL is the one that the target belongs to, and if not, in what it differs, as sentences. Pure.
import { SwitchbackError } from './errors.ts'
import type { ControlItem } from './target.ts'

/** Empty: the same, with everything that the item has seen. Null: no item was written yet, so nothing has moved. */
export function differencesFrom(item: ControlItem | null, here: ControlItem): readonly string[] {
  if (item === null) return []
  const found: string[] = []
  if (item.systemIdentifier !== here.systemIdentifier)
    found.push(`it is system ${here.systemIdentifier}, and the target belongs to ${item.systemIdentifier}`)
  if (item.timeline !== here.timeline) found.push(`it is on timeline ${here.timeline}, and the target belongs to timeline ${item.timeline}`)
  if (here.epoch < item.epoch) found.push(`its epoch is ${here.epoch}, and the target has seen ${item.epoch}`)
  return found
}

/** @throws POSTGRES_CHANGED with every difference. */
export function mustBelong(item: ControlItem | null, here: ControlItem): void {
  const differences = differencesFrom(item, here)
  if (differences.length > 0) throw new SwitchbackError('POSTGRES_CHANGED', { differences })
}

/** Compare-and-set goes forward only: false where the item is there already, or beyond. */
export function goesForward(item: ControlItem | null, next: ControlItem): boolean {
  return item === null || item.epoch < next.epoch
}
