import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { Row } from '../../src/model/row.ts'
import { connectSource } from '../../src/source/connect.ts'
import { copyRows, rowOfCopyLine } from '../../src/source/copy-out.ts'
import { eventually } from '../support/eventually.ts'
import { testDatabase } from '../support/postgres.ts'

const OPTIONS = { columns: 2, batchRows: 100, clock: systemClock }

test('a row copied out is the row that a plain select gives, whatever its texts hold', async (t) => {
  const seed = randomInt(2 ** 31)
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  await using db = await testDatabase('create table public.texts (id int8 primary key, body text)')
  const client = await connectSource({ url: db.url, applicationName: 'test', queryTimeoutMs: 0 })
  try {
    const letters = ['\\', 'N', '\t', '\n', '\r', '\b', '\f', '\v', '"', "'", ',', '', 'é', '💶', ' ', '.', 'x', '\\N', '\\t']
    const text = () => Array.from({ length: random.int(9) }, () => letters[random.int(letters.length)]!).join('')
    const rows: Row[] = Array.from({ length: 1_234 }, (_, i) => [String(i), random.int(9) === 0 ? null : text()])
    await client.query('insert into public.texts select * from unnest($1::int8[], $2::text[])', [
      rows.map(([id]) => id),
      rows.map(([, body]) => body),
    ])
    const copied: Row[] = []
    const sizes: number[] = []
    for await (const batch of copyRows(client, 'select id, body from public.texts order by id', OPTIONS)) {
      sizes.push(batch.length)
      copied.push(...batch)
    }
    assert.deepEqual(copied, rows)
    assert.deepEqual(sizes, [...Array.from({ length: 12 }, () => 100), 34])
    assert.deepEqual((await client.query<{ one: string }>('select 1 as one')).rows, [{ one: '1' }], 'the connection goes on')
  } finally {
    await client.end()
  }
})

test('a copy reads no further than its reader, an error is the statement’s own, and who stops early ends the connection', async () => {
  await using db = await testDatabase()
  const open = () => connectSource({ url: db.url, applicationName: 'test copy', queryTimeoutMs: 0 })
  const watcher = await db.connect()
  const endless = "select generate_series(1, 100000000), repeat('x', 1000)"
  const client = await open()
  for await (const batch of copyRows(client, endless, OPTIONS)) {
    assert.equal(batch.length, 100)
    // PostgreSQL waits for us to read: it has not run on into memory of ours.
    await eventually(async () => (await waiting()) === 'ClientWrite', 'PostgreSQL waits to be read from')
    break
  }
  await eventually(async () => (await waiting()) === undefined, 'the statement ends')
  await client.end()
  const failing = await open()
  const failed = async () => {
    for await (const _ of copyRows(failing, 'select g, 1 / (g - 150) from generate_series(1, 1000) g', OPTIONS)) {
    }
  }
  await assert.rejects(failed(), { code: '22012' })
  assert.equal((await failing.query('select 1 as one')).rowCount, 1, 'the connection goes on')
  await failing.end()

  async function waiting(): Promise<string | undefined> {
    const { rows } = await watcher.query<{ wait: string }>(
      "select wait_event as wait from pg_stat_activity where application_name = 'test copy' and query like 'copy%'",
    )
    return rows[0]?.wait
  }
})

test('escapes of the text format', () => {
  assert.deepEqual(rowOfCopyLine('1\t\\N\t\t\\\\N\ta\\tb\\\\\\nc\\r\\b\\f\\v'), ['1', null, '', '\\N', 'a\tb\\\nc\r\b\f\v'])
})
