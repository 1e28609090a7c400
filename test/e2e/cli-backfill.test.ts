// Promises: `switchback backfill` as real processes: one at a time, stopped by Ctrl-C, killed and run again, and once more after the
// slot was lost. Rows are counted on the target's side, so that "goes on" is not "begins anew" (faults.md 13, 55).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Fault } from '../../src/targets/memory/faults.ts'
import { MemoryTarget } from '../../src/targets/memory/memory-target.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { eventually } from '../support/eventually.ts'
import { objectOf, type Place, place } from './cli-place.ts'

/** Six ranges. */
const ROWS = 30_000
const SQL = `
  create table public.notes (account int8, id int, body text, primary key (account, id));
  insert into public.notes select a, i, 'first' from generate_series(1, ${ROWS / 4}) a, generate_series(1, 4) i;
  analyze public.notes;`

/** So slow that it is in the middle of the copy whenever a test looks. */
const SLOW = ['--workers', '1', '--max-rows-per-second', '2000']

class CountingTarget extends MemoryTarget {
  rowsPut = 0
  scans = 0

  override async putRows(rows: Parameters<MemoryTarget['putRows']>[0]): Promise<void> {
    this.rowsPut += rows.length
    await super.putRows(rows)
  }
}

async function world() {
  const target = new CountingTarget()
  let slowScansMs = 0
  const faults = (operation: string): Fault | undefined =>
    operation === 'scanRows' && slowScansMs > 0 ? { kind: 'delay', delayMs: slowScansMs } : undefined
  const server = await serveMemoryTarget({ target, faults })
  const at = await place(SQL, { tables: `'public.notes': { partitionKey: 'account' }`, target: `{ kind: 'memory', port: ${server.port} }` })
  const init = await at.run(['init'])
  assert.equal(init.exitCode, 0, init.stderr)
  const one = async (sql: string) => Number((await at.db.query(sql)).rows[0].n)
  return {
    at,
    target,
    slowScans: (ms: number) => {
      slowScansMs = ms
    },
    rangesDone: () =>
      one(
        `select count(*) as n from switchback.backfill_range where state = 'done' and backfill = (select max(id) from switchback.backfill)`,
      ),
    rowsDone: () =>
      one(`select coalesce(sum(rows), 0) as n from switchback.backfill_range where backfill = (select max(id) from switchback.backfill)`),
    backfills: () => one('select count(*) as n from switchback.backfill'),
    partsSwept: () => one('select count(*) as n from switchback.backfill_swept'),
    /** Live rows of the target and of PostgreSQL. */
    async rows() {
      const there: string[] = []
      for await (const batch of target.scanRows({ table: 'public.notes', segment: 0, segments: 1 }))
        there.push(...batch.filter(({ values }) => values !== null).map(({ values }) => values!.join(' ')))
      const { rows } = await at.db.query(`select concat_ws(' ', account, id, body) as row from public.notes`)
      return { there: there.sort(), here: rows.map(({ row }: { row: string }) => row).sort() }
    },
    async [Symbol.asyncDispose]() {
      await at[Symbol.asyncDispose]()
      await server.close()
    },
  }
}

type World = Awaited<ReturnType<typeof world>>

const ranges = (it: World, atLeast: number) =>
  eventually(async () => (await it.rangesDone()) >= atLeast, `${atLeast} ranges are done`, 60_000)

async function killed(running: ReturnType<Place['start']>): Promise<void> {
  running.child.kill('SIGKILL')
  await running.ended
}

test('backfill as processes', { timeout: 240_000 }, async (t) => {
  await using it = await world()
  const { at, target } = it

  await t.test('a second one is one clear error with exit code 2, names the first and changes nothing; the first goes on', async () => {
    const first = at.start(['backfill', '--workers', '1', '--max-rows-per-second', '1000'])
    await ranges(it, 1)
    const second = await at.run(['backfill', '--json'])
    assert.equal(second.exitCode, 2, second.stderr)
    const { error } = objectOf(second) as { error: { code: string; message: string; remedy: string } }
    assert.equal(error.code, 'BACKFILL_RUNNING')
    assert.match(error.message, new RegExp(`:${first.child.pid}, since .* UTC \\(backend \\d+\\)$`))
    assert.equal(second.stderr.split('\n').filter((line) => line.startsWith('error ')).length, 1)
    await ranges(it, (await it.rangesDone()) + 1)

    // Ctrl-C.
    first.child.kill('SIGINT')
    const ended = await first.ended
    assert.equal(ended.exitCode, 3)
    assert.match(
      ended.stderr,
      /error INTERRUPTED_BACKFILL: the backfill was stopped: \d+ of \d+ ranges are done\n {2}What was copied stays\. Run `switchback backfill` again to go on\./,
    )
  })

  await t.test('killed in the middle and run again it goes on at once: every row is there once, and not from the start', async () => {
    const before = await it.rangesDone()
    const running = at.start(['backfill', ...SLOW])
    await ranges(it, before + 1)
    await killed(running)
    const done = await it.rowsDone()
    assert.ok(done > 0 && done < ROWS, `${done} rows done at the kill`)
    target.rowsPut = 0
    const beganMs = performance.now()
    const last = await at.run(['backfill', '--json'])
    assert.equal(last.exitCode, 0, last.stderr)
    const { ok, rows, resumed, again } = objectOf(last)
    assert.deepEqual({ ok, rows, resumed, again }, { ok: true, rows: ROWS, resumed: true, again: false })
    assert.ok(target.rowsPut <= ROWS - done, `${target.rowsPut} rows put, ${ROWS - done} were left`)
    // The claim of the killed one is not waited out.
    assert.ok(performance.now() - beganMs < 25_000)
    const { there, here } = await it.rows()
    assert.deepEqual(there, here)
    const once = await at.run(['backfill'])
    assert.deepEqual([once.exitCode, /error BACKFILL_DONE/.test(once.stderr)], [2, true])
  })

  await t.test(
    'after the slot was lost: refused without --again; killed in the copy and in the sweep it goes on, and no ghost is left',
    async () => {
      const whole = await at.run(['backfill', '--again'])
      assert.deepEqual([whole.exitCode, /error BACKFILL_WHOLE/.test(whole.stderr)], [2, true])
      await at.db.query(`select pg_drop_replication_slot('switchback_' || current_database())`)
      await at.db.query(`delete from public.notes where account % 7 = 0`)
      await at.db.query(`update public.notes set body = 'new' where account % 7 = 1`)
      const plain = await at.run(['backfill'])
      assert.equal(plain.exitCode, 1)
      assert.match(
        plain.stderr,
        /error BACKFILL_LOST: .* the replication slot switchback_\S+ is not there\n.*Run `switchback backfill --again`/,
      )

      // Killed while the old slot goes and the new one comes.
      const beginning = at.start(['backfill', '--again', ...SLOW])
      await beginning.says(/A new replication slot takes its place/)
      await killed(beginning)
      const copying = at.start(['backfill', '--again', ...SLOW])
      await eventually(async () => (await it.backfills()) === 2, 'the second one has begun', 60_000)
      await ranges(it, 1)
      await killed(copying)
      it.slowScans(400)
      const sweeping = at.start(['backfill'])
      await eventually(async () => (await it.partsSwept()) > 0, 'parts are swept', 60_000)
      await killed(sweeping)
      it.slowScans(0)
      const swept = await it.partsSwept()
      assert.ok(swept > 0 && swept < 16, `${swept} parts swept at the kill`)
      const last = await at.run(['backfill', '--again', '--json'])
      assert.equal(last.exitCode, 0, last.stderr)
      const deleted = Math.floor(ROWS / 4 / 7) * 4
      const { ok, rows, resumed, again, tombstones } = objectOf(last)
      assert.deepEqual({ ok, rows, resumed, again }, { ok: true, rows: ROWS - deleted, resumed: true, again: true })
      assert.ok(Number(tombstones) > 0 && Number(tombstones) <= deleted, `${String(tombstones)} of ${deleted}`)
      const { there, here } = await it.rows()
      assert.deepEqual(there, here)
    },
  )
})

test('one that joins shares the work, and the one it joined ends the backfill', { timeout: 120_000 }, async () => {
  await using it = await world()
  const first = it.at.start(['backfill', ...SLOW, '--json'])
  await ranges(it, 1)
  const helper = await it.at.run(['backfill', '--join', '--json'])
  const ended = await first.ended
  assert.deepEqual([helper.exitCode, ended.exitCode], [0, 0], helper.stderr + ended.stderr)
  assert.deepEqual([objectOf(helper)['joined'], objectOf(ended)['joined'], objectOf(ended)['rows']], [true, false, ROWS])
  const workers = await it.at.db.query('select count(distinct worker)::int as n from switchback.backfill_range')
  assert.ok(workers.rows[0].n > 1, 'both copied')
  const { there, here } = await it.rows()
  assert.deepEqual(there, here)
})
