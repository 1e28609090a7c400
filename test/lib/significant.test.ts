import assert from 'node:assert/strict'
import { test } from 'node:test'
import { significant } from '../../src/lib/significant.ts'

test('a number has its digits that count, and no exponent, however large or small', () => {
  const told = [100, 1_234.5, 3_000_000, 0.000_123_4, 0, 9.99].map((value) => significant(value, 2))
  assert.deepEqual(told, ['100', '1,200', '3,000,000', '0.00012', '0', '10'])
})
