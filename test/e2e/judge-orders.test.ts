// The order of a verdict goes first: it waits behind nothing that a person ordered, what it stops goes on after the way home, and nothing
// closes the way home behind it (faults.md 74; INV-7).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { placeOrder } from '../../src/app/place-order.ts'
import { createJobs, type Job, type JobArguments } from '../../src/store/jobs.ts'
import { listVerdicts } from '../../src/store/judging.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'

const SQL = `
  create table notes (account bigint primary key, n int not null default 0);
  insert into notes select a, 0 from generate_series(1, 20) a;
`
/** Nobody uses the canary: so long after it is out the judge turns it back, whatever else goes on. */
const SILENCE_MS = 6_000
const FOLLOWED_MS = 60_000
/** Whoever follows an order takes a leader for dead that shows no life for 15 s. */
const LEADER_MISSING_MS = 15_000

interface World {
  readonly move: Move
  order(order: JobArguments): { readonly placed: () => Promise<Job>; readonly ended: Promise<Job> }
  job(id: number): Promise<Job>
  /** The order home of the verdict. */
  home(): Promise<Job>
  onTarget(): Promise<number>
  readOnly(): Promise<number>
}

async function withMove(keys: readonly string[] | undefined, work: (world: World) => Promise<void>): Promise<void> {
  await using move = await startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    judge: { silenceMs: SILENCE_MS },
  })
  const jobs = createJobs(move.session)
  await move.move('target', keys)
  const count = async (what: string) =>
    Number((await move.session.query(`select count(*) as n from switchback.ownership where ${what}`))[0]!['n'])
  await work({
    move,
    order(order) {
      const ended = placeOrder(move.session, order, () => undefined, AbortSignal.timeout(FOLLOWED_MS))
      ended.catch(() => undefined) // heard where it is awaited
      const placed = () =>
        eventually(
          async () => (await jobs.open()).find(({ arguments: { kind }, state }) => kind === order.kind && state === 'running'),
          'it runs',
        )
      return { ended, placed }
    },
    job: (id) => jobs.read(id),
    home: () =>
      eventually(
        async () => {
          const found = (await listVerdicts(move.session, 10)).find(({ verdict }) => verdict.act === 'rollback')
          return found?.job == null ? undefined : await jobs.read(found.job)
        },
        'the verdict and its order',
        30_000,
      ),
    onTarget: () => count(`owner = 'target'`),
    readOnly: () => count('read_only'),
  })
}

/** What is written to it on the target waits in the reverse sync until the lock goes. */
async function rowHeld(move: Move, account: number): Promise<() => Promise<void>> {
  const direct = await move.database.connect()
  await direct.query('begin')
  await direct.query('select 1 from notes where account = $1 for update', [account])
  const client = await move.client()
  await client.query('update notes set n = 1 where account = $1', [account])
  return async () => {
    await direct.query('rollback')
  }
}

const GOES_FIRST = /the judge turned the traffic back: order \d+ goes first/

test(
  'a `readonly on` that waits for a writer in PostgreSQL holds up no way home, and is in force afterwards (faults.md 74)',
  {
    timeout: 120_000,
  },
  () =>
    withMove(['1', '2', '3'], async ({ move, order, job, home, onTarget, readOnly }) => {
      const writer = await move.database.connect()
      await writer.query('begin')
      await writer.query('update notes set n = -1 where account = 20')
      const { placed, ended } = order({ kind: 'read_only', on: true, slots: null })
      const { id } = await placed()
      const { id: way } = await home()
      assert.ok(way > id)
      await eventually(async () => (await onTarget()) === 0, 'the keys are home', 20_000)
      await eventually(async () => GOES_FIRST.test((await job(id)).progress.step ?? ''), 'it is told')
      assert.equal((await job(id)).state, 'running')
      // What waits behind an order is not withdrawn: the controller lives.
      const placedMs = performance.now()
      const behind = order({ kind: 'read_only', on: false, slots: [0] })
      await eventually(() => performance.now() - placedMs > LEADER_MISSING_MS + 500, 'longer than a dead leader is waited for', 20_000)
      await writer.query('rollback')
      const { state, result } = await ended
      assert.equal(state, 'done', JSON.stringify(result))
      assert.deepEqual([(await behind.ended).state, await readOnly()], ['done', 4095])
    }),
)

test(
  "a person's rollback that waits for its backlog is overtaken, and afterwards ends whole, with writes accepted again (faults.md 74)",
  {
    timeout: 120_000,
  },
  () =>
    withMove(['1', '2', '3'], async ({ move, order, job, home, onTarget, readOnly }) => {
      const letGo = await rowHeld(move, 1)
      const { placed, ended } = order({ kind: 'move', to: 'source', slots: [move.slotOf('1')], readOnlyFirst: true })
      const { id } = await placed()
      await eventually(async () => /read-only; the reverse sync/.test((await job(id)).progress.step ?? ''), 'it waits for the backlog')
      assert.equal(await readOnly(), 1)
      const { id: way } = await home()
      await eventually(async () => (await job(way)).state === 'running', 'the way home is taken up')
      assert.match((await job(id)).progress.step ?? '', GOES_FIRST)
      await letGo()
      const { state, result } = await ended
      assert.deepEqual([state, (await job(way)).state], ['done', 'done'], JSON.stringify(result))
      assert.deepEqual([await onTarget(), await readOnly()], [0, 0])
      const { rows } = await move.database.query('select n from notes where account = 1')
      assert.deepEqual(rows, [{ n: 1 }])
      const client = await move.client()
      assert.equal((await client.query('update notes set n = 2 where account = 1')).rowCount, 1)
    }),
)

test('a verdict while finalize still drains holds it: nothing ends, and all keys go home (faults.md 74)', { timeout: 120_000 }, () =>
  withMove(undefined, async ({ move, order, home, job, onTarget }) => {
    const letGo = await rowHeld(move, 1)
    const { placed, ended } = order({ kind: 'finalize' })
    await placed()
    const { id: way } = await home()
    const { state, result } = await ended
    assert.equal(state, 'held')
    assert.match(String(result?.['because']), /held: the judge turned the traffic back \(verdict \d+\)/)
    await letGo()
    await eventually(async () => (await job(way)).state === 'done', 'the way home is done', 60_000)
    assert.equal(await onTarget(), 0)
    assert.equal((await move.session.query('select ending from switchback.state'))[0]!['ending'], 'f')
    const again = await order({ kind: 'finalize' }).ended
    assert.match(String(again.result?.['because']), /The judge turned the traffic back at .* \(silence\)/)
  }),
)
