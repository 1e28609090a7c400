import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Coverage, coverageProblems, FAULTS, LONG_RUN_SEEDS, STEPS, UNREACHABLE } from './coverage.ts'

const [FAULT] = FAULTS
const [STEP] = STEPS
const HOST = { dead: false }

test('a fault counts for each step that is under way on a host that lives', () => {
  const coverage = new Coverage()
  const dead = { dead: false }
  coverage.begun('sync: apply', dead)
  dead.dead = true
  const ended = coverage.begun('flip: park', HOST)
  coverage.begun('commit: putRows', HOST)
  ended()
  coverage.struck('a link is cut')
  const hit = coverage.pairs().filter(({ hits }) => hits > 0)
  assert.deepEqual(hit, [{ fault: 'a link is cut', step: 'commit: putRows', hits: 1, unreachable: null }])
})

test('in a long run each reachable pair is hit, and never one that is listed as unreachable', () => {
  const listed = new Coverage([{ fault: FAULT, step: STEP, because: 'it takes no time' }])
  const never = (FAULTS.length * STEPS.length) as number
  assert.equal(coverageProblems(listed.pairs(), LONG_RUN_SEEDS).length, never - 1)
  assert.deepEqual(coverageProblems(listed.pairs(), LONG_RUN_SEEDS - 1), [])
  listed.begun(STEP, HOST)
  listed.struck(FAULT)
  assert.deepEqual(coverageProblems(listed.pairs(), 1), [
    `${FAULT} x ${STEP} was hit 1 times, and is listed as unreachable: it takes no time`,
  ])
})

test('each pair that is called unreachable has its reason', () => {
  for (const { because } of UNREACHABLE) assert.ok(because.length > 20)
})
