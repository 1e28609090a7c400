import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decideBackfill } from '../../src/app/backfill-begin.ts'
import { standingOf, stopsForward } from '../../src/app/backfill-standing.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { parseLsn } from '../../src/model/ids.ts'
import type { BackfillFacts, BackfillState } from '../../src/store/backfills.ts'

const SERVER = { systemIdentifier: '7', timeline: 1 }

function backfill(more: Partial<BackfillState> = {}): BackfillState {
  const whole = { id: 1, consistentPoint: parseLsn('0/1'), done: true, again: false, tenure: 1, base: 1n, ageMs: 0, stopped: null }
  return { ...whole, madeFrom: SERVER, ...more }
}

function facts(more: Partial<BackfillFacts> = {}): BackfillFacts {
  return { backfill: backfill(), slotName: 'switchback_m', walStatus: 'reserved', server: SERVER, ending: false, ...more }
}

test('a backfill is whole only with its slot, on the PostgreSQL it was made from, and with a forward sync that goes on (13, 15)', () => {
  const stopped = { because: 'TABLE_CHANGED: x', lost: false }
  const rows: [Partial<BackfillFacts>, string, RegExp | null][] = [
    [{}, 'whole', null],
    [{ walStatus: 'unreserved' }, 'whole', null],
    [{ backfill: null }, 'none', null],
    [{ backfill: backfill({ done: false }) }, 'open', null],
    [{ backfill: backfill({ madeFrom: null }) }, 'whole', null],
    [{ walStatus: null }, 'stopped', /switchback_m is not there/],
    [{ walStatus: 'lost' }, 'stopped', /switchback_m is lost/],
    [{ walStatus: null, backfill: backfill({ done: false }) }, 'stopped', /not there/],
    [{ server: { ...SERVER, timeline: 2 } }, 'stopped', /timeline 2, the backfill was made on 1/],
    [{ server: { ...SERVER, systemIdentifier: '8' } }, 'stopped', /system 8/],
    [{ backfill: backfill({ stopped }) }, 'stopped', /TABLE_CHANGED/],
    // A new slot in the place of the one that was given up does not make it whole.
    [{ backfill: backfill({ stopped: { because: 'gone', lost: true } }) }, 'stopped', /^gone$/],
    [{ walStatus: null, ending: true }, 'ended', null],
    [{ ending: true }, 'whole', null],
  ]
  for (const [more, kind, because] of rows) {
    const standing = standingOf(facts(more))
    assert.equal(
      standing.kind,
      kind,
      JSON.stringify(more, (_, value) => (typeof value === 'bigint' ? String(value) : value)),
    )
    if (because !== null) assert.match(standing.kind === 'stopped' ? standing.because : '', because)
    if (standing.kind === 'stopped') assert.equal(standing.lost, !/TABLE_CHANGED/.test(standing.because))
  }
})

test('what a run does for each standing, asked to begin again or not', () => {
  const outcome = (standing: Parameters<typeof decideBackfill>[0], again: boolean) => {
    try {
      return decideBackfill(standing, again).act
    } catch (error) {
      return (error as SwitchbackError).code
    }
  }
  const stopped = { kind: 'stopped', because: 'x', lost: true } as const
  const table = [{ kind: 'none' }, { kind: 'open' }, { kind: 'whole' }, stopped, { ...stopped, lost: false }, { kind: 'ended' }] as const
  assert.deepEqual(
    table.map((standing) => [outcome(standing, false), outcome(standing, true)]),
    [
      ['begin', 'BACKFILL_WHOLE'],
      ['resume', 'resume'],
      ['BACKFILL_DONE', 'BACKFILL_WHOLE'],
      ['BACKFILL_LOST', 'begin again'],
      ['BACKFILL_LOST', 'begin again'],
      ['BACKFILL_WHOLE', 'BACKFILL_WHOLE'],
    ],
  )
})

test('WAL that no new try mends stops the forward sync; weather does not', () => {
  assert.equal(stopsForward(new SwitchbackError('TABLE_CHANGED', { table: 't', problem: 'p' })), 'lost')
  assert.equal(stopsForward(new SwitchbackError('SOURCE_TRANSACTION_TOO_LARGE')), 'retry')
  for (const code of ['SOURCE_UNREACHABLE', 'CONTROL_UNREACHABLE', 'SLOT_IN_USE', 'TOKEN_STALE', 'TENURE_UNKNOWN'] as const)
    assert.equal(stopsForward(new SwitchbackError(code)), null, code)
})
