// Promises: what Node.js gets out of a DynamoDB-compatible store on this machine without Switchback: plain requests over kept sockets,
// the least work a client can do. dynalite checks the form of a signature and not the signature, so none is computed: the peer is
// faster than any honest client of DynamoDB.
import { Agent, request } from 'node:http'
import { accountRow } from './accounts.ts'
import { inFlight } from './measure.ts'

export const PEER_SOCKETS = 64
const BATCH_WRITE_MAX = 25
const TABLE = 'peer_accounts'

export class DynamoPeer {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: PEER_SOCKETS, scheduling: 'lifo' })
  readonly #port: number

  constructor(port: number) {
    this.#port = port
  }

  async makeTable(table = TABLE): Promise<void> {
    await this.call('CreateTable', {
      TableName: table,
      AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'N' }],
      KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
      BillingMode: 'PAY_PER_REQUEST',
    })
    // dynalite's tables are active a turn later.
    for (let tries = 0; tries < 500; tries++) {
      const told = (await this.call('DescribeTable', { TableName: table })) as { Table: { TableStatus: string } }
      if (told.Table.TableStatus === 'ACTIVE') return
    }
    throw new Error(`${table} did not become active`)
  }

  /** One request a row, on condition that it is not there: what keeps a late duplicate from doing harm. */
  async insertConditionally(ids: readonly number[]): Promise<void> {
    await inFlight(ids, PEER_SOCKETS, (id) =>
      this.call('PutItem', {
        TableName: TABLE,
        Item: itemOf(id),
        ConditionExpression: 'attribute_not_exists(#k)',
        ExpressionAttributeNames: { '#k': 'id' },
      }),
    )
  }

  /** 25 rows a request, without a condition. */
  async insertInBatches(ids: readonly number[]): Promise<void> {
    const batches = Array.from({ length: Math.ceil(ids.length / BATCH_WRITE_MAX) }, (_, i) =>
      ids.slice(i * BATCH_WRITE_MAX, (i + 1) * BATCH_WRITE_MAX),
    )
    await inFlight(batches, 8, (batch) =>
      this.call('BatchWriteItem', { RequestItems: { [TABLE]: batch.map((id) => ({ PutRequest: { Item: itemOf(id) } })) } }),
    )
  }

  /** Every item of a table, by parallel scans; returns how many. */
  async scan(table: string, segments: number): Promise<number> {
    let items = 0
    const parts = Array.from({ length: segments }, (_, segment) => segment)
    await inFlight(parts, segments, async (Segment) => {
      let start: unknown
      do {
        const page = (await this.call('Scan', {
          TableName: table,
          ConsistentRead: true,
          ...(segments > 1 ? { Segment, TotalSegments: segments } : {}),
          ...(start === undefined ? {} : { ExclusiveStartKey: start }),
        })) as { Items: unknown[]; LastEvaluatedKey?: unknown }
        items += page.Items.length
        start = page.LastEvaluatedKey
      } while (start !== undefined)
    })
    return items
  }

  call(operation: string, parameters: object): Promise<unknown> {
    const body = JSON.stringify(parameters)
    const headers = {
      host: `127.0.0.1:${this.#port}`,
      'x-amz-date': '20260101T000000Z',
      'x-amz-target': `DynamoDB_20120810.${operation}`,
      'content-type': 'application/x-amz-json-1.0',
      'content-length': Buffer.byteLength(body),
      authorization:
        'AWS4-HMAC-SHA256 Credential=bench/20260101/local/dynamodb/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=0',
    }
    return new Promise((resolve, reject) => {
      const sent = request({ port: this.#port, host: '127.0.0.1', method: 'POST', path: '/', agent: this.#agent, headers }, (reply) => {
        const chunks: Buffer[] = []
        reply.on('data', (chunk: Buffer) => chunks.push(chunk))
        reply.on('error', reject)
        reply.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          if (reply.statusCode === 200) resolve(JSON.parse(text))
          else reject(new Error(`${operation}: ${reply.statusCode} ${text.slice(0, 200)}`))
        })
      })
      sent.on('error', reject)
      sent.end(body)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}

function itemOf(id: number): object {
  const [, owner, currency, balance, entryCount, lastOp, openedAt] = accountRow(id, `${id}.2500`)
  return {
    id: { N: String(id) },
    owner: { S: owner },
    currency: { S: currency },
    balance: { S: balance },
    entry_count: { N: entryCount },
    last_op: { S: lastOp },
    opened_at: { S: openedAt },
    _sb_stamp: { N: '1' },
  }
}
