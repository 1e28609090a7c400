import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { BucketSums, digestOf, recordText, TextDigester } from '../../src/lib/digest.ts'
import type { Mapping, TableMapping } from '../../src/model/mapping.ts'
import type { ParityReader, Settling } from '../../src/model/parity.ts'
import type { Row, RowKey } from '../../src/model/row.ts'
import { bucketOfKey, sampleOfBuckets } from '../../src/parity/bucket.ts'
import { issueCertificate, verifyCertificate } from '../../src/parity/certificate.ts'
import { compareStores, type ParityParts } from '../../src/parity/compare.ts'
import { mappedColumn, mappedTable } from '../support/mapped-table.ts'

const table = mappedTable('accounts', [mappedColumn('id', 'int8'), mappedColumn('balance', 'numeric'), mappedColumn('note', 'text')])
const mapping: Mapping = { migration: 'm', keyType: 'int8', tables: [table] }
const never = new AbortController().signal

class Side implements ParityReader {
  readonly rows = new Map<string, Row>()
  reads = 0
  readonly digester = new TextDigester()

  async bucketSums(_: TableMapping, choice: { buckets: number; only: ReadonlySet<number> | null }) {
    const sums = new BucketSums(choice.buckets)
    for (const [key, row] of this.rows) {
      const bucket = bucketOfKey(key, choice.buckets, this.digester)
      if (choice.only === null || choice.only.has(bucket)) sums.add(bucket, this.digester.digest(recordText(row)))
    }
    return sums
  }

  async *rowDigests(_: TableMapping, choice: { buckets: number; only: ReadonlySet<number> | null }) {
    yield [...this.rows]
      .filter(([key]) => choice.only === null || choice.only.has(bucketOfKey(key, choice.buckets, this.digester)))
      .map(([key, row]) => ({
        table: table.name,
        key,
        clustering: [],
        digest: BigInt.asUintN(64, digestOf(this.digester.digest(recordText(row)))),
      }))
  }

  async readRows(_: TableMapping, keys: readonly RowKey[]) {
    this.reads++
    return keys.map((key) => this.rows.get(key.key))
  }
}

function world(owner: 'source' | 'target' = 'source', settling: Partial<Settling> = {}) {
  const [source, target] = [new Side(), new Side()]
  for (let i = 0; i < 1_000; i++) {
    const row = [String(i), `${i}.10`, i % 3 === 0 ? null : `note ${i}`]
    source.rows.set(String(i), row)
    target.rows.set(String(i), [...row])
  }
  const parts: ParityParts = {
    mapping,
    source,
    target,
    ownerOf: () => owner,
    settling: { sourceOnTarget: async () => undefined, targetOnSource: async () => undefined, ...settling },
    estimatedRows: async () => 1_000,
    onProgress: () => undefined,
  }
  return { source, target, parts }
}

test('equal stores: every row compared, no row read', async () => {
  const { source, parts } = world()
  const report = await compareStores(parts, { share: 1, offset: 0 }, never)
  assert.deepEqual(
    { rows: report.rowsCompared, differences: report.differences, reads: source.reads },
    { rows: 1_000, differences: 0, reads: 0 },
  )
})

test('one corrupted cell, one dropped row and one extra row are reported as exactly that (faults.md 28)', async () => {
  const { target, parts } = world()
  target.rows.set('7', ['7', '7.1', 'note 7'])
  target.rows.delete('42')
  target.rows.set('2000', ['2000', '1', null])
  const report = await compareStores(parts, { share: 1, offset: 0 }, never)
  assert.equal(report.differences, 3)
  assert.deepEqual(
    report.listed.map(({ key, kind, cells }) => ({ key, kind, cells })).toSorted((a, b) => Number(a.key) - Number(b.key)),
    [
      { key: '7', kind: 'different', cells: [{ column: 'balance', source: '7.10', target: '7.1' }] },
      { key: '42', kind: 'missing on the target', cells: [] },
      { key: '2000', kind: 'extra on the target', cells: [] },
    ],
  )
})

for (const owner of ['source', 'target'] as const) {
  test(`a write on its way from the ${owner} is no difference (faults.md 29)`, async () => {
    const arrive = async () => {
      other.rows.set('9', ['9', '10.00', 'moved'])
    }
    const { source, target, parts } = world(owner, owner === 'source' ? { sourceOnTarget: arrive } : { targetOnSource: arrive })
    const [mine, other] = owner === 'source' ? [source, target] : [target, source]
    mine.rows.set('9', ['9', '10.00', 'moved'])
    const report = await compareStores(parts, { share: 1, offset: 0 }, never)
    assert.deepEqual(
      { differences: report.differences, notChecked: report.notChecked, lookedInto: report.tables[0]!.bucketsLookedInto },
      { differences: 0, notChecked: [], lookedInto: 1 },
    )
  })
}

test('a hot row is equal when the other side shows what its owner has shown since the round began (faults.md 29)', async () => {
  let n = 0
  const { source, target, parts } = world()
  // Each look at the owner finds another value; the other side is one of them behind.
  const hot = (value: number): Row => ['9', String(value), null]
  const sourceRead = source.readRows.bind(source)
  source.readRows = async (_, keys) => {
    source.rows.set('9', hot(n))
    target.rows.set('9', hot(n - 1))
    n++
    return sourceRead(_, keys)
  }
  source.rows.set('9', hot(-1))
  const report = await compareStores(parts, { share: 1, offset: 0 }, never)
  assert.deepEqual([report.differences, report.notChecked], [0, []])
})

test('a row that changes in every round is named as not checked, never called equal or different (INV-11)', async () => {
  let n = 0
  const { source, parts } = world('source', {
    sourceOnTarget: async () => {
      source.rows.set('9', ['9', String(n++), null])
    },
  })
  source.rows.set('9', ['9', 'x', null])
  const report = await compareStores(parts, { share: 1, offset: 0 }, never)
  assert.deepEqual(
    [report.differences, report.notChecked],
    [0, [{ table: 'public.accounts', rows: 1, because: 'changed each time they were read' }]],
  )
})

test('samples with successive offsets reach every bucket', () => {
  const reached = new Set<number>()
  for (let offset = 0; offset < 10; offset++) for (const bucket of sampleOfBuckets(256, 0.1, offset)!) reached.add(bucket)
  assert.equal(reached.size, 256)
})

test('a certificate verifies, and no longer once any of it is changed', async () => {
  const { parts } = world()
  const report = await compareStores(parts, { share: 1, offset: 0 }, never)
  const { privateKey } = generateKeyPairSync('ed25519')
  const facts = { migration: 'm', systemIdentifier: '1', timeline: 1, epoch: 5, lsn: '0/1', issuedAt: '2026-01-01T00:00:00Z' }
  const certificate = issueCertificate(report, facts, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
  assert.equal(verifyCertificate(certificate), true)
  assert.equal(verifyCertificate({ ...certificate, body: { ...certificate.body, epoch: 6 } }), false)
  assert.equal(verifyCertificate({ ...certificate, body: { ...certificate.body, tables: [] } }), false)
})
