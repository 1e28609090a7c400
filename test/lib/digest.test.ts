import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BucketSums, digestOf, recordText, TextDigester } from '../../src/lib/digest.ts'
import { testDatabase } from '../support/postgres.ts'

const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({ unit: fc.constantFrom('"', '\\', '(', ')', ',', ' ', '\t', '\n', '\u000b', '\u00a0', '\u0085', 'a', 'ß', '👩') }),
)
const noNul = text.filter((t) => !t.includes('\u0000') && Buffer.from(t, 'utf8').toString('utf8') === t)

test('a row and its digest are the same here and in PostgreSQL', async () => {
  await using database = await testDatabase()
  const client = await database.connect()
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.option(noNul, { nil: null }), { minLength: 3, maxLength: 3 }), { minLength: 1, maxLength: 50 }),
      fc.nat(1_000_000),
      async (rows, seed) => {
        const { rows: told } = await client.query({
          text: `select row(a, b, c)::text as line, hashtextextended(row(a, b, c)::text, $2)::text as digest
               from unnest($1::text[], $3::text[], $4::text[]) with ordinality as t(a, b, c, n) order by n`,
          values: [rows.map((r) => r[0]), seed, rows.map((r) => r[1]), rows.map((r) => r[2])],
        })
        const digester = new TextDigester()
        assert.deepEqual(
          rows.map((row) => ({ line: recordText(row), digest: digestOf(digester.digest(recordText(row), seed)).toString() })),
          told,
        )
      },
    ),
    { numRuns: 60 },
  )
})

test("digests of texts of every length up to 200 bytes, and of a megabyte, are PostgreSQL's", async () => {
  await using database = await testDatabase()
  const { rows } = await database.query(
    `select hashtextextended(t, 0)::text as digest from (select left(repeat('switchback ', 20), n) as t, n from generate_series(0, 200) as n
     union all select repeat('€x', 300000), 201) as texts order by n`,
  )
  const digester = new TextDigester()
  const texts = [...Array.from({ length: 201 }, (_, n) => 'switchback '.repeat(20).slice(0, n)), '€x'.repeat(300_000)]
  assert.deepEqual(
    texts.map((t) => digestOf(digester.digest(t)).toString()),
    rows.map((row) => row.digest),
  )
})

test('sums of digests forget the order and nothing else', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(3), fc.string()), { maxLength: 60 }), (items) => {
      const digester = new TextDigester()
      const [one, other, merged] = [new BucketSums(4), new BucketSums(4), new BucketSums(4)]
      for (const [bucket, t] of items) one.add(bucket, digester.digest(t))
      for (const [bucket, t] of items.toReversed()) other.add(bucket, digester.digest(t))
      for (const [bucket, t] of items) merged.merge(bucket, digestOf(digester.digest(t)), 1)
      assert.deepEqual([one.differing(other), one.differing(merged)], [[], []])
      other.add(2, digester.digest('one more'))
      assert.deepEqual(one.differing(other), [2])
    }),
  )
})
