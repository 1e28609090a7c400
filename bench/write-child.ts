// Promises: a service that writes PostgreSQL at a steady rate, and how fast it really went.
import pg from 'pg'
import { openLoop, taskOf } from './child.ts'

export interface WriteTask {
  readonly url: string
  readonly accounts: number
  readonly rowsPerSecond: number
  readonly rowsPerTransaction: number
  readonly seconds: number
}

export interface WriteAnswer {
  readonly rows: number
  readonly seconds: number
}

const CONNECTIONS = 4

const { url, accounts, rowsPerSecond, rowsPerTransaction, seconds } = taskOf<WriteTask>()
const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS, query_timeout: 60_000 })
let rows = 0
let at = 0
const fromMs = performance.now()
await openLoop({ perSecond: rowsPerSecond / rowsPerTransaction, seconds }, async () => {
  const ids = Array.from({ length: rowsPerTransaction }, () => (at++ % accounts) + 1)
  const done = await pool.query({
    name: 'write',
    text: 'update public.accounts set balance = balance + 1, entry_count = entry_count + 1 where id = any ($1::bigint[])',
    values: [ids],
  })
  rows += done.rowCount ?? 0
})
const answer: WriteAnswer = { rows, seconds: (performance.now() - fromMs) / 1_000 }
await pool.end()
process.stdout.write(JSON.stringify(answer))
