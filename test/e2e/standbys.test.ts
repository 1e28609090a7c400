// Durable control over a real streaming standby: what a flip waits for, and what ends the wait (protocols.md, Durable control).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { placeOrder } from '../../src/app/place-order.ts'
import { readStatus } from '../../src/app/status.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { sharedPostgres } from '../support/postgres.ts'
import { startStandby } from '../support/standby.ts'

const TABLES = { 'public.notes': { partitionKey: 'account' } }
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`
/** Long enough for a flip to come to its fence on a machine that is busy. */
const LOST_MS = 6_000

function ordered(move: Move, key: string): Promise<string> {
  const order = { kind: 'move', to: 'target', slots: [move.slotOf(key)], readOnlyFirst: false } as const
  const placed = placeOrder(move.session, order, () => undefined, AbortSignal.timeout(60_000))
  const said = placed.then((job) => (job.state === 'done' ? 'done' : String(job.result?.['because'])))
  said.catch(() => undefined) // heard where it is awaited
  return said
}

/** Kinds of the journal's entries that tell of flips and standbys, the newest last. */
async function journal(move: Move): Promise<readonly string[]> {
  const rows = await move.session.query(
    `select kind from switchback.journal where kind ~ '^(fenced|commit|release|finish|cancel|standby .*)$' order by id`,
  )
  return rows.map((row) => row['kind']!)
}

test('a standby that nobody named holds a move out and never the way home', { timeout: 90_000 }, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target', ['1'])
  await using standby = await startStandby(await sharedPostgres(), 'unnamed')
  assert.match(await ordered(move, '2'), /These standbys follow PostgreSQL and are not named in the configuration: unnamed\./)
  await move.move('source', ['1'])
  await standby.kill()
})

test('a named standby that dies is struck off after its time, before a fence counts and between commit and route, and taken back later (68)', {
  timeout: 120_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES, source: { standbys: ['second'], standbyLostMs: LOST_MS } })
  await using standby = await startStandby(await sharedPostgres(), 'second')
  await eventually(
    async () => !(await journal(move)).includes('standby struck off') || (await journal(move)).at(-1) === 'standby taken back',
    'watched',
  )
  const flips = (await journal(move)).length
  assert.equal(await ordered(move, '1'), 'done')
  assert.deepEqual((await journal(move)).slice(flips), ['fenced', 'commit', 'release', 'finish'])

  await standby.kill()
  const before = (await journal(move)).length
  assert.equal(await ordered(move, '2'), 'done')
  assert.deepEqual((await journal(move)).slice(before), ['fenced', 'standby struck off', 'commit', 'release', 'finish'])
  const struck = async () => (await readStatus(move.session, 'none')).standbysStruckOff.map(({ name }) => name)
  assert.deepEqual(await struck(), ['second'])

  await standby.start()
  await eventually(async () => (await struck()).length === 0, 'it holds everything again')
  await betweenCommitAndRoute(move, () => standby.kill())
})

/** The forward stream stands still while the standby dies, so that the fence counts before and the commit comes after. */
async function betweenCommitAndRoute(move: Move, kill: () => Promise<void>): Promise<void> {
  const client = await move.client()
  const before = (await journal(move)).length
  const { rows } = await move.database.query(
    `select active_pid as pid from pg_replication_slots where database = current_database() and slot_type = 'logical'`,
  )
  const walsender = Number(rows[0].pid)
  process.kill(walsender, 'SIGSTOP')
  let moved: Promise<string>
  try {
    moved = ordered(move, '3')
    const marked = `select from switchback.flip where state = 'fenced' and marker_lsn is not null`
    await eventually(async () => (await move.session.query(marked)).length > 0, 'the fence counts')
    await kill()
  } finally {
    process.kill(walsender, 'SIGCONT')
  }
  const writing = client.query('update notes set n = 7 where account = 3 and id = 1')
  writing.catch(() => undefined) // heard where it is awaited
  const held = `select from switchback.ownership where slot = $1 and owner = 'target' and phase = 'fenced'`
  await eventually(async () => (await move.session.query(held, [move.slotOf('3')])).length > 0, 'it is committed and held')
  // PostgreSQL itself refuses too: nobody serves the slot.
  await assert.rejects(move.database.query('update notes set n = 8 where account = 3 and id = 1'), /./)
  assert.equal(await moved, 'done')
  assert.deepEqual((await journal(move)).slice(before), ['fenced', 'commit', 'standby struck off', 'release', 'finish'])
  await writing
  assert.equal((await client.query('select n from notes where account = 3 and id = 1')).rows[0].n, 7)
}
