// Promises: what we write, the drivers' own parser reads the same, and the reverse; what is malformed is a violation, nothing else.
import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { parse, serialize } from 'pg-protocol'
import { hasCode } from '../../src/model/errors.ts'
import {
  BACKEND,
  type BackendMessage,
  decodeBackend,
  encodeBackend,
  encodeBackends,
  encodeDataRows,
  errorResponse,
} from '../../src/wire/backend.ts'
import { MessageWalker } from '../../src/wire/framing.ts'
import {
  decodeFrontend,
  decodeStartup,
  encodeBind,
  encodeFrontend,
  encodeStartup,
  FRONTEND,
  type FrontendMessage,
  formatOf,
  type StartupPacket,
  sqlBytes,
} from '../../src/wire/frontend.ts'

const FRONTEND_MESSAGES: readonly FrontendMessage[] = [
  { kind: 'query', sql: 'select 1; -- é漢😀' },
  { kind: 'parse', name: 's1', sql: 'select $1, $2', parameterTypes: [23, 4_294_967_295] },
  {
    kind: 'bind',
    portal: 'p',
    statement: 's1',
    parameterFormats: [0, 1, 1],
    parameters: [Buffer.from('a'), null, Buffer.alloc(0)],
    resultFormats: [1],
  },
  { kind: 'describe', target: 'statement', name: 's1' },
  { kind: 'describe', target: 'portal', name: '' },
  { kind: 'execute', portal: 'p', rowsMax: 7 },
  { kind: 'close', target: 'portal', name: 'p' },
  { kind: 'sync' },
  { kind: 'flush' },
  { kind: 'terminate' },
  { kind: 'copyData', data: Buffer.from([0, 1, 255]) },
  { kind: 'copyDone' },
  { kind: 'copyFail', reason: 'no' },
  { kind: 'password', data: Buffer.from('md5abc\0') },
  { kind: 'functionCall', data: Buffer.from([0, 0, 0, 1]) },
]

const BACKEND_MESSAGES: readonly BackendMessage[] = [
  { kind: 'authenticationOk' },
  { kind: 'authenticationCleartextPassword' },
  { kind: 'authenticationMd5Password', salt: Buffer.from([1, 2, 3, 4]) },
  { kind: 'authenticationSasl', mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'] },
  { kind: 'authenticationSaslContinue', data: Buffer.from('r=abc') },
  { kind: 'authenticationSaslFinal', data: Buffer.from('v=abc') },
  { kind: 'authenticationGss' },
  { kind: 'authenticationSspi' },
  { kind: 'authenticationGssContinue', data: Buffer.from([9]) },
  { kind: 'authenticationOther', code: 2, data: Buffer.alloc(0) },
  { kind: 'parameterStatus', name: 'TimeZone', value: 'UTC' },
  { kind: 'backendKeyData', processId: 4711, secretKey: Buffer.from([0xff, 0, 0, 1]) },
  { kind: 'negotiateProtocolVersion', minor: 2, unrecognised: ['_pq_.x'] },
  { kind: 'readyForQuery', status: 'failed' },
  {
    kind: 'rowDescription',
    fields: [
      { name: 'id', tableOid: 4_000_000_000, columnNumber: 1, typeOid: 20, typeLength: 8, typmod: -1, format: 0 },
      { name: 'é', tableOid: 0, columnNumber: 0, typeOid: 1043, typeLength: -1, typmod: 14, format: 1 },
    ],
  },
  { kind: 'dataRow', values: [Buffer.from('a'), null, Buffer.alloc(0)] },
  { kind: 'commandComplete', tag: 'INSERT 0 1' },
  { kind: 'errorResponse', fields: { S: 'ERROR', V: 'ERROR', C: '23505', M: 'duplicate', D: 'Key', n: 'pk' } },
  { kind: 'noticeResponse', fields: { S: 'NOTICE', M: 'hello' } },
  { kind: 'parseComplete' },
  { kind: 'bindComplete' },
  { kind: 'closeComplete' },
  { kind: 'noData' },
  { kind: 'portalSuspended' },
  { kind: 'emptyQueryResponse' },
  { kind: 'parameterDescription', parameterTypes: [23, 4_294_967_295] },
  { kind: 'copyInResponse', format: 0, columnFormats: [0, 0] },
  { kind: 'copyOutResponse', format: 1, columnFormats: [1] },
  { kind: 'copyBothResponse', format: 0, columnFormats: [] },
  { kind: 'copyData', data: Buffer.from([0, 1, 255]) },
  { kind: 'copyDone' },
  { kind: 'notificationResponse', processId: 9, channel: 'c', payload: 'p' },
  { kind: 'functionCallResponse', data: Buffer.from([255, 255, 255, 255]) },
]

function bodyOf(message: Buffer): Buffer {
  assert.equal(message.readInt32BE(1), message.length - 1)
  return message.subarray(5)
}

test('every frontend message is what it was after encode and decode', () => {
  for (const message of FRONTEND_MESSAGES) {
    const bytes = encodeFrontend(message)
    assert.equal(bytes[0], FRONTEND[message.kind])
    assert.deepEqual(decodeFrontend(bytes[0]!, bodyOf(bytes)), message)
  }
})

test('every backend message is what it was after encode and decode', () => {
  for (const message of BACKEND_MESSAGES) {
    const bytes = encodeBackend(message)
    const type = message.kind.startsWith('authentication') ? BACKEND.authentication : BACKEND[message.kind as keyof typeof BACKEND]
    assert.equal(bytes[0], type)
    assert.deepEqual(decodeBackend(bytes[0]!, bodyOf(bytes)), message)
  }
})

test('every untyped packet is what it was after encode and decode', () => {
  const packets: StartupPacket[] = [
    {
      kind: 'startup',
      major: 3,
      minor: 2,
      parameters: [
        ['user', 'app'],
        ['database', ''],
        ['options', '-c a=b'],
      ],
    },
    { kind: 'sslRequest' },
    { kind: 'gssencRequest' },
    { kind: 'cancelRequest', processId: -5, secretKey: Buffer.alloc(32, 7) },
  ]
  for (const packet of packets) {
    const bytes = encodeStartup(packet)
    assert.equal(bytes.readInt32BE(0), bytes.length)
    assert.deepEqual(decodeStartup(bytes.subarray(4)), packet)
  }
})

test('frontend messages are byte for byte those of pg-protocol', () => {
  const values = ['a', null, Buffer.from([0, 1])]
  const same: [Buffer, Buffer][] = [
    [encodeFrontend({ kind: 'query', sql: 'select é' }), serialize.query('select é')],
    [
      encodeFrontend({ kind: 'parse', name: 's', sql: 'q', parameterTypes: [1, 2] }),
      serialize.parse({ name: 's', text: 'q', types: [1, 2] }),
    ],
    [
      encodeBind({ portal: 'p', statement: 's', parameterFormats: [0, 0, 1], parameters: values, resultFormats: [1] }),
      serialize.bind({ portal: 'p', statement: 's', values, binary: true }),
    ],
    [encodeFrontend({ kind: 'describe', target: 'statement', name: 's' }), serialize.describe({ type: 'S', name: 's' })],
    [encodeFrontend({ kind: 'execute', portal: 'p', rowsMax: 5 }), serialize.execute({ portal: 'p', rows: 5 })],
    [encodeFrontend({ kind: 'close', target: 'portal', name: 'p' }), serialize.close({ type: 'P', name: 'p' })],
    [encodeFrontend({ kind: 'sync' }), serialize.sync()],
    [encodeFrontend({ kind: 'flush' }), serialize.flush()],
    [encodeFrontend({ kind: 'terminate' }), serialize.end()],
    [encodeFrontend({ kind: 'copyFail', reason: 'x' }), serialize.copyFail('x')],
    [encodeStartup({ kind: 'sslRequest' }), serialize.requestSsl()],
    [encodeStartup({ kind: 'cancelRequest', processId: 7, secretKey: Buffer.from([0, 0, 0, 9]) }), serialize.cancel(7, 9)],
  ]
  for (const [ours, theirs] of same) assert.equal(ours.toString('hex'), Buffer.from(theirs).toString('hex'))
})

test('pg-protocol reads our backend messages as we meant them', async () => {
  const stream = new PassThrough()
  const read: Record<string, unknown>[] = []
  const done = parse(stream, (message) => read.push(message as unknown as Record<string, unknown>))
  stream.end(
    encodeBackends([
      { kind: 'authenticationOk' },
      { kind: 'rowDescription', fields: [{ name: 'id', tableOid: 7, columnNumber: 1, typeOid: 20, typeLength: 8, typmod: -1, format: 0 }] },
      { kind: 'dataRow', values: [Buffer.from('42'), null] },
      { kind: 'commandComplete', tag: 'SELECT 1' },
      errorResponse({ sqlstate: '40001', message: 'no', detail: 'why', table: 't', constraint: null }),
      { kind: 'readyForQuery', status: 'idle' },
    ]),
  )
  await done
  assert.deepEqual(
    read.map((message) => message['name']),
    ['authenticationOk', 'rowDescription', 'dataRow', 'commandComplete', 'error', 'readyForQuery'],
  )
  assert.deepEqual(
    { ...(read[1]!['fields'] as object[])[0] },
    { name: 'id', tableID: 7, columnID: 1, dataTypeID: 20, dataTypeSize: 8, dataTypeModifier: -1, format: 'text' },
  )
  assert.deepEqual(read[2]!['fields'], ['42', null])
  const { severity, code, detail, table, constraint } = read[4]!
  assert.deepEqual([severity, code, detail, table, constraint], ['ERROR', '40001', 'why', 't', undefined])
})

test('many rows in one buffer are the same as one by one', () => {
  const cell = fc.oneof(fc.constant(null), fc.string({ unit: 'grapheme', maxLength: 60 }), fc.uint8Array({ maxLength: 40 }))
  fc.assert(
    fc.property(fc.array(fc.array(cell, { maxLength: 6 }), { maxLength: 20 }), (rows) => {
      const walker = new MessageWalker({ direction: 'backend' })
      walker.feed(encodeDataRows(rows))
      const read: unknown[] = []
      while (walker.next()) {
        const message = decodeBackend(walker.type, walker.body())
        assert.equal(message.kind, 'dataRow')
        if (message.kind === 'dataRow') read.push(message.values.map((value) => value?.toString('hex') ?? null))
      }
      assert.deepEqual(
        read,
        rows.map((row) => row.map((value) => (value === null ? null : Buffer.from(value as string).toString('hex')))),
      )
    }),
    { numRuns: 300 },
  )
})

test('a text of megabytes between short ones is written whole', () => {
  const long = 'é漢'.repeat(400_000)
  const [row] = [encodeDataRows([['a', long, 'b']])]
  const message = decodeBackend(row![0]!, row!.subarray(5))
  assert.deepEqual(message.kind === 'dataRow' && message.values.map((value) => value!.toString()), ['a', long, 'b'])
})

test('Bind parameters share the memory of the message', () => {
  const bytes = encodeFrontend(FRONTEND_MESSAGES[2]!)
  const bind = decodeFrontend(bytes[0]!, bytes.subarray(5))
  assert.ok(bind.kind === 'bind')
  assert.equal(bind.parameters[0]!.buffer, bytes.buffer)
  assert.deepEqual([formatOf([], 3), formatOf([1], 3), formatOf([0, 1], 1)], [0, 1, 1])
})

test('the SQL of Query and Parse is given as its exact bytes too', () => {
  const latin1 = Buffer.from([0x73, 0xe9, 0])
  assert.deepEqual(sqlBytes(FRONTEND.query, latin1), Buffer.from([0x73, 0xe9]))
  assert.deepEqual(sqlBytes(FRONTEND.parse, Buffer.concat([Buffer.from('name\0'), latin1])), Buffer.from([0x73, 0xe9]))
})

test('a server error without SQLSTATE, or with no field at all, is still an error', () => {
  assert.deepEqual(decodeBackend(BACKEND.errorResponse, Buffer.from('Mbad\0\0')), { kind: 'errorResponse', fields: { M: 'bad' } })
  assert.deepEqual(decodeBackend(BACKEND.errorResponse, Buffer.from([0])), { kind: 'errorResponse', fields: {} })
})

test('a body cut short, lengthened or bent is a violation or another message, never another error', () => {
  const bodies = [
    ...FRONTEND_MESSAGES.map((message) => ({ decode: decodeFrontend, bytes: encodeFrontend(message) })),
    ...BACKEND_MESSAGES.map((message) => ({ decode: decodeBackend, bytes: encodeBackend(message) })),
    {
      decode: (_: number, body: Buffer) => decodeStartup(body),
      bytes: Buffer.concat([Buffer.from([0]), encodeStartup({ kind: 'startup', major: 3, minor: 0, parameters: [['user', 'a']] })]),
    },
  ]
  const harmless = (run: () => unknown) => {
    try {
      run()
    } catch (error) {
      assert.ok(hasCode(error, 'PROTOCOL_VIOLATION'), String(error))
    }
  }
  for (const { decode, bytes } of bodies) {
    const body = bytes.subarray(5)
    for (let length = 0; length < body.length; length++) harmless(() => decode(bytes[0]!, body.subarray(0, length)))
    for (let at = 0; at < body.length; at++) {
      for (const byte of [0, 1, 0x7f, 0x80, 0xff]) {
        const bent = Buffer.from(body)
        bent[at] = byte
        harmless(() => decode(bytes[0]!, bent))
      }
    }
  }
  fc.assert(
    fc.property(fc.nat(255), fc.uint8Array({ maxLength: 60 }), (type, bytes) => {
      harmless(() => decodeFrontend(type, Buffer.from(bytes)))
      harmless(() => decodeBackend(type, Buffer.from(bytes)))
      harmless(() => decodeStartup(Buffer.from(bytes)))
    }),
    { numRuns: 5000 },
  )
})

test('counts that the bytes cannot hold are refused before anything is made for them', () => {
  const bind = Buffer.from([0, 0, 0, 0, 0xff, 0xff])
  assert.throws(() => decodeFrontend(FRONTEND.bind, bind), { code: 'PROTOCOL_VIOLATION' })
  assert.throws(() => decodeBackend(BACKEND.dataRow, Buffer.from([0xff, 0xff, 0, 0])), { code: 'PROTOCOL_VIOLATION' })
  assert.throws(() => decodeBackend(BACKEND.dataRow, Buffer.from([0, 1, 0x7f, 0xff, 0xff, 0xff])), { code: 'PROTOCOL_VIOLATION' })
})
