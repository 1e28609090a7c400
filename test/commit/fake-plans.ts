// Promises: keyed plans over one table `bank.pots` (key, pot, amount, by), as src/sql would derive them, for the tests of the engine.
import type { Mapping } from '../../src/model/mapping.ts'
import {
  type AggregateRows,
  type KeyedPlan,
  type ReadRequest,
  SqlError,
  type StatementEnv,
  type StatementResult,
} from '../../src/model/plan.ts'
import type { Row, RowChange } from '../../src/model/row.ts'
import { mappedColumn, mappedTable } from '../support/mapped-table.ts'

export const POTS = 'bank.pots'

export const MAPPING: Mapping = {
  migration: 'test',
  keyType: 'text',
  tables: [
    mappedTable(
      'pots',
      ['key', 'pot', 'amount', 'by'].map((name) => mappedColumn(name, 'text')),
      { name: POTS, schema: 'bank', clustering: [1] },
    ),
  ],
}

export const ENV: StatementEnv = { nowText: '2026-01-01 00:00:00+00', answers: [], uuid: () => '00000000-0000-4000-8000-000000000000' }

export interface PlanParts {
  readonly readOnly?: boolean
  readonly locks?: boolean
  readonly reads: readonly ReadRequest[]
  readonly run: (rows: AggregateRows) => StatementResult
}

export function plan({ readOnly = false, locks = false, reads, run }: PlanParts): KeyedPlan {
  return {
    kind: 'keyed',
    readOnly,
    locks,
    parameterTypes: [],
    returnsRows: true,
    key: () => null,
    asks: [],
    insertedRows: 0,
    reads: () => reads,
    run: (_, rows) => run(rows),
  }
}

export const point = (pot: string): ReadRequest => ({ kind: 'point', table: POTS, clustering: [pot] })
export const ALL: ReadRequest = { kind: 'range', table: POTS }

export function put(key: string, pot: string, amount: number, by: number): RowChange {
  return { table: POTS, clustering: [pot], values: [key, pot, String(amount), String(by)] }
}

export function drop(pot: string): RowChange {
  return { table: POTS, clustering: [pot], values: null }
}

/** Adds to pots; a pot that is not there has nothing in it. Answers the new rows. */
export function add(key: string, amounts: Readonly<Record<string, number>>, by: number): KeyedPlan {
  const pots = Object.keys(amounts)
  return plan({
    reads: pots.map(point),
    run: (rows) => {
      const changes = pots.map((pot) => put(key, pot, Number(rows.point(POTS, [pot])?.[2] ?? 0) + amounts[pot]!, by))
      return { rows: changes.map((change) => change.values as Row), commandTag: `UPDATE ${changes.length}`, changes }
    },
  })
}

/** `update ... where pot = $1 and amount >= $2`: no row where there is not enough. */
export function spend(key: string, pot: string, amount: number, by: number): KeyedPlan {
  return plan({
    reads: [point(pot)],
    run: (rows) => {
      const left = Number(rows.point(POTS, [pot])?.[2] ?? 0) - amount
      return left < 0
        ? { rows: [], commandTag: 'UPDATE 0', changes: [] }
        : { rows: [], commandTag: 'UPDATE 1', changes: [put(key, pot, left, by)] }
    },
  })
}

/** `insert`: a unique violation where the pot is there. */
export function insert(key: string, pot: string, amount: number, by: number): KeyedPlan {
  return plan({
    reads: [point(pot)],
    run: (rows) => {
      if (rows.point(POTS, [pot]) !== undefined) throw new SqlError('23505', 'duplicate key value violates unique constraint "pots_pkey"')
      return { rows: [], commandTag: 'INSERT 0 1', changes: [put(key, pot, amount, by)] }
    },
  })
}

export function remove(pot: string): KeyedPlan {
  return plan({
    reads: [point(pot)],
    run: (rows) => {
      const there = rows.point(POTS, [pot]) !== undefined
      return { rows: [], commandTag: there ? 'DELETE 1' : 'DELETE 0', changes: there ? [drop(pot)] : [] }
    },
  })
}

const select = (rows: readonly Row[]): StatementResult => ({ rows, commandTag: `SELECT ${rows.length}`, changes: [] })

export function one(pot: string, options: { locks?: boolean } = {}): KeyedPlan {
  const run = (rows: AggregateRows) => select([rows.point(POTS, [pot])].filter((row) => row !== undefined))
  return plan({ readOnly: !options.locks, locks: options.locks ?? false, reads: [point(pot)], run })
}

export function all(): KeyedPlan {
  return plan({ readOnly: true, reads: [ALL], run: (rows) => select([...rows.range(POTS)].sort((a, b) => (a[1]! < b[1]! ? -1 : 1))) })
}
