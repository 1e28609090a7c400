// The judge at work over real PostgreSQL, a second at a time on a clock of the test's own (faults.md 30): what it comes to is recorded before
// anything is done, once, and outlives who leads.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import { judgeSettings } from '../../src/app/judge-settings.ts'
import { type Judging, openJudging } from '../../src/app/judging.ts'
import type { Measurements } from '../../src/app/judging-parts.ts'
import type { LostMeasurements } from '../../src/app/lost-reports.ts'
import type { Arms } from '../../src/canary/arm-counts.ts'
import { pseudonyms } from '../../src/canary/hot-keys.ts'
import { recheck } from '../../src/canary/recording.ts'
import type { KeySaturation } from '../../src/canary/saturation.ts'
import { tellLost, tellReport, tellRow } from '../../src/cli/tell-judge.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { announceEnd } from '../../src/store/final.ts'
import { createJobs, type JobArguments } from '../../src/store/jobs.ts'
import { createJudgeStore, listVerdicts, readEvidence } from '../../src/store/judging.ts'
import { controlConnector, openSession, type Session } from '../../src/store/session.ts'
import { arm } from '../canary/seen.ts'
import { type ControlWorld, controlWorld } from '../store/fixture.ts'
import { eventually } from '../support/eventually.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const SECOND_MS = 1_000
const WELL: Arms = { canary: arm({ requests: 50 }), control: arm({ requests: 200 }) }
/** A fifth of the canary's requests fails. */
const FAILING: Arms = { canary: arm({ requests: 50, errors: 10 }), control: arm({ requests: 200 }) }
const OUT: JobArguments = { kind: 'move', to: 'target', slots: [1, 2, 3], readOnlyFirst: false }

/** What the leader would know. */
interface Known {
  statements: Readonly<Record<string, Arms>> | null
  step: number
  saturation: readonly KeySaturation[]
  wrongWrites: number
  lost: readonly LostMeasurements[]
}

interface Bench {
  readonly world: ControlWorld
  readonly session: Session
  readonly clock: VirtualClock
  readonly known: Known
  readonly told: string[]
  /** A leader's judge, from what PostgreSQL has; the one before leads no more. */
  lead(options?: JudgeOptions): Promise<Led>
}

interface Led {
  readonly token: number
  readonly judging: Judging
  /** So many seconds of what is known. */
  seconds(count: number): Promise<void>
  stop(): Promise<void>
  /** Rejects with what ended it. */
  readonly ran: Promise<void>
}

async function withJudge(work: (bench: Bench) => Promise<void>): Promise<void> {
  await using world = await controlWorld()
  const session = await openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'test' })
  const clock = new VirtualClock(1_800_000_000_000)
  const known: Known = { statements: { deposit: WELL }, step: 41, saturation: [], wrongWrites: 0, lost: [] }
  const told: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => told.push(line) })
  const running: (() => Promise<void>)[] = []
  const lead = async (options: JudgeOptions = {}): Promise<Led> => {
    await Promise.all(running.splice(0).map((stop) => stop()))
    await session.query('update switchback.leader set token = token + 1')
    const [row] = await session.query('select token from switchback.leader')
    const token = Number(row!['token'])
    const store = createJudgeStore(session, token)
    const { secret } = await store.read()
    const settings = judgeSettings({ judge: options })
    const sources = {
      measurements: measurementsOf(known),
      growth: settings.growth,
      step: () => known.step,
      lagMs: () => 5,
      parity: () => ({ tMs: clock.nowMs(), differences: 0 }),
      takeWrongWrites: () => known.wrongWrites,
      keyName: settings.showKeys ? (key: string) => key : pseudonyms(secret),
    }
    const judging = await openJudging({ store, sources, settings, clock, log })
    const end = new AbortController()
    const ran = judging.run(end.signal)
    ran.catch(() => undefined)
    const stop = async () => {
      end.abort()
      await ran
    }
    running.push(() => stop().catch(() => undefined))
    return { token, judging, seconds: (count) => clock.advance(count * SECOND_MS), stop, ran }
  }
  try {
    await work({ world, session, clock, known, told, lead })
  } finally {
    await Promise.all(running.map((stop) => stop()))
    await session.close()
  }
}

function measurementsOf(known: Known): Measurements {
  return {
    takeSpan: () => ({ statements: known.statements, silent: known.statements === null ? ['gateway 1'] : [] }),
    lost: () => known.lost,
    profile: () => ({ slots: [], keys: [] }) as never,
    hotKeys: () => ({ source: {}, target: {} }) as never,
    saturation: () => known.saturation,
  }
}

const recorded = (led: Led) => eventually(() => led.judging.rolledBack() ?? undefined, 'the verdict is recorded')

async function untilVerdict(led: Led, most = 60): Promise<number> {
  for (let second = 1; second <= most; second++) {
    await led.seconds(1)
    if (led.judging.now().rolledBack !== null) return second
  }
  throw new Error(`no verdict within ${most} s: ${JSON.stringify(led.judging.now())}`)
}

test('errors of the canary: verdict, evidence, held moves and the order home are recorded in one transaction (faults.md 30)', () =>
  withJudge(async ({ session, known, lead }) => {
    const jobs = createJobs(session)
    const led = await lead()
    await led.seconds(20)
    assert.equal(led.judging.now().rolledBack, null)
    const out = await jobs.order(OUT)
    const elsewhere = await jobs.order({ kind: 'read_only', on: true, slots: [7] })
    const back = await jobs.order({ kind: 'move', to: 'source', slots: [9], readOnlyFirst: true })
    const end = await jobs.order({ kind: 'finalize' })

    known.statements = { deposit: FAILING }
    const took = await untilVerdict(led)

    assert.ok(took <= 10, `${took} s`)
    const { id, job } = await recorded(led)
    const [row, ...others] = await listVerdicts(session, 10)
    assert.deepEqual(others, [])
    assert.deepEqual([row!.id, row!.job, row!.verdict.act, row!.verdict.detector], [id, job, 'rollback', 'error-limit'])
    assert.deepEqual([(await jobs.read(out.id)).state, (await jobs.read(end.id)).state], ['held', 'held'])
    // What it does not hold waits: the way home goes first, and stops what is under way.
    assert.deepEqual(
      (await jobs.open()).map((one) => one.id),
      [job, elsewhere.id, back.id],
    )
    assert.deepEqual(await Promise.all([job!, elsewhere.id, back.id, out.id].map((one) => jobs.stopped(one))), [
      null,
      { behind: job },
      { behind: job },
      'held',
    ])
    const home = await jobs.read(job!)
    assert.deepEqual([home.state, home.arguments.kind], ['open', 'move'])
    const order = home.arguments as Extract<JobArguments, { kind: 'move' }>
    assert.deepEqual([order.to, order.slots.length, order.readOnlyFirst, order.by, order.verdict], ['source', 4096, false, 'judge', id])
    const { same, spans } = recheck('evidence', (await readEvidence(session, id))!)
    assert.deepEqual([same, spans], [true, 20 + took])
    await led.seconds(30)
    assert.equal((await listVerdicts(session, 10)).length, 1)
  }))

test('a verdict after the end of the move was announced is recorded and orders nothing; one before it lets nothing end (faults.md 74)', () =>
  withJudge(async ({ session, known, told, lead }) => {
    const jobs = createJobs(session)
    const announced = async () => (await session.query('select ending from switchback.state'))[0]!['ending']
    await session.query(`update switchback.ownership set owner = 'target'`)
    const early = await lead()
    known.statements = { deposit: FAILING }
    await untilVerdict(early)
    await recorded(early)
    await assert.rejects(announceEnd(session, early.token), { code: 'FLIP_STATE', message: /turned back by verdict \d+/ })
    assert.equal(await announced(), 'f')

    await session.query(`update switchback.job set state = 'done'`)
    await early.judging.startAgain()
    await announceEnd(session, early.token)
    const end = await jobs.order({ kind: 'finalize' })
    await untilVerdict(early)
    const { id, job } = await recorded(early)
    assert.equal(job, null)
    assert.deepEqual(
      (await jobs.open()).map((one) => one.id),
      [end.id],
    )
    const [row] = await listVerdicts(session, 1)
    assert.deepEqual([row!.id, row!.job, row!.verdict.act], [id, null, 'rollback'])
    assert.match(tellRow(row!), /too late: the end of the move had been announced/)
    assert.match(tellReport(row!, null).join(' '), /Nothing was ordered back/)
    assert.ok(told.some((line) => /the end of the move was announced before, so nothing goes back/.test(line)))
    // It can only be completed: said again, as its next try does.
    await announceEnd(session, early.token)
    assert.equal(await announced(), 't')
  }))

/** Until the trigger goes. */
async function refuseOrders({ admin }: Pick<ControlWorld, 'admin'>): Promise<void> {
  await admin.query(`
    create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
    create trigger refuse before insert on switchback.job for each row execute function public.refuse()`)
}

test('while PostgreSQL refuses the order the verdict waits, whole, and nothing of it is there; then it is recorded once', () =>
  withJudge(async ({ world, session, known, told, lead }) => {
    const led = await lead()
    await refuseOrders(world)
    known.statements = { deposit: FAILING }
    await untilVerdict(led)
    await eventually(() => told.some((line) => /not now/.test(line)), 'it is told')
    assert.deepEqual(await listVerdicts(session, 10), [])
    assert.equal((await session.query('select rolled_back from switchback.judge'))[0]!['rolled_back'], null)
    assert.equal(led.judging.now().rolledBack?.detector, 'error-limit')

    await world.admin.query('drop trigger refuse on switchback.job')
    await eventually(async () => {
      await led.seconds(1)
      return led.judging.rolledBack() !== null
    }, 'it is recorded')
    assert.equal((await listVerdicts(session, 10)).length, 1)
    assert.equal((await createJobs(session).open()).length, 1)
  }))

test('what gateways measured and nobody heard is in what the judge says of itself, with or without a canary (INV-11)', () =>
  withJudge(async ({ known, lead }) => {
    const lost = [{ gateway: 'gateway 1', lostMs: 61_500, lastMs: 1_800_000_000_000 }]
    Object.assign(known, { step: 0, lost })
    const led = await lead()
    await led.seconds(1)
    assert.deepEqual(led.judging.standing()!.lost, lost)
    assert.equal(
      tellLost(lost[0]!),
      'Measurements: of gateway gateway 1, 61.5 s were lost in the last hour (last at 2027-01-15T08:00:00.000Z).',
    )
  }))

test('whoever starts again before a verdict is recorded has not heard of it: it is recorded, and stands', () =>
  withJudge(async ({ world, session, known, lead }) => {
    const led = await lead()
    await refuseOrders(world)
    known.statements = { deposit: FAILING }
    await untilVerdict(led)
    await world.admin.query('drop trigger refuse on switchback.job')

    await led.judging.startAgain()

    const { id } = await recorded(led)
    assert.equal((await session.query('select rolled_back from switchback.judge'))[0]!['rolled_back'], String(id))
    assert.equal(led.judging.now().rolledBack?.detector, 'error-limit')
    await led.judging.startAgain()
    assert.equal(led.judging.now().rolledBack, null)
  }))

test('a new leader goes on from the evidence of the old one, and does not act on its verdict again (faults.md 4)', () =>
  withJudge(async ({ session, known, lead }) => {
    const levelOf = (led: Led) => led.judging.standing()!.levels.find(({ detector }) => detector === 'error-limit')!.level
    const first = await lead({ stepsPerFalseAlarm: 1e12 })
    known.statements = { deposit: FAILING }
    await first.seconds(4)
    const before = levelOf(first)
    assert.ok(before > 1_000, `${before}`)
    await first.stop()

    const second = await lead({ stepsPerFalseAlarm: 1e12 })
    await second.seconds(1)
    assert.match(second.judging.now().holds.join(), /no metrics|nothing is known|control/)
    assert.ok(levelOf(second) >= before, `${levelOf(second)} after ${before}`)
    await untilVerdict(second)
    const { id } = await recorded(second)

    const third = await lead()
    assert.equal(third.judging.now().rolledBack?.detector, 'error-limit')
    await third.seconds(60)
    assert.deepEqual(
      (await listVerdicts(session, 10)).map((row) => [row.id, row.orders]),
      [[id, 1]],
    )
    assert.equal((await createJobs(session).open()).length, 1)
  }))

test('a rollback sent again after its reply was lost, or come to by another leader, acts once', () =>
  withJudge(async ({ session, known, lead }) => {
    const led = await lead()
    known.statements = { deposit: FAILING }
    await untilVerdict(led)
    const { id, job, verdict } = await recorded(led)
    const store = createJudgeStore(session, led.token)
    const again = { verdict, evidence: null, format: 'f', state: '{}', evidenceFilesMax: 1 }
    assert.deepEqual(await store.record(again), { id, job, held: 0 })
    assert.deepEqual(await store.record({ ...again, verdict: { ...verdict, tMs: verdict.tMs + 1, detector: 'tail' } }), {
      id,
      job,
      held: 0,
    })
    assert.equal((await listVerdicts(session, 10)).length, 1)
    assert.equal((await createJobs(session).open()).length, 1)
    const warned = { ...again, verdict: { ...verdict, act: 'warn' as const } }
    assert.notEqual((await store.record(warned)).id, null)
    assert.equal((await store.record(warned)).id, null)
    // Keys are on the target still, and the order has ended: once more, and only when nothing else is under way.
    assert.equal(await store.orderHomeAgain(id), null)
    await session.query(`update switchback.job set state = 'failed'`)
    // A person's order home may wait for long, and for few keys; one to the target is not overtaken.
    const jobs = createJobs(session)
    await jobs.order({ kind: 'move', to: 'source', slots: [5], readOnlyFirst: true })
    assert.equal(await store.orderHomeAgain(id), null)
    await session.query(`update switchback.ownership set owner = 'target' where slot = 5`)
    await jobs.order(OUT)
    assert.equal(await store.orderHomeAgain(id), null)
    await jobs.hold('target', 'held')
    const next = await store.orderHomeAgain(id)
    assert.ok(next !== null && next > job!)
    assert.equal(await store.orderHomeAgain(id), null)
  }))

test('a state that cannot be read is told and begun anew; that the canary is off is not forgotten', () =>
  withJudge(async ({ session, known, told, lead }) => {
    const first = await lead()
    known.statements = { deposit: FAILING }
    await untilVerdict(first)
    await recorded(first)
    await first.stop()
    known.statements = { deposit: WELL }
    const broken = [
      { format: 'switchback judge 0', state: '{}' },
      { format: 'switchback judge 1', state: '{"statements":' },
      { format: 'switchback judge 1', state: '{"statements":{},"step":"many"}' },
    ]
    for (const { format, state } of broken) {
      await session.query('update switchback.judge set format = $1, state = $2', [format, state])
      const led = await lead()
      assert.equal(told.filter((line) => /begins anew/.test(line)).length, broken.findIndex((one) => one.state === state) + 1)
      await led.seconds(2)
      assert.equal(led.judging.now().rolledBack?.detector, 'error-limit')
      await led.stop()
    }
    // Whole on the outside: the judge itself finds it out.
    await session.query(`update switchback.judge set rolled_back = null, format = 'switchback judge 1', state = $1`, [
      '{"statements":{"deposit":{"tail":7}},"step":41,"lastMs":null,"silentMs":0,"bakedMs":0,"saturated":[],"rolledBack":null}',
    ])
    const led = await lead()
    await led.seconds(1)
    assert.ok(told.some((line) => /could not judge/.test(line)))
    known.statements = { deposit: FAILING }
    await untilVerdict(led)
  }))

test('after a verdict only a person starts the canary again, by an order given after it', () =>
  withJudge(async ({ session, known, lead }) => {
    const jobs = createJobs(session)
    const early = await jobs.order({ kind: 'read_only', on: true, slots: [7] })
    const led = await lead()
    known.statements = { deposit: FAILING }
    await untilVerdict(led)
    const { job } = await recorded(led)
    const refused = { code: 'CANARY_ROLLED_BACK' }
    await assert.rejects(led.judging.admit({ id: early.id, arguments: OUT }), refused)
    await assert.rejects(led.judging.admit({ id: job! + 1, arguments: { ...OUT, by: 'ramp' } }), refused)
    await led.judging.admit({ id: job! + 1, arguments: { ...OUT, to: 'source' } })
    assert.equal(led.judging.now().rolledBack?.detector, 'error-limit')

    await led.judging.admit({ id: job! + 1, arguments: OUT })
    assert.equal(led.judging.now().rolledBack, null)
    assert.equal((await session.query('select rolled_back from switchback.judge'))[0]!['rolled_back'], null)
    const heir = await lead()
    assert.equal(heir.judging.now().rolledBack, null)
    await untilVerdict(heir)
    await recorded(heir)
    assert.equal((await listVerdicts(session, 10)).length, 2)
  }))

test('no word of a gateway while a canary is out: it holds and says so, then goes back; a clock that jumps holds (faults.md 30, INV-10)', () =>
  withJudge(async ({ clock, known, lead }) => {
    const led = await lead({ silenceMs: 5_000 })
    await led.seconds(3)
    known.statements = null
    await led.seconds(4)
    assert.deepEqual(
      [led.judging.now().rolledBack, led.judging.now().promote, led.judging.now().holds],
      [null, false, ['nothing is heard of gateway 1', 'no metrics came, for 4 s']],
    )
    known.statements = { deposit: WELL }
    const back = clock.nowMs.bind(clock)
    clock.nowMs = () => back() - 3_600_000
    await led.seconds(1)
    assert.match(led.judging.now().holds.join(), /the clock went back/)
    clock.nowMs = back
    await led.seconds(1)
    known.statements = null
    await untilVerdict(led, 6)
    assert.equal((await recorded(led)).verdict.detector, 'silence')
  }))

test('no canary is out: nothing is judged, silence is none, and a wrong write is one only of a canary', () =>
  withJudge(async ({ session, known, lead }) => {
    Object.assign(known, { step: 0, wrongWrites: 1 })
    const led = await lead({ silenceMs: 2_000 })
    await led.seconds(2)
    known.statements = null
    await led.seconds(10)
    assert.deepEqual([led.judging.now().rolledBack, led.judging.now().holds.at(-1)], [null, 'no canary is out'])
    known.step = 41
    assert.equal(await untilVerdict(led), 1)
    assert.equal((await recorded(led)).verdict.detector, 'wrong-write')
    assert.equal((await listVerdicts(session, 10)).length, 1)
  }))

test('a key that saturates is a verdict once, under its pseudonym, also in the evidence, and turns nothing back', () =>
  withJudge(async ({ session, known, lead }) => {
    const bounds = (low: number) => ({ low, mean: low * 1.1, high: low * 1.2 })
    const hot = (act: 'block' | 'warn' | 'none'): KeySaturation => ({
      key: 'merchant 7',
      act,
      basis: 'own holds',
      arrivalsPerSecond: bounds(90),
      holdMs: bounds(9),
      rho: bounds(act === 'block' ? 0.82 : 0.79),
      growthToBlock: 0.9,
    })
    const led = await lead()
    for (const act of ['block', 'none', 'block', 'warn', 'block'] as const) {
      known.saturation = [hot(act)]
      await led.seconds(2)
    }
    const rows = await eventually(async () => {
      const all = await listVerdicts(session, 10)
      return all.length > 0 && all
    }, 'the verdict is recorded')
    assert.deepEqual(
      rows.map(({ verdict }) => [verdict.act, verdict.detector]),
      [['block', 'saturation']],
    )
    assert.match(rows[0]!.verdict.key!, /^key-[0-9a-f]{16}$/)
    assert.match(led.judging.now().holds.join(), /key key-[0-9a-f]{16} saturates/)
    assert.equal(led.judging.standing()!.hotKeys[0]!.key, rows[0]!.verdict.key)
    known.statements = { deposit: FAILING }
    await untilVerdict(led)
    const { id } = await recorded(led)
    assert.doesNotMatch((await readEvidence(session, id))!, /merchant 7/)
    assert.deepEqual(
      (await listVerdicts(session, 10)).map(({ verdict }) => verdict.act),
      ['rollback', 'block'],
    )

    const open = await lead({ showKeys: true })
    await open.seconds(1)
    await open.judging.startAgain()
    await open.seconds(2)
    assert.equal(open.judging.standing()!.hotKeys[0]!.key, 'merchant 7')
  }))

test('evidence is kept of the newest rollbacks, and a judge that leads no more ends by its token', () =>
  withJudge(async ({ session, known, lead }) => {
    const led = await lead({ evidenceFilesMax: 2 })
    known.statements = { deposit: FAILING }
    for (let n = 1; n <= 3; n++) {
      await untilVerdict(led)
      await recorded(led)
      await led.judging.startAgain()
    }
    assert.deepEqual(
      (await listVerdicts(session, 10)).map(({ hasEvidence }) => hasEvidence),
      [true, true, false],
    )
    await session.query('update switchback.leader set token = token + 1')
    await untilVerdict(led)
    await assert.rejects(led.ran, { code: 'TOKEN_STALE' })
    assert.equal((await listVerdicts(session, 10)).length, 3)
  }))
