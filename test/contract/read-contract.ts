// Promises: reads of a target: rows as asked, ranges in the clustering order of their types, scans that are disjoint and complete.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RowPut, StampedRow } from '../../src/model/row.ts'
import type { Target } from '../../src/model/target.ts'
import { numbered } from './contract-mapping.ts'
import type { Opened } from './target-contract.ts'

export function readContract(name: string, opened: Opened): void {
  test(`${name}: rows are read in the order asked, doubles, strangers and many tables included`, async () => {
    await using subject = await opened()
    const { target } = subject
    const rows = Array.from({ length: 130 }, (_, i) => numbered(String(i % 7), i, 1, [`b${i}`, null]))
    const only: RowPut = { table: 'public.named', key: '3', clustering: ['n'], values: ['3', 'n', 'z'], stamp: 4n, mark: true }
    await target.putRows([...rows, only])
    const asked = [...rows.toReversed(), numbered('99', 1, 0, null), only, rows[5]!, only]
    assert.deepEqual(await target.readRows(asked), [...rows.toReversed(), undefined, only, rows[5], only])
    assert.deepEqual(await target.readRows([]), [])
    await target.putRows([])
  })

  test(`${name}: a table whose whole key is the partition column has at most one row a range`, async () => {
    await using subject = await opened()
    const row: RowPut = { ...at('public.wide', []), values: null }
    await subject.target.putRows([row])
    assert.deepEqual(await subject.target.readRange({ table: 'public.wide', key: '1', limit: 5 }), { rows: [row], next: null })
    assert.deepEqual(await subject.target.readRange({ table: 'public.wide', key: '2', limit: 5 }), { rows: [], next: null })
  })

  test(`${name}: the segments of a scan are disjoint and complete, tombstones included, an aggregate in one of them`, async () => {
    await using subject = await opened()
    const { target } = subject
    const rows = Array.from({ length: 300 }, (_, i) => numbered(String(i % 60), i, 1, i % 5 === 0 ? null : ['x'.repeat(200), null]))
    await target.putRows(rows)
    for (const segments of [1, 4]) {
      const found: string[] = []
      const homes = new Map<string, Set<number>>()
      for (let segment = 0; segment < segments; segment++) {
        for await (const batch of target.scanRows({ table: 'public.numbered', segment, segments })) {
          for (const row of batch) {
            found.push(`${row.key}/${row.clustering}/${row.values === null}`)
            homes.set(row.key, (homes.get(row.key) ?? new Set()).add(segment))
          }
        }
      }
      assert.deepEqual(found.sort(), rows.map((row) => `${row.key}/${row.clustering}/${row.values === null}`).sort())
      assert.ok([...homes.values()].every((segmentsOfKey) => segmentsOfKey.size === 1))
    }
  })
}

export function orderContract(name: string, opened: Opened): void {
  test(`${name}: integers cluster by value, in pages, tombstones included, within their aggregate alone`, async () => {
    await using subject = await opened()
    const { target } = subject
    const order = ['-9223372036854775808', '-100', '-99', '-9', '-1', '0', '1', '9', '10', '99', '100', '9223372036854775807']
    const rows = order.map((n, i) => numbered('1', n, 1, i % 3 === 0 ? null : [n, null]))
    await target.putRows([...rows.toReversed(), numbered('2', 5, 1, ['other', null])])
    const range = { table: 'public.numbered', key: '1' }
    assert.deepEqual(await target.readRange({ ...range, limit: 100 }), { rows, next: null })
    assert.deepEqual(await target.readRange({ ...range, limit: 100, after: ['-5'] }), { rows: rows.slice(4), next: null })
    assert.deepEqual(await pages(target, range, 5), rows)
    assert.deepEqual(await target.readRange({ ...range, key: '3', limit: 5 }), { rows: [], next: null })
  })

  test(`${name}: text clusters by its UTF-8 bytes, the empty one and control characters included`, async () => {
    await using subject = await opened()
    const order = [
      '',
      '\u0001',
      '\u0001\u0001',
      '\u0001a',
      '\u0002',
      '\u0003',
      ' ',
      'A',
      'Z',
      'a',
      'a\u0001',
      'a b',
      'ab',
      'b',
      'é',
      '\uffee',
      '😀',
    ]
    const rows = order.map((text): StampedRow => ({ ...at('public.named', [text]), values: ['1', text, `<${text}>`] }))
    await subject.target.putRows(rows.toReversed())
    assert.deepEqual(await pages(subject.target, { table: 'public.named', key: '1' }, 4), rows)
    assert.deepEqual(await subject.target.readRows(rows), rows)
  })

  test(`${name}: bytea clusters by its bytes; a type without an order of its own by its text, whose cell keeps its own form`, async () => {
    await using subject = await opened()
    const { target } = subject
    const digests = ['\\x', '\\x00', '\\x0001', '\\x01', '\\x7f', '\\xff'].map(
      (text): StampedRow => ({ ...at('public.hashed', [text]), values: ['1', text, 'b'] }),
    )
    const amounts = [
      ['-1', '-1.00'],
      ['1', '1.0'],
      ['10', '10'],
      ['2', '2.000'],
      ['NaN', 'NaN'],
    ].map(([canonical, cell]): StampedRow => ({ ...at('public.amounts', [canonical!]), values: ['1', cell!, 'b'] }))
    await target.putRows([...digests.toReversed(), ...amounts.toReversed()])
    assert.deepEqual(await pages(target, { table: 'public.hashed', key: '1' }, 2), digests)
    assert.deepEqual(await pages(target, { table: 'public.amounts', key: '1' }, 2), amounts)
  })

  test(`${name}: several clustering columns order by the first, then the next, and page within one value`, async () => {
    await using subject = await opened()
    const order = [
      ['-2', 'z', 't'],
      ['3', '', 'f'],
      ['3', '', 't'],
      ['3', 'a', 't'],
      ['3', 'a\u0001', 'f'],
      ['3', 'ab', 'f'],
      ['20', '', 'f'],
    ]
    const rows = order.map(([a, b, flag]): StampedRow => ({ ...at('public.deep', [a!, b!, flag!]), values: ['1', b!, a!, flag!, null] }))
    rows[2] = { ...rows[2]!, values: null }
    await subject.target.putRows(rows.toReversed())
    assert.deepEqual(await pages(subject.target, { table: 'public.deep', key: '1' }, 2), rows)
  })
}

function at(table: string, clustering: readonly string[]): Omit<StampedRow, 'values'> {
  return { table, key: '1', clustering, stamp: 1n, mark: false }
}

async function pages(target: Target, range: { table: string; key: string }, limit: number): Promise<StampedRow[]> {
  const rows: StampedRow[] = []
  let after: readonly string[] | null = null
  do {
    const page = await target.readRange({ ...range, limit, ...(after === null ? {} : { after }) })
    assert.ok(page.rows.length <= limit)
    rows.push(...page.rows)
    after = page.next
  } while (after !== null)
  return rows
}
