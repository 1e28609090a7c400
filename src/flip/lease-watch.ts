// Promises: which gateways a fence still waits for, and which leases may be called over. Pure. No clock is shared: a lease is over
// when the leader has itself seen it unrenewed for the lease's length plus a margin, by its own monotonic clock, counted from a
// look that came after its fence had committed (protocols.md, Leases).

import type { LeaseRow } from '../model/control.ts'
import type { Epoch, LeaseId } from '../model/ids.ts'

export interface Sighting {
  readonly renewals: number
  readonly sinceMs: number
}

export type Sightings = ReadonlyMap<LeaseId, Sighting>

export interface LeaseLook {
  /** Neither acked nor over. */
  readonly waiting: readonly LeaseRow[]
  /** Unrenewed for too long: to be ended if `renewals` is still as seen. */
  readonly toEnd: readonly { readonly lease: LeaseId; readonly renewals: number }[]
  readonly sightings: Sightings
  /** Until the next lease may be called over, if nothing renews; null: none waits. */
  readonly nextLookInMs: number | null
}

export interface LeaseLimits {
  readonly lengthMs: number
  readonly marginMs: number
}

export function lookAtLeases(rows: readonly LeaseRow[], before: Sightings, epoch: Epoch, nowMs: number, limits: LeaseLimits): LeaseLook {
  const overAfterMs = limits.lengthMs + limits.marginMs
  const sightings = new Map<LeaseId, Sighting>()
  const waiting: LeaseRow[] = []
  const toEnd: { lease: LeaseId; renewals: number }[] = []
  let nextLookInMs: number | null = null
  for (const row of rows) {
    if (row.over || row.ackedEpoch >= epoch) continue
    waiting.push(row)
    const seen = before.get(row.lease)
    const sighting = seen !== undefined && seen.renewals === row.renewals ? seen : { renewals: row.renewals, sinceMs: nowMs }
    sightings.set(row.lease, sighting)
    const leftMs = sighting.sinceMs + overAfterMs - nowMs
    if (leftMs <= 0) toEnd.push({ lease: row.lease, renewals: row.renewals })
    else nextLookInMs = Math.min(nextLookInMs ?? leftMs, leftMs)
  }
  return { waiting, toEnd, sightings, nextLookInMs }
}
