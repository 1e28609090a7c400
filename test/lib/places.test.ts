import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Places } from '../../src/lib/places.ts'

test('so many at once, the others in the order in which they came, and none is lost', async () => {
  const places = new Places(3)
  const order: number[] = []
  let inside = 0
  let most = 0
  const all = Array.from({ length: 5_000 }, async (_, i) => {
    await places.enter()
    inside++
    most = Math.max(most, inside)
    order.push(i)
    await Promise.resolve()
    inside--
    places.leave()
  })
  assert.equal(places.waiting, 4_997)
  await Promise.all(all)
  assert.deepEqual([most, places.waiting], [3, 0])
  assert.deepEqual(
    order,
    Array.from({ length: 5_000 }, (_, i) => i),
  )
  assert.equal(places.enter(), null, 'all places are free again')
})
