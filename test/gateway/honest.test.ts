// Promises: INV-9 in bad weather, over a real PostgreSQL: backends are ended and statements canceled, leases lapse, slots park, clients
// go away; whatever a client heard of its insert, the store that owns the key agrees (faults.md 2, 6, 7, 38).
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { systemClock } from '../../src/lib/clock.ts'
import { type Random, seededRandom } from '../../src/lib/prng.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { encodeStartup } from '../../src/wire/frontend.ts'
import { eventually } from '../support/eventually.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'
import { SCHEMA, type TestGateway, testGateway } from './support.ts'

const WEATHER_MS = 8_000
const CLIENTS = 16
const FIRST_ID = 1_000
/** Of the keys, every second one or so is on the target. */
const MOVED_KEYS = 2_000
/** Longer than a lease of the test gateway. */
const CUT_MS = 1_300

type Heard = 'done' | 'unknown' | { readonly failed: string }

/** The forms in which a service may send one insert. */
const FORMS: readonly ((db: pg.Client, id: number) => Promise<void>)[] = [
  async (db, id) => void (await db.query(insert(id))),
  async (db, id) => void (await db.query('insert into accounts (id, balance) values ($1, $2)', [id, 1])),
  async (db, id) => void (await db.query(`${insert(id)}; update accounts set balance = balance + 1 where id = ${id}`)),
  async (db, id) => {
    await db.query('begin')
    await db.query(insert(id))
    await db.query(`update accounts set balance = balance + 1 where id = ${id}`)
    mustCommit(await db.query('commit'))
  },
  async (db, id) => mustCommit((await many(db, `begin; ${insert(id)}; commit`))[2]!),
]

function insert(id: number): string {
  return `insert into accounts (id, balance) values (${id}, 1)`
}

async function many(db: pg.Client, text: string): Promise<pg.QueryResult[]> {
  return (await db.query(text)) as unknown as pg.QueryResult[]
}

/** A failed transaction answers COMMIT with ROLLBACK. */
function mustCommit({ command }: pg.QueryResult): void {
  if (command !== 'COMMIT') throw Object.assign(new Error('rolled back'), { code: '40000' })
}

interface Scene {
  readonly database: TestDatabase
  readonly at: TestGateway
  readonly heard: Map<number, Heard>
  readonly clients: Set<pg.Client>
  readonly over: () => boolean
}

async function client({ at, heard, clients, over }: Scene, n: number): Promise<void> {
  for (let id = FIRST_ID + n; !over(); ) {
    const db = new pg.Client({ connectionString: at.url, connectionTimeoutMillis: 3_000 })
    db.on('error', () => undefined)
    try {
      await db.connect()
      clients.add(db)
      for (; !over(); id += CLIENTS) {
        const outcome = await FORMS[n % FORMS.length]!(db, id).then((): Heard => 'done', heardOf)
        heard.set(id, outcome)
        if (outcome !== 'done') await db.query('rollback')
      }
    } catch {
      id += heard.has(id) ? CLIENTS : 0 // its connection is gone
    }
    clients.delete(db)
    await db.end().catch(() => undefined)
  }
}

/** What has an SQLSTATE, other than that the outcome is unknown, says that nothing took effect. */
function heardOf(error: unknown): Heard {
  const code = String((error as { code?: unknown }).code ?? '')
  return /^(?=.*\d)[0-9A-Z]{5}$/.test(code) && code !== '08007' ? { failed: code } : 'unknown'
}

async function weather({ database, at, clients, over }: Scene, random: Random): Promise<void> {
  const anyOf = <T>(list: readonly T[]) => list[random.int(list.length)]!
  const some = `(select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    order by md5(pid::text || ${random.int(1e6)}) limit 3) as picked`
  const withOne = (act: (db: pg.Client) => void) => {
    if (clients.size > 0) act(anyOf([...clients]))
  }
  const kinds: (() => Promise<unknown> | unknown)[] = [
    () => database.query(`select pg_terminate_backend(pid) from ${some}`),
    () => database.query(`select pg_cancel_backend(pid) from ${some}`),
    () => withOne((db) => cancel(at, db)),
    () => withOne((db) => streamOf(db).destroy()),
    async () => {
      const key = String(random.int(MOVED_KEYS * 2))
      const { owner } = at.control.view.ownership(hashSlotOf(key))!
      at.control.change(key, owner, 'fenced')
      await pause(20)
      at.control.change(key, owner, 'steady')
    },
  ]
  let cut = false
  while (!over()) {
    await anyOf(kinds)()
    if (!cut && random.next() < 0.01) {
      cut = true
      at.control.reachable = false
      await pause(CUT_MS)
      at.control.reachable = true
    }
    await pause(5)
  }
}

function cancel(at: TestGateway, db: pg.Client): void {
  const { processID, secretKey } = db as unknown as { processID: number; secretKey: number }
  const secret = Buffer.alloc(4)
  secret.writeInt32BE(secretKey)
  const socket = connect(at.gateway.port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.end(encodeStartup({ kind: 'cancelRequest', processId: processID, secretKey: secret }))
}

function streamOf(db: pg.Client): { destroy(): void } {
  return (db as unknown as { connection: { stream: { destroy(): void } } }).connection.stream
}

test('INV-9: whatever a client heard of its write, the store that owns the key agrees', { timeout: 120_000 }, async (t) => {
  const seed = Math.floor(Math.random() * 1e9)
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  await using database = await testDatabase(SCHEMA)
  await using at = await testGateway(database, { bound: true, limits: { parkDeadlineMs: 300, connectionsMax: 200 } })
  for (let key = 0; key < MOVED_KEYS; key++) at.control.change(String(key), 'target', 'steady')
  await eventually(() => at.gateway.status().epoch === at.control.view.epoch, 'the view')
  at.executor.slowness = () => (random.next() < 0.5 ? null : pause(random.next() * 15))
  const endMs = systemClock.monotonicMs() + WEATHER_MS
  const scene: Scene = { database, at, heard: new Map(), clients: new Set(), over: () => systemClock.monotonicMs() > endMs }
  await Promise.all([weather(scene, random), ...Array.from({ length: CLIENTS }, (_, n) => client(scene, n))])
  await at.gateway.close()
  const idle = `select count(*)::int as n from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
  await eventually(async () => (await database.query(idle)).rows[0].n === 0 && at.executor.underWay === 0, 'nothing is under way')
  const there = new Set<number>([...at.executor.rows.keys()].map(Number))
  for (const { id } of (await database.query(`select id from accounts where id >= ${FIRST_ID}`)).rows) there.add(id)
  const wrong: string[] = []
  const counts: Record<string, number> = {}
  for (const [id, heard] of scene.heard) {
    const { owner } = at.control.view.ownership(hashSlotOf(String(id)))!
    const name = `${owner} ${typeof heard === 'string' ? heard : heard.failed}`
    counts[name] = (counts[name] ?? 0) + 1
    if (heard === 'done' ? !there.has(id) : heard !== 'unknown' && there.has(id)) wrong.push(`${id}, ${name}`)
  }
  t.diagnostic(JSON.stringify(counts))
  assert.deepEqual(wrong, [])
  for (const name of ['target done', 'source done', 'target 57P01', 'source 57P01'])
    assert.ok((counts[name] ?? 0) > 0, `some heard: ${name}`)
})
