// Promises: the transaction that the benches commit on the target: `update accounts set balance = balance + 1 where id = $1`.
import { randomUUID } from 'node:crypto'
import type { KeyedPlan, StatementEnv } from '../src/model/plan.ts'
import type { Row } from '../src/model/row.ts'
import { ACCOUNTS } from './accounts.ts'

const BALANCE = 3

export const STATEMENT_ENV: StatementEnv = { nowText: '2026-01-01 00:00:00+00', answers: [], uuid: randomUUID }

export const DEPOSIT: KeyedPlan = {
  kind: 'keyed',
  readOnly: false,
  locks: false,
  returnsRows: false,
  asks: [],
  parameterTypes: [],
  insertedRows: 0,
  key: ([key]) => key!,
  reads: () => [{ kind: 'point', table: ACCOUNTS, clustering: [] }],
  run: (_, rows) => {
    const row = rows.point(ACCOUNTS, [])
    if (row === undefined) return { rows: [], commandTag: 'UPDATE 0', changes: [] }
    return { rows: [], commandTag: 'UPDATE 1', changes: [{ table: ACCOUNTS, clustering: [], values: deposited(row) }] }
  },
}

/** One more, exactly. */
export function deposited(row: Row): Row {
  const balance = row[BALANCE]!
  const more = `${BigInt(balance.slice(0, -5)) + 1n}${balance.slice(-5)}`
  return row.map((cell, i) => (i === BALANCE ? more : cell))
}
