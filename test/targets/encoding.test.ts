import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hasCode } from '../../src/model/errors.ts'
import type { ColumnType } from '../../src/model/mapping.ts'
import type { Cell, RowPut } from '../../src/model/row.ts'
import { compareUtf8, decodeClustering, encodeClustering } from '../../src/targets/clustering.ts'
import { decodeEntry, decodePut, encodeEntry, encodeRow } from '../../src/targets/codec.ts'
import { bodyItem, cellAttribute, cellOf, itemBytes, keyItem, layoutOf, rowOf } from '../../src/targets/dynamodb/encoding.ts'
import { contractMapping, entryOf } from '../contract/contract-mapping.ts'

const int8 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
/** Text as PostgreSQL holds it, with the characters that the encodings escape often in it. */
const text = fc
  .array(fc.oneof(fc.constantFrom('\u0001', '\u0002', '\u0003', 'a', 'é', '\uffee', '😀'), fc.string({ unit: 'grapheme', maxLength: 3 })), {
    maxLength: 6,
  })
  .map((parts) => parts.join('').replaceAll('\0', ''))
const TYPES: readonly ColumnType[] = ['int8', 'text', 'numeric']
const clustering = fc.tuple(int8.map(String), text, text)

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, 'utf8'), Buffer.from(b, 'utf8'))
}

test('a clustering encoding comes back as the texts it was made of', () => {
  fc.assert(fc.property(clustering, (texts) => assert.deepEqual(decodeClustering(TYPES, encodeClustering(TYPES, texts)), texts)))
})

test('byte order of clustering encodings is the order of the values, column by column', () => {
  const near = fc.tuple(fc.oneof(int8, fc.bigInt({ min: -120n, max: 120n })).map(String), text, text)
  fc.assert(
    fc.property(near, near, fc.boolean(), (a, b, shareFirst) => {
      if (shareFirst) b[0] = a[0]
      const [left, right] = [BigInt(a[0]), BigInt(b[0])]
      const wanted = left !== right ? (left < right ? -1 : 1) : compareBytes(a[1], b[1]) || compareBytes(a[2], b[2])
      const encoded = compareBytes(encodeClustering(TYPES, a), encodeClustering(TYPES, b))
      assert.equal(encoded, wanted)
      assert.equal(Math.sign(compareUtf8(encodeClustering(TYPES, a), encodeClustering(TYPES, b))), wanted)
    }),
    { numRuns: 2_000 },
  )
})

test('compareUtf8 orders any two texts as their UTF-8 bytes', () => {
  fc.assert(
    fc.property(text, text, (a, b) => assert.equal(Math.sign(compareUtf8(a, b)), compareBytes(a, b))),
    { numRuns: 2_000 },
  )
})

test('an integer key that is not canonical is refused: two texts would be one row', () => {
  for (const bad of ['01', '-0', '+1', ' 1', '', '1.0', '99999999999999999999', 'x'])
    assert.throws(() => encodeClustering(['int8'], [bad]), { code: 'TARGET_REFUSED' })
  assert.throws(() => encodeClustering(['int8'], []), { code: 'TARGET_REFUSED' })
})

test('rows and entries cross the wire exactly, undefined cells included', () => {
  const cell = fc.oneof(text, fc.constant(null), fc.constant(undefined))
  const values: fc.Arbitrary<readonly (Cell | undefined)[] | null> = fc.oneof(fc.array(cell, { maxLength: 5 }), fc.constant(null))
  fc.assert(
    fc.property(
      text,
      fc.array(text),
      values,
      fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
      fc.boolean(),
      (key, parts, cells, stamp, mark) => {
        const put: RowPut = { table: 't', key, clustering: parts, values: cells, stamp, mark }
        assert.deepEqual(decodePut(JSON.parse(JSON.stringify(encodeRow(put)))), put)
        const entry = entryOf(key, 1, { changes: [{ table: 't', clustering: parts, values: cells }] })
        assert.deepEqual(decodeEntry(JSON.parse(JSON.stringify(encodeEntry(entry)))), entry)
      },
    ),
  )
})

test('a row as an item comes back exactly, whatever its keys and values, and never with an empty key', () => {
  const layouts = contractMapping('m', 'text').tables.map((table) => layoutOf(table, table.targetName))
  const named = layouts.find((layout) => layout.mapping.table === 'named')!
  const deep = layouts.find((layout) => layout.mapping.table === 'deep')!
  fc.assert(
    fc.property(text, text, int8.map(String), fc.option(text), fc.boolean(), (key, name, a, body, mark) => {
      const stamp = 77n
      const flag = mark ? 't' : 'f'
      const rows: [typeof named, RowPut][] = [
        [named, { table: 'public.named', key, clustering: [name], values: [key, name, body], stamp, mark }],
        [named, { table: 'public.named', key, clustering: [name], values: null, stamp, mark }],
        [deep, { table: 'public.deep', key, clustering: [a, name, flag], values: [key, name, a, flag, body], stamp, mark }],
        [deep, { table: 'public.deep', key, clustering: [a, name, flag], values: null, stamp, mark }],
      ]
      for (const [layout, row] of rows) {
        const item = { ...keyItem(layout, row), ...bodyItem(layout, row) }
        assert.deepEqual(rowOf(layout, JSON.parse(JSON.stringify(item))), row)
        assert.notDeepEqual(item[layout.hash.name], { S: '' })
        assert.notDeepEqual(item[layout.range!.name], { S: '' })
      }
    }),
  )
})

test('a value lies natively only where that is exact', () => {
  const column = (type: ColumnType) => ({ ...contractMapping('m').tables[0]!.columns[1]!, type })
  const attributes = (
    [
      ['int8', '9223372036854775807'],
      ['bool', 'f'],
      ['bytea', '\\x00ff'],
      ['numeric', '1.10'],
      ['float8', '-0'],
      ['timestamptz', '2026-01-01 00:00:00.123456+00'],
      ['jsonb', '{"a": 1.10}'],
      ['int4[]', '{1,NULL}'],
      ['text', ''],
      ['text', null],
    ] as const
  ).map(([type, cell]) => {
    const attribute = cellAttribute(column(type), cell)
    assert.equal(cellOf(column(type), attribute), cell)
    return attribute
  })
  assert.deepEqual(attributes, [
    { N: '9223372036854775807' },
    { BOOL: false },
    { B: 'AP8=' },
    { S: '1.10' },
    { S: '-0' },
    { S: '2026-01-01 00:00:00.123456+00' },
    { S: '{"a": 1.10}' },
    { S: '{1,NULL}' },
    { S: '' },
    { NULL: true },
  ])
  for (const [type, cell] of [
    ['int4', '007'],
    ['int4', '1e3'],
    ['bool', 'true'],
    ['bytea', 'abc'],
    ['bytea', '\\xA'],
    ['text', 'a\0'],
  ] as const)
    assert.throws(
      () => cellAttribute(column(type), cell),
      (error) => hasCode(error, 'TARGET_REFUSED'),
    )
})

test('the size of an item is never counted too small', () => {
  assert.ok(itemBytes({ ключ: { S: 'é'.repeat(1_000) } }) >= 8 + 2_000)
  assert.ok(itemBytes({ b: { B: Buffer.alloc(3_000).toString('base64') } }) >= 3_001)
  assert.ok(itemBytes({ n: { N: '1'.repeat(38) } }) >= 1 + 21)
})
