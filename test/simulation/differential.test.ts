// The simulator's model of PostgreSQL against PostgreSQL: what the first promises, the second must do.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sameOnBoth } from './differential/compare.ts'
import { KNOWN } from './differential/known.ts'
import { ModelSide } from './differential/model-side.ts'
import { PostgresSide, PostgresWorld } from './differential/postgres-side.ts'
import { scheduleOf } from './differential/schedule.ts'
import { keysOfSchedules } from './differential/side.ts'

/** `DIFFERENTIAL_SEEDS=1-5000` runs these, however long it takes. */
const ASKED = process.env['DIFFERENTIAL_SEEDS']
const [FIRST, LAST] = (ASKED ?? '1-400').split('-').map(Number) as [number, number]
const BUDGET_MS = ASKED === undefined ? 20_000 : Number.POSITIVE_INFINITY
/** Met by so many seeds from the first: a schedule in which nothing is refused compares little. */
const REFUSALS = ['40001', '55000', '25006', '23505', 'ROWS_HELD', 'FLIP_STATE', 'FLIP_OVERLAPS']
const ENOUGH = 40

test('the same seed gives the same schedule', () => {
  assert.deepEqual(scheduleOf(7), scheduleOf(7))
  assert.notDeepEqual(scheduleOf(7), scheduleOf(8))
})

test('what PostgreSQL was found to do otherwise than its model, both do alike', async (t) => {
  await using postgres = await PostgresWorld.open()
  const keys = keysOfSchedules()
  for (const { name, steps, says } of KNOWN)
    await t.test(name, async () => {
      const own = keys.next().value!
      const { said } = await sameOnBoth(steps, new ModelSide(1, own), await PostgresSide.of(postgres, own))
      assert.match(said[steps.length - 1]!, says)
    })
})

test('PostgreSQL and its model answer alike, wait alike and deliver alike, step by step (faults.md 46, 47, 66)', async (t) => {
  await using postgres = await PostgresWorld.open()
  const keys = keysOfSchedules()
  const endMs = performance.now() + BUDGET_MS
  const met = new Map<string, number>()
  let steps = 0
  let waits = 0
  let seed = FIRST
  for (; seed <= LAST && performance.now() < endMs; seed++) {
    const own = keys.next().value!
    const outcome = await sameOnBoth(scheduleOf(seed), new ModelSide(seed, own), await PostgresSide.of(postgres, own)).catch(
      (error: unknown) => {
        throw new Error(`seed ${seed}; again: DIFFERENTIAL_SEEDS=${seed}-${seed}\n${error instanceof Error ? error.message : error}`, {
          cause: error,
        })
      },
    )
    steps += outcome.steps
    waits += outcome.waits
    for (const [code, n] of outcome.refusals) met.set(code, (met.get(code) ?? 0) + n)
  }
  t.diagnostic(`seeds ${FIRST}-${seed - 1}: ${steps} steps, ${waits} waits, ${JSON.stringify(Object.fromEntries(met))}`)
  if (FIRST !== 1 || seed - FIRST < ENOUGH) return
  assert.deepEqual(
    REFUSALS.filter((code) => !met.has(code)),
    [],
    'every refusal was met',
  )
  assert.ok(waits > 0)
})
