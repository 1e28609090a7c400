import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LABEL_CHARACTERS_MAX } from '../../src/model/measured.ts'
import { labelOf } from '../../src/sql/label.ts'

const LABELS: readonly (readonly [label: string, ...texts: string[]])[] = [
  [
    'select * from accounts where id = ?',
    'select * from accounts where id = $1',
    'SELECT *\n  FROM accounts WHERE id = 5 -- traceparent=00-4bf92f',
    "/* it's 'quoted' */ select * from Accounts where id = 'a''b;c'",
    "select * from accounts where id = E'\\'x'",
    'select * from accounts where id = $tag$ it is $$ here $tag$',
    'select * from accounts where id = 1.5e-3',
  ],
  ['select * from t2 where x1 in (?, ...)', 'select * from t2 where x1 in ($1, $2)', 'select * from t2 where x1 in (1,2 ,3)'],
  [
    'insert into t (a, b) values (?, ...), ...',
    'insert into t (a, b) values ($1, $2), ($3, $4)',
    "insert into t (a, b) values (1,'x'),(2,'y'),(3,'z')",
  ],
  ['insert into t (a, b) values (?, ...)', 'insert into t (a, b) values ($1, $2)'],
  ['select "A--b" from "T/*x" where x = ?::int', 'select "A--b" from "T/*x" where x = $1::int'],
  ['select ?', "select 'without an end", 'select $a$without an end'],
]

test('a statement has one label, whatever values, spaces and comments it comes with', () => {
  for (const [label, ...texts] of LABELS) for (const text of texts) assert.equal(labelOf(text), label, text)
})

test('a label is bounded, two long statements that differ late have two, and whatever text comes has one', () => {
  const long = (last: string) => `select ${Array.from({ length: 100 }, (_, i) => `column_${i}`).join(', ')} from ${last}`
  assert.ok(labelOf(long('a')).length <= LABEL_CHARACTERS_MAX)
  assert.notEqual(labelOf(long('a')), labelOf(long('b')))
  assert.equal(labelOf(long('a where id = 1')), labelOf(long('a where id = 2')))
  const piece = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom("'", '"', '$$', '$a$', '--', '/*', '*/', '\n', "E'", 'select', '1', '.'),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      assert.ok(labelOf(pieces.join('')).length <= LABEL_CHARACTERS_MAX)
    }),
  )
})
