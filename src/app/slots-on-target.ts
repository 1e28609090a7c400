// Promises: how many slots the target owns, counted once a view: who asks each second costs nothing.
import type { RoutingView } from '../model/ownership.ts'

export function slotsOnTarget(view: () => RoutingView): () => number {
  let counted: RoutingView | null = null
  let slots = 0
  return () => {
    const now = view()
    if (now === counted) return slots
    slots = 0
    for (const { owner } of now.rows()) if (owner === 'target') slots++
    counted = now
    return slots
  }
}
