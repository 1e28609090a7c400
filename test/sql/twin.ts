// Promises: one statement on real PostgreSQL and, by its plan, over rows in memory; what both answered and what both hold after.
// The rows in memory answer only what the plan asked for before: a read it forgot fails the test.
import assert from 'node:assert/strict'
import type pg from 'pg'
import type { Catalog } from '../../src/model/catalog.ts'
import type { Mapping, TableMapping } from '../../src/model/mapping.ts'
import {
  type AggregateRows,
  type Params,
  type ReadRequest,
  SqlError,
  type StatementEnv,
  type StatementResult,
} from '../../src/model/plan.ts'
import type { Cell, Row } from '../../src/model/row.ts'
import type { DerivedPlan } from '../../src/sql/derive-plan.ts'
import type { createPlanner } from '../../src/sql/planner.ts'

export const TEXT_TYPES = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig

export interface Outcome {
  readonly rows?: readonly Row[]
  readonly tag?: string
  readonly error?: {
    readonly sqlstate: string
    readonly message: string
    readonly detail: string | null
    readonly constraint: string | null
  }
}

export interface Twin {
  readonly mapping: Mapping
  readonly catalog: Catalog
  readonly client: pg.Client
  readonly planner: ReturnType<typeof createPlanner>
  /** Rows of all aggregates by table. */
  readonly store: Map<string, Row[]>
}

export async function keyedPlan(twin: Twin, sql: string): Promise<DerivedPlan> {
  const planned = await twin.planner.plan(sql, ['public'])
  assert.equal(planned.length, 1)
  const { plan } = planned[0]!
  if (plan.kind === 'unroutable') assert.fail(`unroutable, because ${plan.because}: ${sql}`)
  assert.equal(plan.kind, 'keyed', sql)
  return plan as DerivedPlan
}

export async function reload(twin: Twin): Promise<void> {
  for (const table of twin.mapping.tables) twin.store.set(table.name, await contents(twin.client, table))
}

async function contents(client: pg.Client, table: TableMapping): Promise<Row[]> {
  const columns = table.columns.map((column) => `"${column.name}"`).join(', ')
  const { rows } = await client.query({ text: `select ${columns} from ${table.name}`, rowMode: 'array', types: TEXT_TYPES })
  return rows as unknown as Row[]
}

const byText = (a: readonly unknown[], b: readonly unknown[]) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)
export const sorted = (rows: readonly Row[]) => [...rows].sort(byText)

/** Runs on both, compares everything, and leaves both with the result. `ordered` compares rows in their order;
 * `anyChild` lets either name another child row that still refers to what is gone: which comes first hangs on where rows lie. */
export async function same(
  twin: Twin,
  sql: string,
  params: Params = [],
  options: { ordered?: boolean; anyChild?: boolean } = {},
): Promise<Outcome> {
  const plan = await keyedPlan(twin, sql)
  const { client } = twin
  await client.query('begin')
  const { rows: now } = await client.query({ text: 'select now()', rowMode: 'array', types: TEXT_TYPES })
  const env: StatementEnv = {
    nowText: (now as unknown as string[][])[0]![0]!,
    answers: await answersFor(twin, plan),
    uuid: () => '00000000-0000-4000-8000-000000000000',
  }
  const ours = runPlan(twin, plan, params, env)
  const theirs = await runPostgres(client, sql, params)
  await client.query(theirs.error === undefined ? 'commit' : 'rollback')
  const context = `${sql} ${JSON.stringify(params)}`
  const order = (outcome: Outcome): Outcome => {
    const { rows, error } = outcome
    if (error !== undefined && options.anyChild && error.detail?.includes('still referenced')) return { error: { ...error, detail: null } }
    return rows === undefined || options.ordered ? outcome : { ...outcome, rows: sorted(rows) }
  }
  assert.deepEqual(order(ours.outcome), order(theirs), context)
  if (ours.result !== null) fold(twin, plan.key(params), ours.result)
  if (!plan.readOnly) {
    for (const table of twin.mapping.tables) {
      assert.deepEqual(sorted(twin.store.get(table.name)!), sorted(await contents(client, table)), `${table.name} after ${context}`)
    }
  }
  return ours.outcome
}

/** Asks PostgreSQL, then sets its sequences back, so that its own run draws the same numbers. */
async function answersFor(twin: Twin, plan: DerivedPlan): Promise<Cell[][]> {
  const answers: Cell[][] = []
  if (plan.asks.length === 0) return answers
  const { rows: before } = await twin.client.query(
    `select schemaname, sequencename, coalesce(last_value, start_value) as value, last_value is not null as called from pg_sequences`,
  )
  for (let i = 0; i < plan.insertedRows; i++) {
    const { rows } = await twin.client.query({ text: `select ${plan.asks.join(', ')}`, rowMode: 'array', types: TEXT_TYPES })
    answers.push((rows as unknown as Cell[][])[0]!)
  }
  for (const one of before)
    await twin.client.query('select setval($1, $2, $3)', [`${one.schemaname}.${one.sequencename}`, one.value, one.called])
  return answers
}

function runPlan(twin: Twin, plan: DerivedPlan, params: Params, env: StatementEnv): { outcome: Outcome; result: StatementResult | null } {
  try {
    const key = plan.key(params)
    const requests = plan.reads(params, env)
    // Without the answers a plan must not ask for less than it needs either.
    const blind = plan.reads(params)
    for (const given of [blind, requests]) {
      const result = plan.run(params, rowsFor(twin, key, given), env)
      if (given === requests) return { outcome: { rows: result.rows, tag: result.commandTag }, result }
    }
    throw new Error('unreachable')
  } catch (error) {
    if (!(error instanceof SqlError)) throw error
    return {
      outcome: { error: { sqlstate: error.sqlstate, message: error.message, detail: error.detail, constraint: error.constraint } },
      result: null,
    }
  }
}

export function rowsFor(twin: Twin, key: string | null, requests: readonly ReadRequest[]): AggregateRows {
  const all = (table: string) => {
    const mapping = twin.mapping.tables.find((one) => one.name === table)!
    return twin.store.get(table)!.filter((row) => row[mapping.partition] === key)
  }
  const clusteringOf = (table: string, row: Row) =>
    twin.mapping.tables.find((one) => one.name === table)!.clustering.map((index) => row[index])
  const ranges = new Set(requests.filter((one) => one.kind === 'range').map((one) => one.table))
  const points = new Set(requests.flatMap((one) => (one.kind === 'point' ? [JSON.stringify([one.table, one.clustering])] : [])))
  return {
    point(table, clustering) {
      assert.ok(
        ranges.has(table) || points.has(JSON.stringify([table, clustering])),
        `a point of ${table} that was not asked for: ${clustering}`,
      )
      return all(table).find((row) => JSON.stringify(clusteringOf(table, row)) === JSON.stringify(clustering))
    },
    range(table) {
      assert.ok(ranges.has(table), `a range of ${table} that was not asked for`)
      return all(table)
    },
  }
}

function fold(twin: Twin, key: string | null, result: StatementResult): void {
  for (const change of result.changes) {
    const mapping = twin.mapping.tables.find((one) => one.name === change.table)!
    const kept = twin.store
      .get(change.table)!
      .filter((row) => row[mapping.partition] !== key || !mapping.clustering.every((index, i) => row[index] === change.clustering[i]))
    if (change.values !== null) kept.push(change.values as Row)
    twin.store.set(change.table, kept)
  }
}

async function runPostgres(client: pg.Client, sql: string, params: Params): Promise<Outcome> {
  try {
    const result = await client.query({ text: sql, values: [...params], rowMode: 'array', types: TEXT_TYPES })
    const tag = result.command === 'INSERT' ? `INSERT 0 ${result.rowCount}` : `${result.command} ${result.rowCount}`
    return { rows: result.rows as unknown as Row[], tag }
  } catch (error) {
    const { code, message, detail, constraint } = error as pg.DatabaseError
    return { error: { sqlstate: code ?? '', message, detail: detail ?? null, constraint: constraint ?? null } }
  }
}

/** The types that PostgreSQL's own analysis gives the parameters. */
export async function parameterTypes(client: pg.Client, sql: string): Promise<readonly string[]> {
  await client.query(`prepare probe as ${sql}`)
  const { rows } = await client.query({
    text: `select (select array_agg(typname::text order by n) from unnest(parameter_types) with ordinality u(t, n) join pg_type on pg_type.oid = t) as types
             from pg_prepared_statements where name = 'probe'`,
  })
  await client.query('deallocate probe')
  return ((rows[0]?.types ?? []) as string[]).map((name) => (name.startsWith('_') ? `${name.slice(1)}[]` : name))
}
