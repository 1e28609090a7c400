// Promises: the demo's verdict accepts an unknown outcome only from whoever was connected to a gateway that was killed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Round } from '../../examples/ledger/incident-report.ts'
import { type LoadSample, NOTHING_COUNTED } from '../../examples/ledger/load.ts'
import { demoReport, type Evidence, type Kill } from '../../examples/ledger/report.ts'

const KILL: Kill = { process: 'gateway-1', step: 'canary', port: 7001, atMs: 1_000, goneMs: 1_040 }
const UNKNOWN: LoadSample = {
  kind: 'write',
  outcome: 'unknown',
  sqlstate: 'ECONNRESET',
  latencyMs: 20,
  intendedMs: 1_030,
  account: 7,
  statements: 2,
  port: 7001,
  connectedMs: 500,
}

const JUDGED: Round = {
  fault: 'refused requests',
  onsetMs: 5_000,
  verdict: { id: '1', detector: 'error-limit', statement: null, atMs: 9_000, offMs: 9_200 },
  offMs: 9_200,
  backMs: 9_500,
  parkedSlots: [],
  canaryRequestsPerSecond: 20,
}

const NOTHING = { acknowledged: 0, refused: 0, unknown: 0, lost: [], doubled: [], unbalanced: [], unknownThatHappened: 0 }

function failuresOf(sample: Partial<LoadSample>, kill: Partial<Kill> = {}, judged = JUDGED): readonly string[] {
  const evidence: Evidence = {
    samples: [{ ...UNKNOWN, ...sample }],
    counts: { ...NOTHING_COUNTED, acknowledgedWrites: 10_000, unknownWrites: 1 },
    source: NOTHING,
    target: NOTHING,
    acknowledgedOnTarget: 5_000,
    flips: [],
    kills: [{ ...KILL, ...kill }],
    readonlyWindows: [],
    rollbackDurationMs: 0,
    judged,
    parity: { rowsCompared: 1, differences: 0, notChecked: 0 },
    durationMs: 1,
    slotOf: () => 0,
  }
  return demoReport(evidence).failures
}

test('a write to a killed gateway may be unknown: in flight, or sent before its client had noticed', () => {
  assert.deepEqual(failuresOf({}), [])
  assert.deepEqual(failuresOf({ intendedMs: 990 }), [])
  assert.deepEqual(failuresOf({ intendedMs: 1_060 }), [])
})

for (const [what, sample, kill] of [
  ['through another gateway', { port: 7002 }, {}],
  ['on a connection that was made after the kill', { connectedMs: 1_300, intendedMs: 1_310 }, {}],
  ['that was answered before the kill', { intendedMs: 900 }, {}],
  ['at the kill of the controller, whom no client talks to', {}, { process: 'controller', port: null }],
] as [string, Partial<LoadSample>, Partial<Kill>][]) {
  test(`an unknown outcome ${what} is a failure, and is told`, () => {
    const failures = failuresOf(sample, kill)
    assert.equal(failures.length, 1)
    assert.match(failures[0]!, /1 writes have an unknown outcome .*account 7, ECONNRESET/)
  })
}

test('the last chapter explains refusals while its fault lasts, and must end with a verdict and with keys that are served', () => {
  const refused = { outcome: 'refused', sqlstate: '58000' } as const
  assert.deepEqual(failuresOf({ ...refused, intendedMs: 5_500 }), [])
  assert.match(failuresOf({ ...refused, intendedMs: 9_600 }).join(), /1 writes were refused outside/)
  const judged = (round: Partial<Round>) => failuresOf({}, {}, { ...JUDGED, ...round })
  assert.deepEqual(judged({ verdict: null, offMs: null, backMs: null }), ['refused requests: no verdict came'])
  assert.deepEqual(judged({ backMs: null }), ['refused requests: the keys were not served again'])
})
