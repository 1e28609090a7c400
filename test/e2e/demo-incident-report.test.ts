// Promises: an incident is ok only by its evidence: a verdict in time by a detector that can have seen the fault, the traffic off and back,
// nothing lost, and both stores alike or, where the store is silent, said so.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LedgerReport } from '../../examples/ledger/check.ts'
import { type IncidentEvidence, incidentReport, type Round } from '../../examples/ledger/incident-report.ts'
import { INCIDENT_NAMES, INCIDENTS } from '../../examples/ledger/incidents.ts'
import { type LoadSample, NOTHING_COUNTED } from '../../examples/ledger/load.ts'
import { tellIncident } from '../../examples/ledger/tell-incident.ts'

const CLEAN: LedgerReport = { acknowledged: 9, refused: 1, unknown: 0, lost: [], doubled: [], unbalanced: [], unknownThatHappened: 0 }

const ROUND: Round = {
  fault: 'hot keys',
  onsetMs: 1_000,
  verdict: { id: '1', detector: 'slo-limit', statement: 'update accounts', atMs: 31_000, offMs: 31_400 },
  offMs: 31_400,
  backMs: 32_000,
  parkedSlots: [],
  canaryRequestsPerSecond: 210,
}

const EVIDENCE: IncidentEvidence = {
  incident: 'hot-key',
  rounds: [ROUND],
  rollbacks: 1,
  samples: [],
  counts: { ...NOTHING_COUNTED, acknowledgedWrites: 9, refusedWrites: 1 },
  source: CLEAN,
  target: CLEAN,
  parity: { rowsCompared: 100, differences: 0, notChecked: 0 },
  debt: null,
  durationMs: 60_000,
  slotOf: (account) => account,
}

const REFUSED: LoadSample = {
  kind: 'write',
  outcome: 'refused',
  sqlstate: '58000',
  latencyMs: 20,
  intendedMs: 2_000,
  account: 7,
  statements: 1,
  port: 7001,
  connectedMs: 500,
}

const report = (evidence: Partial<IncidentEvidence>) => incidentReport({ ...EVIDENCE, ...evidence })
const round = (changed: Partial<Round>) => report({ rounds: [{ ...ROUND, ...changed }] })

test('a clean incident gives its figures, and is ok', () => {
  const { ok, incident, detector, onsetToVerdictMs, verdictToOffMs, lostWrites, doubledWrites, differences } = report({})
  assert.deepEqual(
    { ok, incident, detector, onsetToVerdictMs, verdictToOffMs, lostWrites, doubledWrites, differences },
    {
      ok: true,
      incident: 'hot-key',
      detector: 'slo-limit',
      onsetToVerdictMs: 30_000,
      verdictToOffMs: 400,
      lostWrites: 0,
      doubledWrites: 0,
      differences: 0,
    },
  )
  assert.match(
    tellIncident(report({})).join('\n'),
    /verdict by slo-limit of "update accounts" 30\.0 s after its onset .*\nThe judge went back alone/s,
  )
})

for (const [what, made, because] of [
  ['no verdict', () => round({ verdict: null, offMs: null, backMs: null }), /no verdict came/],
  ['a verdict that has another cause', () => round({ verdict: { ...ROUND.verdict!, detector: 'silence' } }), /cannot have seen it/],
  ['a verdict before the onset', () => round({ onsetMs: 40_000 }), /before anything was wrong/],
  ['a late verdict', () => round({ onsetMs: -40_000 }), /after 71000 ms/],
  ['traffic that stays', () => round({ offMs: null, backMs: null }), /did not go back/],
  ['keys that nobody serves', () => round({ backMs: null }), /not served again/],
  ['a second rollback', () => report({ rollbacks: 2 }), /went back 2 times for 1 causes/],
  ['a lost write', () => report({ source: { ...CLEAN, lost: ['x'] } }), /1 acknowledged writes are lost/],
  ['a doubled write', () => report({ target: { ...CLEAN, doubled: ['x'] } }), /1 writes took effect twice/],
  ['a difference', () => report({ parity: { rowsCompared: 1, differences: 1, notChecked: 0 } }), /1 rows differ/],
  ['a refusal before the onset', () => report({ samples: [{ ...REFUSED, intendedMs: 100 }] }), /while nothing was wrong/],
  ['an unknown outcome afterwards', () => report({ samples: [{ ...REFUSED, outcome: 'unknown', intendedMs: 33_000 }] }), /while nothing/],
] as const) {
  test(`${what} is no ok, and is said`, () => {
    const { ok, failures } = made()
    assert.equal(ok, false)
    assert.match(failures.join('; '), because)
  })
}

test('what the fault itself refused is no failure', () => {
  assert.equal(report({ samples: [REFUSED] }).ok, true)
})

test('with a silent store nothing is claimed of it: differences are unknown, and the sentences say what waits', () => {
  const dead = report({
    incident: 'dead-target',
    rounds: [{ ...ROUND, fault: 'no answers', parkedSlots: [4, 5, 6] }],
    target: null,
    parity: null,
    debt: { debtSlots: 1_021, parkedHomeMs: null, debtPaidMs: null },
  })
  assert.deepEqual(
    [dead.ok, dead.differences, dead.comparedWith, dead.parkedSlots, dead.debtSlots, dead.debtPaidMs],
    [false, null, 'the journal alone', 3, 1_021, null],
  )
  assert.match(dead.failures.join('; '), /did not go home/)
  assert.match(tellIncident(dead).join('\n'), /3 slots had to wait .*they wait still\. 1021 went home .*owed still.*PostgreSQL alone/s)
})

test('a store that was dead and answers again is paid its debt and compared in full', () => {
  const again = (debtPaidMs: number | null) =>
    report({
      incident: 'dead-target',
      rounds: [{ ...ROUND, fault: 'no answers', parkedSlots: [4, 5, 6] }],
      debt: { debtSlots: 1_021, parkedHomeMs: 2_400, debtPaidMs },
    })
  const paid = again(7_900)
  assert.deepEqual(
    [paid.ok, paid.differences, paid.comparedWith, paid.verdictToOffMs, paid.parkedHomeMs, paid.debtPaidMs],
    [true, 0, 'both stores', 400, 2_400, 7_900],
  )
  assert.match(tellIncident(paid).join('\n'), /they were home 2\.4 s .*1021 went home without it; both stores .* 7\.9 s/s)
  assert.match(again(null).failures.join('; '), /the debt was not paid/)
  assert.deepEqual([report({}).parkedHomeMs, report({}).debtPaidMs], [null, null])
})

test('after the way back only keys that still wait for the store may be refused', () => {
  const waits = (slots: number[]) =>
    report({ rounds: [{ ...ROUND, parkedSlots: slots }], samples: [{ ...REFUSED, intendedMs: 40_000 }] }).ok
  assert.deepEqual([waits([7]), waits([8])], [true, false])
})

test('of two faults the slower one counts', () => {
  const both = report({ rounds: [ROUND, { ...ROUND, onsetMs: 11_000, offMs: 31_900 }], rollbacks: 2 })
  assert.deepEqual([both.ok, both.onsetToVerdictMs, both.verdictToOffMs], [true, 30_000, 900])
})

test('each incident has faults, and no two the same', () => {
  assert.deepEqual(INCIDENT_NAMES, ['hot-key', 'errors', 'slow-target', 'dead-target', 'silence'])
  const faults = INCIDENT_NAMES.flatMap((name) => INCIDENTS[name].faults as readonly string[])
  assert.deepEqual(faults, [...new Set(faults)])
})
