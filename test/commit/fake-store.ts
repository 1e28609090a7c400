// Promises: the target contract over a store in memory and a network in virtual time that loses, delays and doubles what a test, or
// a seed, says. Rows of one put or read are each put or read at an instant of their own, as on a real store.
import { SwitchbackError } from '../../src/model/errors.ts'
import { bucketOf, ENTRIES_PER_BUCKET, type Head, type OutboxEntry, type OutboxId, sameHead } from '../../src/model/head.ts'
import type { RowKey, RowPut, StampedRow } from '../../src/model/row.ts'
import type { CasResult, OutboxPage, RowPage, RowRange, Target } from '../../src/model/target.ts'
import type { Host, HostTime } from './host-time.ts'

export type Operation =
  | 'readHead'
  | 'compareAndSetHead'
  | 'appendEntry'
  | 'readOutbox'
  | 'deleteBucket'
  | 'putRows'
  | 'readRows'
  | 'readRange'

/** What becomes of one message. Infinity: it is lost. */
export interface Fate {
  readonly requestMs: number
  readonly replyMs: number
  /** The store refuses: no effect. */
  readonly refuse?: SwitchbackError
  /** A second copy of an idempotent request comes so much later. */
  readonly againMs?: number
}

export interface Call {
  readonly operation: Operation
  readonly at: number
  readonly detail: unknown
}

export const REQUEST_TIMEOUT_MS = 50

export class FakeStore {
  readonly heads = new Map<string, Head>()
  readonly outboxes = new Map<string, Map<number, OutboxEntry>>()
  readonly rows = new Map<string, StampedRow>()
  readonly entriesPerBucket: number = ENTRIES_PER_BUCKET
  /** Only a planted bug turns it off. */
  comparesStamps = true

  cas(key: string, expected: Head | null, next: Head): CasResult {
    const head = this.heads.get(key) ?? null
    if (!sameHead(head, expected)) return { won: false, head }
    this.heads.set(key, next)
    return { won: true }
  }

  append(id: OutboxId, sequence: number, entry: OutboxEntry): void {
    this.outbox(id).set(sequence, entry)
  }

  outbox({ group, lease }: OutboxId): Map<number, OutboxEntry> {
    const id = `${group}/${lease}`
    let outbox = this.outboxes.get(id)
    if (outbox === undefined) {
      outbox = new Map()
      this.outboxes.set(id, outbox)
    }
    return outbox
  }

  page(id: OutboxId, after: number, limit: number): OutboxPage {
    const outbox = this.outboxes.get(`${id.group}/${id.lease}`)
    if (outbox === undefined) return { entries: [], end: true }
    const all = [...outbox].filter(([sequence]) => sequence > after).sort((a, b) => a[0] - b[0])
    // Bucket by bucket, as a partitioned store is read: an empty one, but for the first, is taken for the end.
    let bucket = this.#bucketOf(after + 1)
    const found = all.filter(([sequence]) => {
      const of = this.#bucketOf(sequence)
      if (of > bucket + 1) return false
      bucket = of
      return true
    })
    const entries = found.slice(0, limit).map(([sequence, entry]) => ({ sequence, entry }))
    return { entries, end: entries.length === found.length }
  }

  deleteBucket(id: OutboxId, bucket: number): void {
    const outbox = this.outbox(id)
    for (const sequence of [...outbox.keys()]) if (this.#bucketOf(sequence) === bucket) outbox.delete(sequence)
  }

  #bucketOf(sequence: number): number {
    return bucketOf(sequence, this.entriesPerBucket)
  }

  /** Of a cell that stays as it is, where there is none: it is not made up. */
  lacks(put: RowPut): boolean {
    const stored = this.row(put)
    const partial = put.values?.some((cell) => cell === undefined) ?? false
    return partial && (stored === undefined || (stored.values === null && stored.stamp < put.stamp))
  }

  put(put: RowPut): void {
    const id = rowId(put)
    const stored = this.rows.get(id)
    if (this.comparesStamps && stored !== undefined && stored.stamp >= put.stamp) return
    const values = put.values === null ? null : put.values.map((cell, i) => (cell === undefined ? (stored?.values?.[i] ?? null) : cell))
    this.rows.set(id, { table: put.table, key: put.key, clustering: put.clustering, values, stamp: put.stamp, mark: put.mark })
  }

  row(key: RowKey): StampedRow | undefined {
    return this.rows.get(rowId(key))
  }

  range({ table, key, limit, after }: RowRange): RowPage {
    const all = [...this.rows.values()].filter((row) => row.table === table && row.key === key)
    all.sort((a, b) => (a.clustering.join() < b.clustering.join() ? -1 : 1))
    const from = after === undefined ? 0 : all.findIndex((row) => row.clustering.join() === after.join()) + 1
    const rows = all.slice(from, from + limit)
    return { rows, next: from + limit < all.length ? rows.at(-1)!.clustering : null }
  }
}

function rowId({ table, key, clustering }: RowKey): string {
  return `${table}|${key}|${clustering.join('|')}`
}

/** Puts that keep a cell build on the ones before them: those of one row go together, by their stamps. */
function byRow(puts: readonly RowPut[]): readonly (readonly RowPut[])[] {
  if (!puts.some(({ values }) => values?.some((cell) => cell === undefined))) return puts.map((put) => [put])
  const rows = new Map<string, RowPut[]>()
  for (const put of puts) rows.set(rowId(put), [...(rows.get(rowId(put)) ?? []), put])
  return [...rows.values()].map((of) => of.sort((a, b) => (a.stamp < b.stamp ? -1 : 1)))
}

export interface Link {
  readonly time: HostTime
  readonly store: FakeStore
  readonly host: Host
  readonly fate: (operation: Operation, detail: unknown) => Fate
  /** Spread of the instants within one request. Infinity: this part of a batch is lost, and with it the reply. */
  readonly spreadMs: () => number
  readonly onCall?: (call: Call) => void
  readonly maxEntryBytes?: number
  /** REQUEST_TIMEOUT_MS by default. */
  readonly timeoutMs?: (operation: Operation) => number
}

type Request = <T>(operation: Operation, detail: unknown, parts: readonly (() => void)[], reply: () => T) => Promise<T>

/** One message there and one back. */
function requester(link: Link): Request {
  const { time, host, fate, spreadMs } = link
  return (operation, detail, parts, reply) =>
    new Promise((resolve, reject) => {
      link.onCall?.({ operation, at: time.now, detail })
      const { requestMs, replyMs, refuse, againMs } = fate(operation, detail)
      const answer = (call: () => void) =>
        time.on(host, replyMs, () => {
          timeout()
          call()
        })
      const timeout = time.on(host, link.timeoutMs?.(operation) ?? REQUEST_TIMEOUT_MS, () =>
        reject(new SwitchbackError('TARGET_UNKNOWN', { operation, reason: 'timeout' })),
      )
      if (againMs !== undefined) time.after(againMs, () => parts.forEach((part) => void part()))
      if (requestMs === Number.POSITIVE_INFINITY) return
      if (refuse !== undefined) {
        time.after(requestMs, () => Number.isFinite(replyMs) && answer(() => reject(refuse)))
        return
      }
      let left = parts.length
      for (const part of parts) {
        const spread = parts.length > 1 ? spreadMs() : 0
        if (spread === Number.POSITIVE_INFINITY) continue
        time.after(requestMs + spread, () => {
          part()
          if (--left > 0) return
          const told = toldBy(reply, resolve, reject)
          if (Number.isFinite(replyMs)) answer(told)
        })
      }
    })
}

/** What the store says is known when it has done it, and heard later. */
function toldBy<T>(reply: () => T, resolve: (value: T) => void, reject: (error: unknown) => void): () => void {
  try {
    const value = reply()
    return () => resolve(value)
  } catch (error) {
    return () => reject(error)
  }
}

/** The store as one process reaches it. */
export function remoteTarget(link: Link): Target {
  const { store, spreadMs } = link
  const request = requester(link)
  const missing = () => Promise.reject(new Error('not part of the commit engine'))
  return {
    capabilities: { name: 'fake', maxEntryBytes: link.maxEntryBytes ?? 400_000, maxRowBytes: 400_000, strongestRead: 'instant' },
    readHead(key) {
      let head: Head | null = null
      return request('readHead', key, [() => (head = store.heads.get(key) ?? null)], () => head)
    },
    compareAndSetHead(key, expected, next) {
      let result: CasResult | null = null
      return request('compareAndSetHead', next, [() => (result = store.cas(key, expected, next))], () => result!)
    },
    appendEntry(outbox, sequence, entry) {
      return request('appendEntry', { ...outbox, sequence, entry }, [() => store.append(outbox, sequence, entry)], () => {})
    },
    putRows(rows) {
      let lacking = false
      const parts = byRow(rows).map((puts) => () => {
        for (const put of puts) {
          if (store.lacks(put)) lacking = true
          else store.put(put)
        }
      })
      return request('putRows', rows, parts, () => {
        if (lacking) throw new SwitchbackError('TARGET_REFUSED', { operation: 'putRows', reason: 'a partial put found no row' })
      })
    },
    readRows(keys) {
      const found: (StampedRow | undefined)[] = []
      const parts = keys.map((key, i) => () => {
        found[i] = store.row(key)
      })
      return request('readRows', keys, parts, () => found)
    },
    // The set of rows is of one instant; each row's content of its own.
    readRange(range) {
      let page: RowPage = { rows: [], next: null }
      const late = new Map<StampedRow, StampedRow>()
      const parts = [
        () => {
          page = store.range(range)
        },
        () => {
          for (const row of page.rows) if (spreadMs() > 1) late.set(row, store.row(row)!)
        },
      ]
      return request('readRange', range, parts, () => ({ rows: page.rows.map((row) => late.get(row) ?? row), next: page.next }))
    },
    prepare: missing,
    remove: missing,
    readOutbox(outbox, after, limit) {
      let page: OutboxPage = { entries: [], end: true }
      return request(
        'readOutbox',
        outbox,
        [
          () => {
            page = store.page(outbox, after, limit)
          },
        ],
        () => page,
      )
    },
    deleteBucket(outbox, bucket) {
      return request('deleteBucket', { ...outbox, bucket }, [() => store.deleteBucket(outbox, bucket)], () => {})
    },
    scanRows: () => {
      throw new Error('not part of the commit engine')
    },
    purgeTombstones: missing,
    readControl: missing,
    writeControl: missing,
    close: () => Promise.resolve(),
  }
}
