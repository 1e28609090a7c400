// Promises: what a real logical slot sends becomes whole transactions in the mapping's order, and a table that is no longer as
// planned stops the stream before its row is handed on (faults.md 17, 18).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type pg from 'pg'
import { hasCode } from '../../src/model/errors.ts'
import { formatLsn, lsnOf, parseLsn } from '../../src/model/ids.ts'
import type { Mapping, TableMapping } from '../../src/model/mapping.ts'
import {
  decodePgoutput,
  decodeReplication,
  encodeStandbyStatus,
  type PgoutputMessage,
  TransactionAssembler,
} from '../../src/wire/pgoutput.ts'
import { typeByOid } from '../../src/wire/values.ts'
import { mappedColumn, mappedTable } from '../support/mapped-table.ts'
import { testDatabase } from '../support/postgres.ts'

type Database = Awaited<ReturnType<typeof testDatabase>>

const SCHEMA = `
  create table accounts (tenant int8, id uuid, name text, balance numeric(20, 2), primary key (tenant, id));
  create table entries (tenant int8, n int4, body text, seen timestamptz, primary key (tenant, n));
  alter table entries replica identity full;
  create table other (id int primary key);
  create table parts (tenant int8, n int4, v text, primary key (tenant, n)) partition by hash (tenant);
  create table parts_0 partition of parts for values with (modulus 2, remainder 0);
  create table parts_1 partition of parts for values with (modulus 2, remainder 1);
  alter table accounts alter column name set storage external;
  create publication pub for all tables with (publish_via_partition_root = true);
`
const ID = '00000000-0000-0000-0000-00000000000'

interface World {
  readonly client: pg.Client
  readonly mapping: Mapping
  readonly slot: string
  /** Messages since the last call. */
  messages(): Promise<PgoutputMessage[]>
}

async function world(db: Database, tables: readonly string[]): Promise<World> {
  const client = await db.connect({
    options: '-c datestyle=ISO,MDY -c timezone=UTC -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1',
  })
  const mapping: Mapping = { migration: 'm', keyType: 'int8', tables: await Promise.all(tables.map((table) => mapped(client, table))) }
  const slot = `slot_${db.name}`
  await client.query(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot])
  const args = `'proto_version', '1', 'publication_names', 'pub', 'messages', 'true'`
  return {
    client,
    mapping,
    slot,
    async messages() {
      // Looked at first and consumed after: both give the same.
      const peeked = await client.query(`select data from pg_logical_slot_peek_binary_changes($1, null, null, ${args})`, [slot])
      const got = await client.query(`select data from pg_logical_slot_get_binary_changes($1, null, null, ${args})`, [slot])
      assert.deepEqual(got.rows, peeked.rows)
      return got.rows.map((row) => decodePgoutput(row.data))
    },
  }
}

async function mapped(client: pg.Client, table: string): Promise<TableMapping> {
  const found = await client.query(
    `select a.attname, a.atttypid::int as oid, a.atttypmod, a.attnotnull, a.attrelid::int as relation
     from pg_attribute a where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [table],
  )
  const columns = found.rows.map((row) =>
    mappedColumn(row.attname, typeByOid(row.oid)!, { typeOid: row.oid, typmod: row.atttypmod, notNull: row.attnotnull }),
  )
  return mappedTable(table, columns, { relationOid: found.rows[0].relation, clustering: [1] })
}

function assembled(mapping: Mapping, messages: readonly PgoutputMessage[]) {
  const assembler = new TransactionAssembler({ mapping })
  return messages.flatMap((message) => assembler.push(message) ?? [])
}

test('insert, update, key change, unchanged TOAST, delete and reinsert become changes in the mapping’s order', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['accounts'])
  const long = 'x'.repeat(5000)
  await w.client.query('begin')
  await w.client.query(`insert into accounts (balance, name, id, tenant) values (1.5, $1, '${ID}1', 7), (null, 'é😀', '${ID}2', 7)`, [long])
  await w.client.query(`insert into other values (1)`)
  await w.client.query(`update accounts set balance = 2 where id = '${ID}1'`)
  await w.client.query(`update accounts set tenant = 8 where id = '${ID}1'`)
  await w.client.query(`delete from accounts where id = '${ID}2'`)
  await w.client.query(`insert into accounts values (7, '${ID}2', '', 0)`)
  await w.client.query('commit')
  const [transaction, ...rest] = assembled(w.mapping, await w.messages())
  assert.deepEqual(rest, [])
  const table = 'public.accounts'
  assert.deepEqual(transaction!.changes, [
    { kind: 'insert', table, after: ['7', `${ID}1`, long, '1.50'] },
    { kind: 'insert', table, after: ['7', `${ID}2`, 'é😀', null] },
    { kind: 'update', table, before: null, after: ['7', `${ID}1`, undefined, '2.00'] },
    { kind: 'update', table, before: ['7', `${ID}1`, undefined, undefined], after: ['8', `${ID}1`, undefined, '2.00'] },
    { kind: 'delete', table, before: ['7', `${ID}2`, undefined, undefined] },
    { kind: 'insert', table, after: ['7', `${ID}2`, '', '0.00'] },
  ])
  assert.equal(transaction!.origin, null)
  assert.ok(transaction!.endLsn > transaction!.commitLsn)
  const clock = await w.client.query('select extract(epoch from clock_timestamp()) * 1000 as ms')
  assert.ok(Math.abs(transaction!.committedAtMs - Number(clock.rows[0].ms)) < 60_000)
})

test('with REPLICA IDENTITY FULL the old row is whole, its long columns included', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['entries'])
  await w.client.query(`alter table entries alter column body set storage external`)
  await w.client.query(`insert into entries values (1, 1, repeat('y', 5000), '0044-03-15 12:00:00.000001+00 BC')`)
  await w.client.query(`update entries set n = 2`)
  await w.client.query(`delete from entries`)
  const changes = assembled(w.mapping, await w.messages()).flatMap((transaction) => transaction.changes)
  const body = 'y'.repeat(5000)
  const seen = '0044-03-15 12:00:00.000001+00 BC'
  assert.deepEqual(changes, [
    { kind: 'insert', table: 'public.entries', after: ['1', '1', body, seen] },
    { kind: 'update', table: 'public.entries', before: ['1', '1', body, seen], after: ['1', '2', undefined, seen] },
    { kind: 'delete', table: 'public.entries', before: ['1', '2', body, seen] },
  ])
})

test('truncate names the mapped tables alone, and messages of a transaction keep their place', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['accounts', 'entries'])
  await w.client.query(`select pg_logical_emit_message(false, 'switchback', 'outside')`)
  await w.client.query('begin')
  await w.client.query(`select pg_logical_emit_message(true, 'switchback', 'marker 1')`)
  await w.client.query(`truncate accounts, other, entries cascade`)
  await w.client.query(`select pg_logical_emit_message(true, 'switchback', 'marker 2')`)
  await w.client.query('commit')
  const messages = await w.messages()
  assert.ok(messages.some((message) => message.kind === 'message' && !message.transactional && message.content === 'outside'))
  const transactions = assembled(w.mapping, messages)
  assert.deepEqual(
    transactions.map((transaction) => transaction.changes),
    [
      [
        { kind: 'message', prefix: 'switchback', content: 'marker 1' },
        { kind: 'truncate', tables: ['public.accounts', 'public.entries'] },
        { kind: 'message', prefix: 'switchback', content: 'marker 2' },
      ],
    ],
  )
})

test('the origin of a transaction is named, and is not carried into the next', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['entries'])
  const origin = `origin_${db.name}`
  await w.client.query(`select pg_replication_origin_create($1)`, [origin])
  await w.client.query(`select pg_replication_origin_session_setup($1)`, [origin])
  await w.client.query(`insert into entries values (1, 1)`)
  await w.client.query(`select pg_replication_origin_session_reset()`)
  await w.client.query(`insert into entries values (1, 2)`)
  assert.deepEqual(
    assembled(w.mapping, await w.messages()).map((transaction) => [transaction.origin, transaction.changes.length]),
    [
      [origin, 1],
      [null, 1],
    ],
  )
  await w.client.query(`select pg_replication_origin_drop($1)`, [origin])
})

test('rows of partition leaves arrive under the root', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['parts'])
  await w.client.query(`insert into parts select i, i, 'v' || i from generate_series(1, 4) i`)
  await w.client.query(`truncate parts`)
  const changes = assembled(w.mapping, await w.messages()).flatMap((transaction) => transaction.changes)
  assert.deepEqual(changes, [
    ...[1, 2, 3, 4].map((i) => ({ kind: 'insert', table: 'public.parts', after: [`${i}`, `${i}`, `v${i}`] })),
    { kind: 'truncate', tables: ['public.parts'] },
  ])
})

const CHANGES: readonly (readonly [name: string, ddl: string, code: string, said: RegExp])[] = [
  ['a column added', 'alter table entries add column more int', 'TABLE_CHANGED', /column more was added/],
  ['a column dropped', 'alter table entries drop column body', 'TABLE_CHANGED', /column body is not in the stream/],
  ['a column renamed', 'alter table entries rename column body to text', 'TABLE_CHANGED', /column body is not in the stream/],
  ['a type changed', 'alter table entries alter column n type int8', 'TABLE_CHANGED', /column n has type 20, planned 23/],
  ['a modifier changed', 'alter table entries alter column seen type timestamptz(3)', 'TABLE_CHANGED', /type modifier 3/],
  ['the table renamed', 'alter table entries rename to renamed', 'TABLE_CHANGED', /it is called public.renamed now/],
  [
    'the table made again',
    'drop table entries; create table entries (tenant int8, n int4, primary key (tenant, n))',
    'TABLE_CHANGED',
    /dropped and made again/,
  ],
  [
    'the identity to a lesser index',
    'alter table entries alter n set not null, alter tenant set not null; create unique index i on entries (tenant); alter table entries replica identity using index i',
    'REPLICA_IDENTITY_CHANGED',
    /the key column n is not part of it/,
  ],
]

for (const [name, ddl, code, said] of CHANGES) {
  test(`${name}: the stream stops by name before the row`, async () => {
    await using db = await testDatabase(SCHEMA)
    const w = await world(db, ['entries'])
    await w.client.query(`insert into entries values (1, 1)`)
    await w.client.query(ddl)
    await w.client.query(`insert into ${name === 'the table renamed' ? 'renamed' : 'entries'} (tenant, n) values (2, 2)`)
    const assembler = new TransactionAssembler({ mapping: w.mapping })
    const transactions: unknown[] = []
    const messages = await w.messages()
    assert.throws(
      () => {
        for (const message of messages) transactions.push(...(assembler.push(message)?.changes ?? []))
      },
      (error) => hasCode(error, code as 'TABLE_CHANGED') && said.test(error.message),
    )
    assert.deepEqual(transactions, [{ kind: 'insert', table: 'public.entries', after: ['1', '1', null, null] }])
  })
}

test('a mapping in another order than the stream gets its own order', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['accounts'])
  const table = w.mapping.tables[0]!
  const turned: Mapping = { ...w.mapping, tables: [{ ...table, columns: [...table.columns].reverse(), partition: 3, clustering: [2] }] }
  await w.client.query(`insert into accounts values (1, '${ID}1', 'n', 2)`)
  await w.client.query(`delete from accounts`)
  assert.deepEqual(
    assembled(turned, await w.messages()).flatMap((transaction) => transaction.changes),
    [
      { kind: 'insert', table: 'public.accounts', after: ['2.00', 'n', `${ID}1`, '1'] },
      { kind: 'delete', table: 'public.accounts', before: [undefined, undefined, `${ID}1`, '1'] },
    ],
  )
})

test('a transaction over the limit stops by the limit’s name, and only what is mapped counts', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['entries'])
  await w.client.query(`insert into other select generate_series(1, 1000)`)
  await w.client.query(`insert into entries select 1, i, repeat('z', 100) from generate_series(1, 100) i`)
  const assembler = new TransactionAssembler({ mapping: w.mapping, transactionBytesMax: 5000 })
  const messages = await w.messages()
  assert.throws(
    () => {
      for (const message of messages) assembler.push(message)
    },
    { code: 'SOURCE_TRANSACTION_TOO_LARGE', message: /5000 bytes \(transactionBytesMax\)/ },
  )
  assert.ok(assembler.heldBytes > 5000 && assembler.heldBytes < 5500)
})

test('the replication envelope is read, and a status says what it was told', () => {
  const wal = Buffer.concat([Buffer.from('w'), lsnBytes(0x1_0000_0002n), lsnBytes(5n), lsnBytes(1_500_000n), Buffer.from('payload')])
  const data = decodeReplication(wal)
  assert.deepEqual(data, {
    kind: 'xlogData',
    startLsn: parseLsn('1/2'),
    serverLsn: 5n,
    sentAtMs: 946_684_801_500,
    payload: Buffer.from('payload'),
  })
  assert.equal(data.kind === 'xlogData' && data.payload.buffer, wal.buffer)
  const keepalive = Buffer.concat([Buffer.from('k'), lsnBytes(0xffff_ffff_ffff_fff0n), lsnBytes(0n), Buffer.from([1])])
  assert.deepEqual(decodeReplication(keepalive), {
    kind: 'keepalive',
    serverLsn: 0xffff_ffff_ffff_fff0n,
    sentAtMs: 946_684_800_000,
    replyRequested: true,
  })
  const status = encodeStandbyStatus({ writtenLsn: lsnOf(3n), flushedLsn: lsnOf(2n), appliedLsn: lsnOf(1n), nowMs: 946_684_800_001 })
  assert.deepEqual(status, Buffer.concat([Buffer.from('r'), lsnBytes(3n), lsnBytes(2n), lsnBytes(1n), lsnBytes(1000n), Buffer.from([0])]))
  assert.equal(formatLsn(lsnOf(0x1_0000_0002n)), '1/2')
})

function lsnBytes(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

test('text that is not UTF-8 stops by name; a real replacement character passes', () => {
  const insert = (text: Buffer) =>
    Buffer.concat([
      Buffer.from('I'),
      Buffer.from([0, 0, 0, 1]),
      Buffer.from('N'),
      Buffer.from([0, 1]),
      Buffer.from('t'),
      Buffer.from([0, 0, 0, text.length]),
      text,
    ])
  assert.throws(() => decodePgoutput(insert(Buffer.from([0x61, 0xe9]))), { code: 'STREAM_TEXT_INVALID' })
  const message = decodePgoutput(insert(Buffer.from('\ufffd')))
  assert.deepEqual(message.kind === 'insert' && message.after, ['\ufffd'])
})

test('random and bent bytes are an error of the stream by name, never another', async () => {
  await using db = await testDatabase(SCHEMA)
  const w = await world(db, ['accounts', 'entries'])
  await w.client.query(
    `insert into accounts values (1, '${ID}1', 'n', 2); update accounts set tenant = 2; delete from accounts; truncate accounts`,
  )
  const args = `'proto_version', '1', 'publication_names', 'pub', 'messages', 'true'`
  const raw: Buffer[] = (
    await w.client.query(`select data from pg_logical_slot_get_binary_changes($1, null, null, ${args})`, [w.slot])
  ).rows.map((row) => row.data)
  const harmless = (bytes: Buffer) => {
    const assembler = new TransactionAssembler({ mapping: w.mapping })
    for (const decode of [() => assembler.push(decodePgoutput(bytes)), () => decodeReplication(bytes)]) {
      try {
        decode()
      } catch (error) {
        assert.ok(hasCode(error, 'STREAM_INVALID', 'STREAM_TEXT_INVALID', 'TABLE_CHANGED', 'REPLICA_IDENTITY_CHANGED'), String(error))
      }
    }
  }
  for (const bytes of raw) {
    for (let at = 0; at < bytes.length; at++) {
      harmless(bytes.subarray(0, at))
      for (const byte of [0, 0x7f, 0xff]) {
        const bent = Buffer.from(bytes)
        bent[at] = byte
        harmless(bent)
      }
    }
  }
  fc.assert(
    fc.property(fc.constantFrom(...'BCORYIUDTMwk'), fc.uint8Array({ maxLength: 80 }), (type, bytes) =>
      harmless(Buffer.concat([Buffer.from(type), bytes])),
    ),
    { numRuns: 3000 },
  )
})

test('a stream out of order is refused: a change outside a transaction, of an unknown relation, a transaction in another', () => {
  const mapping: Mapping = { migration: 'm', keyType: 'int8', tables: [] }
  const begin: PgoutputMessage = { kind: 'begin', finalLsn: lsnOf(1n), committedAtMs: 0, xid: 1 }
  for (const messages of [
    [begin, begin],
    [{ kind: 'commit', commitLsn: lsnOf(1n), endLsn: lsnOf(2n), committedAtMs: 0 }],
    [begin, { kind: 'commit', commitLsn: lsnOf(9n), endLsn: lsnOf(10n), committedAtMs: 0 }],
    [begin, { kind: 'insert', relation: 5, after: [], bytes: 1 }],
    [{ kind: 'origin', commitLsn: lsnOf(1n), name: 'o' }],
    [{ kind: 'message', transactional: true, lsn: lsnOf(1n), prefix: '', content: '', bytes: 1 }],
  ] satisfies PgoutputMessage[][]) {
    assert.throws(() => assembled(mapping, messages), { code: 'STREAM_INVALID' })
  }
})
