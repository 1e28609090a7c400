import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkJudge, HOME_MS, type JournalSeen, type JudgeRows, type MoveSeen, type VerdictSeen } from './judge-check.ts'
import { summed } from './report.ts'

const OUT = { id: 'out', to: 'target', slots: [1, 2, 3] }
const HOME = { id: 'home', to: 'source', slots: [1, 2, 3] }
const ALSO_OUT = { id: 'also out', to: 'target', slots: [4] }
const VERDICT: VerdictSeen = { id: 7, atMs: 1_000, detector: 'silence', hasEvidence: true, reportWhole: true, offMs: 500 }
const ORDER: MoveSeen = { id: 12, to: 'source', verdict: 7, state: 'done', leftSlots: 0, orderedMs: 1_001, endedMs: 1_600 }
const HELD: MoveSeen = { id: 11, to: 'target', verdict: null, state: 'held', leftSlots: 0, orderedMs: 900, endedMs: 1_000.5 }

const seen = (kind: string, atMs: number, more: Partial<JournalSeen> = {}): JournalSeen => ({
  kind,
  atMs,
  flip: null,
  verdict: null,
  ended: null,
  ...more,
})
const took = (flip: string, atMs: number) => [seen('commit', atMs, { flip }), seen('finish', atMs + 100, { flip, ended: 'routed' })]
const SAID = seen('verdict', 1_000, { verdict: 7 })
const AGAIN = seen('canary again', 1_700, { verdict: 7 })

/** A canary is out, goes back by a verdict, and a person starts another one. */
const GOOD: JudgeRows = {
  verdicts: [VERDICT],
  journal: [...took('out', 100), SAID, ...took('home', 1_400), AGAIN, ...took('also out', 1_800)],
  flips: [OUT, HOME, ALSO_OUT],
  moves: [HELD, ORDER],
}

test('a rollback by verdict as it should be is counted, and nothing is said of it', () => {
  assert.deepEqual(checkJudge(GOOD), { verdicts: 1, ordersHome: 1, movesHeld: 1, restarts: 1, verdictToOffMs: [500], failures: [] })
})

test('each thing that is not as it should be is found, and nothing else with it', () => {
  const withVerdict = (change: Partial<VerdictSeen>) => ({ ...GOOD, verdicts: [{ ...VERDICT, ...change }] })
  const late = 1_000 + HOME_MS + 1
  const wrong: [string, JudgeRows, RegExp][] = [
    ['withoutEvidence', withVerdict({ hasEvidence: false }), /^verdict 7 \(silence\) has no evidence$/],
    ['withoutReport', withVerdict({ reportWhole: false }), /has no whole report/],
    ['wrongWriteVerdicts', withVerdict({ detector: 'wrong-write' }), /says that a write is wrong/],
    ['reportedWrong', withVerdict({ offMs: 900 }), /was home after 500 ms, and the report says 900/],
    ['withoutOrder', { ...GOOD, moves: [HELD] }, /has no order home/],
    [
      'endedThoughHeld',
      { ...GOOD, moves: [{ ...HELD, state: 'done', endedMs: 1_200 }, ORDER] },
      /held order 11 to the target, which is done/,
    ],
    ['notHome', { ...GOOD, journal: [...took('out', 100), SAID] }, /left 3 slots on the target/],
    [
      'notHome',
      { ...withVerdict({ offMs: late - 900 }), journal: [...took('out', 100), SAID, ...took('home', late)] },
      /was home after 90101 ms/,
    ],
    [
      'wentOutWhileOff',
      { ...GOOD, journal: [...took('out', 100), SAID, ...took('home', 1_400), ...took('also out', 1_600), AGAIN] },
      /flip also out took 1 slots to the target after verdict 7/,
    ],
  ]
  for (const [check, rows, says] of wrong) {
    const { failures } = checkJudge(rows)
    assert.deepEqual(
      failures.map((one) => one.check),
      [check],
    )
    assert.match(failures[0]!.what, says)
  }
})

test('a person may start again before all is home, and an order that ended before the verdict was not held by it', () => {
  const early = { ...GOOD, journal: [...took('out', 100), SAID, AGAIN, ...took('also out', 1_800)] }
  for (const order of [{ state: 'failed' }, { leftSlots: 1 }])
    assert.deepEqual(checkJudge({ ...early, moves: [HELD, { ...ORDER, ...order }] }).failures, [])
  assert.match(checkJudge(early).failures[0]!.what, /left 3 slots on the target until a person started again, and its order says/)
  assert.deepEqual(checkJudge({ ...GOOD, moves: [{ ...HELD, state: 'done', endedMs: 990 }, ORDER] }).failures, [])
  assert.deepEqual(checkJudge({ ...GOOD, moves: [{ ...HELD, state: 'failed', endedMs: 1_100 }, ORDER] }).failures, [])
})

test('rounds with the judge on are summed with each check by name; without it there is nothing to sum', () => {
  const round = {
    seed: 1,
    killed: [],
    linesBroken: 0,
    stopped: 0,
    acknowledgedWrites: 1,
    unknownWrites: 0,
    lost: [],
    doubled: [],
    parityDifferences: 0,
    violations: [],
    notRecovered: [],
    flips: 1,
  }
  const bad = checkJudge({ ...GOOD, verdicts: [{ ...VERDICT, hasEvidence: false }] })
  const { judge } = summed(
    [
      { ...round, judge: checkJudge(GOOD) },
      { ...round, judge: bad },
    ],
    [],
  )
  assert.deepEqual(judge, {
    verdicts: 2,
    ordersHome: 2,
    movesHeld: 2,
    restarts: 2,
    verdictToOffMs: { p50: 500, p99: 500, max: 500 },
    withoutEvidence: 1,
    withoutOrder: 0,
    withoutReport: 0,
    reportedWrong: 0,
    notHome: 0,
    wentOutWhileOff: 0,
    endedThoughHeld: 0,
    wrongWriteVerdicts: 0,
  })
  assert.equal(summed([{ ...round, judge: null }], []).judge, null)
})
