import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { lsnOf } from '../../src/model/ids.ts'
import { HASH_SLOTS, hashSlotOf } from '../../src/model/key.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import { Tenures } from '../../src/model/tenures.ts'
import { readMapping } from '../../src/source/catalog.ts'
import { createSource } from '../../src/source/postgres-source.ts'
import { runBackfill } from '../../src/sync/backfill.ts'
import { memoryBackfillJournal } from '../../src/sync/backfill-journal.ts'
import { type ForwardProgress, runForward } from '../../src/sync/forward.ts'
import { tenureHistory } from '../../src/sync/stamps.ts'
import { MemoryTarget } from '../../src/targets/memory/memory-target.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'

const SCHEMA = `
  create table entries (account bigint, id bigint, amount numeric not null, note text, primary key (account, id));
  alter table entries alter column note set storage external;
  insert into entries select i % 100, i, i, case when i % 10 = 0 then repeat('x', 5000) end from generate_series(1, 3000) as i;
`

test('with real PostgreSQL under load, copy and stream together are the final state, and the marker says when (16, 17, 18, 23)', {
  timeout: 60_000,
}, async () => {
  await using db = await testDatabase(SCHEMA)
  const client = await db.connect()
  const mapping = await readMapping(client, {
    migration: 'move',
    source: { urlEnv: 'X' },
    target: { kind: 'memory', port: 0 },
    tables: { 'public.entries': { partitionKey: 'account' } },
  })
  const source = createSource({ url: db.url, mapping, migration: 'move', clock: systemClock })
  const target = new MemoryTarget()
  await target.prepare(mapping)
  const point = await source.createSlot()
  const stop = new AbortController()
  let forwarding: Promise<void> = Promise.resolve()
  try {
    const load = write(client)
    const result = await runBackfill(
      {
        source,
        target,
        mapping,
        journal: memoryBackfillJournal(),
        snapshot: point.snapshot,
        stampOf: () => 1_000n,
        worker: 'w',
        limits: { workers: 3, rangesPerTable: 7, readRows: 100 },
        clock: systemClock,
        random: seededRandom(1),
      },
      AbortSignal.timeout(30_000),
    )
    assert.deepEqual([result.complete, result.rows, result.laterSnapshotLsn], [true, 3_000, null])
    await point.release()

    const records = Array.from({ length: HASH_SLOTS }, (_, slot) => ({
      slot,
      tenure: 1,
      owner: 'source' as const,
      base: 1_000n,
      firstLsn: point.consistentPoint,
    }))
    const history = tenureHistory({ tenures: new Tenures(records), slotOf: hashSlotOf, completeBelow: lsnOf(1n << 62n) })
    const markers: string[] = []
    let progress: ForwardProgress | null = null
    const stream = await source.stream()
    forwarding = runForward(
      {
        stream,
        target,
        mapping,
        tenures: { current: () => history, refresh: async () => history },
        ownOrigins: new Set(),
        onMarker: (content) => markers.push(content),
        onViolation: async (violation) => assert.fail(`${violation.slot}`),
        progress: (now) => {
          progress = now
        },
        limits: { progressMs: 20 },
        clock: systemClock,
        random: seededRandom(2),
      },
      stop.signal,
    )
    await load
    await client.query(`select pg_logical_emit_message(true, 'switchback', 'end of the load')`)
    await eventually(() => markers.includes('end of the load'), 'the marker')
    assert.deepEqual(await rowsOn(target, mapping), await rowsIn(client))

    await client.query('truncate entries')
    await client.query(`insert into entries values (1, 1, 1.10, null)`)
    await client.query(`select pg_logical_emit_message(true, 'switchback', 'truncated')`)
    await eventually(() => markers.includes('truncated'), 'the second marker')
    assert.deepEqual(await rowsOn(target, mapping), ['1|1|1.10|null'])
    // INV-3: the slot's confirmed position follows what is durable.
    const acknowledged = await eventually(() => progress?.acknowledgedLsn, 'progress')
    await eventually(async () => ((await source.slotState())?.confirmedFlushLsn ?? 0n) >= acknowledged, 'the slot is confirmed')
  } finally {
    stop.abort()
    await forwarding
    await source.dropSlot()
  }
})

/** Updates, deletes, reinserts, key changes, large aborted transactions, updates that leave TOAST columns unchanged. */
async function write(client: { query(sql: string): Promise<unknown> }): Promise<void> {
  for (let i = 0; i < 60; i++) {
    await client.query(`update entries set amount = amount + 1 where id % 60 = ${i}`)
    await client.query(
      `begin; delete from entries where id = ${i * 7}; insert into entries values (${i % 100}, ${i * 7}, ${i}, 'again'); commit`,
    )
    await client.query(`update entries set account = account + 1000, note = 'moved' where id = ${i * 11 + 3}`)
    await client.query(`insert into entries values (${i}, ${10_000 + i}, ${i}.50, null)`)
    await client.query(`delete from entries where id = ${i * 13 + 5}`)
    if (i % 20 === 0) await client.query(`begin; update entries set amount = -1; delete from entries where id % 2 = 0; rollback`)
  }
}

async function rowsIn(client: { query(sql: string): Promise<{ rows: Record<string, string | null>[] }> }): Promise<string[]> {
  const { rows } = await client.query('select account::text, id::text, amount::text, note from entries')
  return rows.map((row) => `${row['account']}|${row['id']}|${row['amount']}|${row['note']}`).sort()
}

async function rowsOn(target: MemoryTarget, mapping: Mapping): Promise<string[]> {
  const rows: string[] = []
  for await (const batch of target.scanRows({ table: mapping.tables[0]!.name, segment: 0, segments: 1 })) {
    for (const row of batch) if (row.values !== null) rows.push(row.values.map((cell) => `${cell}`).join('|'))
  }
  return rows.sort()
}
