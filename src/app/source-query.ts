// Promises: queries of rows as raw text that survive the loss of their connection: the query that was under way fails, the next one
// gets a new connection.
import type pg from 'pg'
import { Turns } from '../lib/turns.ts'
import { SwitchbackError } from '../model/errors.ts'
import { connectSource } from '../source/connect.ts'
import type { TextQuery } from '../source/parity-reader.ts'

export interface SourceQuery {
  readonly query: TextQuery
  close(): Promise<void>
}

const QUERIES_WAITING_MAX = 1_000

export function openSourceQuery(options: { readonly url: string; readonly applicationName: string }): SourceQuery {
  let current: Promise<pg.Client> | null = null
  const turns = new Turns({
    waitingMax: QUERIES_WAITING_MAX,
    full: () =>
      new SwitchbackError('CONTROL_UNREACHABLE', { reason: `more than ${QUERIES_WAITING_MAX} queries wait (QUERIES_WAITING_MAX)` }),
  })
  const connected = () => {
    current ??= connectSource(options).then(
      (client) => {
        const opened = Promise.resolve(client)
        const lost = () => {
          if (current !== null) current = null
        }
        client.once('error', lost)
        client.once('end', lost)
        return opened
      },
      (error: unknown) => {
        current = null
        throw error
      },
    )
    return current
  }
  const ask = async (sql: string, values: readonly unknown[]) => {
    const client = await connected()
    return (await client.query<(string | null)[]>({ text: sql, values: [...values], rowMode: 'array' })).rows
  }
  return {
    // One after the other: a connection runs one query at a time.
    query: (sql, values = []) => turns.take(() => ask(sql, values)),
    async close() {
      const client = await current?.catch(() => null)
      await client?.end().catch(() => undefined)
    },
  }
}
