// Leases are kept apart by id and forgotten only when nothing can be missed by it (protocols.md, Leases).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SLOT_GROUPS } from '../../src/model/key.ts'
import { trimLeases } from '../../src/store/lease-history.ts'
import { controlConnector, openSession } from '../../src/store/session.ts'
import { type ControlWorld, controlWorld } from './fixture.ts'

/** How many leases that are over are kept for people, whatever was settled. */
const KEPT = 64

/** Leases from the oldest to the newest; `finals` of their outboxes were read to their end. */
async function insertLeases(world: ControlWorld, leases: readonly { id: string; over: boolean; finals: number }[]): Promise<void> {
  for (const [age, { id, over, finals }] of leases.entries()) {
    await world.admin.query(
      `insert into switchback.lease (id, gateway, over, opened_at) values ($1, 'g', $2, timestamptz '2026-01-01' + $3 * interval '1 s')`,
      [id, over, age],
    )
    await world.admin.query(
      `insert into switchback.position (slot_group, lease, sequence, final) select g, $1, 0, g < $2 from generate_series(0, $3 - 1) g`,
      [id, finals, SLOT_GROUPS],
    )
  }
}

test('leases that are over go with their positions once all their outboxes are final; the newest, the open and the living stay', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const session = await openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'test' })
  try {
    await insertLeases(world, [
      { id: 'living', over: false, finals: SLOT_GROUPS },
      { id: 'settled', over: true, finals: SLOT_GROUPS },
      { id: 'one outbox open', over: true, finals: SLOT_GROUPS - 1 },
      { id: 'settled too', over: true, finals: SLOT_GROUPS },
      ...Array.from({ length: KEPT }, (_, n) => ({ id: `newer ${n}`, over: true, finals: SLOT_GROUPS })),
    ])
    const left = async () => {
      const { rows } = await world.admin.query(
        `select l.id, (select count(*)::int from switchback.position p where p.lease = l.id) as positions
           from switchback.lease l where l.id not like 'newer %' order by l.opened_at`,
      )
      const { rows: orphans } = await world.admin.query(
        'select distinct p.lease from switchback.position p where not exists (select from switchback.lease l where l.id = p.lease)',
      )
      return { leases: rows.map((row) => `${row.id}: ${row.positions}`), orphans }
    }
    assert.equal(await trimLeases(session, leader.token - 1), 0, 'an older leader trims nothing')
    assert.equal(await trimLeases(session, leader.token), 2)
    assert.deepEqual(await left(), { leases: [`living: ${SLOT_GROUPS}`, `one outbox open: ${SLOT_GROUPS}`], orphans: [] })
    assert.equal(await trimLeases(session, leader.token), 0, 'again')
    // INV-8: forgotten is over, not new.
    const gateway = world.gateway()
    assert.equal(await gateway.renew('settled', null), 'over')
    await assert.rejects(gateway.ack({ lease: 'settled', epoch: 1, nextSequences: new Map(), excused: [] }), { code: 'LEASE_OVER' })
    assert.deepEqual(await leader.endLeases([{ lease: 'settled', renewals: 0 }]), [])
  } finally {
    await session.close()
  }
})

test('each start of a gateway has a lease of its own: under the same name nothing of the older one is taken over (faults.md 52)', async () => {
  await using world = await controlWorld()
  const leader = await world.leader()
  const [before, after] = [world.gateway(), world.gateway()]
  const first = await before.openLease('gateway-1')
  await before.renew(first, null)
  await before.ack({ lease: first, epoch: 5, nextSequences: new Map([[3, 17]]), excused: [] })
  const second = await after.openLease('gateway-1')
  await after.renew(second, null)
  // The first one is suspended, not dead: it still renews and acks for itself alone.
  await before.ack({ lease: first, epoch: 6, nextSequences: new Map([[3, 18]]), excused: [] })
  const rows = await leader.leases()
  assert.notEqual(first, second)
  assert.deepEqual(
    rows.map(({ lease, gateway, ackedEpoch, nextSequences }) => ({ lease, gateway, ackedEpoch, next: [...nextSequences] })),
    [
      { lease: first, gateway: 'gateway-1', ackedEpoch: 6, next: [[3, 18]] },
      { lease: second, gateway: 'gateway-1', ackedEpoch: 0, next: [] },
    ],
  )
  await after.release(second)
  assert.deepEqual(
    (await leader.leases()).map(({ over }) => over),
    [false, true],
  )
})

test('control sessions keep synchronous_commit on and read committed, whatever the role and the database are set to (faults.md 49)', async () => {
  await using world = await controlWorld()
  const role = `${world.db.name}_c`
  await world.admin.query(`create role ${role} login superuser password 'c'`)
  try {
    for (const setting of [
      'synchronous_commit = off',
      "default_transaction_isolation = 'serializable'",
      'default_transaction_read_only = on',
      "search_path = 'nowhere'",
      "datestyle = 'German'",
      "statement_timeout = '10min'",
    ]) {
      await world.admin.query(`alter database ${world.db.name} set ${setting}`)
      await world.admin.query(`alter role ${role} set ${setting}`)
    }
    const url = new URL(world.db.url)
    url.username = role
    url.password = 'c'
    const plain = await world.db.connect({ connectionString: url.href })
    assert.deepEqual((await plain.query('show synchronous_commit')).rows, [{ synchronous_commit: 'off' }])
    await plain.end()
    const session = await openSession({ connect: controlConnector({ connectionString: url.href }), applicationName: 'test' })
    const [row] =
      await session.query(`select current_setting('synchronous_commit') as sync, current_setting('transaction_isolation') as isolation,
      current_setting('transaction_read_only') as read_only, current_setting('search_path') as path, current_setting('datestyle') as style,
      current_setting('statement_timeout') as timeout`)
    await session.close()
    assert.deepEqual(
      { ...row },
      { sync: 'on', isolation: 'read committed', read_only: 'off', path: 'pg_catalog', style: 'ISO, DMY', timeout: '5s' },
    )
  } finally {
    await world.admin.query(`drop role ${role}`)
  }
})
