// Promises: what PostgreSQL refuses of the target's writes halts its key and holds its slot, until the cause is mended and somebody says
// so; then the key goes on in order, and nothing is skipped (INV-6, INV-11; faults.md 59).
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { test } from 'node:test'
import type pg from 'pg'
import { retryNow } from '../../src/app/retry-poison.ts'
import { readStatus } from '../../src/app/status.ts'
import { listPoison } from '../../src/store/poison.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { objectOf, startCommand } from './cli-place.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, i, 0 from generate_series(1, 6) a, generate_series(1, 2) i;
`
const TABLES = { 'public.notes': { partitionKey: 'account' } }

/** A constraint that the gateway does not know: DDL past the guard's event trigger, as only a superuser can. */
async function constrain(direct: pg.Client, sql: string): Promise<void> {
  await direct.query('alter event trigger switchback_guard_ddl disable')
  await direct.query(`alter table notes ${sql}`)
  await direct.query('alter event trigger switchback_guard_ddl enable')
}

const STRICT = 'add constraint small check (n < 100) not valid'
const MENDED = 'drop constraint small'

async function poisoned(move: Move) {
  await move.move('target')
  const client = await move.client()
  const direct = await move.database.connect()
  await constrain(direct, STRICT)
  await client.query('update notes set n = 100 where account = 1 and id = 1')
  // Waits behind the refused one.
  await client.query('update notes set n = 8 where account = 1 and id = 2')
  await client.query('update notes set n = 5 where account = 2 and id = 1')
  await eventually(async () => (await listPoison(move.session, 10)).total === 1, 'the key is halted')
  /** 1/1, 1/2, 2/1. */
  const inPostgres = async () =>
    (await direct.query('select n from notes where account = 1 or account = 2 and id = 1 order by account, id')).rows.map(
      ({ n }) => n as number,
    )
  await eventually(async () => (await inPostgres())[2] === 5, 'the other key goes on')
  return { client, direct, inPostgres }
}

const retried = (move: Move, keys: readonly string[] | null) => retryNow(move.session, keys, AbortSignal.timeout(60_000), 30_000)

async function command(move: Move, args: readonly string[]) {
  const cwd = dirname(move.configPath)
  const ended = await startCommand([...args, '--config', move.configPath], cwd, { ...process.env, ...move.env }).ended
  return { ...ended, result: args.includes('--json') ? objectOf(ended) : {} }
}

test('poison holds its slot and no other; tried again unmended it stays, mended it is applied in order, and the slot goes home (59)', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  const { direct, inPostgres } = await poisoned(move)
  assert.deepEqual(await inPostgres(), [0, 0, 5])
  await assert.rejects(move.move('source'), /"held":\[\{"slot":\d+,"because":"key 1 could not be written back \(23514/)
  const owners = await move.session.query(`select slot from switchback.ownership where owner = 'target'`)
  assert.deepEqual(
    owners.map(({ slot }) => Number(slot)),
    [move.slotOf('1')],
  )

  const [before] = (await listPoison(move.session, 10)).entries
  const unmended = await retried(move, ['1'])
  assert.deepEqual(
    [unmended.applied, unmended.pending, unmended.refused.map(({ key, sqlstate }) => [key, sqlstate])],
    [[], [], [['1', '23514']]],
  )
  const [after] = (await listPoison(move.session, 10)).entries
  assert.deepEqual([after!.version, after!.retrying, after!.at > before!.at], [before!.version, false, true])
  assert.deepEqual(await inPostgres(), [0, 0, 5])
  const refused = await command(move, ['poison', 'retry', '1', '--json'])
  assert.deepEqual([refused.exitCode, (refused.result['error'] as { code: string }).code], [1, 'POISON_STAYS'])
  await assert.rejects(retried(move, ['4']), { code: 'POISON_UNKNOWN' })

  const listed = await command(move, ['poison', '--json'])
  const [entry] = listed.result['poison'] as { key: string; sqlstate: string; message: string }[]
  assert.deepEqual([listed.exitCode, listed.result['total'], entry!.key, entry!.sqlstate], [0, 1, '1', '23514'])
  assert.match(entry!.message, /violates check constraint "small"/)
  const status = await readStatus(move.session, 'none')
  assert.ok(status.notReadyBecause.includes('1 keys could not be written back to PostgreSQL: see `switchback poison`.'))

  await constrain(direct, MENDED)
  const mended = await command(move, ['poison', 'retry', '1'])
  assert.deepEqual([mended.exitCode, mended.stdout], [0, 'Key 1: applied to PostgreSQL; it goes on.\n'])
  await move.move('source')
  assert.deepEqual(await inPostgres(), [100, 8, 5])
  assert.equal((await listPoison(move.session, 10)).total, 0)
  const journal = await move.session.query(`select detail ->> 'key' as key from switchback.journal where kind = 'poison retry' order by id`)
  assert.deepEqual(
    journal.map(({ key }) => key),
    ['1', '1', '1'],
  )
})

test('a poison row that is deleted by hand is tried again by the same leader; one ordered while nobody leads is tried by the next', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  const { client, direct, inPostgres } = await poisoned(move)
  const { token } = (await readStatus(move.session, 'none')).leader!
  await constrain(direct, MENDED)
  await direct.query('delete from switchback.poison')
  await eventually(async () => (await inPostgres())[1] === 8, 'the key goes on', 30_000)
  assert.equal((await readStatus(move.session, 'none')).leader!.token, token)

  await constrain(direct, STRICT)
  await client.query('update notes set n = 200 where account = 2 and id = 1')
  await eventually(async () => (await listPoison(move.session, 10)).total === 1, 'another key is halted')
  await move.stop()
  const pending = await retryNow(move.session, null, AbortSignal.timeout(10_000), 300)
  assert.deepEqual([pending.applied, pending.pending, pending.refused], [[], ['2'], []])
  await constrain(direct, MENDED)
  const controller = startCommand(['controller', '--config', move.configPath], dirname(move.configPath), { ...process.env, ...move.env })
  try {
    await eventually(async () => (await listPoison(move.session, 10)).total === 0, 'the next leader has applied it', 60_000)
    assert.deepEqual(await inPostgres(), [100, 8, 200])
  } finally {
    controller.child.kill('SIGTERM')
    await controller.ended
  }
})
