// Who holds up what waits for standbys, and who is struck off or taken back: pure.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { differencesFrom, goesForward } from '../../src/model/identity.ts'
import { lsnOf } from '../../src/model/ids.ts'
import { lookAtStandbys, type StandbyRow, type StandbySightings, standbysBehind, standbysNotNamed } from '../../src/model/standby.ts'

const row = (name: string, flushed: bigint, sign = `${name} ${flushed}`): StandbyRow => ({ name, flushLsn: lsnOf(flushed), sign })
const named = (names: readonly string[], struck: readonly string[] = []) => ({ names, struck: new Set(struck) })
const look = (rows: readonly StandbyRow[], before: StandbySightings, nowMs: number, struck: readonly string[] = []) =>
  lookAtStandbys(named(['a'], struck), { flushedHere: lsnOf(10n), rows }, before, { nowMs, lostMs: 100 })

test('whoever is named and absent, behind, or one of two of a name that is behind, is waited for; who is struck off is not', () => {
  const rows = [row('a', 10n), row('b', 9n), row('c', 10n, 'c1'), row('c', 8n, 'c2')]
  assert.deepEqual(standbysBehind(named(['a', 'b', 'c', 'd', 'e'], ['e']), rows, lsnOf(10n)), ['b', 'c', 'd'])
  assert.deepEqual(standbysBehind(named([]), rows, lsnOf(10n)), [])
})

test('a standby that gives no sign for its time is lost, absent or there; any sign begins the time anew (68)', () => {
  const first = look([row('a', 5n)], new Map(), 1_000)
  assert.deepEqual(first.lost, [], 'silence counts from the first look')
  assert.deepEqual(look([row('a', 5n)], first.sightings, 1_099).lost, [])
  assert.deepEqual(look([row('a', 5n)], first.sightings, 1_100).lost, [{ name: 'a', silentMs: 100 }])
  assert.deepEqual(look([], first.sightings, 1_100).lost, [{ name: 'a', silentMs: 100 }])
  const later = look([row('a', 6n)], first.sightings, 1_099)
  assert.deepEqual(look([], later.sightings, 1_150).lost, [])
  const never = look([], new Map(), 1_000)
  assert.deepEqual(look([], never.sightings, 1_100).lost, [{ name: 'a', silentMs: 100 }])
})

test('who was struck off is back once it has flushed all that is flushed here, and not before', () => {
  assert.deepEqual(look([row('a', 9n)], new Map(), 0, ['a']).back, [])
  assert.deepEqual(look([], new Map(), 0, ['a']).back, [])
  assert.deepEqual(look([row('a', 10n)], new Map(), 0, ['a']).back, ['a'])
})

test('a standby that is not named is found, also where its name may not be read (INV-10)', () => {
  assert.deepEqual(standbysNotNamed(['a'], [row('a', 1n), row('b', 1n), row('', 0n)]), [
    'b',
    '(a name that this role may not read: grant it pg_monitor)',
  ])
})

test('another system, another timeline and an epoch that went back are each a difference; a later epoch is none (15, 49)', () => {
  const item = { systemIdentifier: '7', timeline: 1, epoch: 40 }
  assert.deepEqual(differencesFrom(null, item), [])
  assert.deepEqual(differencesFrom(item, { ...item, epoch: 41 }), [])
  assert.equal(differencesFrom(item, { systemIdentifier: '8', timeline: 2, epoch: 39 }).length, 3)
  for (const other of [{ systemIdentifier: '8' }, { timeline: 2 }, { epoch: 39 }])
    assert.equal(differencesFrom(item, { ...item, ...other }).length, 1)
  assert.deepEqual([goesForward(null, item), goesForward(item, item), goesForward(item, { ...item, epoch: 41 })], [true, false, true])
})
