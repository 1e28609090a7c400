import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type WalStanding, walStanding } from '../../src/app/wal-budget.ts'

test('row 14: near from four fifths of the budget on, past above it, and within again only well below', () => {
  const seen: WalStanding[] = []
  for (const bytes of [0, 80, 81, 75, 70, 79, 81, 100, 101, 100, 75, 71, 70, 75])
    seen.push(walStanding(bytes, 100, seen.at(-1) ?? 'within'))
  assert.deepEqual(seen.join(' '), 'within within near near within within near near past near near near within within')
})
