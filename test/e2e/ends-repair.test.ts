import assert from 'node:assert/strict'
import { test } from 'node:test'
import { repairNow } from '../../src/app/run-repair.ts'
import { planRepair } from '../../src/parity/repair.ts'
import { readReport } from '../../src/store/reports.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { openStores } from '../support/stores.ts'

const TABLES = { 'public.notes': { partitionKey: 'account' } }
const SQL = `
  create table notes (account bigint, id int, n int not null default 0, body text, primary key (account, id));
  alter table notes alter column body set storage external;
  insert into notes select a, i, 0, repeat(i::text, 3000) from generate_series(1, 12) a, generate_series(1, 3) i;
  create table fired (what text);
  create function note_fired() returns trigger language plpgsql as $$ begin insert into fired values (tg_op); return new; end $$;
  create trigger fires after insert or delete on notes for each row execute function note_fired();
`

test('the way back is unproven until a write of the probe has come back from the target, and the total leaves the probe out', {
  timeout: 90_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await eventually(async () => (await readReport(move.session))?.content['wayBackProven'] === true, 'the way back is proven')
  const [probe] = await move.session.query('select id, n from switchback.probe')
  const [total] = await move.session.query('select transactions from switchback.applied_total')
  const [owned] = await move.session.query('select count(*) as n from switchback.ownership where slot > 4095')
  assert.deepEqual(
    [probe!['id']!.startsWith('~switchback probe '), Number(probe!['n']) >= 1, total!['transactions'], owned!['n']],
    [true, true, '0', '0'],
  )
  await move.move('target')
  const client = await move.client()
  for (let i = 0; i < 3; i++) await client.query('update notes set n = n + 1 where account = 1 and id = 1')
  await move.move('source')
  await move.move('target')
  await client.query('update notes set n = n + 1 where account = 1 and id = 1')
  await move.move('source')
  const [after] = await move.session.query('select transactions from switchback.applied_total')
  assert.equal(after!['transactions'], '4')
})

for (const owner of ['source', 'target'] as const) {
  test(`a missing row, an extra row and a differing TOAST column are repaired from their owner, the ${owner}, under load; no user trigger fires (71)`, {
    timeout: 120_000,
  }, async () => {
    await using move = await startMove({ sql: SQL, tables: TABLES })
    if (owner === 'target') await move.move('target')
    await using stores = await openStores(move)
    const { workspace, target } = stores
    const stop = new AbortController()
    const writing = keepWriting(move, stop.signal)
    try {
      await spoilTarget(move)
      const before = await stores.parity()
      assert.deepEqual(
        before.listed.map(({ key, clustering, kind, cells }) => `${key}/${clustering} ${kind} ${cells.map((c) => c.column)}`).sort(),
        ['1/1 missing on the target ', '2/2 different body', '3/9 extra on the target '].sort(),
      )
      await move.session.query('truncate public.fired')
      const outcome = await repairNow({
        workspace,
        target,
        steps: planRepair(before.listed),
        onProgress: () => undefined,
        signal: AbortSignal.timeout(60_000),
      })
      assert.deepEqual(outcome, { repaired: 3, left: [] })
    } finally {
      stop.abort()
      await writing
    }
    // A row that changes faster than both stores can be read is named as not compared: only those that rest are all compared.
    const after = await stores.parity()
    assert.deepEqual([after.differences, after.notChecked], [0, []])
    const fired = await move.session.query('select what from public.fired')
    assert.deepEqual(fired, [])
    const client = await move.database.connect()
    const { rows } = await client.query(
      'select account::int, id, left(body, 2) as body from notes where (account, id) in ((1, 1), (2, 2), (3, 9))',
    )
    assert.deepEqual(
      rows.sort((a, b) => a.account - b.account),
      owner === 'source'
        ? [
            { account: 1, id: 1, body: '11' },
            { account: 2, id: 2, body: '22' },
          ]
        : [
            { account: 2, id: 2, body: 'sp' },
            { account: 3, id: 9, body: 'xx' },
          ],
    )
  })
}

/** Past head, outbox and streams, so that PostgreSQL does not hear of it: wrong where PostgreSQL is the owner, the truth where the target is. Row 1/1 lost, 2/2 with another body, 3/9 that PostgreSQL does not have. */
async function spoilTarget(move: Move): Promise<void> {
  await waitForTarget(move)
  const rows = [
    { key: '1', clustering: ['1'], values: null },
    { key: '2', clustering: ['2'], values: ['2', '2', '0', 'spoilt'] },
    { key: '3', clustering: ['9'], values: ['3', '9', '0', 'xx'] },
  ]
  await move.target.target.putRows(
    await Promise.all(rows.map(async (row) => ({ ...row, table: 'public.notes', stamp: await aboveStamp(move, row), mark: false }))),
  )
}

async function aboveStamp(move: Move, row: { key: string; clustering: string[] }): Promise<bigint> {
  const [now] = await move.target.target.readRows([{ table: 'public.notes', ...row }])
  return (now?.stamp ?? 1n) + 1n
}

async function waitForTarget(move: Move): Promise<void> {
  await eventually(async () => Number((await readReport(move.session))?.content['forwardLagMs'] ?? 9e9) < 5_000, 'the forward sync runs')
}

/** Other rows of the same aggregates, all the time. */
async function keepWriting(move: Move, signal: AbortSignal): Promise<void> {
  const client = await move.client()
  for (let i = 0; !signal.aborted; i++) await client.query('update notes set n = n + 1 where account = $1 and id = 3', [(i % 12) + 1])
}
