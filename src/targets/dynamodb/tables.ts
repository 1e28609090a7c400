// Promises: the tables of a move: names, making, checking and removing them. Everything is idempotent; a table that is there with
// another key is refused by name, never used.
import type { Clock } from '../../lib/clock.ts'
import { hasCode, SwitchbackError } from '../../model/errors.ts'
import type { Mapping, TableName } from '../../model/mapping.ts'
import type { DynamoApi } from './api.ts'
import { type KeyAttribute, type Layout, layoutOf, RESERVED_ATTRIBUTES } from './encoding.ts'

/** Limits of `prepare` and `remove`. */
const TABLE_DEADLINE_MS = 180_000
const TABLE_POLL_MS = 100

const TABLE_NAME = /^[a-zA-Z0-9_.-]{3,255}$/

export interface TableNames {
  readonly heads: string
  readonly outbox: string
  readonly layouts: ReadonlyMap<TableName, Layout>
}

/** Key attributes of the tables that Switchback makes for itself. The control item lies in the outbox table. */
export const HEAD_KEY: KeyAttribute = { name: 'aggregate', type: 'S' }
export const OUTBOX_KEY: KeyAttribute = { name: 'bucket', type: 'S' }
export const OUTBOX_RANGE: KeyAttribute = { name: 'sequence', type: 'N' }

export function tableNames(mapping: Mapping, prefix: string): TableNames {
  const own = `${prefix}switchback_${mapping.migration}`
  const layouts = new Map(mapping.tables.map((table) => [table.name, layoutOf(table, `${prefix}${table.targetName}`)]))
  return { heads: `${own}_heads`, outbox: `${own}_outbox`, layouts }
}

interface TableShape {
  readonly name: string
  readonly hash: KeyAttribute
  readonly range: KeyAttribute | null
}

export async function prepareTables(api: DynamoApi, names: TableNames, clock: Clock): Promise<void> {
  checkNames(names)
  await Promise.all(shapesOf(names, { rows: true }).map((shape) => prepareTable(api, shape, clock)))
}

export async function removeTables(api: DynamoApi, names: TableNames, what: { readonly rows: boolean }, clock: Clock): Promise<void> {
  await Promise.all(shapesOf(names, what).map((shape) => removeTable(api, shape.name, clock)))
}

function shapesOf(names: TableNames, what: { readonly rows: boolean }): TableShape[] {
  const rows = what.rows ? [...names.layouts.values()].map(({ tableName, hash, range }) => ({ name: tableName, hash, range })) : []
  return [{ name: names.heads, hash: HEAD_KEY, range: null }, { name: names.outbox, hash: OUTBOX_KEY, range: OUTBOX_RANGE }, ...rows]
}

function checkNames(names: TableNames): void {
  const seen = new Set<string>()
  for (const { name } of shapesOf(names, { rows: true })) {
    if (!TABLE_NAME.test(name)) throw refused(name, 'not a DynamoDB table name: 3 to 255 of a-z A-Z 0-9 _ . -')
    if (seen.has(name)) throw refused(name, 'two tables would have this name')
    seen.add(name)
  }
  for (const { mapping } of names.layouts.values()) {
    const column = mapping.columns.find((one) => RESERVED_ATTRIBUTES.has(one.name))
    if (column !== undefined) throw refused(mapping.name, `its column ${column.name} has the name of an attribute of Switchback's`)
  }
}

async function prepareTable(api: DynamoApi, shape: TableShape, clock: Clock): Promise<void> {
  const keys = shape.range === null ? [shape.hash] : [shape.hash, shape.range]
  if ((await describe(api, shape.name)) === null) {
    await attempt(
      () =>
        api.call('CreateTable', {
          TableName: shape.name,
          BillingMode: 'PAY_PER_REQUEST',
          AttributeDefinitions: keys.map(({ name, type }) => ({ AttributeName: name, AttributeType: type })),
          KeySchema: keys.map(({ name }, i) => ({ AttributeName: name, KeyType: i === 0 ? 'HASH' : 'RANGE' })),
        }),
      'ResourceInUseException', // another one was first
    )
  }
  const table = await polled(clock, `prepare ${shape.name}`, async () => {
    const found = await describe(api, shape.name)
    return found?.TableStatus === 'ACTIVE' || found?.TableStatus === 'UPDATING' ? found : undefined
  })
  const described = describedKeys(table)
  const wanted = keys.map(({ name, type }) => `${name} ${type}`).join(', ')
  if (described !== wanted) throw refused(shape.name, `the table is there with the key (${described}), and the move needs (${wanted})`)
}

async function removeTable(api: DynamoApi, name: string, clock: Clock): Promise<void> {
  await polled(clock, `remove ${name}`, async () => {
    const found = await describe(api, name)
    if (found === null) return true
    if (found.TableStatus === 'ACTIVE')
      await attempt(() => api.call('DeleteTable', { TableName: name }), 'ResourceNotFoundException', 'ResourceInUseException')
    return undefined
  })
}

interface TableDescription {
  readonly TableStatus: string
  readonly KeySchema: readonly { readonly AttributeName: string; readonly KeyType: 'HASH' | 'RANGE' }[]
  readonly AttributeDefinitions: readonly { readonly AttributeName: string; readonly AttributeType: string }[]
}

async function describe(api: DynamoApi, name: string): Promise<TableDescription | null> {
  try {
    return (await api.call<{ Table: TableDescription }>('DescribeTable', { TableName: name })).Table
  } catch (error) {
    if (isType(error, 'ResourceNotFoundException')) return null
    throw error
  }
}

function describedKeys(table: TableDescription): string {
  const inOrder = [...table.KeySchema].sort((a, b) => (a.KeyType === b.KeyType ? 0 : a.KeyType === 'HASH' ? -1 : 1))
  const typeOf = (name: string) => table.AttributeDefinitions.find((one) => one.AttributeName === name)?.AttributeType ?? '?'
  return inOrder.map(({ AttributeName }) => `${AttributeName} ${typeOf(AttributeName)}`).join(', ')
}

/** Runs a control-plane call; the named refusals mean that there is nothing to do. */
async function attempt(call: () => Promise<unknown>, ...harmless: string[]): Promise<void> {
  try {
    await call()
  } catch (error) {
    if (!harmless.some((type) => isType(error, type))) throw error
  }
}

/** Polls, through throttling of the control plane too, until there is a value. */
async function polled<T>(clock: Clock, operation: string, look: () => Promise<T | undefined>): Promise<T> {
  const deadlineMs = clock.monotonicMs() + TABLE_DEADLINE_MS
  let reason = 'the table did not reach its state'
  while (clock.monotonicMs() < deadlineMs) {
    try {
      const value = await look()
      if (value !== undefined) return value
    } catch (error) {
      if (!hasCode(error, 'TARGET_THROTTLED')) throw error
      reason = error.message
    }
    await clock.sleep(TABLE_POLL_MS)
  }
  throw new SwitchbackError('TARGET_UNKNOWN', { operation, reason: `${reason} within ${TABLE_DEADLINE_MS} ms` })
}

export function isType(error: unknown, type: string): boolean {
  return error instanceof SwitchbackError && error.details['type'] === type
}

function refused(table: string, reason: string): SwitchbackError {
  return new SwitchbackError('TARGET_REFUSED', { operation: `prepare ${table}`, reason })
}
