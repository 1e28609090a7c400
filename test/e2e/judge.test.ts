// The judge over a whole move (faults.md 9, 30, 59): what clients suffer on the canary turns it back by itself, recorded before it acts, and
// what was acknowledged is on PostgreSQL afterwards.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type pg from 'pg'
import type { RollbackReport } from '../../src/app/judge-report.ts'
import { placeOrder } from '../../src/app/place-order.ts'
import type { Status } from '../../src/app/status.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { listVerdicts, type VerdictRow } from '../../src/store/judging.ts'
import type { Fault, FaultHook } from '../../src/targets/memory/faults.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { type Ended, runHere, startCommand } from './cli-place.ts'

const KEYS = 400
const SQL = `
  create table notes (account bigint primary key, n int not null default 0);
  insert into notes select a, 0 from generate_series(1, ${KEYS}) a;
`
/** About a sixteenth of the keys. */
const CANARY = Array.from({ length: 256 }, (_, i) => i * 16)
const CANARY_SLOTS = new Set(CANARY)
const onCanary = (account: number) => CANARY_SLOTS.has(hashSlotOf(String(account)))
const SWALLOWED: Fault = { kind: 'hold', until: new Promise(() => undefined), done: () => undefined }

interface World extends AsyncDisposable {
  readonly move: Move
  /** What each key was last acknowledged to be. */
  readonly acknowledged: Map<number, number>
  readonly traffic: Traffic
}

interface Traffic {
  ok: number
  failed: number
  stop(): Promise<void>
}

async function withCanary(
  options: { readonly judge?: JudgeOptions; readonly faults?: FaultHook; readonly commitDeadlineMs?: number },
  work: (world: World) => Promise<void>,
): Promise<void> {
  await using move = await startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    judge: options.judge ?? {},
    ...(options.faults === undefined ? {} : { faults: options.faults }),
    ...(options.commitDeadlineMs === undefined ? {} : { gateway: { limits: { commitDeadlineMs: options.commitDeadlineMs } } }),
  })
  await canaryOut(move)
  const acknowledged = new Map<number, number>()
  const traffic = await startTraffic(move, acknowledged)
  try {
    await work({ move, acknowledged, traffic, [Symbol.asyncDispose]: async () => undefined })
  } finally {
    await traffic.stop()
  }
}

async function canaryOut(move: Move): Promise<void> {
  const job = await placeOrder(
    move.session,
    { kind: 'move', to: 'target', slots: CANARY, readOnlyFirst: false },
    () => undefined,
    AbortSignal.timeout(30_000),
  )
  assert.equal(job.state, 'done', JSON.stringify(job.result))
}

/** Writers of keys of their own, on either side, as fast as they are answered but for a breath. */
async function startTraffic(move: Move, acknowledged: Map<number, number>): Promise<Traffic> {
  const stop = new AbortController()
  const traffic: Traffic = { ok: 0, failed: 0, stop: async () => undefined }
  const accounts = Array.from({ length: KEYS }, (_, i) => i + 1)
  const arms = [accounts.filter(onCanary), accounts.filter((account) => !onCanary(account))]
  const writers = await Promise.all(
    arms.flatMap((keys) => [0, 1].map(async (half) => ({ client: await move.client(), keys: keys.filter((_, i) => i % 2 === half) }))),
  )
  const writing = writers.map(async ({ client, keys }) => {
    for (let n = 1; !stop.signal.aborted; n++) {
      const account = keys[n % keys.length]!
      try {
        await (client as pg.Client).query('update notes set n = $2 where account = $1', [account, n])
        acknowledged.set(account, n)
        traffic.ok++
      } catch {
        // INV-9: it may be there or not; nobody counts on it.
        acknowledged.delete(account)
        traffic.failed++
      }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })
  traffic.stop = async () => {
    stop.abort()
    await Promise.all(writing)
  }
  return traffic
}

const onTarget = async (move: Move) =>
  Number((await move.session.query(`select count(*) as n from switchback.ownership where owner = 'target'`))[0]!['n'])

async function rolledBack(move: Move, withinMs = 30_000): Promise<VerdictRow> {
  return eventually(
    async () => (await listVerdicts(move.session, 10)).find(({ verdict }) => verdict.act === 'rollback'),
    'a verdict',
    withinMs,
  )
}

async function reported(move: Move, id: number): Promise<RollbackReport & { readonly row: VerdictRow }> {
  const row = await eventually(
    async () => {
      const found = (await listVerdicts(move.session, 10)).find((one) => one.id === id)
      return (found?.report as RollbackReport | null)?.whole === true && found
    },
    'the report',
    30_000,
  )
  return { ...(row.report as unknown as RollbackReport), row }
}

async function nothingLost({ move, acknowledged, traffic }: World): Promise<void> {
  await traffic.stop()
  const { rows } = await move.database.query('select account::int as account, n from notes')
  const held = new Map(rows.map(({ account, n }) => [account as number, n as number]))
  assert.ok(acknowledged.size > 0)
  for (const [account, n] of acknowledged) assert.equal(held.get(account), n, `account ${account}`)
}

function ranAs({ exitCode, stdout }: Ended): { readonly code: number | null; readonly result: Record<string, unknown> } {
  return { code: exitCode, result: JSON.parse(stdout) as Record<string, unknown> }
}

/** `status --watch` while the canary is out: an object a line, until Ctrl-C. */
async function watched(move: Move): Promise<void> {
  const args = ['status', '--watch', '--json', '--config', move.configPath]
  const { child, says, output, ended } = startCommand(args, dirname(move.configPath), { ...process.env, ...move.env })
  await says(/\n.*\n.*"levels":\[\{.*\n/, 30_000)
  child.kill('SIGINT')
  assert.equal((await ended).exitCode, 0, output())
  const looks = (await ended).stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Status)
  const { standing, rolledBack: off } = looks.at(-1)!.judge
  assert.deepEqual([off, standing!.step, standing!.promote, standing!.threshold], [null, CANARY.length, false, 3_000_000])
  const [statement] = standing!.statements
  assert.match(statement!.statement, /^update notes/)
  assert.ok(statement!.canary.p99Ms! > 0 && statement!.control.p99Ms! > 0)
  assert.ok(standing!.hotKeys.every(({ key }) => /^key-[0-9a-f]{16}$/.test(key)))
  assert.ok(standing!.holds.some((because) => /baked for/.test(because)))
}

test('errors of the target: the verdict is recorded before it acts, the keys are home, and the report says what was (faults.md 30)', {
  timeout: 120_000,
}, async () => {
  let failing = false
  // No commit of the canary goes through any more.
  const faults: FaultHook = (operation) => (failing && operation === 'compareAndSetHead' ? { kind: 'refuse' } : undefined)
  await withCanary({ faults, commitDeadlineMs: 1_000 }, async (world) => {
    const { move, traffic } = world
    await eventually(() => traffic.ok > 200, 'traffic flows')
    assert.deepEqual(await listVerdicts(move.session, 10), [])
    await watched(move)
    failing = true
    const plantedMs = Date.now()
    const { id, job, verdict } = await rolledBack(move)
    failing = false
    assert.match(verdict.detector, /^error/)
    assert.ok(verdict.tMs - plantedMs < 30_000, `${verdict.tMs - plantedMs} ms from the first error`)
    const { row, ...report } = await reported(move, id)
    assert.equal(await onTarget(move), 0)
    assert.ok(
      report.verdictToOffMs !== null && report.verdictToOffMs >= 0,
      `${report.verdictToOffMs} ms from the verdict to traffic off it`,
    )
    assert.ok(report.onsetMs !== null && report.onsetMs < verdict.tMs, `onset ${report.onsetMs}`)
    assert.deepEqual([report.slotsHome, report.slotsLeft, report.writesLost.known, row.job], [CANARY.length, 0, 0, job])
    assert.ok(
      report.parity !== null && 'differences' in report.parity && report.parity.differences === 0 && report.parity.rowsCompared >= KEYS,
    )
    // Before it acts: the journal has the verdict before the first step of the way home.
    const journal = await move.session.query(`select kind from switchback.journal order by id desc limit 12`)
    const kinds = journal.map((entry) => entry['kind']).reverse()
    assert.ok(kinds.indexOf('verdict') >= 0 && kinds.indexOf('verdict') < kinds.lastIndexOf('intent'), kinds.join())
    await nothingLost(world)

    const folder = mkdtempSync(join(tmpdir(), 'switchback-judge-'))
    try {
      const file = join(folder, 'evidence')
      const run = async (...args: string[]) => ranAs(await runHere([...args, '--config', move.configPath, '--json'], folder, move.env))
      assert.equal((await run('judge', 'evidence', String(id), '--export', file)).code, 0)
      const again = await run('judge', 'recheck', file)
      assert.deepEqual([again.code, again.result['ok']], [0, true])
      const told = await run('judge', 'report')
      assert.deepEqual([told.code, told.result['id'], told.result['ok']], [0, id, true])
      const none = await run('judge', 'report', '99')
      assert.deepEqual([none.code, (none.result['error'] as { code: string }).code], [2, 'VERDICT_UNKNOWN'])
      const words = await runHere(['status', '--config', move.configPath], folder, move.env)
      assert.match(words.stdout, /ROLLED BACK by verdict \d+ at .*: error-limit of update notes/)
      const status = await run('status')
      assert.equal((status.result['judge'] as { rolledBack: { verdict: number } }).rolledBack.verdict, id)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})

test("a target that is a black hole: the canary goes back by the gateways' own copies, others are unharmed, and the debt is told (faults.md 9)", {
  timeout: 120_000,
}, async () => {
  let down = false
  await withCanary({ faults: () => (down ? SWALLOWED : undefined), commitDeadlineMs: 500 }, async (world) => {
    const { move, traffic } = world
    await eventually(() => traffic.ok > 200, 'traffic flows')
    const other = await move.client()
    const elsewhere = Array.from({ length: KEYS }, (_, i) => i + 1).find((account) => !onCanary(account))!
    down = true
    const plantedMs = Date.now()
    const { id, verdict } = await rolledBack(move, 40_000)
    assert.match(verdict.detector, /^(error|silence)/)
    assert.ok(verdict.tMs - plantedMs < 20_000, `${verdict.tMs - plantedMs} ms`)
    const beforeMs = performance.now()
    await other.query('select n from notes where account = $1', [elsewhere])
    assert.ok(performance.now() - beforeMs < 1_000, 'other keys are unharmed')
    // What no gateway can tell of stays parked, by name, until the target answers; all others are home.
    await eventually(async () => (await onTarget(move)) < CANARY.length / 4, 'the keys are home', 40_000)
    down = false
    const report = await reported(move, id)
    assert.deepEqual([await onTarget(move), report.slotsLeft], [0, 0])
    assert.equal(report.writesLost.known, 0)
    await nothingLost(world)
  })
})

test('a poisoned key keeps only its own slot from going home, and a bulk writer in PostgreSQL keeps none (faults.md 59)', {
  timeout: 120_000,
}, async () => {
  await withCanary({ judge: { silenceMs: 4_000 } }, async ({ move, traffic }) => {
    await eventually(() => traffic.ok > 200, 'traffic flows')
    const poisoned = Array.from({ length: KEYS }, (_, i) => i + 1).find(onCanary)!
    const direct = await move.database.connect()
    // DDL past the guard, as only a superuser can.
    await direct.query('alter event trigger switchback_guard_ddl disable')
    await direct.query('alter table notes add constraint small check (n < 1000000) not valid')
    await direct.query('alter event trigger switchback_guard_ddl enable')
    const client = await move.client()
    await traffic.stop()
    await client.query('update notes set n = 1000000 where account = $1', [poisoned])
    const bulk = await move.database.connect()
    await bulk.query('begin')
    const mine = Array.from({ length: KEYS }, (_, i) => i + 1).filter((account) => !onCanary(account))
    await bulk.query('update notes set n = -1 where account = any ($1)', [mine])
    // Nobody uses the canary any more: silence.
    const { id, verdict } = await rolledBack(move)
    assert.equal(verdict.detector, 'silence')
    await eventually(async () => (await onTarget(move)) <= 1, 'the others are home')
    await bulk.query('rollback')
    const [row] = await listVerdicts(move.session, 1)
    assert.equal(row!.id, id)
  })
})

test('the leader dies between the verdict and the flip: the next one carries the order out, once (faults.md 4)', {
  timeout: 120_000,
}, async () => {
  await withCanary({ judge: { silenceMs: 3_000 } }, async (world) => {
    const { move, traffic } = world
    await eventually(() => traffic.ok > 100, 'traffic flows')
    // No flip can begin: somebody holds a row of the ownership.
    const holder = await move.database.connect()
    await holder.query('begin')
    await holder.query('select 1 from switchback.ownership where slot = $1 for update', [CANARY[0]])
    await traffic.stop()
    const { id, job } = await rolledBack(move)
    assert.equal(await onTarget(move), CANARY.length)
    const token = async () => Number((await move.session.query('select token from switchback.leader'))[0]!['token'])
    const before = await token()
    await move.session.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^switchback leader '`,
    )
    await eventually(async () => (await token()) > before, 'another lead')
    await holder.query('rollback')
    const report = await reported(move, id)
    assert.deepEqual([await onTarget(move), report.slotsHome, report.row.job, report.row.orders], [0, CANARY.length, job, 1])
    assert.equal((await listVerdicts(move.session, 10)).length, 1)
    const refused = await placeOrder(
      move.session,
      { kind: 'move', to: 'target', slots: CANARY, readOnlyFirst: false, by: 'ramp' },
      () => undefined,
      AbortSignal.timeout(30_000),
    )
    assert.equal(refused.state, 'failed')
    assert.match(String(refused.result?.['because']), /judge turned the traffic back/)
    // By a person it may.
    await canaryOut(move)
    assert.equal(await onTarget(move), CANARY.length)
    assert.equal((await move.session.query('select rolled_back from switchback.judge'))[0]!['rolled_back'], null)
    await nothingLost(world)
  })
})

test('a row that the target owns and PostgreSQL has otherwise turns the canary back at the next comparison (faults.md 28)', {
  timeout: 120_000,
}, async () => {
  await withCanary({ judge: { promotion: { parityFreshMs: 3_000 } } }, async ({ move, traffic }) => {
    await eventually(() => traffic.ok > 100, 'traffic flows')
    await traffic.stop()
    const account = Array.from({ length: KEYS }, (_, i) => i + 1).find(onCanary)!
    const store = move.target.target
    const key = { table: 'public.notes', key: String(account), clustering: [] }
    const row = await eventually(async () => (await store.readRows([key]))[0], 'the row is there')
    await eventually(async () => {
      const { rows } = await move.database.query(`select account::text as account, n::text as n from notes where account = ${account}`)
      return JSON.stringify([rows[0].account, rows[0].n]) === JSON.stringify(row.values)
    }, 'both sides are equal')
    assert.deepEqual(await listVerdicts(move.session, 10), [])
    await store.putRows([{ ...key, values: [row.values![0]!, '-7'], stamp: row.stamp + 1n, mark: false }])
    const { id, verdict } = await rolledBack(move, 60_000)
    assert.equal(verdict.detector, 'wrong-write')
    // The slot that is in doubt stays where it is, by name; no other waits for it.
    await eventually(async () => (await onTarget(move)) === 1, 'the others are home', 30_000)
    const report = await eventually(async () => {
      const [row] = await listVerdicts(move.session, 1)
      return row!.id === id && row!.report !== null && (row!.report as unknown as RollbackReport)
    }, 'the report')
    assert.deepEqual(
      [report.slotsLeft, report.slotsHome, report.writesLost.known, report.verdictToOffMs],
      [1, CANARY.length - 1, null, null],
    )
    assert.match(report.leftBecause.join(), /rows of it differ between the stores/)
  })
})
