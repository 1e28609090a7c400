// Promises: queries of rows as raw text that survive the loss of their connection: the query that was under way fails, the next one
// gets a new connection.
import type pg from 'pg'
import { connectSource } from '../source/connect.ts'
import type { TextQuery } from '../source/parity-reader.ts'

export interface SourceQuery {
  readonly query: TextQuery
  close(): Promise<void>
}

export function openSourceQuery(options: { readonly url: string; readonly applicationName: string }): SourceQuery {
  let current: Promise<pg.Client> | null = null
  let turn: Promise<unknown> = Promise.resolve()
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
    query(sql, values = []) {
      const asked = turn.then(() => ask(sql, values))
      turn = asked.catch(() => undefined)
      return asked
    },
    async close() {
      const client = await current?.catch(() => null)
      await client?.end().catch(() => undefined)
    },
  }
}
