// Promises: which key ranges of a backfill are open, taken or done, so that many workers share them and a crash loses none.
// Implemented in PostgreSQL by src/store (`for update skip locked`); in memory here, for tests and the simulator.
import type { Lsn } from '../model/ids.ts'
import type { KeyRange } from '../model/source.ts'

export interface BackfillRange {
  readonly id: number
  /** `from` is where copying goes on: moved forward by `progress`. */
  readonly range: KeyRange
  readonly rows: number
  readonly bytes: number
  /** A part of it was, or may have been, read by a claim before this one. */
  readonly resumed: boolean
}

export interface BackfillTotals {
  readonly ranges: number
  readonly done: number
  readonly rows: number
  readonly bytes: number
  /** The newest LSN that a snapshot later than the slot's may show: parity waits until the stream has passed it. Null: none. */
  readonly laterSnapshotLsn: Lsn | null
}

/**
 * One backfill. A claim that has not progressed for the journal's own expiry is open again; two workers on one range are harmless,
 * since every row carries the consistent point's stamp whoever copies it (INV-4). A worker whose claim is gone hears `false`.
 */
export interface BackfillJournal {
  /** Lays the ranges of a table down, once: a table that has ranges already keeps them. */
  plan(table: string, ranges: readonly KeyRange[]): Promise<void>
  isPlanned(table: string): Promise<boolean>
  /** The next open range, taken for `worker`; null where none is open (others may still be at work: see totals). */
  claim(worker: string): Promise<BackfillRange | null>
  /** Everything up to the key `after` is durable on the target. `rows` and `bytes` of the whole range so far, so that a repeat is harmless. */
  progress(
    id: number,
    worker: string,
    at: { readonly after: readonly string[]; readonly rows: number; readonly bytes: number },
  ): Promise<boolean>
  /** `snapshotLsn`: an LSN that its rows' snapshot lies below, where that was not the slot's exported one; else null. */
  done(
    id: number,
    worker: string,
    result: { readonly rows: number; readonly bytes: number; readonly snapshotLsn: Lsn | null },
  ): Promise<boolean>
  /** Gives a claim back. */
  release(id: number, worker: string): Promise<void>
  totals(): Promise<BackfillTotals>
}

interface Kept {
  readonly id: number
  range: KeyRange
  worker: string | null
  claims: number
  state: 'open' | 'taken' | 'done'
  rows: number
  bytes: number
}

/** `expire` opens the claims of a worker that has died. */
export function memoryBackfillJournal(): BackfillJournal & { expire(worker: string): void } {
  const ranges: Kept[] = []
  const planned = new Set<string>()
  let laterSnapshotLsn: Lsn | null = null
  const held = (id: number, worker: string): Kept | undefined =>
    ranges.find((kept) => kept.id === id && kept.worker === worker && kept.state === 'taken')
  return {
    async plan(table, list) {
      if (planned.has(table)) return
      planned.add(table)
      for (const range of list) ranges.push({ id: ranges.length + 1, range, worker: null, claims: 0, state: 'open', rows: 0, bytes: 0 })
    },
    isPlanned: async (table) => planned.has(table),
    async claim(worker) {
      const kept = ranges.find((one) => one.state === 'open')
      if (kept === undefined) return null
      kept.state = 'taken'
      kept.worker = worker
      kept.claims++
      return { id: kept.id, range: kept.range, rows: kept.rows, bytes: kept.bytes, resumed: kept.claims > 1 }
    },
    async progress(id, worker, at) {
      const kept = held(id, worker)
      if (kept === undefined) return false
      kept.range = { ...kept.range, from: at.after }
      kept.rows = at.rows
      kept.bytes = at.bytes
      return true
    },
    async done(id, worker, result) {
      const kept = held(id, worker)
      if (kept === undefined) return false
      kept.state = 'done'
      kept.rows = result.rows
      kept.bytes = result.bytes
      const { snapshotLsn } = result
      if (snapshotLsn !== null && (laterSnapshotLsn === null || snapshotLsn > laterSnapshotLsn)) laterSnapshotLsn = snapshotLsn
      return true
    },
    async release(id, worker) {
      const kept = held(id, worker)
      if (kept === undefined) return
      kept.state = 'open'
      kept.worker = null
    },
    async totals() {
      const sum = (of: (kept: Kept) => number) => ranges.reduce((n, kept) => n + of(kept), 0)
      return {
        ranges: ranges.length,
        done: sum((kept) => (kept.state === 'done' ? 1 : 0)),
        rows: sum((kept) => kept.rows),
        bytes: sum((kept) => kept.bytes),
        laterSnapshotLsn,
      }
    },
    expire(worker) {
      for (const kept of ranges) if (kept.worker === worker && kept.state === 'taken') Object.assign(kept, { state: 'open', worker: null })
    },
  }
}
