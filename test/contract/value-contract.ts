// Promises: the part of the target contract about values: each one comes back as it was, or is refused by name (INV-12, faults.md row 22).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ColumnType } from '../../src/model/mapping.ts'
import type { RowPut } from '../../src/model/row.ts'
import { EVERY_TYPE, entryOf, headAt, numbered } from './contract-mapping.ts'
import type { Opened } from './target-contract.ts'

const SAMPLES: Partial<Record<ColumnType, readonly string[]>> = {
  bool: ['t', 'f'],
  int2: ['0', '-32768', '32767'],
  int4: ['100', '-2147483648', '2147483647'],
  int8: ['1000000000000000000', '-9223372036854775808', '9223372036854775807'],
  float4: ['1e+30', '-0', 'NaN', 'Infinity', '0.1'],
  float8: ['1.7976931348623157e+308', '-Infinity', '5e-324', '0.30000000000000004'],
  numeric: [
    '1.10',
    '1.100',
    '0.00',
    'NaN',
    '-Infinity',
    '123456789012345678901234567890123456789',
    `0.${'0'.repeat(200)}1`,
    '1e'.replace('e', '0'.repeat(300)),
  ],
  text: ['', ' ', 'été', '😀', 'a\u0001\u001fb', '"\\\n\t', 'x'.repeat(5_000), '\ufeff\u2028'],
  varchar: ['', 'y'],
  bpchar: ['a   ', '    '],
  uuid: ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-4fff-bfff-ffffffffffff'],
  json: ['{"a" : 1.10,  "a": 2}', '[]', 'null', '"\\u00e9"'],
  jsonb: ['{"a": 1.10, "b": [null, 12345678901234567890123.4567890]}', `${'['.repeat(100)}${']'.repeat(100)}`],
  bytea: ['\\x', '\\x00', '\\xdeadbeef00ff'],
  date: ['2026-02-28', '0044-03-15 BC', 'infinity', '5874897-12-31'],
  time: ['00:00:00', '23:59:59.999999', '24:00:00'],
  timestamp: ['2026-01-01 00:00:00.000001', '-infinity', '294276-12-31 23:59:59.999999', '4714-11-24 00:00:00 BC'],
  timestamptz: ['2026-01-01 00:00:00.123456+00', '0001-01-01 00:00:00+00 BC'],
  interval: ['1 year 2 mons -3 days +04:05:06.789', '00:00:00'],
  'int4[]': ['{}', '{1,NULL,-3}', '[0:1]={1,2}', '{{1,2},{3,4}}'],
  'text[]': ['{"",NULL,"NULL","a,b\\"\\\\"}'],
  'numeric[]': ['{1.10,NaN}'],
}

export function valueContract(name: string, opened: Opened): void {
  test(`${name}: every value of every type comes back exactly, null included (INV-12)`, async () => {
    await using subject = await opened()
    const most = Math.max(...EVERY_TYPE.map((type) => SAMPLES[type]!.length))
    const rows = Array.from({ length: most + 1 }, (_, i): RowPut => {
      const cells = EVERY_TYPE.map((type) => SAMPLES[type]![i] ?? null)
      return { table: 'public.wide', key: String(i), clustering: [], values: [String(i), ...cells], stamp: BigInt(i + 1), mark: false }
    })
    await subject.target.putRows(rows)
    assert.deepEqual(await subject.target.readRows(rows), rows)
    const scanned: unknown[] = []
    for await (const batch of subject.target.scanRows({ table: 'public.wide', segment: 0, segments: 1 })) scanned.push(...batch)
    assert.equal(scanned.length, rows.length)
  })

  test(`${name}: keys of text are exact, the empty one, control characters and case included`, async () => {
    await using subject = await opened('text')
    const { target } = subject
    const keys = ['', '\u0001', '\u0001\u0001', 'a', 'A', 'a ', 'é', 'e\u0301', '😀', '#', 'x'.repeat(1_000)]
    const rows = keys.map((key) => numbered(key, 1, 1, [`<${key}>`, null]))
    await target.putRows(rows)
    assert.deepEqual(await target.readRows(rows), rows)
    for (const [i, key] of keys.entries()) await target.compareAndSetHead(key, null, headAt(1, 1, `t${i}`))
    for (const [i, key] of keys.entries()) assert.deepEqual(await target.readHead(key), headAt(1, 1, `t${i}`))
    assert.deepEqual((await target.readRange({ table: 'public.numbered', key: '', limit: 5 })).rows, [rows[0]])
  })

  test(`${name}: what a store would change silently is refused by name, and nothing of the batch is written`, async () => {
    await using subject = await opened()
    const { target } = subject
    const good = numbered('1', 1, 1, ['good', null])
    for (const body of ['a\0b', 'lone \ud800 surrogate', '\udc00']) {
      await assert.rejects(target.putRows([good, numbered('1', 2, 1, [body, null])]), { code: 'TARGET_REFUSED' })
    }
    await assert.rejects(target.putRows([good, { ...good, table: 'public.none' }]), { code: 'TARGET_REFUSED' })
    await assert.rejects(target.putRows([good, { ...good, values: ['1', '1'] }]), { code: 'TARGET_REFUSED' })
    await assert.rejects(target.putRows([good, { ...good, clustering: ['01'], values: ['1', '01', 'x', null] }]), {
      code: 'TARGET_REFUSED',
    })
    assert.deepEqual(await target.readRows([good]), [undefined])
  })
}

export function limitContract(name: string, opened: Opened): void {
  test(`${name}: a row, a redo or an entry above its limit is refused by name before anything is written, one below it is not`, async () => {
    await using subject = await opened()
    const { target } = subject
    const { maxRowBytes, maxEntryBytes } = target.capabilities
    const good = numbered('1', 1, 1, ['good', null])
    for (const text of ['x'.repeat(maxRowBytes), 'é'.repeat(maxRowBytes / 2)])
      await assert.rejects(target.putRows([good, numbered('1', 2, 1, [text, null])]), { code: 'TARGET_REFUSED', message: /maxRowBytes/ })
    assert.deepEqual(await target.readRows([good]), [undefined])
    const near = numbered('1', 3, 1, ['x'.repeat(maxRowBytes - 300), null])
    await target.putRows([near])
    assert.deepEqual(await target.readRows([near]), [near])

    const change = (bytes: number) => [{ table: 'public.numbered', clustering: ['1'], values: ['1', '1', 'x'.repeat(bytes), null] }]
    const large = { redo: change(maxEntryBytes) }
    await assert.rejects(target.compareAndSetHead('1', null, headAt(1, 1, 'a', large)), {
      code: 'TARGET_REFUSED',
      message: /maxEntryBytes/,
    })
    assert.equal(await target.readHead('1'), null)
    const id = { group: 1, lease: 'l' }
    await assert.rejects(target.appendEntry(id, 1, entryOf('1', 1, { changes: change(maxEntryBytes) })), { message: /maxEntryBytes/ })
    const full = headAt(1, 1, 'a', {
      redo: change(maxEntryBytes - 500),
      recent: Array.from({ length: 16 }, (_, i) => ({ version: 2 ** 40 + i, txnId: 'f'.repeat(64) })),
    })
    assert.deepEqual(await target.compareAndSetHead('1', null, full), { won: true })
    assert.deepEqual(await target.readHead('1'), full)
    const entry = entryOf('1', 1, { changes: change(maxEntryBytes - 500) })
    await target.appendEntry(id, 1, entry)
    assert.deepEqual((await target.readOutbox(id, 0, 5)).entries, [{ sequence: 1, entry }])
  })
}
