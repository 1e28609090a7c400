import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Row } from '../../src/model/row.ts'
import { connectSource } from '../../src/source/connect.ts'
import { sourceWorld, take } from './fixture.ts'

const TABLES = { 'public.accounts': { partitionKey: 'id' } }
const SQL = 'create table public.accounts (id int8 primary key, balance int8 not null)'

test('snapshot and stream together are the final state, under concurrent writes (faults 16)', async () => {
  await using world = await sourceWorld(`${SQL}; insert into public.accounts select g, 100 from generate_series(1, 12000) g`, TABLES)
  await world.admin.query('analyze public.accounts')
  const stop = new AbortController()
  const writer = async (seed: number) => {
    const client = await connectSource({ url: world.db.url, applicationName: 'test' })
    // What fails here rejects the statement under way, and the test with it.
    client.on('error', () => undefined)
    for (let i = seed; !stop.signal.aborted; i += 7919) {
      const [a, b] = [(i % 12000) + 1, ((i * 31) % 12000) + 1]
      await client.query('begin')
      await client.query('update public.accounts set balance = balance - 1 where id = $1', [Math.min(a, b)])
      await client.query('update public.accounts set balance = balance + 1 where id = $1', [Math.max(a, b)])
      if (i % 5 === 0) await client.query('update public.accounts set id = id + 100000 where id = $1', [a])
      await client.query('commit')
    }
    await client.end()
  }
  const writers = [writer(1), writer(501)]
  // Also where an assertion fails: writers must not outlive the world, or their lost connections hide what failed.
  await using _writing = {
    async [Symbol.asyncDispose]() {
      stop.abort()
      await Promise.allSettled(writers)
    },
  }
  const point = await world.source.createSlot()
  const table = world.mapping.tables[0]!
  const ranges = await world.source.keyRanges(table, 2)
  assert.equal(ranges.length, 2)
  const state = new Map<string, Row>()
  let total = 0n
  for (const range of ranges) {
    const reader = await world.source.snapshotReader(point.snapshot)
    for await (const rows of reader.rows(range, 1_000, AbortSignal.timeout(60_000))) {
      for (const row of rows) {
        assert.ok(!state.has(row[0]!), 'ranges do not overlap')
        state.set(row[0]!, row)
        total += BigInt(row[1]!)
      }
    }
    await reader.close()
  }
  assert.equal(total, 1_200_000n)
  await point.release()
  stop.abort()
  await Promise.all(writers)
  await world.admin.query(`select pg_logical_emit_message(true, 'test', 'end')`)
  const stream = await world.stream()
  const taken = await take(stream, (all) => all.at(-1)?.changes.some((change) => change.kind === 'message') ?? false)
  for (const change of taken.flatMap((one) => one.changes)) {
    if (change.kind !== 'update') continue
    if (change.before !== null) state.delete(change.before[0]!)
    state.set(change.after[0]!, change.after as Row)
  }
  const { rows } = await world.admin.query<[string, string]>({ text: 'select id, balance from public.accounts', rowMode: 'array' })
  assert.ok(taken.length > 1, 'there were writes')
  assert.deepEqual(
    [...state.values()].sort((a, b) => Number(a[0]) - Number(b[0])),
    rows.sort((a, b) => Number(a[0]) - Number(b[0])),
  )
})

test('a snapshot that went with its connection is named', async () => {
  await using world = await sourceWorld(SQL, TABLES)
  const point = await world.source.createSlot()
  await point.release()
  await assert.rejects(world.source.snapshotReader(point.snapshot), { code: 'SNAPSHOT_GONE' })
})

test('system identifier and timeline are known', async () => {
  await using world = await sourceWorld(SQL, TABLES)
  const { rows } = await world.admin.query<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  assert.deepEqual(await world.source.systemIdentifier(), { systemIdentifier: rows[0]!.id, timeline: 1 })
})

test('an address that does not answer, a wrong password and a database that is not there are one clear error each', async () => {
  await using world = await sourceWorld(SQL, TABLES)
  const at = (change: (url: URL) => void) => {
    const url = new URL(world.db.url)
    change(url)
    return connectSource({ url: url.href, applicationName: 'test' })
  }
  await assert.rejects(
    at((url) => (url.port = '1')),
    { code: 'SOURCE_UNREACHABLE' },
  )
  await assert.rejects(
    at((url) => (url.password = 'wrong')),
    { code: 'SOURCE_REFUSED' },
  )
  await assert.rejects(
    at((url) => (url.pathname = '/nowhere')),
    { code: 'SOURCE_UNREACHABLE' },
  )
})
