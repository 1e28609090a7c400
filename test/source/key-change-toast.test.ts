import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { lsnOf } from '../../src/model/ids.ts'
import { HASH_SLOTS, hashSlotOf } from '../../src/model/key.ts'
import { Tenures } from '../../src/model/tenures.ts'
import { readMapping } from '../../src/source/catalog.ts'
import { createSource } from '../../src/source/postgres-source.ts'
import { runForward } from '../../src/sync/forward.ts'
import { tenureHistory } from '../../src/sync/stamps.ts'
import { MemoryTarget } from '../../src/targets/memory/memory-target.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'

for (const identity of ['default', 'full'] as const) {
  test(`a key change that carries an unchanged TOAST column ${identity === 'full' ? 'is whole under REPLICA IDENTITY FULL' : 'stops by name, and writes no row'} (64)`, {
    timeout: 60_000,
  }, async () => {
    await using db = await testDatabase(`
      create table notes (account bigint, id int, body text, primary key (account, id));
      alter table notes alter column body set storage external;
      alter table notes replica identity ${identity};
    `)
    const client = await db.connect()
    const mapping = await readMapping(client, {
      migration: 'move',
      source: { urlEnv: 'X' },
      target: { kind: 'memory', port: 0 },
      tables: { 'public.notes': { partitionKey: 'account' } },
    })
    const source = createSource({ url: db.url, mapping, migration: db.name, clock: systemClock })
    const target = new MemoryTarget()
    await target.prepare(mapping)
    const point = await source.createSlot()
    await point.release()
    const stop = new AbortController()
    const stream = await source.stream()
    try {
      const records = Array.from({ length: HASH_SLOTS }, (_, slot) => ({
        slot,
        tenure: 1,
        owner: 'source' as const,
        base: 1n,
        firstLsn: point.consistentPoint,
      }))
      const history = tenureHistory({ tenures: new Tenures(records), slotOf: hashSlotOf, completeBelow: lsnOf(1n << 62n) })
      let failure: { code?: string } | null = null
      const markers: string[] = []
      const running = runForward(
        {
          stream,
          target,
          mapping,
          tenures: { current: () => history, refresh: async () => history },
          ownOrigins: new Set(),
          onMarker: (content) => markers.push(content),
          onViolation: async () => undefined,
          clock: systemClock,
          random: seededRandom(1),
        },
        stop.signal,
      ).catch((error: { code?: string }) => {
        failure = error
      })
      const body = 'x'.repeat(5_000)
      await client.query('insert into notes values (1, 1, $1)', [body])
      await client.query('update notes set account = 2 where account = 1')
      await client.query(`select pg_logical_emit_message(true, 'switchback', 'end')`)
      await eventually(() => failure !== null || markers.includes('end'), 'the stream stops or goes on')
      const [row] = await target.readRows([{ table: 'public.notes', key: '2', clustering: ['1'] }])
      assert.deepEqual(
        [(failure as { code?: string } | null)?.code, row?.values?.[2]],
        identity === 'full' ? [undefined, body] : ['KEY_CHANGE_UNCHANGED_TOAST', undefined],
      )
      stop.abort()
      await running
    } finally {
      stop.abort()
      await stream.close()
      await source.dropSlot()
    }
  })
}
