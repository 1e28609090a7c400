// Promises: the random walk holds for every seed it tries, and does not hold once a rule is taken out. A failing seed is printed;
// `SEEDS=from-to` walks others.
import assert from 'node:assert/strict'
import test from 'node:test'
import { PLANTS, type PlantName } from './plants.ts'
import { walkSeeds } from './walk-worker.ts'

const [FROM, TO] = (process.env['SEEDS'] ?? '1-800').split('-').map(Number) as [number, number]
const PLANT_SEEDS_MAX = 1_000

test('whatever gateways, leases and the network do, an acknowledged transaction took effect once and no read was half, stale or lost', async (t) => {
  const { failing, sum } = await walkSeeds({ from: FROM, to: TO, plant: null, first: false })
  t.diagnostic(`seeds ${FROM}-${TO}: ${JSON.stringify(sum)}`)
  assert.deepEqual(failing.slice(0, 10), [])
  // The walk went where it is interesting.
  if (TO - FROM >= 200) for (const [name, count] of Object.entries(sum)) assert.ok(count > 0, `no ${name} in ${TO - FROM + 1} seeds`)
})

for (const name of Object.keys(PLANTS) as PlantName[]) {
  test(`the walk notices when ${PLANTS[name].because}`, async (t) => {
    const { failing, walked } = await walkSeeds({ from: 1, to: PLANT_SEEDS_MAX, plant: name, first: true })
    t.diagnostic(`after ${walked} seeds: ${failing[0] ?? 'not'}`)
    assert.equal(failing.length, 1)
  })
}
