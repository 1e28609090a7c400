// Promises: the ledger's rows as PostgreSQL and as the DynamoDB-compatible store have them, read by their own clients with nothing of
// Switchback between: what a user would find there.
import { type AttributeValue, DynamoDBClient, paginateScan } from '@aws-sdk/client-dynamodb'
import pg from 'pg'
import type { LedgerRows } from './check.ts'

export async function rowsInPostgres(url: string): Promise<LedgerRows> {
  const client = new pg.Client({ connectionString: url, query_timeout: 60_000 })
  await client.connect()
  try {
    const read = async (sql: string) => (await client.query<string[]>({ text: sql, rowMode: 'array' })).rows
    return {
      accounts: (await read('select id::text, balance::text, entry_count::text from accounts')) as unknown as [string, string, string][],
      entries: (await read('select account_id::text, op::text, amount::text from entries')) as unknown as [string, string, string][],
      profiles: (await read('select account_id::text, kind, revision::text, token::text from profiles')) as unknown as [
        string,
        string,
        string,
        string | null,
      ][],
    }
  } finally {
    await client.end()
  }
}

export interface DynamoPlace {
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly tablePrefix: string
}

/** Live rows only: `isTombstone` says which items are left of deleted rows. */
// Its next versions want a newer Node: no news to whoever runs the demo.
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true'

export async function rowsInDynamo(
  place: DynamoPlace,
  isTombstone: (item: Record<string, AttributeValue>) => boolean,
): Promise<LedgerRows> {
  const client = new DynamoDBClient({
    endpoint: place.endpoint,
    region: 'local',
    credentials: { accessKeyId: place.accessKeyId, secretAccessKey: place.secretAccessKey },
  })
  const scan = async (table: string) => {
    const items: Record<string, AttributeValue>[] = []
    const pages = paginateScan({ client }, { TableName: `${place.tablePrefix}${table}`, ConsistentRead: true })
    for await (const page of pages) items.push(...(page.Items ?? []).filter((item) => !isTombstone(item)))
    return items
  }
  try {
    return {
      accounts: (await scan('accounts')).map((item) => [text(item['id'])!, text(item['balance'])!, text(item['entry_count'])!]),
      entries: (await scan('entries')).map((item) => [text(item['account_id'])!, text(item['op'])!, text(item['amount'])!]),
      profiles: (await scan('profiles')).map((item) => [
        text(item['account_id'])!,
        text(item['kind'])!,
        text(item['revision'])!,
        text(item['token']),
      ]),
    }
  } finally {
    client.destroy()
  }
}

function text(value: AttributeValue | undefined): string | null {
  return value?.S ?? value?.N ?? null
}
