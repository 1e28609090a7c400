// Promises: rows of the mapped tables: put under INV-4 by a condition on the stamp attribute, read with ConsistentRead.
// BatchWriteItem takes no condition, so every put is a request of its own, many in flight.
import { hasCode, SwitchbackError } from '../../model/errors.ts'
import type { TableName } from '../../model/mapping.ts'
import type { RowKey, RowPut, StampedRow } from '../../model/row.ts'
import type { RowPage, RowRange, ScanOptions } from '../../model/target.ts'
import { type Attribute, ConditionFailed, type DynamoApi, type Item } from './api.ts'
import { bodyItem, checkItemBytes, DELETED, keyItem, type Layout, rangeAttribute, rowOf, STAMP, textOf } from './encoding.ts'
import { forEachLimited, type Pace, pause, TRIES_MAX, untilNotThrottled } from './tries.ts'

/** Puts of one putRows in flight. */
const PUTS_IN_FLIGHT_MAX = 64
/** DynamoDB's limit of a BatchGetItem. */
const BATCH_GET_KEYS_MAX = 100
const BATCH_GETS_IN_FLIGHT_MAX = 8
const PURGES_IN_FLIGHT_MAX = 16
/** Tries of a partial put whose row changes under it. */
const PARTIAL_TRIES_MAX = 8

type LayoutOf = (table: TableName) => Layout

interface Put {
  readonly layout: Layout
  readonly key: Record<string, Attribute>
  readonly body: Record<string, Attribute>
  /** Both together. */
  readonly item: Item
  readonly stamp: bigint
  /** Some cells stay as they are stored. */
  readonly partial: boolean
}

export class Rows {
  readonly #api: DynamoApi
  readonly #layoutOf: LayoutOf
  readonly #pace: Pace

  constructor(api: DynamoApi, layoutOf: LayoutOf, pace: Pace) {
    this.#api = api
    this.#layoutOf = layoutOf
    this.#pace = pace
  }

  /** Everything is checked before the first request. Puts of one row go one after the other, by stamp: a partial one builds on the one before. */
  async put(rows: readonly RowPut[]): Promise<void> {
    const chains = new Map<string, Put[]>()
    for (const row of rows) {
      const put = this.#prepare(row)
      const id = identity(put.layout, put.key)
      const chain = chains.get(id)
      if (chain === undefined) chains.set(id, [put])
      else chain.push(put)
    }
    let applied = 0
    const errors = await forEachLimited([...chains.values()], PUTS_IN_FLIGHT_MAX, async (chain) => {
      if (chain.length > 1) chain.sort((a, b) => (a.stamp < b.stamp ? -1 : a.stamp > b.stamp ? 1 : 0))
      for (const put of chain) {
        await untilNotThrottled(this.#pace, () => (put.partial ? this.#putPartial(put) : this.#putWhole(put)))
        applied++
      }
    })
    if (errors.length > 0) throw worst(errors, applied)
  }

  async read(keys: readonly RowKey[]): Promise<readonly (StampedRow | undefined)[]> {
    if (keys.length === 1) return [await this.#get(keys[0]!)]
    const wanted = keys.map((row) => {
      const layout = this.#layoutOf(row.table)
      const key = keyItem(layout, row)
      return { layout, key, id: identity(layout, key) }
    })
    const distinct = [...new Map(wanted.map((one) => [one.id, one])).values()]
    const found = new Map<string, StampedRow>()
    const chunks = Array.from({ length: Math.ceil(distinct.length / BATCH_GET_KEYS_MAX) }, (_, i) =>
      distinct.slice(i * BATCH_GET_KEYS_MAX, (i + 1) * BATCH_GET_KEYS_MAX),
    )
    const errors = await forEachLimited(chunks, BATCH_GETS_IN_FLIGHT_MAX, (chunk) => this.#batchGet(chunk, found))
    if (errors.length > 0) throw errors[0]
    return wanted.map(({ id }) => found.get(id))
  }

  async readRange({ table, key, limit, after }: RowRange): Promise<RowPage> {
    const layout = this.#layoutOf(table)
    if (layout.range === null) {
      const row = after === undefined ? await this.#get({ table, key, clustering: [] }) : undefined
      return { rows: row === undefined ? [] : [row], next: null }
    }
    const rows: StampedRow[] = []
    const hash = keyItem({ ...layout, range: null, types: [] }, { key, clustering: [] })
    let start: Item | undefined
    do {
      const page: QueryPage = await this.#api.call<QueryPage>('Query', {
        TableName: layout.tableName,
        ConsistentRead: true,
        KeyConditionExpression: after === undefined ? '#h = :h' : '#h = :h AND #r > :r',
        ExpressionAttributeNames: { '#h': layout.hash.name, ...(after === undefined ? {} : { '#r': layout.range.name }) },
        ExpressionAttributeValues: {
          ':h': hash[layout.hash.name],
          ...(after === undefined ? {} : { ':r': rangeAttribute(layout, after) }),
        },
        Limit: limit - rows.length,
        ...(start === undefined ? {} : { ExclusiveStartKey: start }),
      })
      for (const item of page.Items) rows.push(rowOf(layout, item))
      start = page.LastEvaluatedKey
    } while (start !== undefined && rows.length < limit)
    return { rows, next: start === undefined ? null : (rows.at(-1)?.clustering ?? null) }
  }

  async *scan({ table, segment, segments, signal }: ScanOptions): AsyncIterable<readonly StampedRow[]> {
    const layout = this.#layoutOf(table)
    for await (const items of this.#scanItems(layout, { segment, segments }, {}, signal)) yield items.map((item) => rowOf(layout, item))
  }

  async purgeTombstones(table: TableName, below: bigint, signal?: AbortSignal): Promise<number> {
    const layout = this.#layoutOf(table)
    const condition = {
      ExpressionAttributeNames: { '#d': DELETED, '#s': STAMP },
      ExpressionAttributeValues: { ':d': { BOOL: true }, ':s': { N: String(below) } },
    }
    let purged = 0
    const filter = { FilterExpression: '#d = :d AND #s < :s', ...condition }
    for await (const items of this.#scanItems(layout, { segment: 0, segments: 1 }, filter, signal)) {
      const errors = await forEachLimited(items, PURGES_IN_FLIGHT_MAX, async (item) => {
        const Key = keyOf(layout, item)
        const request = { TableName: layout.tableName, Key, ConditionExpression: '#d = :d AND #s < :s', ...condition }
        if (await held(() => untilNotThrottled(this.#pace, () => this.#api.call('DeleteItem', request)))) purged++
      })
      if (errors.length > 0) throw errors[0]
    }
    return purged
  }

  async *#scanItems(
    layout: Layout,
    part: { readonly segment: number; readonly segments: number },
    filter: object,
    signal: AbortSignal | undefined,
  ): AsyncIterable<readonly Item[]> {
    let start: Item | undefined
    do {
      if (signal?.aborted) return
      const request = {
        TableName: layout.tableName,
        ConsistentRead: true,
        ...(part.segments > 1 ? { Segment: part.segment, TotalSegments: part.segments } : {}),
        ...(start === undefined ? {} : { ExclusiveStartKey: start }),
        ...filter,
      }
      const page: QueryPage = await untilNotThrottled(this.#pace, () => this.#api.call<QueryPage>('Scan', request))
      if (page.Items.length > 0) yield page.Items
      start = page.LastEvaluatedKey
    } while (start !== undefined)
  }

  #prepare(row: RowPut): Put {
    const layout = this.#layoutOf(row.table)
    const key = keyItem(layout, row)
    const body = bodyItem(layout, row)
    const item = { ...key, ...body }
    checkItemBytes(layout, item)
    return { layout, key, body, item, stamp: row.stamp, partial: row.values?.includes(undefined) ?? false }
  }

  async #putWhole({ layout, item }: Put): Promise<void> {
    const request = {
      TableName: layout.tableName,
      Item: item,
      ConditionExpression: 'attribute_not_exists(#s) OR #s < :s',
      ExpressionAttributeNames: { '#s': STAMP },
      ExpressionAttributeValues: { ':s': item[STAMP] },
    }
    await held(() => this.#api.call('PutItem', request)) // not held: the same or a later one is there (INV-4)
  }

  async #putPartial({ layout, key, body, stamp }: Put): Promise<void> {
    const names = Object.keys(body)
    const request = {
      TableName: layout.tableName,
      Key: key,
      UpdateExpression: `SET ${names.map((_, i) => `#a${i} = :a${i}`).join(', ')}`,
      ConditionExpression: '#s < :s AND attribute_not_exists(#d)',
      ExpressionAttributeNames: { '#s': STAMP, '#d': DELETED, ...Object.fromEntries(names.map((name, i) => [`#a${i}`, name])) },
      ExpressionAttributeValues: { ':s': body[STAMP], ...Object.fromEntries(names.map((name, i) => [`:a${i}`, body[name]])) },
    }
    for (let attempt = 0; attempt < PARTIAL_TRIES_MAX; attempt++) {
      if (await held(() => this.#api.call('UpdateItem', request))) return
      const stored = await this.#getItem(layout, key)
      if (stored !== undefined && BigInt(textOf(stored[STAMP]) ?? '0') >= stamp) return // INV-4
      if (stored === undefined || stored[DELETED] !== undefined)
        // Made-up cells would be a silent loss (INV-11, INV-12).
        throw new SwitchbackError('TARGET_REFUSED', {
          operation: `put ${layout.mapping.name}`,
          reason: 'columns were left as stored, and no row is stored',
        })
    }
    throw new SwitchbackError('TARGET_THROTTLED', { operation: `put ${layout.mapping.name}`, reason: 'the row keeps changing' })
  }

  async #get(row: RowKey): Promise<StampedRow | undefined> {
    const layout = this.#layoutOf(row.table)
    const item = await this.#getItem(layout, keyItem(layout, row))
    return item === undefined ? undefined : rowOf(layout, item)
  }

  async #getItem(layout: Layout, key: Item): Promise<Item | undefined> {
    return (await this.#api.call<{ Item?: Item }>('GetItem', { TableName: layout.tableName, Key: key, ConsistentRead: true })).Item
  }

  async #batchGet(wanted: readonly { layout: Layout; key: Item }[], found: Map<string, StampedRow>): Promise<void> {
    const byName = new Map(wanted.map(({ layout }) => [layout.tableName, layout]))
    let RequestItems: Record<string, { Keys: readonly Item[]; ConsistentRead: true }> = {}
    for (const name of byName.keys()) {
      const Keys = wanted.filter((one) => one.layout.tableName === name).map((one) => one.key)
      RequestItems[name] = { Keys, ConsistentRead: true }
    }
    for (let attempt = 0; Object.keys(RequestItems).length > 0; attempt++) {
      if (attempt >= TRIES_MAX)
        throw new SwitchbackError('TARGET_THROTTLED', { operation: 'BatchGetItem', reason: 'keys were left unprocessed' })
      if (attempt > 0) await pause(this.#pace, attempt - 1)
      const reply = await untilNotThrottled(this.#pace, () =>
        this.#api.call<{ Responses?: Record<string, Item[]>; UnprocessedKeys?: typeof RequestItems }>('BatchGetItem', { RequestItems }),
      )
      for (const [name, items] of Object.entries(reply.Responses ?? {})) {
        const layout = byName.get(name)!
        for (const item of items) found.set(identity(layout, item), rowOf(layout, item))
      }
      RequestItems = reply.UnprocessedKeys ?? {}
    }
  }
}

interface QueryPage {
  readonly Items: readonly Item[]
  readonly LastEvaluatedKey?: Item
}

/** Whether the condition of the write held. */
async function held(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call()
    return true
  } catch (error) {
    if (error instanceof ConditionFailed) return false
    throw error
  }
}

function keyOf(layout: Layout, item: Item): Item {
  const key: Record<string, Attribute> = { [layout.hash.name]: item[layout.hash.name]! }
  if (layout.range !== null) key[layout.range.name] = item[layout.range.name]!
  return key
}

/** No key text holds a NUL. */
function identity(layout: Layout, item: Item): string {
  const range = layout.range === null ? '' : textOf(item[layout.range.name])
  return `${layout.tableName}\0${textOf(item[layout.hash.name])}\0${range}`
}

/** What is known of a batch of which some failed: refused if any was; else unknown, unless nothing can have taken effect. */
function worst(errors: readonly unknown[], applied: number): unknown {
  const refused = errors.find((error) => hasCode(error, 'TARGET_REFUSED'))
  if (refused !== undefined) return refused
  const uncertain = errors.find((error) => !hasCode(error, 'TARGET_THROTTLED'))
  if (uncertain !== undefined || applied === 0) return uncertain ?? errors[0]
  const reason = `${errors.length} rows failed, ${applied} are there: ${(errors[0] as Error).message}`
  return new SwitchbackError('TARGET_UNKNOWN', { operation: 'putRows', reason }, errors[0])
}
