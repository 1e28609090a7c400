// Promises: the replication slot is lost behind the controller's back, and a second backfill makes the target whole again while some
// slots live on the target (protocols.md, Forward sync; faults.md 13, 55).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { installMove } from '../../src/app/init.ts'
import { openSource } from '../../src/app/open-parts.ts'
import { type BackfillRunOptions, backfillNow } from '../../src/app/run-backfill.ts'
import { readStatus, type Status } from '../../src/app/status.ts'
import type { RowPut, StampedRow } from '../../src/model/row.ts'
import type { Target } from '../../src/model/target.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { openStores } from '../support/stores.ts'

const TABLES = { 'public.notes': { partitionKey: 'account' }, 'public.tags': { partitionKey: 'account' } }
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, body text, primary key (account, id));
  insert into notes select a, i, 0, 'first' from generate_series(1, 60) a, generate_series(1, 5) i;
  create table tags (account bigint, tag text, primary key (account, tag));
  insert into tags select a, 'tag ' || a from generate_series(1, 60) a;
`
/** On the target when the slot is lost. */
const MOVED = ['1', '2', '3']

/** Everything that changes rows, where nobody listens. */
const MEANWHILE = `
  delete from notes where account = 10;
  delete from notes where account = 11 and id = 2;
  update notes set n = 7, body = 'second' where account = 12;
  insert into notes select 100, i, 1, 'new' from generate_series(1, 5) i;
  delete from notes where account = 13;
  insert into notes values (13, 1, 13, 'again');
  update notes set account = 101 where account = 14;
  delete from tags where account = 15;
`

async function opened(move: Move) {
  const stores = await openStores(move)
  const { workspace, target } = stores
  const slot = `switchback_${move.database.name}`
  return {
    workspace,
    target,
    backfill: (more: Partial<BackfillRunOptions> = {}) =>
      backfillNow({
        workspace,
        source: openSource(workspace),
        target,
        workers: 2,
        rowsPerSecondMax: null,
        latePutMs: 0,
        onProgress: () => undefined,
        signal: AbortSignal.timeout(60_000),
        ...more,
      }),
    async parity() {
      const { differences, listed, notChecked } = await stores.parity()
      return { differences, listed, notChecked }
    },
    status: () => readStatus(workspace.session, slot),
    async loseSlot() {
      const admin = await move.database.connect()
      await admin.query('select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active', [slot])
      await eventually(async () => (await admin.query('select pg_drop_replication_slot($1)', [slot])).rowCount === 1, 'the slot is dropped')
      return admin
    },
    [Symbol.asyncDispose]: () => stores[Symbol.asyncDispose](),
  }
}

type Opened = Awaited<ReturnType<typeof opened>>

const ready = (at: Opened) => eventually(async () => (await at.status()).readyForCanary, 'a canary may start', 30_000)
const stopped = (at: Opened): Promise<Status> =>
  eventually(
    async () => {
      const status = await at.status()
      return status.syncs?.['forwardStopped'] != null && status
    },
    'the leader says that the forward sync has stopped',
    30_000,
  )

/** Live rows as `key/clustering` -> values, of both stores. */
async function rowsOn(move: Move, target: Target): Promise<{ here: string[]; there: string[] }> {
  const client = await move.database.connect()
  const { rows } = await client.query<{ row: string }>(
    `select concat_ws(' ', account, id, n, body) as row from notes union all select concat_ws(' ', account, tag) from tags`,
  )
  const there: StampedRow[] = []
  for (const table of Object.keys(TABLES))
    for await (const batch of target.scanRows({ table, segment: 0, segments: 1 })) there.push(...batch)
  const live = there.filter((row) => row.values !== null).map((row) => row.values!.join(' '))
  return { here: rows.map((row) => row.row).sort(), there: live.sort() }
}

async function allEqual(move: Move, at: Opened): Promise<void> {
  assert.deepEqual(await at.parity(), { differences: 0, listed: [], notChecked: [] })
  const { here, there } = await rowsOn(move, at.target)
  assert.deepEqual(there, here)
}

test('a slot that is lost stops the forward sync, parity and the canary by name, not the lead nor the way back; a second backfill mends all of it (13, 55)', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await using at = await opened(move)
  await ready(at)
  await assert.rejects(at.backfill(), { code: 'BACKFILL_DONE' })
  await assert.rejects(at.backfill({ again: true }), { code: 'BACKFILL_WHOLE', message: /the replication slot is whole/ })
  await move.move('target', MOVED)
  const client = await move.client()
  await client.query('update notes set n = n + 1 where account = 1 and id = 1')
  const before = await move.target.target.readRows([{ table: 'public.notes', key: '10', clustering: ['1'] }])
  const { token } = (await at.status()).leader!

  const direct = await at.loseSlot()
  const lost = await stopped(at)
  assert.deepEqual([lost.leader!.token, lost.backfill.state, lost.readyForCanary], [token, 'stopped', false], 'the lead goes on')
  assert.match(
    lost.notReadyBecause[0]!,
    /^The forward sync has stopped \(the replication slot .* is not there\): run `switchback backfill --again`\.$/,
  )
  for (const statement of MEANWHILE.split(';').filter((sql) => sql.trim() !== '')) await direct.query(statement)
  await assert.rejects(at.parity(), { code: 'PARITY_INVALID' })
  await assert.rejects(at.backfill(), { code: 'BACKFILL_LOST' })
  await assert.rejects(move.move('target', ['50']), /The forward sync has stopped/)
  // Keys on the target are served, their writes reach PostgreSQL, and they can go back.
  await client.query('update notes set n = n + 1 where account = 1 and id = 2')
  await eventually(
    async () => (await direct.query('select n from notes where account = 1 and id = 2')).rows[0].n === 1,
    'the write is in PostgreSQL',
  )
  await move.move('source', ['3'])
  await client.query('update notes set n = 33 where account = 3 and id = 3')

  const notes: string[] = []
  const done = await at.backfill({ again: true, onNote: (text) => notes.push(text) })
  assert.deepEqual([done.again, done.resumed, done.joined], [true, false, false])
  // 10 (5 rows), 11/2, 13 (ids 2 to 5), 14 (5 rows, which went to 101), and the tag of 15.
  assert.equal(done.tombstones, 16)
  assert.match(notes.join(), /^The replication slot switchback_.* is not there\. A new replication slot takes its place/)
  await ready(at)
  assert.equal((await at.status()).leader!.token, token)
  await allEqual(move, at)

  // A late duplicate of the forward sync before: its stamp is of an older tenure (INV-4).
  const late: RowPut = {
    table: 'public.notes',
    key: '10',
    clustering: ['1'],
    values: before[0]!.values!,
    stamp: before[0]!.stamp + 1_000_000n,
    mark: false,
  }
  await move.target.target.putRows([late])
  assert.equal((await move.target.target.readRows([late]))[0]!.values, null)

  await assert.rejects(at.backfill({ again: true }), { code: 'BACKFILL_WHOLE' })
  // Everything goes on from here: the stream, a canary over all, and the way home.
  await direct.query(`update notes set body = 'streamed' where account = 20`)
  await move.move('target')
  await client.query('update notes set n = 5 where account = 100 and id = 1')
  await move.move('source')
  await direct.query('delete from notes where account = 21')
  await allEqual(move, at)
})

test('a second backfill that is stopped in the copy and in the sweep goes on where it was; a slot that came back meanwhile loses nothing (55)', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await using at = await opened(move)
  await ready(at)
  await move.move('target', MOVED)
  const client = await move.client()
  await client.query('update notes set n = 1 where account = 2')
  const direct = await at.loseSlot()
  await stopped(at)
  for (const statement of MEANWHILE.split(';').filter((sql) => sql.trim() !== '')) await direct.query(statement)

  // All of notes is copied, none of tags.
  await assert.rejects(at.backfill({ again: true, ...stopAt(at.target, { putsOf: 'public.tags' }) }), {
    code: 'INTERRUPTED_BACKFILL',
    message: /1 of 2 ranges/,
  })
  assert.equal((await at.status()).backfill.state, 'running')
  // While the copy is under way: home, and changed there. Its notes were skipped, and stay what the target made of them.
  await move.move('source', ['2'])
  await client.query('update notes set n = 2 where account = 2 and id = 2')
  await direct.query('delete from notes where account = 30')
  assert.deepEqual((await at.status()).notReadyBecause.includes('The backfill is not done.'), true)

  await assert.rejects(at.backfill(stopAt(at.target, { scans: 9 })), {
    code: 'INTERRUPTED_SWEEP',
    message: /every row is copied, and \d+ of 32 parts/,
  })
  const parts = Number((await move.session.query('select count(*) as n from switchback.backfill_swept'))[0]!['n'])
  assert.ok(parts > 0 && parts < 32, `${parts} parts swept before the stop`)
  const scanned: number[] = []
  const counting: Pick<Target, 'scanRows'> = {
    scanRows(options) {
      scanned.push(options.segment)
      return at.target.scanRows(options)
    },
  }
  const done = await at.backfill({ again: true, target: Object.setPrototypeOf(counting, at.target) as Target })
  assert.deepEqual([done.resumed, done.again, scanned.length], [true, true, 32 - parts])
  await ready(at)
  await allEqual(move, at)
  await move.move('target')
  await move.move('source')
  await allEqual(move, at)
})

test('a slot that is lost while the copy is made ends the run by name, and the next one begins anew (13)', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await using at = await opened(move)
  await ready(at)
  await at.loseSlot()
  await stopped(at)
  const paused = new AbortController()
  const running = at.backfill({ again: true, rowsPerSecondMax: 20, signal: paused.signal })
  const outcome = running.catch((error: unknown) => error)
  await eventually(async () => (await at.status()).backfill.rows > 0, 'rows are copied')
  const direct = await at.loseSlot()
  assert.equal(((await outcome) as { code: string }).code, 'BACKFILL_LOST')
  await direct.query('delete from notes where account = 40')
  await assert.rejects(at.backfill(), { code: 'BACKFILL_LOST' })
  await at.backfill({ again: true })
  await ready(at)
  await allEqual(move, at)
})

test('a second backfill is refused while a flip is open, before the old slot is touched; a put that lands late leaves no ghost', {
  timeout: 120_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await using at = await opened(move)
  await ready(at)
  await move.move('target', MOVED)
  await at.loseSlot()
  await stopped(at)
  // A flip as a leader that has just died left it.
  await move.session.query(
    `insert into switchback.flip (id, owner_to, slots, state, epoch, deadline_ms) values ('open', 'source', array[1], 'intent', 1, 600000)`,
  )
  await assert.rejects(at.backfill({ again: true }), { code: 'FLIP_OVERLAPS', details: { flip: 'open', state: 'intent' } })
  const [slot] = await move.session.query('select count(*) as n from pg_replication_slots where database = current_database()')
  const [backfills] = await move.session.query('select count(*) as n from switchback.backfill')
  assert.deepEqual([slot!['n'], backfills!['n']], ['0', '1'])
  await move.session.query(`update switchback.flip set state = 'cancelled' where id = 'open'`)
  const running = at.backfill({ again: true, latePutMs: 4_000 })
  // A put of the old forward sync that lands when all is copied, and could be swept long since: the sweep has waited for it.
  await eventually(async () => {
    const [newest] = await move.session.query(
      `select again and clock_timestamp() - started_at > '2 s' as same from switchback.backfill order by id desc limit 1`,
    )
    return newest!['same'] === 't'
  }, 'all is copied')
  await move.target.target.putRows([
    { table: 'public.notes', key: '77', clustering: ['1'], values: ['77', '1', '0', 'ghost'], stamp: 2n, mark: false },
  ])
  await running
  await ready(at)
  await allEqual(move, at)
})

test('DDL stops the forward sync by name and not the lead; the move planned again, a second backfill takes the new shape (20)', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  const direct = await move.database.connect()
  {
    await using at = await opened(move)
    await ready(at)
    await direct.query(`alter table notes add column mood text not null default 'calm'`)
    await direct.query(`insert into notes values (200, 1, 0, 'x', 'cross')`)
    const status = await stopped(at)
    assert.match(String(status.syncs!['forwardStopped']), /^TABLE_CHANGED: table public\.notes is no longer as planned/)
    await assert.rejects(at.backfill(), { code: 'BACKFILL_LOST' })
  }
  await installMove(move.configPath, move.env)
  await using at = await opened(move)
  const done = await at.backfill({ again: true })
  assert.deepEqual([done.again, done.rows], [true, 361])
  await ready(at)
  await direct.query(`update notes set mood = 'glad' where account = 1`)
  assert.deepEqual(await at.parity(), { differences: 0, listed: [], notChecked: [] })
  const [row] = await move.target.target.readRows([{ table: 'public.notes', key: '200', clustering: ['1'] }])
  assert.deepEqual(row!.values, ['200', '1', '0', 'x', 'cross'])
})

test('on another timeline nothing is resumed silently; the new tenure lies above what the old one stamped there (15)', {
  timeout: 180_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await using at = await opened(move)
  await ready(at)
  // As after a promotion: what the record says of its PostgreSQL is no longer so, and the old one's WAL was far ahead.
  await move.session.query('update switchback.backfill set timeline = timeline + 1')
  const ahead: RowPut = {
    table: 'public.notes',
    key: '10',
    clustering: ['77'],
    values: ['10', '77', '0', 'ghost'],
    stamp: 1n << 40n,
    mark: false,
  }
  await move.target.target.putRows([ahead])
  await move.session.query(
    'select pg_terminate_backend(active_pid) from pg_replication_slots where active and database = current_database()',
  )
  assert.match(String((await stopped(at)).syncs!['forwardStopped']), /PostgreSQL is on timeline 1, the backfill was made on 2/)
  const done = await at.backfill({ again: true })
  assert.equal(done.tombstones, 1)
  await ready(at)
  await allEqual(move, at)
})

/** The run is stopped, as by Ctrl-C, at the first put of a table or at the nth scan. */
function stopAt(
  target: Target,
  where: { readonly putsOf?: string; readonly scans?: number },
): Pick<BackfillRunOptions, 'target' | 'signal' | 'workers'> {
  const stop = new AbortController()
  let scans = 0
  const wrapped: Pick<Target, 'putRows' | 'scanRows'> = {
    async putRows(rows) {
      if (rows.some((row) => row.table === where.putsOf)) stop.abort()
      await target.putRows(rows)
    },
    scanRows(options) {
      if (++scans === where.scans) stop.abort()
      return target.scanRows(options)
    },
  }
  return { target: Object.setPrototypeOf(wrapped, target) as Target, signal: stop.signal, workers: 1 }
}
