// A real standby is promoted in the primary's place while clients write through a gateway: mapped service stops, `reconcile` says what
// differs, and adopts where nothing acknowledged is lost by it (protocols.md, Durable control; faults.md 15, 49).
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { test } from 'node:test'
import type { Reconciliation } from '../../src/app/reconcile.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'
import { sharedPostgres } from '../support/postgres.ts'
import { startStandby } from '../support/standby.ts'
import { objectOf, startCommand } from './cli-place.ts'

const TABLES = { 'public.notes': { partitionKey: 'account' } }
type Standby = Awaited<ReturnType<typeof startStandby>>

/** Declared before the move, so that it ends after it; it begins later. */
class LateStandby implements AsyncDisposable {
  now: Standby | null = null

  async [Symbol.asyncDispose](): Promise<void> {
    await this.now?.[Symbol.asyncDispose]()
  }
}

const SQL = `
  create table notes (account bigint, id int, n int not null default 0, primary key (account, id));
  insert into notes select a, 1, 0 from generate_series(1, 20) a;
`

function command(move: Move, args: readonly string[]) {
  return startCommand([...args, '--config', move.configPath], dirname(move.configPath), { ...process.env, ...move.env })
}

async function reconciled(move: Move): Promise<Reconciliation & { ok: boolean; exit: number | null }> {
  const ended = await command(move, ['reconcile', '--json']).ended
  const said = objectOf(ended) as unknown as Reconciliation & { ok: boolean }
  return { ...said, exit: ended.exitCode }
}

/** Adds one to a key through the gateway, over and over; what was answered and what was sent. */
function load(move: Move, key: string) {
  const counts = { acked: 0, sent: 0, refused: [] as string[] }
  let stopped = false
  const running = (async () => {
    while (!stopped) {
      const client = await move.client(0, { query_timeout: 5_000 }).catch(() => null)
      try {
        while (client !== null && !stopped) {
          counts.sent++
          await client.query(`update notes set n = n + 1 where account = ${key} and id = 1`)
          counts.acked++
        }
      } catch (error) {
        counts.refused.push(String((error as { code?: unknown }).code))
      } finally {
        await client?.end().catch(() => undefined)
      }
    }
  })()
  return {
    counts,
    async stop() {
      stopped = true
      await running
    },
  }
}

async function countOf(move: Move, key: string): Promise<number> {
  const client = await move.client()
  try {
    const { rows } = await client.query(`select n from notes where account = ${key} and id = 1`)
    return Number(rows[0].n)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** SQLSTATE 57P03: this gateway holds no valid lease. */
async function refusal(move: Move): Promise<boolean> {
  return countOf(move, '1').then(
    () => false,
    (error: unknown) => (error as { code?: unknown }).code === '57P03',
  )
}

async function served(move: Move, key: string): Promise<boolean> {
  return (await countOf(move, key).catch(() => null)) !== null
}

test('a named standby that is promoted under load has everything: service stops, a killed adoption changed nothing, the next one lets it go on (15, 49)', {
  timeout: 180_000,
}, async () => {
  await using standby = new LateStandby()
  await using move = await startMove({ sql: SQL, tables: TABLES, source: { standbys: ['second'], standbyLostMs: 20_000 } })
  const primary = await sharedPostgres()
  standby.now = await startStandby(primary, 'second')
  await move.move('target', ['1'])
  const same = await reconciled(move)
  assert.deepEqual([same.exit, same.differences, same.plan], [0, [], null])
  const writing = load(move, '1')
  await eventually(() => writing.counts.acked >= 20, 'writes are answered')
  await standby.now.takeOver()
  try {
    await eventually(() => writing.counts.refused.length > 0, 'mapped service stops')
    await eventually(() => refusal(move), 'the refusal names the lease')
    const shown = await reconciled(move)
    assert.equal(shown.exit, 1)
    assert.deepEqual(shown.differences, ['it is on timeline 2, and the target belongs to timeline 1'])
    assert.deepEqual(shown.reasonsAgainst, [])
    assert.match(shown.forwardStopped!, /timeline 2/)

    const wrong = await command(move, ['reconcile', '--json', '--adopt', 'nonsense']).ended
    assert.match(wrong.stderr, /RECONCILE_PLAN/)
    const killed = command(move, ['reconcile', '--adopt', shown.plan!])
    const leads = `select from switchback.leader where name = 'switchback reconcile'`
    await eventually(async () => (await move.session.query(leads)).length > 0, 'it leads, and waits for the leases')
    killed.child.kill('SIGKILL')
    await killed.ended
    assert.deepEqual(await move.target.target.readControl(), same.item)

    const adopted = await command(move, ['reconcile', '--json', '--adopt', shown.plan!]).ended
    assert.equal(adopted.exitCode, 0, adopted.stderr)
    const item = (await move.target.target.readControl())!
    assert.deepEqual([item.timeline, item.epoch > same.item!.epoch], [2, true])
    const answered = writing.counts.acked
    await eventually(() => writing.counts.acked > answered, 'service goes on')
    await writing.stop()
    const value = await countOf(move, '1')
    assert.ok(value >= writing.counts.acked && value <= writing.counts.sent, `${value} of ${JSON.stringify(writing.counts)}`)

    // Nothing was resumed silently, and what was written on the target comes home.
    assert.match((await reconciled(move)).forwardStopped!, /timeline 2/)
    await eventually(async () => {
      const { rows } = await move.database.query('select n from notes where account = 1 and id = 1')
      return Number(rows[0].n) === value
    }, 'the reverse sync applies it')
    await assert.rejects(move.move('target', ['3']), /The forward sync has stopped/)
    const again = await command(move, ['backfill', '--again', '--json']).ended
    assert.equal(again.exitCode, 0, again.stderr)
    await move.database.query('update notes set n = 30 where account = 3')
    await move.move('target', ['3'])
    assert.deepEqual([await countOf(move, '3'), await countOf(move, '1')], [30, value])
  } finally {
    await writing.stop()
    await standby.now.giveBack()
  }
  // The old primary, back: it is not the owner any more.
  const old = await reconciled(move)
  assert.equal(old.exit, 1)
  assert.deepEqual(old.plan, null)
  assert.match(old.reasonsAgainst.join(), /another PostgreSQL was promoted since/)
  await eventually(() => refusal(move), 'the lease of before has run out, and the old primary gives no other')
})

test('a standby that lacks the last flip is not adopted: what it lacks is named, and the old primary goes on where it was (49)', {
  timeout: 180_000,
}, async () => {
  await using standby = new LateStandby()
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target', ['2'])
  standby.now = await startStandby(await sharedPostgres(), 'late')
  await standby.now.kill()
  await move.move('target', ['1'])
  const writing = load(move, '1')
  await eventually(() => writing.counts.acked >= 20, 'writes are answered')
  await standby.now.takeOver()
  try {
    // The lease that was renewed last on the old primary may serve until it is over.
    await eventually(() => refusal(move), 'mapped service stops')
    await writing.stop()
    const shown = await reconciled(move)
    assert.equal(shown.exit, 1)
    assert.match(shown.differences.join('; '), /timeline 2.*; its epoch is \d+, and the target has seen \d+/)
    assert.deepEqual(
      shown.evidence!.named.map(({ what, slot, ownerHere }) => ({ what, slot, ownerHere })),
      [{ what: 'tenure unknown', slot: move.slotOf('1'), ownerHere: 'source' }],
    )
    assert.equal(shown.plan, null)
    const refused = await command(move, ['reconcile', '--adopt', 'whatever']).ended
    assert.match(refused.stderr, /RECONCILE_UNSAFE: .*after a flip that this PostgreSQL has not/)
    assert.equal(await served(move, '1'), false)
  } finally {
    await writing.stop()
    await standby.now.giveBack()
  }
  await eventually(() => served(move, '1'), 'the old primary is the owner still')
  const value = await countOf(move, '1')
  assert.ok(value >= writing.counts.acked && value <= writing.counts.sent, `${value} of ${JSON.stringify(writing.counts)}`)
})

test('a standby that lacks a flip after which nobody was answered takes over: the key is at home, also for a gateway that has seen the flip (49)', {
  timeout: 180_000,
}, async () => {
  await using standby = new LateStandby()
  let refusing = false
  const faults = (operation: string) => (refusing && operation === 'writeControl' ? ({ kind: 'refuse' } as const) : undefined)
  await using move = await startMove({ sql: SQL, tables: TABLES, faults })
  await move.move('target', ['2'])
  standby.now = await startStandby(await sharedPostgres(), 'late')
  await standby.now.kill()
  await move.database.query('update notes set n = 40 where account = 4') // lost with the primary, and on the target by the flip of its slot
  await move.move('target', ['1', '4'])
  await standby.now.takeOver()
  try {
    await eventually(() => refusal(move), 'mapped service stops')
    const shown = await reconciled(move)
    assert.match(shown.differences.join('; '), /its epoch is \d+, and the target has seen \d+/)
    assert.deepEqual(
      shown.evidence!.named.map(({ what, slot }) => ({ what, slot })),
      [{ what: 'write lost', slot: move.slotOf('4') }],
    )
    // It breaks off between the epoch and the item.
    const before = await move.target.target.readControl()
    refusing = true
    assert.notEqual((await command(move, ['reconcile', '--adopt', shown.plan!]).ended).exitCode, 0)
    refusing = false
    assert.deepEqual(await move.target.target.readControl(), before)
    const again = await reconciled(move)
    assert.deepEqual(again.differences, ['it is on timeline 2, and the target belongs to timeline 1'])
    assert.deepEqual([again.evidence!.found, again.evidence!.keysLookedAt], [shown.evidence!.found, shown.evidence!.keysLookedAt])
    const adopted = await command(move, ['reconcile', '--json', '--adopt', again.plan!]).ended
    assert.equal(adopted.exitCode, 0, adopted.stderr)
    await eventually(() => served(move, '1'), 'service goes on')
    const client = await move.client()
    await client.query('update notes set n = 11 where account = 1')
    await client.query('update notes set n = 12 where account = 2')
    const { rows } = await move.database.query('select n from notes where account = 1')
    assert.deepEqual(rows, [{ n: 11 }], 'PostgreSQL owns it')
    assert.deepEqual([await countOf(move, '1'), await countOf(move, '2'), await countOf(move, '4')], [11, 12, 0])
    await client.end()
  } finally {
    await standby.now.giveBack()
  }
})

/** The target says that it belongs to an earlier timeline, as after a promotion. */
async function partTimelines(move: Move): Promise<void> {
  const item = (await move.target.target.readControl())!
  assert.ok(await move.target.target.writeControl(item, { ...item, timeline: item.timeline - 1 }))
}

/** A row on the target as if a later version of its key had written it. */
async function writePast(move: Move, key: string, versions: bigint): Promise<void> {
  const { target } = move.target
  for await (const rows of target.scanRows({ table: 'public.notes', segment: 0, segments: 1, signal: new AbortController().signal }))
    for (const row of rows) if (row.key === key) await target.putRows([{ ...row, stamp: row.stamp + versions }])
}

test('a row that its owner cannot have written, and a write that is in no outbox, are named by key and not adopted (49)', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target', ['1', '2'])
  const client = await move.client()
  for (const key of ['1', '2']) await client.query(`update notes set n = 5 where account = ${key}`)
  await client.end()
  await eventually(async () => {
    const { rows } = await move.database.query('select count(*)::int as n from notes where n = 5')
    return rows[0].n === 2
  }, 'both are applied at home')
  await partTimelines(move)
  const { target } = move.target
  const head = (await target.readHead('1'))!
  assert.ok((await target.compareAndSetHead('1', head, { ...head, version: head.version + 1 })).won)
  await writePast(move, '1', 1n)
  await writePast(move, '2', 7n)
  const shown = await reconciled(move)
  assert.deepEqual([shown.exit, shown.plan], [1, null])
  assert.deepEqual(new Set(shown.evidence!.named.map(({ what, key }) => `${what} ${key}`)), new Set(['entry gone 1', 'row unknown 2']))
  const refused = await command(move, ['reconcile', '--adopt', 'whatever']).ended
  assert.match(refused.stderr, /RECONCILE_UNSAFE/)
})

test('an adoption while a controller leads in earnest is refused as busy, and the target belongs to whom it belonged (49)', {
  timeout: 60_000,
}, async () => {
  await using move = await startMove({ sql: SQL, tables: TABLES })
  await move.move('target', ['1'])
  // The leader has its session still, so that nothing made it look at the item again.
  await partTimelines(move)
  const before = await move.target.target.readControl()
  const { plan } = await reconciled(move)
  const busy = await command(move, ['reconcile', '--adopt', plan!]).ended
  assert.match(busy.stderr, /RECONCILE_BUSY: .*a controller leads/)
  assert.deepEqual(await move.target.target.readControl(), before)
})
