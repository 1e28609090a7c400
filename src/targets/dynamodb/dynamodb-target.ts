// Promises: the target contract over DynamoDB's JSON API. Heads, outboxes, rows and the control item are read with ConsistentRead;
// heads and the control item change by a condition, sent once and never tried again in here. No transactions, streams or TTL.
import { type Clock, systemClock } from '../../lib/clock.ts'
import { type Random, systemRandom } from '../../lib/prng.ts'
import { SwitchbackError } from '../../model/errors.ts'
import { bucketOf, ENTRIES_PER_BUCKET, type Head, type OutboxEntry, type OutboxId } from '../../model/head.ts'
import type { AggregateKey } from '../../model/key.ts'
import type { Mapping, TableName } from '../../model/mapping.ts'
import type { CasResult, ControlItem, OutboxPage, Target, TargetCapabilities } from '../../model/target.ts'
import { boundedJson, decodeChanges, decodeEntry, decodeRecent, encodeChanges, encodeEntry, encodeHead, type WireHead } from '../codec.ts'
import { type Attribute, ConditionFailed, DynamoApi, type Item } from './api.ts'
import { ITEM_BYTES_MAX, keyString, type Layout, textOf } from './encoding.ts'
import { Rows } from './rows.ts'
import type { Credentials } from './signature.ts'
import { HEAD_KEY, isType, OUTBOX_KEY, OUTBOX_RANGE, prepareTables, removeTables, type TableNames, tableNames } from './tables.ts'
import { forEachLimited, type Pace, pause, TRIES_MAX, untilNotThrottled } from './tries.ts'

export interface DynamoTargetOptions {
  readonly mapping: Mapping
  readonly endpoint: string
  readonly region: string
  readonly credentials: Credentials
  readonly tablePrefix?: string
  readonly requestTimeoutMs?: number
  readonly socketsMax?: number
  readonly waitingMax?: number
  readonly clock?: Clock
  readonly random?: Random
}

/** A head holds the redo and, beside it, key, names and the last 16 transactions; 8 KB are kept for those. */
const BESIDE_ENTRY_BYTES = 8 * 1024

export const DYNAMO_CAPABILITIES: TargetCapabilities = {
  name: 'dynamodb',
  maxEntryBytes: ITEM_BYTES_MAX - BESIDE_ENTRY_BYTES,
  maxRowBytes: ITEM_BYTES_MAX,
  strongestRead: 'ConsistentRead',
}

/** Empty buckets in a row after which an outbox is at its end: by ENTRIES_IN_FLIGHT_MAX (model/head.ts) no hole spans so many. */
export const EMPTY_BUCKETS_END = 1

const CONTROL_BUCKET = 'control'
/** DynamoDB's limit of a BatchWriteItem. */
const BATCH_WRITE_MAX = 25
const BATCH_WRITES_IN_FLIGHT_MAX = 4

export function openDynamoTarget(options: DynamoTargetOptions): Target {
  return new DynamoTarget(options)
}

class DynamoTarget implements Target {
  readonly capabilities = DYNAMO_CAPABILITIES
  readonly #api: DynamoApi
  readonly #pace: Pace
  readonly #prefix: string
  readonly #rows: Rows
  #names: TableNames

  constructor(options: DynamoTargetOptions) {
    const clock = options.clock ?? systemClock
    this.#api = new DynamoApi({
      endpoint: options.endpoint,
      region: options.region,
      credentials: options.credentials,
      requestTimeoutMs: options.requestTimeoutMs ?? 5_000,
      socketsMax: options.socketsMax ?? 64,
      waitingMax: options.waitingMax ?? 10_000,
      clock,
    })
    this.#pace = { clock, random: options.random ?? systemRandom }
    this.#prefix = options.tablePrefix ?? ''
    this.#names = tableNames(options.mapping, this.#prefix)
    this.#rows = new Rows(this.#api, (table) => this.#layout(table), this.#pace)
  }

  async prepare(mapping: Mapping): Promise<void> {
    const names = tableNames(mapping, this.#prefix)
    await prepareTables(this.#api, names, this.#pace.clock)
    this.#names = names
  }

  remove(mapping: Mapping, what: { readonly rows: boolean }): Promise<void> {
    return removeTables(this.#api, tableNames(mapping, this.#prefix), what, this.#pace.clock)
  }

  async readHead(key: AggregateKey): Promise<Head | null> {
    const item = await this.#get(this.#names.heads, headKey(key))
    return item === undefined ? null : headOf(item)
  }

  async compareAndSetHead(key: AggregateKey, expected: Head | null, next: Head): Promise<CasResult> {
    try {
      await this.#api.call('PutItem', {
        TableName: this.#names.heads,
        Item: { ...headKey(key), ...headItem(next) },
        ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
        ...headCondition(expected),
      })
      return { won: true }
    } catch (error) {
      if (!(error instanceof ConditionFailed)) throw error
      // No item: there is none, or the store does not send it along.
      return { won: false, head: error.item === undefined ? await this.readHead(key) : headOf(error.item) }
    }
  }

  async appendEntry(outbox: OutboxId, sequence: number, entry: OutboxEntry): Promise<void> {
    const text = boundedJson(encodeEntry(entry), this.capabilities.maxEntryBytes, 'appendEntry')
    const Item = { ...outboxKey(bucketName(outbox, bucketOf(sequence)), sequence), entry: { S: text } }
    await this.#api.call('PutItem', { TableName: this.#names.outbox, Item })
  }

  async readOutbox(outbox: OutboxId, after: number, limit: number): Promise<OutboxPage> {
    const entries: { sequence: number; entry: OutboxEntry }[] = []
    let empty = 0
    for (let bucket = bucketOf(after + 1); ; bucket++) {
      // One more than asked for tells whether there are more.
      const items = await this.#queryBucket(bucketName(outbox, bucket), after, limit + 1 - entries.length, false)
      for (const item of items) {
        if (entries.length === limit) return { entries, end: false }
        entries.push({ sequence: Number(textOf(item[OUTBOX_RANGE.name])), entry: decodeEntry(JSON.parse(textOf(item['entry'])!)) })
      }
      empty = items.length === 0 && bucket > bucketOf(after + 1) ? empty + 1 : 0
      if (empty >= EMPTY_BUCKETS_END) return { entries, end: true }
    }
  }

  async deleteBucket(outbox: OutboxId, bucket: number): Promise<void> {
    const name = bucketName(outbox, bucket)
    const items = await this.#queryBucket(name, bucket * ENTRIES_PER_BUCKET, ENTRIES_PER_BUCKET, true)
    const chunks = Array.from({ length: Math.ceil(items.length / BATCH_WRITE_MAX) }, (_, i) =>
      items.slice(i * BATCH_WRITE_MAX, (i + 1) * BATCH_WRITE_MAX).map((Key) => ({ DeleteRequest: { Key } })),
    )
    const errors = await forEachLimited(chunks, BATCH_WRITES_IN_FLIGHT_MAX, (requests) => this.#batchDelete(requests))
    if (errors.length > 0) throw errors[0]
  }

  putRows: Target['putRows'] = (rows) => this.#rows.put(rows)
  readRows: Target['readRows'] = (keys) => this.#rows.read(keys)
  readRange: Target['readRange'] = (range) => this.#rows.readRange(range)
  scanRows: Target['scanRows'] = (options) => this.#rows.scan(options)
  purgeTombstones: Target['purgeTombstones'] = (table, below, signal) => this.#rows.purgeTombstones(table, below, signal)

  async readControl(): Promise<ControlItem | null> {
    const item = await this.#get(this.#names.outbox, outboxKey(CONTROL_BUCKET, 0)).catch((error: unknown) => {
      if (!isType(error, 'ResourceNotFoundException')) throw error
      return undefined // nothing was prepared yet
    })
    if (item === undefined) return null
    const [systemIdentifier, timeline, epoch] = ['systemIdentifier', 'timeline', 'epoch'].map((name) => textOf(item[name])!)
    return { systemIdentifier: systemIdentifier!, timeline: Number(timeline), epoch: Number(epoch) }
  }

  async writeControl(expected: ControlItem | null, next: ControlItem): Promise<boolean> {
    const attributes = controlItem(next)
    try {
      await this.#api.call('PutItem', {
        TableName: this.#names.outbox,
        Item: { ...outboxKey(CONTROL_BUCKET, 0), ...attributes },
        ...(expected === null ? absent(OUTBOX_KEY.name) : equal(controlItem(expected))),
      })
      return true
    } catch (error) {
      if (error instanceof ConditionFailed) return false
      throw error
    }
  }

  async close(): Promise<void> {
    this.#api.close()
  }

  #layout(table: TableName): Layout {
    const layout = this.#names.layouts.get(table)
    if (layout === undefined) throw new SwitchbackError('TARGET_REFUSED', { operation: table, reason: 'there is no such table' })
    return layout
  }

  async #get(TableName: string, Key: Item): Promise<Item | undefined> {
    return (await this.#api.call<{ Item?: Item }>('GetItem', { TableName, Key, ConsistentRead: true })).Item
  }

  async #queryBucket(bucket: string, after: number, limit: number, keysOnly: boolean): Promise<Item[]> {
    const items: Item[] = []
    let start: Item | undefined
    do {
      const page: { Items: Item[]; LastEvaluatedKey?: Item } = await this.#api.call('Query', {
        TableName: this.#names.outbox,
        ConsistentRead: true,
        KeyConditionExpression: '#h = :h AND #r > :r',
        ExpressionAttributeNames: { '#h': OUTBOX_KEY.name, '#r': OUTBOX_RANGE.name },
        ExpressionAttributeValues: { ':h': { S: bucket }, ':r': { N: String(after) } },
        ...(keysOnly ? { ProjectionExpression: '#h, #r' } : {}),
        Limit: limit - items.length,
        ...(start === undefined ? {} : { ExclusiveStartKey: start }),
      })
      items.push(...page.Items)
      start = page.LastEvaluatedKey
    } while (start !== undefined && items.length < limit)
    return items
  }

  async #batchDelete(requests: readonly object[]): Promise<void> {
    const table = this.#names.outbox
    let left = requests
    for (let attempt = 0; left.length > 0; attempt++) {
      if (attempt >= TRIES_MAX)
        throw new SwitchbackError('TARGET_UNKNOWN', { operation: 'deleteBucket', reason: 'items were left unprocessed' })
      if (attempt > 0) await pause(this.#pace, attempt - 1)
      const reply = await untilNotThrottled(this.#pace, () =>
        this.#api.call<{ UnprocessedItems?: Record<string, object[]> }>('BatchWriteItem', { RequestItems: { [table]: left } }),
      )
      left = reply.UnprocessedItems?.[table] ?? []
    }
  }
}

function headKey(key: AggregateKey): Record<string, Attribute> {
  return { [HEAD_KEY.name]: { S: keyString(key) } }
}

function outboxKey(bucket: string, sequence: number): Record<string, Attribute> {
  return { [OUTBOX_KEY.name]: { S: bucket }, [OUTBOX_RANGE.name]: { N: String(sequence) } }
}

/** One partition a bucket. */
function bucketName({ group, lease }: OutboxId, bucket: number): string {
  return `${group}#${lease}#${bucket}`
}

function headItem(head: Head): Record<string, Attribute> {
  const redo = boundedJson(encodeChanges(head.redo), DYNAMO_CAPABILITIES.maxEntryBytes, 'compareAndSetHead')
  return {
    tenure: { N: String(head.tenure) },
    version: { N: String(head.version) },
    txnId: { S: head.txnId },
    redo: { S: redo },
    recent: { S: JSON.stringify(encodeHead(head)[6]) },
    ...(head.prev === null ? {} : { prev: { S: head.prev } }),
    ...(head.lock === null ? {} : { lock: { S: head.lock } }),
  }
}

function headOf(item: Item): Head {
  return {
    tenure: Number(textOf(item['tenure'])),
    version: Number(textOf(item['version'])),
    txnId: textOf(item['txnId'])!,
    prev: textOf(item['prev']) ?? null,
    redo: decodeChanges(JSON.parse(textOf(item['redo'])!) as WireHead[4]),
    lock: textOf(item['lock']) ?? null,
    recent: decodeRecent(JSON.parse(textOf(item['recent'])!) as WireHead[6]),
  }
}

/** The whole identity of a head: sameHead of model/head.ts, lock included. */
function headCondition(expected: Head | null): object {
  if (expected === null) return absent(HEAD_KEY.name)
  const { tenure, version, txnId, lock } = headItem({ ...expected, redo: [], recent: [] })
  const same = equal({ tenure: tenure!, version: version!, txnId: txnId!, ...(lock === undefined ? {} : { lock }) })
  if (lock !== undefined) return same
  return {
    ...same,
    ConditionExpression: `${same.ConditionExpression} AND attribute_not_exists(#lock)`,
    ExpressionAttributeNames: { ...same.ExpressionAttributeNames, '#lock': 'lock' },
  }
}

function absent(attribute: string): object {
  return { ConditionExpression: 'attribute_not_exists(#k)', ExpressionAttributeNames: { '#k': attribute } }
}

function equal(attributes: Record<string, Attribute>): {
  ConditionExpression: string
  ExpressionAttributeNames: Record<string, string>
  ExpressionAttributeValues: Record<string, Attribute>
} {
  const names = Object.keys(attributes)
  return {
    ConditionExpression: names.map((name) => `#${name} = :${name}`).join(' AND '),
    ExpressionAttributeNames: Object.fromEntries(names.map((name) => [`#${name}`, name])),
    ExpressionAttributeValues: Object.fromEntries(names.map((name) => [`:${name}`, attributes[name]!])),
  }
}

function controlItem(control: ControlItem): Record<string, Attribute> {
  return {
    systemIdentifier: { S: control.systemIdentifier },
    timeline: { N: String(control.timeline) },
    epoch: { N: String(control.epoch) },
  }
}
