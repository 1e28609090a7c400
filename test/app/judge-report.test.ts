// What is told after a rollback by verdict: nothing is said to be well that is not known (INV-10).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ComparedAfter, type HomeFacts, rollbackReport } from '../../src/app/judge-report.ts'
import { FRESH_JUDGE, JUDGE_DEFAULTS, type JudgeState, judge } from '../../src/canary/judge.ts'
import { onsetMs } from '../../src/canary/onset.ts'
import { EvidenceRecorder, evidenceOf } from '../../src/canary/recording.ts'
import type { JudgeVerdict } from '../../src/canary/verdict.ts'
import { tellReport } from '../../src/cli/tell-judge.ts'
import { arm, evidenceAt, START_MS } from '../canary/seen.ts'

const WELL = { canary: arm({ requests: 50 }), control: arm({ requests: 200 }) }
const FAILING = { canary: arm({ requests: 50, errors: 5 }), control: arm({ requests: 200 }) }

/** Errors from this second on. */
function rollbackFrom(second: number): { readonly verdict: JudgeVerdict; readonly text: string } {
  const recorder = new EvidenceRecorder(JUDGE_DEFAULTS)
  let state: JudgeState = FRESH_JUDGE
  for (let n = 1; n < second + 60; n++) {
    const evidence = evidenceAt(n, n <= second ? WELL : FAILING)
    recorder.add(state, evidence)
    const judged = judge(state, evidence, JUDGE_DEFAULTS)
    state = judged.state
    const verdict = judged.verdicts.find(({ act }) => act === 'rollback')
    if (verdict !== undefined) return { verdict, text: recorder.file(verdict) }
  }
  throw new Error('no verdict')
}

const HOME: HomeFacts = {
  flips: [{ id: 'f', slots: 41, state: 'routed', parked: null }],
  left: 0,
  leftBecause: [],
  lastOff: { at: '2027-01-15 08:01:00+00', afterVerdictMs: 480 },
  debts: 0,
  violations: 0,
}
const atOnce = async () => undefined
const EQUAL: ComparedAfter = { rowsCompared: 400, share: 1, differences: 0, rowsNotChecked: 0 }

test('the onset is where the evidence was last at what chance does, also from the first request on', async () => {
  for (const second of [0, 1, 100, 400]) {
    const { verdict, text } = rollbackFrom(second)
    assert.equal(await onsetMs(verdict, evidenceOf(text)!, atOnce), START_MS + second * 1_000, `errors after ${second} s`)
  }
  assert.equal(evidenceOf('{"format":"another"}\n'), null)
  const silence: JudgeVerdict = { ...rollbackFrom(3).verdict, detector: 'silence', tMs: START_MS + 90_000 }
  const of60s = { ...silence, evidence: { ...silence.evidence, level: 60_000 } }
  assert.equal(await onsetMs(of60s, evidenceOf(rollbackFrom(3).text)!, atOnce), START_MS + 30_000)
})

test('no write is said to be lost, or not lost, without what it is known by', () => {
  const { verdict } = rollbackFrom(5)
  const lost = (facts: Partial<HomeFacts>, parity: ComparedAfter | null, detector = verdict.detector) =>
    rollbackReport({ verdict: { ...verdict, detector } }, { facts: { ...HOME, ...facts }, onset: null, parity, whole: true }).writesLost
  assert.equal(lost({}, EQUAL).known, 0)
  assert.match(lost({}, EQUAL).because.join(), /held every entry.*400 rows.*none differs/)
  assert.match(lost({}, { notCompared: 'no answer' }).because.join(), /not been compared since/)
  assert.match(lost({ debts: 3 }, null).because.join(), /3 slots went back by the gateways' own copies/)
  for (const [facts, parity, detector] of [
    [{ left: 2 }, EQUAL, verdict.detector],
    [{ violations: 1 }, EQUAL, verdict.detector],
    [{}, { ...EQUAL, differences: 1 }, verdict.detector],
    [{}, EQUAL, 'wrong-write'],
  ] as const)
    assert.equal(lost(facts, parity, detector).known, null)
})

test('a report as people read it: begin, time to be off the canary, writes, parity; what is left is said in capitals', async () => {
  const { verdict, text } = rollbackFrom(5)
  const row = { id: 3, at: '', verdict, hasEvidence: true, job: 9, orders: 1, offAt: null, report: null }
  const onset = await onsetMs(verdict, evidenceOf(text)!, atOnce)
  const told = tellReport(row, rollbackReport(row, { facts: HOME, onset, parity: EQUAL, whole: true })).join('\n')
  assert.match(told, /^Verdict 3, .*rollback by error-limit of deposit: the traffic was ordered back to PostgreSQL\./)
  assert.match(told, /Began: about 2027-01-15T08:00:05\.000Z, \d+ ms before the verdict/)
  assert.match(
    told,
    /off the canary 480 ms after the verdict, 41 slots in 1 flips\.\nWrites lost: none; .*\nParity: 400 rows compared, 0 diff/,
  )
  const left = { ...HOME, left: 1, leftBecause: ['poison'] }
  const worse = tellReport(row, rollbackReport(row, { facts: left, onset: null, parity: null, whole: false })).join('\n')
  assert.match(worse, /Began: not known.*\nTraffic: NOT all of it is home: 1 slots are on the target \(poison\)\.\nWrites lost: NOT KNOWN/)
})
