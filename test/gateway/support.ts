// Promises: a gateway over a real PostgreSQL with small fakes of what stands behind the interfaces: a planner of four statements
// on `accounts`, an executor over a Map, a control schema in memory.
import { connect, type Socket } from 'node:net'
import { type Gateway, type GatewayOptions, startGateway } from '../../src/gateway/gateway.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { FenceAck, GatewayControl, ParkedTimes, PartialAck, Renewal } from '../../src/model/control.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { LeaseHandle, TargetExecutor, TargetTransaction } from '../../src/model/executor.ts'
import type { Owner, SlotId } from '../../src/model/ids.ts'
import { canonicalKey, HASH_SLOTS, hashSlotOf } from '../../src/model/key.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { GatewayLimits } from '../../src/model/migration.ts'
import { type Ownership, type Phase, RoutingView } from '../../src/model/ownership.ts'
import { type KeyedPlan, type Params, type Plan, type PlannedStatement, SqlError, type StatementPlanner } from '../../src/model/plan.ts'
import type { Row, RowChange } from '../../src/model/row.ts'
import { mappedTable } from '../support/mapped-table.ts'
import type { TestDatabase } from '../support/postgres.ts'

export const SCHEMA = `
  create table accounts (id int primary key, balance numeric not null, opened timestamptz, data bytea);
  create table notes (id int primary key, note text);
  insert into accounts select i, i * 10, '2024-01-02 03:04:05.678+00', '\\x00ff' from generate_series(1, 20) i;
  insert into notes values (1, 'one');
`

export const LIMITS: GatewayLimits = {
  parkedStatementsMax: 100,
  parkDeadlineMs: 5_000,
  queueBytesMax: 1_000_000,
  sqlBytesMax: 100_000,
  messageBytesMax: 10_000_000,
  aggregateRowsMax: 1_000,
  transactionRowsMax: 1_000,
  planCacheBytes: 1_000_000,
  connectionsMax: 50,
  loginTimeoutMs: 5_000,
  commitDeadlineMs: 2_000,
}

export const MAPPING: Mapping = {
  migration: 'test',
  keyType: 'int4',
  tables: [mappedTable('accounts', [])],
}

// ---- planner

const TABLE = 'public.accounts'
const VALUE = String.raw`(\$\d+|'[^']*'|[\d.]+)`

function valueIn(text: string, params: Params): string | null {
  if (text.startsWith('$')) return params[Number(text.slice(1)) - 1] ?? null
  return text.startsWith("'") ? text.slice(1, -1) : text
}

function keyed(plan: Partial<KeyedPlan> & Pick<KeyedPlan, 'run'>, keyText: string): KeyedPlan {
  return {
    kind: 'keyed',
    readOnly: false,
    locks: false,
    returnsRows: false,
    asks: [],
    insertedRows: 0,
    parameterTypes: [],
    reads: () => [{ kind: 'point', table: TABLE, clustering: [] }],
    key: (params) => {
      const text = valueIn(keyText, params)
      return text === null ? null : canonicalKey('int4', text)
    },
    ...plan,
  }
}

function planOf(sql: string): Plan {
  const text = sql.trim().replace(/\s+/g, ' ').toLowerCase()
  let match = new RegExp(`^select (id, balance, opened, data|balance) from accounts where id = ${VALUE}( for update)?$`).exec(text)
  if (match) {
    const columns = match[1] === 'balance' ? [1] : [0, 1, 2, 3]
    return keyed(
      {
        readOnly: match[3] === undefined,
        locks: match[3] !== undefined,
        returnsRows: true,
        run(_params, rows) {
          const row = rows.point(TABLE, [])
          const shown = row === undefined ? [] : [columns.map((i) => row[i]!)]
          return { rows: shown, commandTag: `SELECT ${shown.length}`, changes: [] }
        },
      },
      match[2]!,
    )
  }
  match = new RegExp(`^update accounts set balance = balance \\+ ${VALUE} where id = ${VALUE}( returning balance)?$`).exec(text)
  if (match) {
    const [, by, , returning] = match
    return keyed(
      {
        returnsRows: returning !== undefined,
        run(params, rows) {
          const row = rows.point(TABLE, [])
          if (row === undefined) return { rows: [], commandTag: 'UPDATE 0', changes: [] }
          const next: Row = [row[0]!, String(Number(row[1]) + Number(valueIn(by!, params))), row[2]!, row[3]!]
          if (Number(next[1]) < 0)
            throw new SqlError('23514', 'new row for relation "accounts" violates check constraint', { table: TABLE })
          return {
            rows: returning === undefined ? [] : [[next[1]!]],
            commandTag: 'UPDATE 1',
            changes: [{ table: TABLE, clustering: [], values: next }],
          }
        },
      },
      match[2]!,
    )
  }
  match = new RegExp(`^insert into accounts \\(id, balance\\) values \\(${VALUE}, ${VALUE}\\)$`).exec(text)
  if (match) {
    const [, id, balance] = match
    return keyed(
      {
        insertedRows: 1,
        run(params, rows) {
          if (rows.point(TABLE, []) !== undefined) {
            throw new SqlError('23505', 'duplicate key value violates unique constraint "accounts_pkey"', { constraint: 'accounts_pkey' })
          }
          const values: Row = [valueIn(id!, params), valueIn(balance!, params), null, null]
          return { rows: [], commandTag: 'INSERT 0 1', changes: [{ table: TABLE, clustering: [], values }] }
        },
      },
      id!,
    )
  }
  return otherPlanOf(text)
}

function otherPlanOf(text: string): Plan {
  if (/^(begin|start transaction)/.test(text)) {
    const isolation = /isolation level (serializable|repeatable read|read committed)/.exec(text)?.[1] ?? null
    const readOnly = text.includes('read only') ? true : text.includes('read write') ? false : null
    return { kind: 'control', control: 'begin', isolation, readOnly, chain: false }
  }
  const control = { commit: 'commit', end: 'commit', rollback: 'abort', abort: 'abort', savepoint: 'savepoint' } as const
  const word = text.split(' ')[0] as keyof typeof control
  if (text.startsWith('rollback to')) return { kind: 'control', control: 'rollback to', isolation: null, readOnly: null, chain: false }
  if (word in control)
    return { kind: 'control', control: control[word], isolation: null, readOnly: null, chain: text.endsWith('and chain') }
  if (/^(set|reset|show|discard|deallocate)\b/.test(text)) return { kind: 'session', statement: text }
  if (text.includes('accounts')) {
    return { kind: 'unroutable', reads: text.startsWith('select'), because: 'it names no key', wouldRoute: 'it said where id = $1' }
  }
  return { kind: 'pass', pins: /temp/.test(text) }
}

export const fakePlanner: StatementPlanner = {
  async plan(sql) {
    return statementsOf(sql)
  },
  cached: () => undefined,
}

/** A text that PostgreSQL's grammar refuses is one `pass` plan, as the real planner gives it. */
function statementsOf(sql: string): PlannedStatement[] {
  // Not a parser: dollar quotes are left whole.
  return (sql.includes('$$') ? [sql] : sql.split(';'))
    .filter((text) => text.trim() !== '')
    .map((text) => ({ plan: planOf(text), sql: text }))
}

// ---- executor

export class FakeExecutor implements TargetExecutor {
  readonly rows = new Map<string, Row>()
  readonly log: string[] = []
  /** Awaited before each autocommit. */
  gate: Promise<void> = Promise.resolve()
  /** Of one statement or commit; null: none. */
  slowness: () => Promise<void> | null = () => null
  /** Statements and commits that have come to it, and that it has not ended. */
  came = 0
  underWay = 0

  async autocommit(...[lease, address, plan, params, env]: Parameters<TargetExecutor['autocommit']>) {
    await this.#takesTime()
    if (!lease.holds()) throw new SwitchbackError('LEASE_OVER', { lease: lease.id })
    const rows = { point: () => this.rows.get(address.key), range: () => [] }
    const result = plan.run(params, rows, env)
    this.#apply(address.key, result.changes)
    this.log.push(`${address.key}@${address.tenure}: ${result.commandTag}`)
    return result
  }

  begin(lease: LeaseHandle, address: { key: string; tenure: number }): TargetTransaction {
    const changes: RowChange[] = []
    let row = this.rows.get(address.key)
    let over = false
    const executor = this
    return {
      address: address as TargetTransaction['address'],
      committing: false,
      async execute(plan, params, env) {
        if (over) throw new SwitchbackError('CONFLICT', { key: address.key })
        const result = plan.run(params, { point: () => row, range: () => [] }, env)
        for (const change of result.changes) {
          changes.push(change)
          row = (change.values ?? undefined) as Row | undefined
        }
        return result
      },
      async commit() {
        await executor.#takesTime()
        if (over || !lease.holds()) throw new SwitchbackError('CONFLICT', { key: address.key })
        over = true
        executor.#apply(address.key, changes)
        executor.log.push(`${address.key}@${address.tenure}: COMMIT`)
      },
      abort() {
        over = true
      },
    }
  }

  abortWaiters() {
    return 0
  }

  nextSequences() {
    return new Map<number, number>()
  }

  undecided() {
    return new Map()
  }

  async #takesTime(): Promise<void> {
    this.came++
    this.underWay++
    try {
      await this.gate
      await this.slowness()
    } finally {
      this.underWay--
    }
  }

  #apply(key: string, changes: readonly RowChange[]): void {
    for (const change of changes) {
      if (change.values === null) this.rows.delete(key)
      else this.rows.set(key, change.values as Row)
    }
  }
}

// ---- control

export class FakeControl implements GatewayControl {
  view: RoutingView
  reachable = true
  rightsDigest = 'rights'
  readonly acks: FenceAck[] = []
  readonly partials: PartialAck[] = []
  readonly parkedTimes = new Map<number, ParkedTimes>()
  readonly over = new Set<string>()
  readonly #wakes = new Set<() => void>()
  #leases = 0

  constructor(options: { bound: boolean }) {
    const rows = Array.from({ length: HASH_SLOTS }, (_, slot): Ownership => row(slot, 'source', 'steady', 1, 1))
    this.view = new RoutingView({ epoch: 1, bindingEpoch: options.bound ? 1 : null, rows, pins: [] })
  }

  async openLease(gateway: string) {
    this.#reach()
    return `${gateway}-${++this.#leases}`
  }

  async renew(lease: string): Promise<Renewal | 'over'> {
    this.#reach()
    if (this.over.has(lease)) return 'over'
    return { view: this.view, rightsDigest: this.rightsDigest, catalogDigest: 'catalog' }
  }

  async look(): Promise<RoutingView> {
    this.#reach()
    return this.view
  }

  async ack(ack: FenceAck) {
    this.#reach()
    this.acks.push(ack)
  }

  async ackPartly(_lease: string, partial: PartialAck) {
    this.#reach()
    this.partials.push(partial)
  }

  async parked({ flips }: { flips: readonly ParkedTimes[] }) {
    this.#reach()
    for (const times of flips) this.parkedTimes.set(times.epoch, times)
  }

  async release() {}

  onWake(call: () => void) {
    this.#wakes.add(call)
    return () => this.#wakes.delete(call)
  }

  bind(): void {
    this.#set({ bindingEpoch: this.view.epoch + 1, rows: [] })
  }

  /** Changes the slot of a key. */
  change(key: string, owner: Owner, phase: Phase, more: { readOnly?: boolean } = {}): number {
    const slot = hashSlotOf(key)
    const before = this.view.ownership(slot)!
    const epoch = this.view.epoch + 1
    const tenure = owner === before.owner ? before.tenure : epoch
    this.#set({
      bindingEpoch: this.view.bindingEpoch,
      rows: [{ ...row(slot, owner, phase, epoch, tenure), readOnly: more.readOnly ?? false }],
    })
    return epoch
  }

  #set(change: { bindingEpoch: number | null; rows: Ownership[] }): void {
    this.view = this.view.with({ epoch: this.view.epoch + 1, pins: [], ...change })
    for (const wake of this.#wakes) wake()
  }

  #reach(): void {
    if (!this.reachable) throw new Error('the control schema cannot be reached')
  }
}

function row(slot: SlotId, owner: Owner, phase: Phase, epoch: number, tenure: number): Ownership {
  return { slot, owner, phase, readOnly: false, epoch, tenure, base: 0n }
}

// ---- gateway

export interface TestGateway extends AsyncDisposable {
  readonly gateway: Gateway
  readonly control: FakeControl
  readonly executor: FakeExecutor
  readonly url: string
}

export async function testGateway(
  database: TestDatabase,
  options: {
    bound?: boolean
    limits?: Partial<GatewayLimits>
    more?: Partial<GatewayOptions>
    control?: FakeControl
    executor?: FakeExecutor
  } = {},
): Promise<TestGateway> {
  const control = options.control ?? new FakeControl({ bound: options.bound ?? false })
  const executor = options.executor ?? new FakeExecutor()
  const gateway = await startGateway({
    name: 'test',
    listen: { host: '127.0.0.1', port: 0 },
    upstream: { host: '127.0.0.1', port: database.server.port },
    mapping: MAPPING,
    planner: fakePlanner,
    executor: () => executor,
    control,
    limits: { ...LIMITS, ...options.limits },
    lease: { lengthMs: 1_000, renewMs: 100, marginRatio: 0.1 },
    unroutableReads: 'refuse',
    clock: systemClock,
    random: seededRandom(1),
    log: { info() {}, warn() {}, error: (details, message) => console.error(message, details) },
    ...options.more,
  })
  const url = new URL(database.url)
  url.port = String(gateway.port)
  return {
    gateway,
    control,
    executor,
    url: url.href,
    [Symbol.asyncDispose]: () => gateway.close(),
  }
}

/** A socket that keeps what it receives. */
export function rawSocket(port: number): Promise<Socket & { received: () => Buffer }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = Object.assign(connect(port, '127.0.0.1'), { received: () => Buffer.concat(chunks) })
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.once('connect', () => resolve(socket))
    socket.once('error', reject)
    socket.on('error', () => undefined)
  })
}
