// Promises: small stand-ins for the stores, true to the contracts in src/model: a target whose answers may be throttled, lost or late, a
// stream, a PostgreSQL that applies target transactions.
import assert from 'node:assert/strict'
import type { Clock } from '../../src/lib/clock.ts'
import { Signal } from '../../src/lib/latch.ts'
import type { Random } from '../../src/lib/prng.ts'
import type { SourceTransaction } from '../../src/model/change.ts'
import type { LeaseRow, ReverseApplier, ReverseOutcome, ReverseTransaction } from '../../src/model/control.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { bucketOf, type Head, type OutboxEntry, type OutboxId } from '../../src/model/head.ts'
import { type Lsn, lsnOf, NO_LSN, type SlotId } from '../../src/model/ids.ts'
import { HASH_SLOTS } from '../../src/model/key.ts'
import type { ColumnType, Mapping } from '../../src/model/mapping.ts'
import { type Ownership, RoutingView, type TenureRecord } from '../../src/model/ownership.ts'
import type { RowKey, RowPut, StampedRow } from '../../src/model/row.ts'
import type { ChangeStream } from '../../src/model/source.ts'
import type { OutboxPage, ScanOptions, Target } from '../../src/model/target.ts'
import { Tenures } from '../../src/model/tenures.ts'
import { type TenureHistory, tenureHistory } from '../../src/sync/stamps.ts'
import type { TenureReader } from '../../src/sync/tenure-reader.ts'
import { mappedColumn, mappedTable } from '../support/mapped-table.ts'

const columns = (all: Readonly<Record<string, ColumnType>>) => Object.entries(all).map(([name, type]) => mappedColumn(name, type))

export const ENTRIES = mappedTable('entries', columns({ account: 'int8', id: 'int8', amount: 'numeric', note: 'text' }), {
  clustering: [1],
})

export const ACCOUNTS = mappedTable('accounts', columns({ account: 'int8', balance: 'numeric' }), { relationOid: 2 })

export const MAPPING: Mapping = { migration: 'test', keyType: 'int8', tables: [ENTRIES, ACCOUNTS] }

export const lsn = (n: number | bigint): Lsn => lsnOf(BigInt(n))

export interface Weather {
  readonly random: Random
  readonly clock: Clock
  /** Chances of each call. */
  throttled: number
  /** No effect, and no answer. */
  lost: number
  /** Effect, and no answer. */
  unanswered: number
  /** Effect later than the error. */
  late: number
  delayMaxMs: number
}

export interface FakeTarget extends Pick<Target, 'putRows' | 'scanRows' | 'readHead' | 'readOutbox' | 'deleteBucket'> {
  readonly rows: Map<string, StampedRow>
  readonly heads: Map<string, Head>
  readonly outboxes: Map<string, Map<number, OutboxEntry>>
  readonly deletedBuckets: string[]
  puts: number
  weather: Weather | null
  /** Throws to refuse a put. */
  refuse: ((put: RowPut) => boolean) | null
  /** Called with each batch before it takes effect. */
  onPut: ((rows: readonly RowPut[]) => void) | null
  row(table: string, key: string, clustering: readonly string[]): StampedRow | undefined
}

export const rowName = (row: RowKey): string => `${row.table}|${row.key}|${row.clustering.join('|')}`

export function fakeTarget(): FakeTarget {
  const rows = new Map<string, StampedRow>()
  const store = (put: RowPut) => {
    const name = rowName(put)
    const stored = rows.get(name)
    if (stored !== undefined && stored.stamp >= put.stamp) return
    const values = put.values === null ? null : put.values.map((cell, i) => (cell === undefined ? (stored?.values?.[i] ?? null) : cell))
    rows.set(name, { table: put.table, key: put.key, clustering: put.clustering, values, stamp: put.stamp, mark: put.mark })
  }
  const target: FakeTarget = {
    rows,
    heads: new Map(),
    outboxes: new Map(),
    deletedBuckets: [],
    puts: 0,
    weather: null,
    refuse: null,
    onPut: null,
    row: (table, key, clustering) => rows.get(rowName({ table, key, clustering })),
    async putRows(batch) {
      const names = batch.map(rowName)
      assert.equal(new Set(names).size, names.length, 'one row twice in a batch')
      await weathered(target.weather, 'putRows', () => {
        if (target.refuse !== null && batch.some(target.refuse))
          throw new SwitchbackError('TARGET_REFUSED', { operation: 'putRows', reason: 'too large' })
        target.onPut?.(batch)
        target.puts += batch.length
        for (const put of batch) store(put)
      })
    },
    async *scanRows(options: ScanOptions) {
      const part = [...rows.values()].filter((row) => row.table === options.table && Number(row.key) % options.segments === options.segment)
      for (let i = 0; i < part.length; i += 10) {
        await weathered(target.weather, 'scanRows', () => undefined)
        yield part.slice(i, i + 10)
      }
    },
    readHead: (key) => weathered(target.weather, 'readHead', () => target.heads.get(key) ?? null),
    readOutbox: (id, after, limit) => weathered(target.weather, 'readOutbox', () => pageOf(target, id, after, limit)),
    deleteBucket: (id, bucket) =>
      weathered(target.weather, 'deleteBucket', () => {
        target.deletedBuckets.push(`${id.group}/${id.lease}/${bucket}`)
        const outbox = target.outboxes.get(outboxName(id))
        for (const sequence of [...(outbox?.keys() ?? [])]) if (bucketOf(sequence) === bucket) outbox!.delete(sequence)
      }),
  }
  return target
}

export const outboxName = (id: OutboxId): string => `${id.group}/${id.lease}`

function pageOf(target: FakeTarget, id: OutboxId, after: number, limit: number): OutboxPage {
  const all = [...(target.outboxes.get(outboxName(id)) ?? [])].filter(([sequence]) => sequence > after).sort((a, b) => a[0] - b[0])
  const entries = all.slice(0, limit).map(([sequence, entry]) => ({ sequence, entry }))
  return { entries, end: entries.length === all.length }
}

export async function weathered<T>(weather: Weather | null, operation: string, act: () => T): Promise<T> {
  if (weather === null) return act()
  const { random, clock } = weather
  await clock.sleep(random.next() * weather.delayMaxMs)
  const chance = random.next()
  const unknown = () => new SwitchbackError('TARGET_UNKNOWN', { operation, reason: 'timed out' })
  let bound = weather.throttled
  if (chance < bound) throw new SwitchbackError('TARGET_THROTTLED', { operation, reason: 'weather' })
  bound += weather.lost
  if (chance < bound) throw unknown()
  bound += weather.late
  if (chance < bound) {
    clock.after(random.next() * weather.delayMaxMs * 20, () => {
      try {
        act()
      } catch {
        // Late and refused: nobody hears.
      }
    })
    throw unknown()
  }
  const value = act()
  bound += weather.unanswered
  if (chance < bound) throw unknown()
  await clock.sleep(random.next() * weather.delayMaxMs)
  return value
}

export interface FakeStream extends ChangeStream {
  push(...transactions: SourceTransaction[]): void
  end(): void
  readonly acknowledged: Lsn[]
  onAcknowledge: ((lsn: Lsn) => void) | null
}

export function fakeStream(transactions: readonly SourceTransaction[] = []): FakeStream {
  const queue = [...transactions]
  let taken = 0
  const changed = new Signal()
  let ended = false
  let server = queue.at(-1)?.endLsn ?? NO_LSN
  const stream: FakeStream = {
    acknowledged: [],
    onAcknowledge: null,
    push(...more) {
      queue.push(...more)
      server = more.at(-1)?.endLsn ?? server
      changed.notify()
    },
    end() {
      ended = true
      changed.notify()
    },
    async *transactions(signal) {
      for (;;) {
        const transaction = queue[taken]
        if (transaction !== undefined) {
          taken++
          yield transaction
        } else if (ended || signal.aborted) return
        else await changed.next(signal)
        if (signal.aborted) return
      }
    },
    acknowledge(at) {
      stream.acknowledged.push(at)
      stream.onAcknowledge?.(at)
    },
    serverLsn: () => server,
    close: async () => undefined,
  }
  return stream
}

/** One slot for each key: its number modulo 8; every slot with the same tenures unless told otherwise. */
export const slotOfKey = (key: string): SlotId => Number(BigInt(key) % 8n)

export function historyOf(records: readonly TenureRecord[], completeBelow = lsn(1n << 60n)): TenureHistory {
  return tenureHistory({ tenures: new Tenures(records), slotOf: slotOfKey, completeBelow })
}

export function allSlots(...tenures: readonly Omit<TenureRecord, 'slot'>[]): TenureRecord[] {
  return Array.from({ length: 8 }, (_, slot) => tenures.map((tenure) => ({ ...tenure, slot }))).flat()
}

export const FIRST_TENURE: Omit<TenureRecord, 'slot'> = { tenure: 1, owner: 'source', base: 1_000_000n, firstLsn: lsn(100) }

export function fixedTenures(records: readonly TenureRecord[]): TenureReader {
  const history = historyOf(records)
  return { current: () => history, refresh: async () => history }
}

// ---- the reverse way

export function viewOf(rows: Iterable<Ownership>): RoutingView {
  return new RoutingView({ epoch: 1, bindingEpoch: 1, rows, pins: [] })
}

export const targetOwned = (slot: SlotId, tenure = 5, base = 1_000n): Ownership => ({
  slot,
  owner: 'target',
  phase: 'steady',
  readOnly: false,
  epoch: tenure,
  tenure,
  base,
})

/** Every hash slot is the target's. */
export function targetOwnsAll(tenure = 5, base = 1_000n): RoutingView {
  return viewOf(Array.from({ length: HASH_SLOTS }, (_, slot) => targetOwned(slot, tenure, base)))
}

export function leaseRow(lease: string, more: Partial<LeaseRow> = {}): LeaseRow {
  return { lease, gateway: lease, renewals: 1, ackedEpoch: 1, over: false, nextSequences: new Map(), excused: [], ...more }
}

export interface FakeApplier extends ReverseApplier {
  readonly versions: Map<string, number>
  /** Every transaction applied, in order. */
  readonly log: ReverseTransaction[]
  readonly saved: Map<string, { sequence: number; final: boolean }>
  token: number
  readonly poisonous: Set<string>
  /** A fault before, or after, the commit. */
  fault: ((when: 'before' | 'after') => void) | null
  pause: (() => Promise<void>) | null
  /** Another leader's applier over the same PostgreSQL. */
  as(token: number): ReverseApplier
}

/** PostgreSQL as the applier sees it. Conditions as ReverseApplier has them. */
export function fakeApplier(view: () => RoutingView): FakeApplier {
  const versions = new Map<string, number>()
  const halted = new Set<string>()
  const leads = (token: number) => {
    if (token !== applier.token) throw new SwitchbackError('TOKEN_STALE', { token })
  }
  const one = (transaction: ReverseTransaction): ReverseOutcome => {
    const ownership = view().ownership(transaction.slot)
    const id = `${transaction.tenure}/${transaction.key}`
    if (ownership === undefined || ownership.owner !== 'target' || ownership.tenure !== transaction.tenure) return 'old'
    const at = versions.get(id) ?? 0
    if (at >= transaction.version) return 'double'
    if (at !== transaction.version - 1 || halted.has(id)) return 'wait'
    if (applier.poisonous.has(transaction.key)) {
      halted.add(id)
      return 'poison'
    }
    versions.set(id, transaction.version)
    applier.log.push(transaction)
    return 'applied'
  }
  const make = (token: number): ReverseApplier => ({
    async apply(batch) {
      await applier.pause?.()
      leads(token)
      applier.fault?.('before')
      halted.clear()
      const outcomes = batch.map(one)
      applier.fault?.('after')
      return outcomes
    },
    async applied(keys) {
      await applier.pause?.()
      return keys.flatMap(({ key, tenure }) => {
        const version = versions.get(`${tenure}/${key}`)
        return version === undefined ? [] : [{ key, tenure, version, txnId: 'x' }]
      })
    },
    async positions() {
      return [...applier.saved].map(([name, at]) => {
        const slash = name.indexOf('/')
        return { group: Number(name.slice(0, slash)), lease: name.slice(slash + 1), ...at }
      })
    },
    async savePositions(positions) {
      await applier.pause?.()
      leads(token)
      for (const { group, lease, sequence, final } of positions) {
        const before = applier.saved.get(`${group}/${lease}`)
        assert.ok(before === undefined || before.sequence <= sequence, 'a position went back')
        applier.saved.set(`${group}/${lease}`, { sequence, final })
      }
    },
  })
  const applier: FakeApplier = {
    versions,
    log: [],
    saved: new Map(),
    token: 1,
    poisonous: new Set(),
    fault: null,
    pause: null,
    as: make,
    ...make(1),
  }
  return applier
}
