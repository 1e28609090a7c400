// Promises: the demo's load can be turned onto some accounts, or away from some, while it runs; logs are told to a person as sentences.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readable } from '../../examples/ledger/processes.ts'
import { steeredPicker } from '../../examples/ledger/steering.ts'
import { zipfPicker } from '../../examples/ledger/zipf.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const seeded = seededRandom(7)
const random = () => seeded.next()
const DRAWS = 20_000

function counted(pick: () => number): Map<number, number> {
  const counts = new Map<number, number>()
  for (let i = 0; i < DRAWS; i++) {
    const account = pick()
    counts.set(account, (counts.get(account) ?? 0) + 1)
  }
  return counts
}

test('a skew that is turned up goes to the named accounts, the first hottest', () => {
  const plain = zipfPicker(1_000, 0.9, random)
  const counts = counted(steeredPicker(plain, { hot: { accounts: [5, 6, 7], share: 0.6, zipf: 2 } }, random))
  const hot = [5, 6, 7].map((account) => counts.get(account)! / DRAWS)
  assert.ok(hot[0]! > 3 * hot[1]! && hot[1]! > hot[2]!, `${hot}`)
  const share = hot.reduce((sum, one) => sum + one, 0)
  assert.ok(share > 0.58 && share < 0.66, `${share}`)
})

test('accounts to avoid are not asked for, and without a steering nothing changes', () => {
  const plain = zipfPicker(50, 0.9, random)
  const avoid = Array.from({ length: 25 }, (_, i) => i + 1)
  const counts = counted(steeredPicker(plain, { avoid }, random))
  assert.deepEqual(
    [...counts.keys()].filter((account) => account <= 25),
    [],
  )
  assert.equal(counted(steeredPicker(plain, {}, random)).size, 50)
  assert.throws(
    steeredPicker(() => 1, { avoid }, random),
    /every account is to be avoided/,
  )
})

test('a JSON line of a log becomes who says what; any other line stays', () => {
  assert.equal(readable('{"level":30,"time":1,"pid":2,"name":"controller","token":3,"msg":"leads"}'), 'controller: leads')
  for (const line of ['[###---] 50.0 %', '{"no":"log"}', '{ no JSON']) assert.equal(readable(line), line)
})
