// A gateway process that is killed between two steps of a commit on the target: whoever meets its transaction finishes it, no reader
// sees half of it, and neither a cancelled rollback nor finalize loses it (protocols.md, Commit protocol; faults.md 3, 51, 73).
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { after, before, describe, test } from 'node:test'
import pg from 'pg'
import { placeOrder } from '../../src/app/place-order.ts'
import { SLOT_GROUPS } from '../../src/model/key.ts'
import type { JobArguments } from '../../src/store/jobs.ts'
import type { Fault, TargetOperation } from '../../src/targets/memory/faults.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { type Running, startCommand } from './cli-place.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, i, 0 from generate_series(1, 9) a, generate_series(1, 2) i;
`
/** The client hears nothing, and the request has no effect. */
const SWALLOWED: Fault = { kind: 'hold', until: new Promise(() => undefined), done: () => undefined }

/** On a machine that does much else. */
const STARTS_MS = 60_000

const failing = new Map<TargetOperation, Fault>()
let outboxReads = 0
let move: Move

/** The process that is still to die. */
let running: Running | null = null

/** Commits `n` in both rows of the account through a gateway process that is killed when `step` has swallowed what follows. */
async function dieCommitting(account: number, n: number, step: TargetOperation): Promise<void> {
  const args = ['gateway', '--port', '0', '--name', `dying ${account}`, '--config', move.configPath]
  const gateway = startCommand(args, dirname(move.configPath), { ...process.env, ...move.env })
  running = gateway
  await gateway.says(/listens on port \d+/, STARTS_MS)
  const url = new URL(move.database.url)
  url.port = /listens on port (\d+)/.exec(gateway.output())![1]!
  const client = new pg.Client({ connectionString: url.href })
  client.on('error', () => undefined)
  await client.connect()
  await client.query('begin')
  for (const id of [1, 2]) await client.query('update notes set n = $1 where account = $2 and id = $3', [n, account, id])
  failing.set(step, SWALLOWED)
  const heard = client.query('commit').then(
    () => 'committed',
    () => 'connection lost',
  )
  try {
    await eventually(async () => (await head(account))?.redo.length === 2, 'the commit has won its head')
  } finally {
    gateway.child.kill('SIGKILL')
    await gateway.ended
    failing.delete(step)
  }
  assert.equal(await heard, 'connection lost')
}

const order = (job: JobArguments) => placeOrder(move.session, job, () => undefined, AbortSignal.timeout(60_000))
const head = (account: number) => move.target.target.readHead(String(account))

/** Through the gateway that lives: both rows in one statement. */
async function seen(account: number): Promise<number[]> {
  const client = await move.client()
  const { rows } = await client.query('select n from notes where account = $1 order by id', [account])
  return rows.map((row) => row.n)
}

async function inPostgres(account: number): Promise<number[]> {
  const { rows } = await move.database.query('select n from notes where account = $1 order by id', [account])
  return rows.map((row) => row.n)
}

/** As the store has them, whoever would hide them. */
async function onTarget(account: number): Promise<(string | null | undefined)[]> {
  const keys = [1, 2].map((id) => ({ table: 'public.notes', key: String(account), clustering: [String(id)] }))
  return (await move.target.target.readRows(keys)).map((row) => row?.values?.[2])
}

describe('a gateway that is killed in the middle of a commit', () => {
  before(async () => {
    move = await startMove({
      sql: SQL,
      tables: { 'public.notes': { partitionKey: 'account' } },
      lease: { lengthMs: 1_000, renewMs: 200 },
      controller: { flipDeadlineMs: 2_000, slotsPerFlip: 4_096 },
      faults: (operation) => {
        if (operation === 'readOutbox') outboxReads++
        return failing.get(operation)
      },
    })
    await move.move('target')
  })
  after(async () => {
    running?.child.kill('SIGKILL')
    await move[Symbol.asyncDispose]()
  })

  test('killed before its rows: another gateway shows all of the transaction, and PostgreSQL gets it (faults.md 3, 53)', {
    timeout: 120_000,
  }, async () => {
    await dieCommitting(1, 7, 'putRows')
    assert.deepEqual(await seen(1), [7, 7])
    await eventually(async () => (await inPostgres(1)).join() === '7,7', 'it has come back')
    assert.deepEqual(await onTarget(1), ['7', '7'])
  })

  test('killed before its outbox entry: who meets the head sends an entry of its own, then the rows (faults.md 3, 51)', {
    timeout: 120_000,
  }, async () => {
    await dieCommitting(2, 8, 'appendEntry')
    assert.deepEqual(
      [await onTarget(2), await inPostgres(2)],
      [
        ['0', '0'],
        [0, 0],
      ],
    )
    assert.deepEqual(await seen(2), [8, 8])
    await eventually(async () => (await inPostgres(2)).join() === '8,8', 'it has come back')
  })

  test('a rollback that is cancelled over a half-applied transaction leaves it whole in its tenure, and the next one takes it home (faults.md 51)', {
    timeout: 120_000,
  }, async () => {
    await dieCommitting(3, 9, 'putRows')
    failing.set('readOutbox', { kind: 'refuse' })
    const home: JobArguments = { kind: 'move', to: 'source', slots: [move.slotOf('3')], readOnlyFirst: false }
    const tenure = (await head(3))!.tenure
    const rollback = order(home)
    try {
      await eventually(
        async () => (await move.session.query(`select id from switchback.flip where state = 'cancelled'`)).length > 0,
        'the flip is cancelled',
      )
      await move.session.query(`update switchback.job set state = 'held', ended_at = clock_timestamp() where state in ('open', 'running')`)
      await rollback
    } finally {
      failing.delete('readOutbox')
    }
    await eventually(
      async () => (await move.session.query(`select id from switchback.flip where state not in ('cancelled', 'routed')`)).length === 0,
      'no flip is open',
    )
    const [owned] = await move.session.query('select owner, phase, tenure from switchback.ownership where slot = $1', [move.slotOf('3')])
    assert.deepEqual({ ...owned }, { owner: 'target', phase: 'steady', tenure: String(tenure) })
    assert.deepEqual(await seen(3), [9, 9])
    assert.equal((await order(home)).state, 'done')
    assert.deepEqual(await inPostgres(3), [9, 9])
    await move.move('target', ['3'])
  })

  test('finalize finishes what a dead gateway left half applied before the way back goes, and refuses a later job (faults.md 73)', {
    timeout: 120_000,
  }, async () => {
    const unread = `select id from switchback.lease l where l.over
      and (select count(*) from switchback.position p where p.lease = l.id and p.final) < ${SLOT_GROUPS}`
    await eventually(async () => (await move.session.query(unread)).length === 0, 'of the others nothing is left to read')
    failing.set('readOutbox', { kind: 'refuse' })
    await dieCommitting(4, 11, 'putRows')
    const finalizing = order({ kind: 'finalize' })
    const one = async (sql: string) => (await move.session.query(sql)).length === 1
    const running = () => one(`select id from switchback.job where kind = 'finalize' and state = 'running'`)
    try {
      await eventually(running, 'finalize has begun')
      await eventually(() => one(`select id from switchback.lease where gateway = 'dying 4' and over`), 'its lease is over')
      const before = outboxReads
      await eventually(() => outboxReads > before + 20, 'the outbox was asked for again and again')
      assert.equal(await running(), true, 'finalize waits for what it cannot read')
    } finally {
      failing.delete('readOutbox')
    }
    const job = await finalizing
    assert.equal(job.state, 'done', JSON.stringify(job.result))
    assert.deepEqual(
      [await onTarget(4), await inPostgres(4), await seen(4)],
      [
        ['11', '11'],
        [11, 11],
        [11, 11],
      ],
    )
    await assert.rejects(move.database.query('update notes set n = 0 where account = 4'), {
      code: '55000',
      message: /its move to another store is final/,
    })
  })
})
