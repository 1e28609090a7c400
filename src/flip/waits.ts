// Promises: the two waits of a flip on other processes: gateways' acks (or the end of their leases), and writers in PostgreSQL
// from before the fence. Both end by the flip's deadline, through the signal.
import type { LeaseRow, WaitingWriter } from '../model/control.ts'
import type { Epoch } from '../model/ids.ts'
import { lookAtLeases, type Sightings } from './lease-watch.ts'
import type { FlipParts } from './parts.ts'

/** To abort without a reason makes an error with a stack, at each look. */
const LOOKED = new Error('this look is over')
/** Between looks at writers from before the fence: the service waits for them. */
const WRITERS_LOOK_MS = 8

/** Returns the lease rows as they were when all had acked, or said what `suffices`, or were over. Null: the signal came first; `waiting` says for whom. */
export async function awaitAcks(
  parts: FlipParts,
  epoch: Epoch,
  signal: AbortSignal,
  report: (waiting: readonly LeaseRow[]) => void,
  suffices: (row: LeaseRow) => boolean = () => false,
): Promise<readonly LeaseRow[] | null> {
  let sightings: Sightings = new Map()
  for (;;) {
    // Of this look alone: a wait that is given up leaves nothing on the signal.
    const over = new AbortController()
    const end = () => over.abort(LOOKED)
    signal.addEventListener('abort', end, { once: true })
    try {
      const woken = parts.nextWake(over.signal)
      const rows = await parts.control.leases()
      const counted = rows.map((row) => (suffices(row) ? { ...row, ackedEpoch: epoch } : row))
      const look = lookAtLeases(counted, sightings, epoch, parts.clock.monotonicMs(), parts.limits.lease)
      sightings = look.sightings
      report(look.waiting)
      if (look.waiting.length === 0) return rows
      // A lease that renewed between the look and the write stays: endLeases compares `renewals`.
      if (look.toEnd.length > 0) {
        await parts.control.endLeases(look.toEnd)
        continue
      }
      if (signal.aborted) return null
      await Promise.race([woken, parts.clock.sleep(Math.min(look.nextLookInMs ?? parts.limits.pollMs, parts.limits.pollMs), over.signal)])
    } finally {
      signal.removeEventListener('abort', end)
      end()
    }
  }
}

/** Waits out who may still write under what came before the fence (protocols.md, Guard, "No lock a row"). */
export async function awaitWriters(parts: FlipParts, leases: readonly LeaseRow[], signal: AbortSignal): Promise<readonly WaitingWriter[]> {
  const excused = leases.filter((lease) => !lease.over).flatMap((lease) => lease.excused)
  let writers = await parts.control.waitSet(excused)
  for (let waitMs = 1; writers.length > 0 && !signal.aborted; waitMs = Math.min(waitMs * 2, WRITERS_LOOK_MS)) {
    await parts.clock.sleep(waitMs, signal)
    writers = await parts.control.stillThere(writers)
  }
  return writers
}

export function describeWriter(writer: WaitingWriter): string {
  return writer.gid !== null
    ? `prepared transaction ${writer.gid} of ${writer.user}, ${Math.round(writer.ageMs)} ms old`
    : `pid ${writer.pid} (${writer.user}), ${Math.round(writer.ageMs)} ms in: ${writer.query.slice(0, 120)}`
}
