// Promises: target transactions written back to PostgreSQL, each wholly or not at all, many in one commit, under our own origin
// (INV-5), in the replica role so that ordinary triggers and foreign keys do not fire twice. Conditional on the leader's token, on the
// target's owning the slot in this tenure, and on version n-1 being the last applied (INV-6). What PostgreSQL refuses is poison: its
// aggregate halts, the others go on (INV-11).
import type pg from 'pg'
import type { Clock } from '../lib/clock.ts'
import { Turns } from '../lib/turns.ts'
import type { AppliedVersion, ReverseApplier, ReverseOutcome, ReverseTransaction } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { SlotId } from '../model/ids.ts'
import { type Mapping, type TableMapping, tableOf } from '../model/mapping.ts'
import type { RowChange } from '../model/row.ts'
import { connectSource } from './connect.ts'
import { columnSql, ident, keyColumns, tableSql } from './ident.ts'

export interface ReverseApplierOptions {
  /** Of the applier's own login role. */
  readonly url: string
  readonly mapping: Mapping
  readonly leaderToken: number
  readonly originName: string
  readonly clock: Clock
  /** A slot above all of the service's that each leader owns in the tenure of its token: the probe's. It is in no ownership row. */
  readonly probeSlot?: SlotId
  /** A successor ends older leaders' connections by this name; by default the one it looks for. */
  readonly applicationName?: string
}

export interface PostgresReverseApplier extends ReverseApplier {
  close(): Promise<void>
}

const APPLY_TIMEOUT_MS = 30_000
/** Batches, looks at what is applied, and positions: the sync asks for few at once. */
const WORK_WAITING_MAX = 1_000
/** How long an older connection of our own, which may still run a command, has to end. */
const END_OLD_MS = 5_000
const END_OLD_POLL_MS = 20

/** @throws ORIGIN_IN_USE: an older leader's applier still holds it. */
export async function createReverseApplier(options: ReverseApplierOptions): Promise<PostgresReverseApplier> {
  return new Applier(await openBackend(options, null), options)
}

interface Backend {
  readonly client: pg.Client
  readonly pid: string
  readonly startedAt: string
  isLost: boolean
}

/** The one before is ended first, so that no command of it runs late (protocols.md, One leader). */
async function openBackend(options: ReverseApplierOptions, before: Backend | null): Promise<Backend> {
  const applicationName = options.applicationName ?? `switchback leader ${options.leaderToken} reverse`
  const client = await connectSource({ url: options.url, applicationName, queryTimeoutMs: APPLY_TIMEOUT_MS })
  try {
    if (before !== null) await endBackend(client, before, options.clock)
    await client.query('set session_replication_role = replica')
    await client.query('set synchronous_commit = on')
    await setUpOrigin(client, options.originName)
    const { rows } = await client.query<{ pid: string; started: string }>(
      'select pid::text as pid, backend_start::text as started from pg_stat_activity where pid = pg_backend_pid()',
    )
    const backend: Backend = { client, pid: rows[0]!.pid, startedAt: rows[0]!.started, isLost: false }
    client.on('error', () => {
      backend.isLost = true
    })
    client.on('end', () => {
      backend.isLost = true
    })
    return backend
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  }
}

async function endBackend(client: pg.Client, { pid, startedAt }: Backend, clock: Clock): Promise<void> {
  const deadline = clock.monotonicMs() + END_OLD_MS
  for (;;) {
    const { rows } = await client.query(
      'select pg_terminate_backend(pid) as asked from pg_stat_activity where pid = $1 and backend_start = $2::timestamptz',
      [pid, startedAt],
    )
    if (rows.length === 0) return
    if (clock.monotonicMs() > deadline)
      throw new SwitchbackError('CONTROL_UNREACHABLE', { reason: `the applier's old backend ${pid} does not end` })
    await clock.sleep(END_OLD_POLL_MS)
  }
}

async function setUpOrigin(client: pg.Client, name: string): Promise<void> {
  await client.query('select pg_replication_origin_create($1) where pg_replication_origin_oid($1) is null', [name])
  try {
    await client.query('select pg_replication_origin_session_setup($1)', [name])
  } catch (error) {
    if ((error as { code?: string }).code === '55006') throw new SwitchbackError('ORIGIN_IN_USE', { origin: name }, error)
    throw error
  }
}

class Applier implements PostgresReverseApplier {
  #backend: Backend
  #closed = false
  readonly #options: ReverseApplierOptions
  readonly #mapping: Mapping
  readonly #token: number
  readonly #writes = new Map<string, TableWrites>()
  /** One batch at a time: the session has one transaction. */
  readonly #turns = new Turns({
    waitingMax: WORK_WAITING_MAX,
    full: () =>
      new SwitchbackError('CONTROL_UNREACHABLE', {
        reason: `more than ${WORK_WAITING_MAX} calls wait for the reverse applier (WORK_WAITING_MAX)`,
      }),
  })

  constructor(backend: Backend, options: ReverseApplierOptions) {
    this.#backend = backend
    this.#options = options
    this.#mapping = options.mapping
    this.#token = options.leaderToken
    for (const table of options.mapping.tables) this.#writes.set(table.name, tableWrites(table))
  }

  apply(batch: readonly ReverseTransaction[]): Promise<readonly ReverseOutcome[]> {
    return this.#inTurn(() => this.#apply(batch))
  }

  applied(keys: readonly { readonly key: string; readonly tenure: number }[]): Promise<readonly AppliedVersion[]> {
    return this.#inTurn(async () => {
      const { rows } = await this.#client.query<Record<string, string>>(
        `select a.key, a.tenure, a.version, a.txn_id
           from switchback.applied a join unnest($1::text[], $2::bigint[]) as asked(key, tenure) on a.key = asked.key and a.tenure = asked.tenure`,
        [keys.map(({ key }) => key), keys.map(({ tenure }) => tenure)],
      )
      return rows.map((row) => ({
        key: row['key']!,
        tenure: Number(row['tenure']),
        version: Number(row['version']),
        txnId: row['txn_id']!,
      }))
    })
  }

  positions(): ReturnType<ReverseApplier['positions']> {
    return this.#inTurn(async () => {
      const { rows } = await this.#client.query<Record<string, string>>(
        'select slot_group, lease, sequence, final::text as final from switchback.position',
      )
      return rows.map((row) => ({
        group: Number(row['slot_group']),
        lease: row['lease']!,
        sequence: Number(row['sequence']),
        final: row['final'] === 'true',
      }))
    })
  }

  savePositions(positions: Parameters<ReverseApplier['savePositions']>[0]): Promise<void> {
    return this.#inTurn(async () => {
      await this.#transaction(async () => {
        await this.#client.query(
          `insert into switchback.position (slot_group, lease, sequence, final)
           select * from unnest($1::int[], $2::text[], $3::bigint[], $4::boolean[])
           on conflict (slot_group, lease) do update
             set sequence = greatest(position.sequence, excluded.sequence), final = position.final or excluded.final`,
          [positions.map((p) => p.group), positions.map((p) => p.lease), positions.map((p) => p.sequence), positions.map((p) => p.final)],
        )
      })
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#client.end().catch(() => undefined)
  }

  get #client(): pg.Client {
    return this.#backend.client
  }

  async #apply(batch: readonly ReverseTransaction[]): Promise<readonly ReverseOutcome[]> {
    const one = batch.length === 1 ? batch[0]! : null
    try {
      return await this.#transaction(() => this.#applyAll(batch, 'upsert'))
    } catch (error) {
      if (!isRefusal(error)) throw named(error)
      if (one !== null) return [await this.#insist(one)]
    }
    // One of them is refused: each by itself, so that the others go on.
    const outcomes: ReverseOutcome[] = []
    for (const each of batch) outcomes.push(...(await this.#apply([each])))
    return outcomes
  }

  /** Rows that swap an inner unique key refuse each other's upsert, though the end state is lawful: all leave before any comes. */
  async #insist(one: ReverseTransaction): Promise<ReverseOutcome> {
    try {
      return (await this.#transaction(() => this.#applyAll([one], 'replace')))[0]!
    } catch (error) {
      if (!isRefusal(error)) throw named(error)
      return await this.#poison(one, error)
    }
  }

  async #transaction<T>(work: () => Promise<T>): Promise<T> {
    await this.#client.query('begin')
    try {
      await this.#client.query('select switchback.assert_leader($1)', [this.#token])
      const value = await work()
      await this.#client.query('commit')
      return value
    } catch (error) {
      await this.#client.query('rollback').catch(() => undefined)
      if ((error as { code?: string }).code === STALE_STATE) throw new SwitchbackError('TOKEN_STALE', { token: this.#token }, error)
      throw error
    }
  }

  async #applyAll(batch: readonly ReverseTransaction[], how: 'upsert' | 'replace'): Promise<readonly ReverseOutcome[]> {
    const { outcomes, retried } = await this.#standings(batch)
    const due = batch.filter((_, i) => outcomes[i] === 'applied')
    if (due.length > 0) await this.#applyDue(due, how)
    if (retried.length > 0) await this.#client.query(HEALED, [retried])
    return outcomes
  }

  async #applyDue(due: readonly ReverseTransaction[], how: 'upsert' | 'replace'): Promise<void> {
    for (const [table, changes] of foldByTable(due)) await this.#write(table, changes, how)
    const newest = new Map(due.map((transaction) => [transaction.key, transaction]))
    const last = [...newest.values()]
    await this.#client.query(
      `with total as (
         update switchback.applied_total set transactions = transactions + $6 where $6 > 0
       )
       insert into switchback.applied (key, slot, tenure, version, txn_id)
       select * from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::text[])
       on conflict (key) do update set slot = excluded.slot, tenure = excluded.tenure, version = excluded.version, txn_id = excluded.txn_id`,
      [
        last.map((t) => t.key),
        last.map((t) => t.slot),
        last.map((t) => t.tenure),
        last.map((t) => t.version),
        last.map((t) => t.txnId),
        due.filter((t) => t.slot !== this.#options.probeSlot).length,
      ],
    )
  }

  /** In order: a transaction counts for the ones after it in the same batch. `retried`: keys whose poison is tried again. */
  async #standings(batch: readonly ReverseTransaction[]): Promise<{ outcomes: ReverseOutcome[]; retried: string[] }> {
    const { rows } = await this.#client.query<Record<string, string | null>>(
      `select coalesce(o.owner = 'target' and o.tenure = asked.tenure, asked.slot = $4 and asked.tenure = $5) as mine,
              case when a.tenure = asked.tenure then a.version else 0 end as version,
              p.key is not null and not p.retrying as poisoned, p.retrying
         from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality as asked(key, slot, tenure, n)
         left join switchback.ownership o on o.slot = asked.slot
         left join switchback.applied a on a.key = asked.key
         left join switchback.poison p on p.key = asked.key and p.tenure = asked.tenure
        order by asked.n`,
      [batch.map((t) => t.key), batch.map((t) => t.slot), batch.map((t) => t.tenure), this.#options.probeSlot ?? null, this.#token],
    )
    const reached = new Map<string, number>()
    const outcomes = batch.map((transaction, i): ReverseOutcome => {
      const row = rows[i]!
      if (row['mine'] !== 't') return 'old'
      if (row['poisoned'] === 't') return 'poison'
      const version = reached.get(transaction.key) ?? Number(row['version'])
      if (transaction.version <= version) return 'double'
      if (transaction.version > version + 1) return 'wait'
      reached.set(transaction.key, transaction.version)
      return 'applied'
    })
    return { outcomes, retried: batch.filter((_, i) => rows[i]!['retrying'] === 't').map(({ key }) => key) }
  }

  /** Deletes first: an inner unique key freed and taken again is no false conflict. */
  async #write(name: string, changes: readonly FoldedChange[], how: 'upsert' | 'replace'): Promise<void> {
    const table = tableOf(this.#mapping, name)
    if (table === undefined) throw new SwitchbackError('TABLE_UNKNOWN', { table: name })
    const writes = this.#writes.get(name)!
    const deletes = how === 'replace' || writes.replaces ? changes : changes.filter((change) => change.values === null)
    if (deletes.length > 0) {
      await this.#client.query({
        text: writes.remove,
        values: keyColumns(table).map((_, i) => deletes.map(({ key, clustering }) => (i === 0 ? key : clustering[i - 1]!))),
      })
    }
    const puts = changes.filter((change) => change.values !== null)
    if (puts.length > 0) {
      await this.#client.query({
        text: writes.upsert,
        values: writes.columns.map((column) => puts.map((put) => put.values![column] ?? null)),
      })
    }
  }

  async #poison(transaction: ReverseTransaction, error: unknown): Promise<ReverseOutcome> {
    const { code = '', message = String(error) } = error as { code?: string; message?: string }
    const { key, slot, tenure, version } = transaction
    await this.#transaction(() =>
      this.#client.query(
        `insert into switchback.poison (key, slot, tenure, version, sqlstate, message) values ($1, $2, $3, $4, $5, $6)
         on conflict (key) do update set slot = excluded.slot, tenure = excluded.tenure, version = excluded.version,
           sqlstate = excluded.sqlstate, message = excluded.message, retrying = false, at = clock_timestamp()`,
        [key, slot, tenure, version, code, message],
      ),
    )
    return 'poison'
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      if (this.#closed) throw new SwitchbackError('CONTROL_UNREACHABLE', { reason: 'the reverse applier was closed' })
      if (this.#backend.isLost) this.#backend = await openBackend(this.#options, this.#backend)
      try {
        return await work()
      } catch (error) {
        // Without an SQLSTATE the reply is unknown: whatever still runs is ended before anything else is sent.
        if (!(error instanceof SwitchbackError) && !isAnswer(error)) {
          this.#backend.isLost = true
          void this.#backend.client.end().catch(() => undefined) // it may wait for the server for ever
        }
        throw error
      }
    })
  }
}

/** Poison that was tried again goes in the commit that applied it. */
const HEALED = `delete from switchback.poison p using switchback.applied a
  where p.retrying and p.key = any ($1) and a.key = p.key and a.tenure = p.tenure and a.version >= p.version`

/** SQLSTATE of the control schema's TOKEN_STALE. */
const STALE_STATE = 'SB001'

/** PostgreSQL says no to the content: sending it again would end alike. */
function isRefusal(error: unknown): boolean {
  const code = (error as { code?: unknown }).code
  return typeof code === 'string' && /^(22|23|44|P0)/.test(code)
}

function isAnswer(error: unknown): boolean {
  const code = (error as { code?: unknown }).code
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !code.startsWith('08') && !code.startsWith('57P')
}

/** A right or a column that is missing is no fault of one transaction: it would poison all of them. */
function named(error: unknown): unknown {
  const { code, message } = error as { code?: string; message?: string }
  if (typeof code !== 'string' || !/^42/.test(code)) return error
  return new SwitchbackError('APPLY_REFUSED', { sqlstate: code, reason: message ?? code }, error)
}

interface FoldedChange extends RowChange {
  readonly key: string
}

/** The last change of each row counts; order between rows of one commit shows to nobody. */
function foldByTable(transactions: readonly ReverseTransaction[]): Map<string, FoldedChange[]> {
  const folded = new Map<string, Map<string, FoldedChange>>()
  for (const { key, changes } of transactions) {
    for (const change of changes) {
      let rows = folded.get(change.table)
      if (rows === undefined) {
        rows = new Map()
        folded.set(change.table, rows)
      }
      rows.set(JSON.stringify([key, change.clustering]), { ...change, key })
    }
  }
  return new Map([...folded].map(([table, rows]) => [table, [...rows.values()]]))
}

interface TableWrites {
  /** Columns that are written: generated ones compute themselves. */
  readonly columns: readonly number[]
  readonly upsert: string
  readonly remove: string
  /** An identity ALWAYS column can be inserted, but never updated to a value. */
  readonly replaces: boolean
}

function tableWrites(table: TableMapping): TableWrites {
  const columns = table.columns.flatMap((column, i) => (column.generatedExpr === null ? [i] : []))
  const keys = keyColumns(table)
  const typed = (column: number, alias: string) => `${alias}::${table.columns[column]!.type}`
  const names = columns.map((column) => columnSql(table, column))
  const rest = columns
    .filter((column) => !keys.includes(column) && table.columns[column]!.identity !== 'always')
    .map((column) => `${columnSql(table, column)} = excluded.${columnSql(table, column)}`)
  return {
    columns,
    replaces: table.columns.some((column, i) => column.identity === 'always' && !keys.includes(i)),
    upsert: `insert into ${tableSql(table)} (${names.join(', ')}) overriding system value
      select ${columns.map((column, i) => typed(column, `c${i}`)).join(', ')}
        from unnest(${columns.map((_, i) => `$${i + 1}::text[]`).join(', ')}) as puts(${columns.map((_, i) => `c${i}`).join(', ')})
      on conflict (${keys.map((column) => columnSql(table, column)).join(', ')}) do ${rest.length === 0 ? 'nothing' : `update set ${rest.join(', ')}`}`,
    remove: `delete from ${tableSql(table)} as t
      using unnest(${keys.map((_, i) => `$${i + 1}::text[]`).join(', ')}) as gone(${keys.map((_, i) => `k${i}`).join(', ')})
      where ${keys.map((column, i) => `t.${ident(table.columns[column]!.name)} = ${typed(column, `gone.k${i}`)}`).join(' and ')}`,
  }
}
