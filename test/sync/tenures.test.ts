import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TenureRecord } from '../../src/model/ownership.ts'
import { Tenures } from '../../src/model/tenures.ts'
import { lsn } from './fakes.ts'

const record = (slot: number, tenure: number): TenureRecord => ({
  slot,
  tenure,
  owner: 'source',
  base: BigInt(tenure),
  firstLsn: lsn(tenure * 10),
})
const tenuresOf = (tenures: Tenures, slot: number) => tenures.of(slot).map(({ tenure }) => tenure)

test('a history names each slot newest first, in whatever order its records came', () => {
  const tenures = new Tenures([record(1, 1), record(2, 1), record(1, 7), record(1, 3)])
  assert.deepEqual([tenuresOf(tenures, 1), tenuresOf(tenures, 2), tenuresOf(tenures, 3)], [[7, 3, 1], [1], []])
  assert.deepEqual([tenures.newest(1)?.tenure, tenures.newest(3)], [7, undefined])
  assert.deepEqual([...tenures.slots()].toSorted(), [1, 2])
})

test('newer records make a new history; the earlier one stays as it was', () => {
  const earlier = new Tenures([record(1, 1), record(2, 1)])
  const later = new Tenures([record(1, 5), record(1, 9), record(3, 9)], earlier)
  assert.deepEqual([tenuresOf(later, 1), tenuresOf(later, 2), tenuresOf(later, 3)], [[9, 5, 1], [1], [9]])
  assert.deepEqual([tenuresOf(earlier, 1), [...earlier.slots()]], [[1], [1, 2]])
})
