import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Row, RowPut } from '../../src/model/row.ts'
import type { KeyRange, SnapshotReader, Source } from '../../src/model/source.ts'
import { type BackfillOptions, type BackfillProgress, runBackfill } from '../../src/sync/backfill.ts'
import { memoryBackfillJournal } from '../../src/sync/backfill-journal.ts'
import { createRowPacer } from '../../src/sync/row-pacer.ts'
import { highestStamp, sweepBelowBase } from '../../src/sync/sweep.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { ENTRIES, fakeTarget, lsn, MAPPING, slotOfKey } from './fakes.ts'

const ONLY_ENTRIES = { ...MAPPING, tables: [ENTRIES] }
const BASE = 1_000_000n

/** Rows of one table in key order; ids are the second key column and unique, so that ranges are cut by them. */
function fakeSource(rows: () => Row[]) {
  const state = {
    opened: [] as (string | null)[],
    /** Throws where a read is to break off. */
    onBatch: null as ((row: Row) => void) | null,
    exportedGone: false,
    wal: 500n,
    maxBatch: 0,
  }
  const source: Pick<Source, 'snapshotReader' | 'keyRanges' | 'estimatedRows' | 'currentWalLsn'> = {
    async snapshotReader(snapshot): Promise<SnapshotReader> {
      if (snapshot !== null && state.exportedGone) throw new SwitchbackError('UPSTREAM_LOST', { reason: 'snapshot is gone' })
      state.opened.push(snapshot)
      const shown = rows()
      return {
        async *rows(range, batchRows) {
          const within = shown.filter((row) => after(row, range.from) && !after(row, range.to ?? ['99999999', '0']))
          for (let i = 0; i < within.length; i += batchRows) {
            state.onBatch?.(within[i]!)
            const batch = within.slice(i, i + batchRows)
            state.maxBatch = Math.max(state.maxBatch, batch.length)
            yield batch
          }
        },
        close: async () => undefined,
      }
    },
    async keyRanges(table, ranges): Promise<KeyRange[]> {
      const all = rows()
      const size = Math.ceil(all.length / ranges)
      const cuts = Array.from({ length: ranges - 1 }, (_, i) => all[(i + 1) * size - 1]?.slice(0, 2) as string[] | undefined).filter(
        (cut) => cut !== undefined,
      )
      return [null, ...cuts].map((from, i) => ({ table: table.name, from, to: cuts[i] ?? null }))
    },
    estimatedRows: async () => rows().length,
    currentWalLsn: async () => lsn(state.wal++),
  }
  return { source, state }
}

const compare = (row: readonly (string | null)[], key: readonly string[]) =>
  Number(row[0]) - Number(key[0]) || Number(row[1]) - Number(key[1])
const after = (row: Row, key: readonly string[] | null) => key === null || compare(row, key) > 0
const manyRows = (n: number): Row[] => Array.from({ length: n }, (_, i) => [`${Math.floor(i / 10)}`, `${i}`, `${i}.00`, null])

function options(more: Partial<BackfillOptions> & Pick<BackfillOptions, 'source' | 'target' | 'journal'>): BackfillOptions {
  return {
    mapping: ONLY_ENTRIES,
    snapshot: 'snap',
    stampOf: () => BASE,
    worker: 'w',
    clock: systemClock,
    random: seededRandom(3),
    ...more,
    limits: {
      rangesPerTable: 8,
      readRows: 25,
      workers: 3,
      claimPollMs: 5,
      progressMs: 5,
      backoff: { firstMs: 1, capMs: 10 },
      ...more.limits,
    },
  }
}

test('every row of the snapshot is copied once over all ranges, stamped with the consistent point', async () => {
  const { source, state } = fakeSource(() => manyRows(1_000))
  const target = fakeTarget()
  const journal = memoryBackfillJournal()
  const seen: BackfillProgress[] = []
  const result = await runBackfill(options({ source, target, journal, progress: (p) => seen.push(p) }), AbortSignal.timeout(10_000))
  assert.deepEqual(
    { ...result, bytes: 0 },
    { ranges: 8, done: 8, rows: 1_000, bytes: 0, laterSnapshotLsn: null, complete: true, rowsSkipped: 0 },
  )
  assert.equal(target.rows.size, 1_000)
  assert.ok([...target.rows.values()].every((row) => row.stamp === BASE))
  assert.deepEqual(new Set(state.opened), new Set(['snap']))
  assert.ok(state.maxBatch <= 25)
  assert.deepEqual([seen.at(-1)?.totals.done, seen.at(-1)?.estimatedRows, seen.at(-1)?.etaMs], [8, 1_000, 0])
})

test('rows of slots that the target owns are not copied, and are counted', async () => {
  const { source } = fakeSource(() => manyRows(100))
  const target = fakeTarget()
  const stampOf = (key: string) => (slotOfKey(key) === 3 ? null : BASE)
  const result = await runBackfill(options({ source, target, journal: memoryBackfillJournal(), stampOf }), AbortSignal.timeout(10_000))
  assert.equal(result.rowsSkipped, 10)
  assert.deepEqual(
    [...target.rows.values()].filter((row) => slotOfKey(row.key) === 3),
    [],
  )
})

test('a resumed range reads a later snapshot, still stamped with the consistent point, and says what parity must wait for (55)', async () => {
  let rows = manyRows(200)
  const { source, state } = fakeSource(() => rows)
  const target = fakeTarget()
  const journal = memoryBackfillJournal()
  const stop = new AbortController()
  let batches = 0
  state.onBatch = () => {
    if (++batches === 5) stop.abort()
  }
  const first = await runBackfill(options({ source, target, journal, worker: 'a', limits: { workers: 1 } }), stop.signal)
  assert.equal(first.complete, false)
  assert.equal(first.laterSnapshotLsn, null)
  state.onBatch = null
  state.exportedGone = true
  // Changed meanwhile: the stream will send it again, with a higher stamp.
  rows = rows.map((row) => (row[1] === '150' ? [row[0]!, '150', 'later', null] : row))
  const second = await runBackfill(options({ source, target, journal, worker: 'b' }), AbortSignal.timeout(10_000))
  assert.equal(second.complete, true)
  assert.ok(second.laterSnapshotLsn !== null && second.laterSnapshotLsn >= 500n)
  assert.equal(target.rows.size, 200)
  assert.deepEqual(target.row(ENTRIES.name, '15', ['150'])?.values, ['15', '150', 'later', null])
  assert.ok([...target.rows.values()].every((row) => row.stamp === BASE))
})

test('the claim of a worker that died is taken over where it was durable, and the dead one hears so', async () => {
  const { source } = fakeSource(() => manyRows(100))
  const target = fakeTarget()
  const journal = memoryBackfillJournal()
  await journal.plan(ENTRIES.name, await source.keyRanges(ENTRIES, 1))
  const claimed = await journal.claim('dead')
  await journal.progress(claimed!.id, 'dead', { after: ['4', '49'], rows: 50, bytes: 10 })
  journal.expire('dead')
  const result = await runBackfill(options({ source, target, journal, worker: 'alive' }), AbortSignal.timeout(10_000))
  assert.deepEqual([result.rows, target.rows.size, result.laterSnapshotLsn], [100, 50, lsn(500)])
  assert.equal(await journal.progress(claimed!.id, 'dead', { after: ['9', '99'], rows: 1, bytes: 1 }), false)
})

test('throttled, lost and broken reads lose nothing, and the journal never runs ahead of what is durable (11, 12)', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed)
    const clock = new VirtualClock()
    const { source, state } = fakeSource(() => manyRows(300))
    state.onBatch = () => {
      if (random.next() < 0.1) throw new Error('the connection broke')
    }
    const target = fakeTarget()
    target.weather = { random, clock, throttled: 0.4, lost: 0.1, unanswered: 0.1, late: 0.1, delayMaxMs: 10 }
    const journal = memoryBackfillJournal()
    const progress = journal.progress.bind(journal)
    journal.progress = async (id, worker, at) => {
      assert.ok(target.row(ENTRIES.name, at.after[0]!, [at.after[1]!]) !== undefined, `seed ${seed}: ahead of the target`)
      return progress(id, worker, at)
    }
    const result = await clock.run(runBackfill(options({ source, target, journal, clock, random }), new AbortController().signal))
    assert.deepEqual([result.complete, result.rows, target.rows.size], [true, 300, 300], `seed ${seed}`)
  }
})

test('what the stream has written already stays: a backfilled row is older than any change (16)', async () => {
  const { source } = fakeSource(() => manyRows(10))
  const target = fakeTarget()
  const newer: RowPut = { table: ENTRIES.name, key: '0', clustering: ['3'], values: null, stamp: BASE + 1n, mark: false }
  await target.putRows([newer])
  await runBackfill(options({ source, target, journal: memoryBackfillJournal() }), AbortSignal.timeout(10_000))
  assert.equal(target.row(ENTRIES.name, '0', ['3'])?.values, null)
})

test('no more than so many rows a second', async () => {
  const clock = new VirtualClock()
  const pacer = createRowPacer({ rowsPerSecondMax: 1_000, clock })
  const began = clock.monotonicMs()
  const signal = new AbortController().signal
  await clock.run(
    (async () => {
      for (let i = 0; i < 50; i++) await pacer.take(100, signal)
    })(),
  )
  const tookMs = clock.monotonicMs() - began
  assert.ok(tookMs >= 4_700 && tookMs <= 5_000, `${tookMs} ms`)
})

test('after a second backfill, what lies below the new base was deleted meanwhile and becomes a tombstone (55)', async () => {
  const target = fakeTarget()
  const put = (key: string, id: string, stamp: bigint): RowPut => ({
    table: ENTRIES.name,
    key,
    clustering: [id],
    values: [key, id, '1', null],
    stamp,
    mark: false,
  })
  await target.putRows([put('1', '1', 50n), put('1', '2', BASE), put('1', '3', BASE + 7n), put('3', '1', 50n)])
  const result = await sweepBelowBase(
    {
      target,
      mapping: ONLY_ENTRIES,
      journal: { isSwept: async () => false, swept: async () => undefined },
      stampOf: (key) => (slotOfKey(key) === 3 ? null : BASE),
      segments: 3,
      scansMax: 2,
      limits: { batchRowsMax: 10, batchesInFlightMax: 2, pendingRowsMax: 100, backoff: { firstMs: 1, capMs: 5 } },
      clock: systemClock,
      random: seededRandom(1),
    },
    AbortSignal.timeout(5_000),
  )
  assert.deepEqual({ ...result, retries: {} }, { complete: true, parts: 3, partsDone: 3, rowsSeen: 4, tombstones: 1, retries: {} })
  const state = Object.fromEntries(
    [...target.rows.values()].map((row) => [`${row.key}.${row.clustering[0]}`, row.values === null ? row.stamp : 'there']),
  )
  assert.deepEqual(state, { '1.1': BASE, '1.2': 'there', '1.3': 'there', '3.1': 'there' })
})

test('parts that are swept are not scanned again, a part counts only when its tombstones are durable, and throttling loses none (11, 55)', async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const random = seededRandom(seed)
    const clock = new VirtualClock()
    const target = fakeTarget()
    const old: RowPut[] = manyRows(200).map(([key, id]) => {
      return { table: ENTRIES.name, key: key!, clustering: [id!], values: [key!, id!, '1', null], stamp: 5n, mark: false }
    })
    await target.putRows(old)
    target.weather = { random, clock, throttled: 0.4, lost: 0.1, unanswered: 0.1, late: 0.1, delayMaxMs: 10 }
    const done = new Map<number, number>([[1, 0]])
    const journal = {
      isSwept: async (_: string, segment: number) => done.has(segment),
      async swept(_: string, segment: number, tombstones: number) {
        for (const row of target.rows.values())
          if (Number(row.key) % 4 === segment) assert.equal(row.values, null, `seed ${seed}: ${row.key} is not durable`)
        done.set(segment, tombstones)
      },
    }
    const limits = { batchRowsMax: 10, batchesInFlightMax: 3, pendingRowsMax: 40, backoff: { firstMs: 1, capMs: 10 } }
    const sweep = {
      target,
      mapping: ONLY_ENTRIES,
      journal,
      stampOf: () => BASE,
      segments: 4,
      scansMax: 2,
      limits,
      clock,
      random,
    }
    const result = await clock.run(sweepBelowBase(sweep, new AbortController().signal))
    const left = [...target.rows.values()].filter(({ values }) => values !== null).length
    const tombstones = [...done.values()].reduce((sum, n) => sum + n, 0)
    assert.deepEqual([result.complete, result.tombstones, tombstones, left > 0], [true, 200 - left, 200 - left, true], `seed ${seed}`)
  }
})

test('the highest stamp is that of the slots asked for, tombstones included', async () => {
  const target = fakeTarget()
  const put = (key: string, stamp: bigint, values: RowPut['values']): RowPut => {
    return { table: ENTRIES.name, key, clustering: ['1'], values, stamp, mark: false }
  }
  await target.putRows([put('1', 50n, ['1', '1', '1', null]), put('2', 70n, null), put('3', 900n, ['3', '1', '1', null])])
  const asked = { target, mapping: ONLY_ENTRIES, segments: 2, counts: (key: string) => slotOfKey(key) !== 3 }
  assert.equal(await highestStamp(asked, new AbortController().signal), 70n)
})
