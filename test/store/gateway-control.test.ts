import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Renewal } from '../../src/model/control.ts'
import { GATEWAY_APPLICATION } from '../../src/store/gateway-control.ts'
import { fenced, flipped } from '../guard/flips.ts'
import { eventually } from '../support/eventually.ts'
import { controlWorld } from './fixture.ts'

async function renewed(renewal: Promise<Renewal | 'over'>): Promise<Renewal> {
  const result = await renewal
  assert.notEqual(result, 'over')
  return result as Renewal
}

test('a renewal brings only what changed, and the merged view is the whole one', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const first = (await renewed(gateway.renew(lease, null))).view
  assert.deepEqual([[...first.rows()].length, first.epoch, first.bindingEpoch, [...first.pins()]], [4096, 1, null, []])
  const bound = await leader.bind()
  assert.equal(await leader.bind(), bound)
  await flipped(leader, [7, 4095])
  const pin = await leader.splitPin('42')
  const merged = (await renewed(gateway.renew(lease, first))).view
  const whole = (await renewed(gateway.renew(lease, null))).view
  const sorted = (view: typeof whole) => [...view.rows()].sort((a, b) => a.slot - b.slot)
  assert.deepEqual(sorted(merged), sorted(whole))
  assert.deepEqual([merged.epoch, merged.bindingEpoch, merged.slotOf('42')], [whole.epoch, bound, pin])
  assert.deepEqual(
    [...merged.rows()].filter((row) => row.owner === 'target').map((row) => row.slot),
    [7, 4095],
  )
})

test('a look brings what changed, the end of the move with it, and renews nothing', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const first = (await renewed(gateway.renew(lease, null))).view
  const renewals = async () => (await leader.leases()).find((row) => row.lease === lease)!.renewals
  const before = await renewals()
  await leader.bind()
  await flipped(leader, [7])
  const looked = await gateway.look(first)
  assert.equal(await renewals(), before)
  const whole = (await renewed(gateway.renew(lease, null))).view
  assert.deepEqual([looked.epoch, looked.bindingEpoch, looked.ownership(7)], [whole.epoch, whole.bindingEpoch, whole.ownership(7)])
  assert.equal(gateway.ending(), false)
  await world.admin.query('update switchback.state set ending = true, epoch = epoch + 1')
  await gateway.look(whole)
  assert.equal(gateway.ending(), true)
})

test('a renewal that was held up before a fence committed reads the fence: the row first, then the view (faults.md 50)', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const seen = (await renewed(gateway.renew(lease, null))).view
  // The renewal is sent before the fence and waits for its own row; a view read in the statement's first snapshot would miss it.
  const holder = await world.db.connect()
  await holder.query('begin')
  await holder.query('select 1 from switchback.lease where id = $1 for update', [lease])
  const renewal = renewed(gateway.renew(lease, seen))
  await eventually(async () => {
    const { rows } = await world.admin.query(`select 1 from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock'`, [
      GATEWAY_APPLICATION,
    ])
    return rows.length > 0
  }, 'the renewal waits')
  const flip = await fenced(leader, [5])
  await holder.query('commit')
  const { view } = await renewal
  assert.deepEqual([view.epoch, view.ownership(5)!.phase], [flip.epoch, 'fenced'])
})

test('a lease that was called over is never renewed again, nor acks, and one renewed meanwhile is not called over (INV-8)', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const [dead, alive] = [await gateway.openLease('dead'), await gateway.openLease('alive')]
  const seen = (await leader.leases()).map(({ lease, renewals }) => ({ lease, renewals }))
  await gateway.renew(alive, null)
  assert.deepEqual(await leader.endLeases(seen), [dead])
  assert.equal(await gateway.renew(dead, null), 'over')
  await assert.rejects(gateway.ack({ lease: dead, epoch: 1, nextSequences: new Map(), excused: [] }), { code: 'LEASE_OVER' })
  await renewed(gateway.renew(alive, null))
  assert.deepEqual(await leader.endLeases(seen), [dead], 'sent again')
  await gateway.release(alive)
  assert.equal(await gateway.renew(alive, null), 'over')
  assert.deepEqual(
    (await leader.leases()).map(({ gateway: name, over, renewals }) => ({ name, over, renewals })),
    [
      { name: 'dead', over: true, renewals: 0 },
      { name: 'alive', over: true, renewals: 2 },
    ],
  )
})

test('a leader that calls a lease over while its renewal is in flight waits for it and then leaves it (faults.md 50)', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const inFlight = await world.db.connect()
  await inFlight.query('begin')
  await inFlight.query('select from switchback.renew($1, 0)', [lease])
  const ending = leader.endLeases([{ lease, renewals: 0 }])
  await inFlight.query('commit')
  assert.deepEqual(await ending, [])
  await renewed(gateway.renew(lease, null))
})

test('an ack carries sequences and excused backends of its epoch, and an older one that comes late changes nothing', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  const excused = [{ pid: 7, backendStart: '2026-01-01 00:00:00+00', virtualTransaction: '3/14' }]
  await gateway.ack({
    lease,
    epoch: 9,
    nextSequences: new Map([
      [0, 5],
      [63, 1],
    ]),
    excused,
  })
  await gateway.ack({ lease, epoch: 4, nextSequences: new Map(), excused: [] })
  const [row] = await leader.leases()
  assert.deepEqual(row, {
    lease,
    gateway: 'g1',
    renewals: 0,
    ackedEpoch: 9,
    over: false,
    nextSequences: new Map([
      [0, 5],
      [63, 1],
    ]),
    excused,
    partial: null,
  })
})

test('a change of ownership wakes gateways, an ack wakes the leader, also after their connections were lost', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const gateway = world.gateway()
  const lease = await gateway.openLease('g1')
  let wakes = 0
  let leaderWakes = 0
  gateway.onWake(() => wakes++)
  leader.onLeaseChange(() => leaderWakes++)
  const woken = async (act: () => Promise<unknown>, count: () => number) => {
    const before = count()
    await act()
    await eventually(() => count() > before, 'woken')
  }
  await woken(
    () => leader.setReadOnly([1], true),
    () => wakes,
  )
  await woken(
    () => gateway.ack({ lease, epoch: 2, nextSequences: new Map(), excused: [] }),
    () => leaderWakes,
  )
  const kill = (name: string) =>
    world.admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name like $1 and datname = current_database()`,
      [name],
    )
  await woken(
    () => kill(GATEWAY_APPLICATION),
    () => wakes,
  ) // the reconnect itself: something may have been missed
  await woken(
    () => leader.setReadOnly([1], false),
    () => wakes,
  )
  await woken(
    () => kill('switchback leader % control'),
    () => leaderWakes,
  )
  await woken(
    () => gateway.ack({ lease, epoch: 3, nextSequences: new Map(), excused: [] }),
    () => leaderWakes,
  )
})

test('the rights digest changes with every right that a passed permission check stood on (faults.md 72)', async () => {
  await using world = await controlWorld()
  const role = `${world.db.name}_r`
  const digests = async () =>
    (await world.admin.query('select switchback.rights_digest() as rights, switchback.catalog_digest() as catalog')).rows[0]
  const changes = [
    `create role ${role}; create role ${role}_2`,
    `grant select on accounts to ${role}`,
    `revoke select on accounts from ${role}`,
    `grant select (id) on accounts to ${role}`,
    `grant insert on entries_0 to ${role}`,
    `grant usage on schema public to ${role}`,
    `grant ${role} to ${role}_2`,
    `revoke ${role} from ${role}_2`,
    `alter role ${role} superuser`,
    'revoke execute on function pg_catalog.upper(text) from public',
    `alter table accounts owner to ${role}`,
    'alter table accounts owner to postgres',
    `drop owned by ${role}; drop role ${role}, ${role}_2`,
  ]
  const seen = new Set([(await digests()).rights])
  const silent: string[] = []
  const catalog = (await digests()).catalog
  for (const change of changes) {
    await world.admin.query(change)
    const { rights } = await digests()
    if (seen.has(rights) && !change.startsWith('revoke') && !change.includes('to postgres') && !change.startsWith('drop'))
      silent.push(change)
    seen.add(rights)
  }
  assert.deepEqual([silent, seen.size >= 8, (await digests()).catalog === catalog], [[], true, true])
  await world.admin.query('grant execute on function pg_catalog.upper(text) to public')
  const other = (await digests()).rights
  await world.admin.query(`create table unrelated (id int); grant select on unrelated to public`)
  assert.equal((await digests()).rights, other)
})

test('the catalog digest changes with every way to a mapped table or its name, and not with data, statistics or other tables (faults.md 62)', async () => {
  await using world = await controlWorld()
  const digest = async () => (await world.admin.query('select switchback.catalog_digest() as catalog')).rows[0].catalog
  const changed = async (sql: string) => {
    const before = await digest()
    await world.admin.query(sql)
    return (await digest()) !== before
  }
  const must = [
    `alter table accounts add column note text default 'x'`,
    `alter table accounts alter column note set default 'y'`,
    'alter table accounts alter column note type varchar(9)',
    'alter table accounts drop column note',
    'alter table accounts add constraint positive check (balance >= 0)',
    'create unique index u on accounts (balance, id)',
    'alter table entries detach partition entries_1',
    'create view v as select id from accounts',
    'create or replace view v as select 1::int8 as id',
    'create function f() returns int8 language sql as $$ select max(id) from accounts $$',
    'create or replace function f() returns int8 language sql as $$ select 1::int8 $$',
    'create schema nearer; create table nearer.accounts (id int8)',
    'create rule r as on delete to accounts do instead nothing',
    'alter table accounts enable row level security',
    'create policy p on accounts using (true)',
  ]
  const mustNot = [
    'insert into accounts (id) values (1)',
    'analyze accounts; vacuum accounts',
    'create table unrelated (id int primary key)',
    'create temp table accounts_temp (id int)',
    'create index plain on accounts (balance)',
    'reindex table accounts',
    `comment on table accounts is 'x'`,
    'grant select on accounts to public',
  ]
  const results = { missed: [] as string[], needless: [] as string[] }
  for (const sql of must) if (!(await changed(sql))) results.missed.push(sql)
  for (const sql of mustNot) if (await statements(sql, changed)) results.needless.push(sql)
  assert.deepEqual(results, { missed: [], needless: [] })
})

/** VACUUM runs in no transaction block, so one statement a query. */
async function statements(sql: string, changed: (one: string) => Promise<boolean>): Promise<boolean> {
  let any = false
  for (const one of sql.split('; ')) any = (await changed(one)) || any
  return any
}
