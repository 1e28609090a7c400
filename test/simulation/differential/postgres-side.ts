// Promises: a schedule's steps on PostgreSQL itself, with the product's control schema, guard, slot and stream. That a session waits is read from
// PostgreSQL's locks, and looked for until nothing moves.
import type pg from 'pg'
import { systemClock } from '../../../src/lib/clock.ts'
import { formatLsn } from '../../../src/model/ids.ts'
import type { Mapping } from '../../../src/model/mapping.ts'
import type { ChangeStream } from '../../../src/model/source.ts'
import { installGuard } from '../../../src/source/guard.ts'
import { openStream } from '../../../src/source/stream.ts'
import { STATE_OF } from '../../../src/store/schema-functions.ts'
import { type Session as ControlSession, controlConnector, openSession } from '../../../src/store/session.ts'
import { writersNow } from '../../../src/store/writers.ts'
import { type ControlWorld, controlWorld } from '../../store/fixture.ts'
import { eventually } from '../../support/eventually.ts'
import { type LeaderAct, NOTE, POTS, SESSIONS, type SessionName, type Step, type StreamStep } from './schedule.ts'
import { Delivered, type Keys, LEADER, type Observed, roots, type Side, START_AMOUNT } from './side.ts'

const TABLE = 'create table pots (key text not null, pot text not null, amount text not null, by text not null, primary key (key, pot))'
const SLOT = 'switchback_differential'
const PUBLICATION = 'switchback_differential'
const TOLD = "pot || ' ' || amount || ' by ' || by"
const TEXT_OID = 25
const DEADLINE_MS = 1_000_000
const QUIET_WITHIN_MS = 20_000
const END_WITHIN_MS = 10_000

interface Session {
  readonly client: pg.Client
  readonly pid: number
  asks: boolean
}

/** One database for all schedules: each has keys and slots of its own. */
export class PostgresWorld implements AsyncDisposable {
  readonly world: ControlWorld
  readonly token: number
  readonly watcher: ControlSession
  readonly leader: pg.Client
  readonly sessions = new Map<SessionName, Session>()
  stream: ChangeStream | null = null
  /** Whoever reads the stream now. */
  onTransaction: (transaction: Parameters<Delivered['take']>[0]) => void = () => undefined
  newBase = 2_000_000n
  #ends = 0
  #broke: unknown = null

  private constructor(world: ControlWorld, token: number, watcher: ControlSession, leader: pg.Client) {
    this.world = world
    this.token = token
    this.watcher = watcher
    this.leader = leader
  }

  static async open(): Promise<PostgresWorld> {
    const world = await controlWorld({ sql: TABLE, tables: ['pots'] })
    await installGuard(world.admin, world.mapping, { applierRole: world.applierRole })
    // Its token is what is needed of it: its beats would meet acts that stay open.
    const leader = await world.leader()
    await leader.close()
    await world.admin.query(`create publication ${PUBLICATION} for table pots`)
    await world.admin.query(`select pg_create_logical_replication_slot('${SLOT}', 'pgoutput')`)
    const watcher = await openSession({ connect: controlConnector({ connectionString: world.db.url }), applicationName: 'watcher' })
    const postgres = new PostgresWorld(world, leader.token, watcher, await world.db.connect())
    for (const name of SESSIONS) await postgres.connect(name)
    await postgres.reconnect()
    return postgres
  }

  async connect(name: SessionName): Promise<void> {
    const client = await this.world.db.connect({ application_name: name })
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
    this.sessions.set(name, { client, pid: rows[0]!.pid, asks: false })
  }

  async reconnect(): Promise<void> {
    const { world } = this
    await this.stream?.close()
    await this.#looked((row) => !row.active, 'nobody reads the slot')
    const options = { url: world.db.url, slot: SLOT, publication: PUBLICATION, mapping: withTypes(world.mapping), clock: systemClock }
    const stream = await openStream({ ...options, applicationName: 'differential' })
    this.stream = stream
    const read = async () => {
      for await (const transaction of stream.transactions(new AbortController().signal)) this.onTransaction(transaction)
    }
    this.#broke = null
    void read().catch((error: unknown) => {
      this.#broke = error
    })
  }

  /** Everything that is committed by now has been delivered. */
  async delivered(take: Delivered): Promise<void> {
    const content = `end:${++this.#ends}`
    let seen = false
    this.onTransaction = (transaction) => {
      if (transaction.changes.some((change) => change.kind === 'message' && change.content === content)) seen = true
      else take.take(transaction)
    }
    await this.world.admin.query("select pg_logical_emit_message(true, 'switchback', $1)", [content])
    await eventually(() => seen || this.#broke !== null, 'the stream has come to its end', QUIET_WITHIN_MS)
    if (!seen) throw this.#broke
    this.onTransaction = (transaction) => take.take(transaction)
  }

  async acknowledge(lsn: NonNullable<ReturnType<Delivered['endOfAllBut']>>): Promise<void> {
    this.stream!.acknowledge(lsn)
    await this.#looked((row) => row.confirmed, `${formatLsn(lsn)} is confirmed`, formatLsn(lsn))
  }

  async #looked(wanted: (row: { active: boolean; confirmed: boolean }) => boolean, what: string, lsn = '0/0'): Promise<void> {
    await eventually(async () => {
      const { rows } = await this.world.admin.query(
        'select active, confirmed_flush_lsn >= $2::pg_lsn as confirmed from pg_replication_slots where slot_name = $1',
        [SLOT, lsn],
      )
      return wanted(rows[0])
    }, what)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stream?.close()
    await this.watcher.close()
    await this.world[Symbol.asyncDispose]()
  }
}

/** The stream compares the types of columns; the guard's fixture leaves them out. */
function withTypes(mapping: Mapping): Mapping {
  const tables = mapping.tables.map((table) => ({ ...table, columns: table.columns.map((column) => ({ ...column, typeOid: TEXT_OID })) }))
  return { ...mapping, tables }
}

export class PostgresSide implements Side {
  readonly #postgres: PostgresWorld
  readonly #keys: Keys
  readonly #epoch: number
  readonly #flips = new Map<number, string>()
  readonly #slotOfFlip = new Map<string, number>()
  #answers: Record<string, string> = {}
  #delivered: Delivered
  /** What the act that is open will have answered. */
  #open: string | null = null

  private constructor(postgres: PostgresWorld, keys: Keys, epoch: number) {
    this.#postgres = postgres
    this.#keys = keys
    this.#epoch = epoch
    this.#delivered = this.#newDelivered()
  }

  static async of(postgres: PostgresWorld, keys: Keys): Promise<PostgresSide> {
    const { admin } = postgres.world
    const { rows: state } = await admin.query<{ epoch: string }>('select epoch from switchback.state')
    const side = new PostgresSide(postgres, keys, Number(state[0]!.epoch))
    // What came before is not this schedule's.
    const before = side.#delivered
    postgres.onTransaction = (transaction) => before.take(transaction)
    const rows = keys.keys.flatMap((key) => POTS.filter((pot) => pot !== NOTE).map((pot) => [key, pot] as const))
    await admin.query('insert into pots select k, p, $3, 0 from unnest($1::text[], $2::text[]) as r(k, p)', [
      rows.map(([key]) => key),
      rows.map(([, pot]) => pot),
      START_AMOUNT,
    ])
    await postgres.delivered(before)
    await postgres.acknowledge(before.endOfAllBut(0)!)
    side.#delivered = side.#newDelivered()
    postgres.onTransaction = (transaction) => side.#delivered.take(transaction)
    return side
  }

  async step(step: Step, number: number): Promise<Observed> {
    this.#answers = {}
    await this.#do(step, number)
    const waiting = await this.#quiet()
    return { answers: this.#answers, waiting }
  }

  async #do(step: Step, number: number): Promise<void> {
    const postgres = this.#postgres
    const { keys } = this.#keys
    switch (step.kind) {
      case 'begin':
        await postgres.sessions.get(step.session)!.client.query(`begin isolation level ${step.isolation}`)
        return
      case 'write': {
        const [text, values] = statementOf(step.act)
        return this.#ask(step.session, text, [keys[step.key], step.pot, String(number), ...values])
      }
      case 'move':
        return this.#ask(step.session, MOVE, [keys[step.from], step.pot, String(number), keys[step.to]])
      case 'read':
        return this.#ask(step.session, READ, [keys[step.key]])
      case 'commit':
        return this.#ask(step.session, 'commit', [], 'committed')
      case 'rollback':
        return this.#ask(step.session, 'rollback', [], 'rolled back')
      case 'kill': {
        const { pid } = postgres.sessions.get(step.session)!
        await postgres.world.admin.query('select pg_terminate_backend($1, $2)', [pid, END_WITHIN_MS])
        await eventually(() => !postgres.sessions.get(step.session)!.asks, 'whoever was ended hears of it')
        return postgres.connect(step.session)
      }
      case 'close':
        await postgres.leader.query('commit')
        this.#answers[LEADER] = this.#open!
        this.#open = null
        return
      case 'writers':
        this.#answers[LEADER] = await this.#writers()
        return
      case 'owners':
        this.#answers[LEADER] = await this.#owners()
        return
      case 'stream':
      case 'acknowledge':
      case 'reconnect':
        this.#answers[LEADER] = await this.#onStream(step)
        return
      default:
        this.#answers[LEADER] = await this.#act(step)
    }
  }

  #ask(name: SessionName, text: string, values: readonly unknown[], done?: string): void {
    const session = this.#postgres.sessions.get(name)!
    session.asks = true
    const answered = (answer: string) => {
      this.#answers[name] = answer
      session.asks = false
    }
    const failed = async (error: Error & { code?: string }) => {
      if (error.code === undefined || error.code === '57P01') return answered('gone')
      // Its locks went with the error; the block is closed for the next one.
      await session.client.query('rollback')
      answered(error.code)
    }
    session.client.query({ text, values: [...values], rowMode: 'array' }).then(
      ({ rows }) => answered(done ?? (rows as string[][]).map(([told]) => told).join(' ')),
      (error: Error) => void failed(error),
    )
  }

  /** Nothing moves: who has asked has an answer, or waits for somebody who asks for nothing. */
  async #quiet(): Promise<Record<string, readonly string[]>> {
    const { sessions, world, leader } = this.#postgres
    const leaderPid = (leader as unknown as { processID: number }).processID
    const deadline = performance.now() + QUIET_WITHIN_MS
    for (;;) {
      const asking = [...sessions].filter(([, { asks }]) => asks)
      if (asking.length === 0) return {}
      const { rows } = await world.admin.query<{ pid: number; holders: number[] }>(
        'select p as pid, pg_blocking_pids(p) as holders from unnest($1::int[]) p',
        [asking.map(([, { pid }]) => pid)],
      )
      const nameOf = (pid: number) => (pid === leaderPid ? LEADER : [...sessions].find(([, session]) => session.pid === pid)?.[0])
      const holders = new Map<string, string[]>(
        rows.map((row) => [nameOf(row.pid)!, row.holders.map((pid) => nameOf(pid) ?? 'somebody else')] as const),
      )
      const found = Object.fromEntries([...holders.keys()].map((name) => [name, roots(name, holders)]))
      const still = asking.every(([name, { asks }]) => asks && holders.get(name)!.length > 0)
      const ends = Object.values(found).flat()
      if (still && ends.every((name) => name !== 'somebody else' && !holders.has(name))) return found
      if (performance.now() > deadline) throw new Error(`something moves on and on: ${JSON.stringify(found)}`)
    }
  }

  async #act(step: Extract<Step, { kind: 'intent' | 'flip' | 'read-only' }>): Promise<string> {
    const { leader, token } = this.#postgres
    const slot = this.#keys.slots[step.slot]!
    await leader.query('begin')
    try {
      const [call, values] = step.kind === 'flip' ? this.#call(step.slot, step.act) : callOf(step, slot)
      const { rows } = await leader.query<{ id: string; state: string; epoch: string }>(
        step.kind === 'read-only' ? `select switchback.${call} as epoch` : `select * from switchback.${call} f`,
        [token, ...values],
      )
      const row = rows[0]!
      if (step.kind === 'intent') {
        this.#flips.set(step.slot, row.id)
        this.#slotOfFlip.set(row.id, step.slot)
      }
      const answer =
        step.kind === 'flip' && step.act === 'mark' ? 'marked' : `${row.state ?? ''} +${Number(row.epoch) - this.#epoch}`.trim()
      if (step.kind !== 'intent' && step.open) {
        this.#open = answer
        return 'open'
      }
      await leader.query('commit')
      return answer
    } catch (error) {
      await leader.query('rollback')
      return codeOf(error)
    }
  }

  #call(slot: number, act: LeaderAct): [string, unknown[]] {
    const flip = this.#flips.get(slot)!
    switch (act) {
      case 'park':
        return ['set_phase($1, $2, $3)', [flip, 'parking']]
      case 'fence':
        return ['set_phase($1, $2, $3)', [flip, 'fenced']]
      case 'mark':
        return ['write_marker($1, $2)', [flip]]
      case 'commit':
      case 'commit, held':
        this.#postgres.newBase += 1_000n
        return ['commit_flip($1, $2, $3, $4)', [flip, String(this.#postgres.newBase), act !== 'commit']]
      case 'release':
        return ['release_flip($1, $2)', [flip]]
      case 'finish':
        return ['finish_flip($1, $2, $3)', [flip, '[]']]
      case 'cancel':
        return ['cancel_flip($1, $2, $3)', [flip, '']]
    }
  }

  async #writers(): Promise<string> {
    const { sessions, watcher } = this.#postgres
    const writers = await writersNow(watcher, [])
    const names = writers.map(({ pid }) => [...sessions].find(([, session]) => session.pid === pid)?.[0])
    return names.sort().join(' ')
  }

  async #owners(): Promise<string> {
    const { rows } = await this.#postgres.world.admin.query<Record<string, string>>(
      `select o.owner, o.phase, o.read_only::text as read_only, o.epoch, o.tenure,
              array(select t.owner from switchback.tenure t where t.slot = o.slot order by t.tenure)::text[] as history
         from unnest($1::int[]) with ordinality as w(slot, n) join switchback.ownership o on o.slot = w.slot order by w.n`,
      [this.#keys.slots],
    )
    const since = (epoch: string) => Math.max(0, Number(epoch) - this.#epoch)
    const shown = rows.map(({ owner, phase, read_only, epoch, tenure, history }) => {
      const readOnly = read_only === 'true' ? ' read-only' : ''
      return `${owner} ${phase}${readOnly} +${since(epoch!)} tenure +${since(tenure!)} after ${(history as unknown as string[]).slice(0, -1)}`
    })
    return shown.join('; ')
  }

  #newDelivered(): Delivered {
    return new Delivered((content) => {
      const [kind, id, epoch] = content.split(':')
      return kind === 'flip' ? `marker of ${this.#slotOfFlip.get(id!)} at +${Number(epoch) - this.#epoch}` : null
    })
  }

  async #onStream(step: StreamStep): Promise<string> {
    const postgres = this.#postgres
    if (step.kind === 'reconnect') {
      const delivered = this.#newDelivered()
      postgres.onTransaction = () => undefined
      await postgres.stream!.close()
      this.#delivered = delivered
      postgres.onTransaction = (transaction) => delivered.take(transaction)
      await postgres.reconnect()
    }
    await postgres.delivered(this.#delivered)
    const lsn = step.kind === 'acknowledge' ? this.#delivered.endOfAllBut(step.butLast) : null
    if (lsn !== null) await postgres.acknowledge(lsn)
    return `${this.#delivered.news()}${lsn === null ? '' : ' acknowledged'}`
  }
}

const MOVE = 'update pots set key = $4, by = $3 where key = $1 and pot = $2 returning old.amount'
const READ = "select pot || ',' || amount || ',' || by from pots where key = $1 order by pot"

/** Key, pot and who it is by come first. */
function statementOf(act: number | 'insert' | 'delete'): [string, unknown[]] {
  if (act === 'insert') return [`insert into pots (key, pot, amount, by) values ($1, $2, '0', $3) returning ${TOLD}`, []]
  if (act === 'delete') return [`delete from pots where key = $1 and pot = $2 and $3::text is not null returning ${TOLD} || ' is gone'`, []]
  return [`update pots set amount = (amount::int + $4::int)::text, by = $3 where key = $1 and pot = $2 returning ${TOLD}`, [act]]
}

function callOf(step: Extract<Step, { kind: 'intent' | 'read-only' }>, slot: number): [string, unknown[]] {
  if (step.kind === 'read-only') return ['set_read_only($1, $2, $3)', [[slot], step.on]]
  return ['write_intent($1, $2, $3, $4)', [step.to, [slot], DEADLINE_MS]]
}

const CODES = new Map<string, string>([['55P03', 'ROWS_HELD'], ...Object.entries(STATE_OF).map(([code, state]) => [state, code] as const)])

function codeOf(error: unknown): string {
  const { code } = error as { code?: string }
  if (code === undefined) throw error
  return CODES.get(code) ?? code
}
