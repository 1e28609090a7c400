import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LINE_FAULTS } from '../../examples/ledger/fault-proxy.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { isWritten } from './answers.ts'
import { type Event, planRound } from './plan.ts'
import { POINTS, type Role } from './points.ts'

const OPTIONS = { kills: 12, lines: 3, stops: 1, verdicts: 4 }
const planOf = (seed: number) => planRound(seededRandom(seed), OPTIONS)
const MANY = Array.from({ length: 400 }, (_, seed) => planOf(seed))
const events = MANY.flatMap((plan) => plan.events.map(({ event }) => event))

test('the same seed is the same round', () => {
  assert.deepEqual(planOf(7), planOf(7))
  assert.notDeepEqual(planOf(7), planOf(8))
})

test('a round has what was asked for, the kill of the backfill included', () => {
  for (const { events } of MANY) {
    const count = (...kinds: Event['kind'][]) => events.filter(({ event }) => kinds.includes(event.kind)).length
    const kills = count('kill process', 'kill command', 'kill store') + 1
    assert.deepEqual([kills, count('break line'), count('stop'), count('verdict')], [12, 3, 1, 4])
  }
})

test('every point, victim, line and fault comes up', () => {
  const drawn = new Set([
    ...MANY.map((plan) => `backfill ${plan.backfill.point}`),
    ...events.flatMap((event) => (event.kind === 'verdict' ? [`${event.dies} ${event.armed.point}`] : [])),
    ...events.flatMap((event) => (event.kind === 'kill command' ? [`${event.command} ${event.armed.point}`] : [])),
    ...events.flatMap((event) =>
      event.kind === 'kill process' ? [`${event.who === 'leader' ? 'controller' : 'gateway'} ${event.armed.point}`] : [],
    ),
  ])
  for (const role of Object.keys(POINTS) as Role[]) {
    for (const { at } of POINTS[role])
      for (const side of ['before', 'after']) assert.ok(drawn.has(`${role} ${side} ${at}`), `${role} ${side} ${at}`)
  }
  const broken = events.flatMap((event) => (event.kind === 'break line' ? [event.broken] : []))
  assert.deepEqual(new Set(broken.map(({ fault }) => fault)), new Set(LINE_FAULTS))
  assert.equal(new Set(broken.map(({ line }) => `${line.from} ${line.to}`)).size, 12)
  const victims = events.flatMap((event) =>
    event.kind === 'break line' || event.kind === 'kill command' || event.kind === 'verdict' ? [] : [`${event.kind} ${event.who}`],
  )
  assert.equal(new Set(victims).size, 8)
})

test('recovery is seen by writes that are sent: slots that have no account show none (seed 7001)', () => {
  assert.equal(isWritten(new Set([4088, 4089, 4090, 4091])), false)
  assert.equal(isWritten(new Set()), false)
  assert.equal(isWritten(new Set(Array.from({ length: 4096 }, (_, slot) => slot))), true)
})
