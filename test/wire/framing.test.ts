// Promises: the walker sees the same messages however the bytes arrive, and nothing it is fed makes it crash, hang or grow.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hasCode } from '../../src/model/errors.ts'
import { encodeBackends } from '../../src/wire/backend.ts'
import { type CollectLimit, type Direction, MessageWalker, STARTUP } from '../../src/wire/framing.ts'
import { encodeFrontends, encodeStartup } from '../../src/wire/frontend.ts'

const COLLECT: readonly CollectLimit[] = [{ types: 'QPBCTE', bytesMax: 1 << 20, limitName: 'messageBytesMax' }]

interface Seen {
  readonly type: number
  readonly length: number
  readonly at: number
  readonly body: string | null
}

/** Walks a stream in the given chunks; positions are those of the whole stream. */
function walk(direction: Direction, chunks: readonly Buffer[], collect = COLLECT): Seen[] {
  const walker = new MessageWalker({ direction, collect })
  const seen: Seen[] = []
  let fed = 0
  for (const chunk of chunks) {
    walker.feed(chunk)
    while (walker.next()) {
      const kept = walker.type === STARTUP || collect.some((limit) => limit.types.includes(String.fromCharCode(walker.type)))
      assert.equal(walker.end - walker.start, walker.length)
      assert.equal(walker.whole, walker.start >= 0 && walker.last)
      if (walker.last) {
        const body = kept || walker.whole ? walker.body().toString('hex') : null
        seen.push({ type: walker.type, length: walker.length, at: fed + walker.start, body: kept ? body : null })
      }
    }
    fed += chunk.length
  }
  return seen
}

function cut(stream: Buffer, at: readonly number[]): Buffer[] {
  const points = [0, ...[...new Set(at.map((point) => point % (stream.length + 1)))].sort((a, b) => a - b), stream.length]
  return points.slice(1).map((point, i) => stream.subarray(points[i]!, point))
}

const CLIENT_STREAM = Buffer.concat([
  encodeStartup({ kind: 'sslRequest' }),
  encodeStartup({ kind: 'startup', major: 3, minor: 0, parameters: [['user', 'app']] }),
  encodeFrontends([
    { kind: 'password', data: Buffer.from('secret\0') },
    { kind: 'query', sql: 'select 1' },
    { kind: 'parse', name: '', sql: 'select $1', parameterTypes: [23] },
    { kind: 'bind', portal: '', statement: '', parameterFormats: [1], parameters: [Buffer.from([0, 0, 0, 7]), null], resultFormats: [1] },
    { kind: 'execute', portal: '', rowsMax: 0 },
    { kind: 'sync' },
    { kind: 'copyData', data: Buffer.alloc(40, 7) },
    { kind: 'copyDone' },
    { kind: 'terminate' },
  ]),
])
const SERVER_STREAM = encodeBackends([
  { kind: 'authenticationOk' },
  { kind: 'parameterStatus', name: 'TimeZone', value: 'UTC' },
  {
    kind: 'rowDescription',
    fields: [{ name: 'a', tableOid: 0, columnNumber: 0, typeOid: 25, typeLength: -1, typmod: -1, format: 0 }],
  },
  { kind: 'dataRow', values: [Buffer.from('hello')] },
  { kind: 'dataRow', values: [null] },
  { kind: 'commandComplete', tag: 'SELECT 2' },
  { kind: 'readyForQuery', status: 'idle' },
])

for (const [direction, stream] of [
  ['frontend', CLIENT_STREAM],
  ['backend', SERVER_STREAM],
] as const) {
  test(`a ${direction} stream cut at every single place, and into single bytes, has the same messages`, () => {
    const whole = walk(direction, [stream])
    assert.equal(
      whole.reduce((sum, message) => sum + message.length, 0),
      stream.length,
    )
    for (let at = 0; at <= stream.length; at++) assert.deepEqual(walk(direction, cut(stream, [at])), whole, `cut at ${at}`)
    for (const size of [1, 2, 3, 5, 7]) {
      const points = Array.from({ length: Math.ceil(stream.length / size) }, (_, i) => i * size)
      assert.deepEqual(walk(direction, cut(stream, points)), whole, `cut each ${size} bytes`)
    }
  })

  test(`a ${direction} stream cut at any two or more places has the same messages`, () => {
    const whole = walk(direction, [stream])
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { minLength: 2, maxLength: 12 }), (points) => {
        assert.deepEqual(walk(direction, cut(stream, points)), whole)
      }),
      { numRuns: 2000 },
    )
  })
}

test('a whole message is handed on as a view, without a copy', () => {
  const walker = new MessageWalker({ direction: 'backend', collect: COLLECT })
  walker.feed(SERVER_STREAM)
  while (walker.next()) assert.equal(walker.body().buffer, SERVER_STREAM.buffer)
})

test('a message over several chunks is reported in each, with its place', () => {
  const stream = encodeBackends([{ kind: 'copyData', data: Buffer.alloc(25) }, { kind: 'copyDone' }])
  const walker = new MessageWalker({ direction: 'backend' })
  const stops: unknown[] = []
  for (const chunk of cut(stream, [3, 10, 20])) {
    walker.feed(chunk)
    while (walker.next()) stops.push([walker.type, walker.start, walker.end, walker.first, walker.last, walker.whole])
    if (chunk.length === 3) assert.equal(walker.undecided, 0)
    else assert.equal(walker.undecided, chunk.length)
  }
  assert.deepEqual(stops, [
    [0x64, -3, 27, true, false, false],
    [0x64, -10, 20, false, false, false],
    [0x64, -20, 10, false, true, false],
    [0x63, 10, 15, true, true, true],
  ])
})

for (const word of [0, 3, -1, -2147483648, 0x7fffffff, 0x40000000]) {
  test(`a length of ${word} is a violation in both directions`, () => {
    for (const [direction, type] of [
      ['frontend', 'Q'],
      ['backend', 'D'],
    ] as const) {
      const header = Buffer.alloc(5)
      header.write(type)
      header.writeInt32BE(word, 1)
      for (const points of [[], [1], [2], [1, 3]]) {
        const walker = new MessageWalker({ direction, startup: false })
        assert.throws(
          () => {
            for (const chunk of cut(header, points)) {
              walker.feed(chunk)
              while (walker.next());
            }
          },
          { code: 'PROTOCOL_VIOLATION' },
        )
      }
    }
  })
}

test('a startup packet of 10,000 bytes passes, one of 10,001 does not, nor one of 7', () => {
  const packet = (word: number) => {
    const bytes = Buffer.alloc(10_001)
    bytes.writeInt32BE(word)
    bytes.writeInt32BE(196608, 4)
    return bytes.subarray(0, Math.max(8, word))
  }
  const walker = new MessageWalker({ direction: 'frontend' })
  walker.feed(packet(10_000))
  assert.equal(walker.next(), true)
  assert.equal(walker.whole, true)
  assert.equal(walker.inStartup, false)
  for (const word of [10_001, 7, 4, 0, -1, 0x7fffffff]) {
    const bytes = Buffer.alloc(8)
    bytes.writeInt32BE(word)
    const other = new MessageWalker({ direction: 'frontend' })
    other.feed(bytes)
    assert.throws(() => other.next(), { code: 'PROTOCOL_VIOLATION' })
  }
})

test('bytes behind an SSLRequest can be told from none', () => {
  const walker = new MessageWalker({ direction: 'frontend' })
  walker.feed(Buffer.concat([encodeStartup({ kind: 'sslRequest' }), Buffer.from('x')]))
  assert.equal(walker.next(), true)
  assert.deepEqual([walker.type, walker.end, walker.inStartup], [STARTUP, 8, true])
})

test('a requested message over its limit is refused by the name of the limit, before its bytes are there', () => {
  const collect = [{ types: 'Q', bytesMax: 100, limitName: 'sqlBytesMax' }]
  const query = encodeFrontends([{ kind: 'query', sql: 'x'.repeat(95) }])
  for (const size of [3, 5, 50, 101]) {
    const walker = new MessageWalker({ direction: 'frontend', startup: false, collect })
    assert.throws(
      () => {
        for (const chunk of [query.subarray(0, size), query.subarray(size)]) {
          walker.feed(chunk)
          while (walker.next());
        }
      },
      { code: 'MESSAGE_TOO_LARGE', message: /101 bytes is longer than 100 \(sqlBytesMax\)/ },
    )
  }
})

test('a claim of megabytes costs memory only as its bytes arrive', () => {
  const collect = [{ types: 'Q', bytesMax: 0x3fffffff, limitName: 'sqlBytesMax' }]
  const header = Buffer.from([0x51, 0x3f, 0xff, 0xff, 0xfe, 0x61])
  const before = process.memoryUsage().arrayBuffers
  const walkers = Array.from({ length: 50 }, () => {
    const walker = new MessageWalker({ direction: 'frontend', startup: false, collect })
    walker.feed(header)
    while (walker.next());
    return walker
  })
  assert.ok(process.memoryUsage().arrayBuffers - before < 50 * 100_000, 'memory grows with the claim')
  assert.equal(walkers.length, 50)
})

test('random bytes end in a violation or in nothing, never in another error, in any cut', () => {
  const soup = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(fc.constantFrom(CLIENT_STREAM, SERVER_STREAM), fc.nat(), fc.nat(255)).map(([stream, at, byte]) => {
      const bent = Buffer.from(stream)
      bent[at % bent.length] = byte
      return bent
    }),
  )
  fc.assert(
    fc.property(
      soup,
      fc.array(fc.nat(200), { maxLength: 6 }),
      fc.constantFrom<Direction>('frontend', 'backend'),
      (bytes, points, direction) => {
        const outcome = (chunks: Buffer[]) => {
          try {
            return walk(direction, chunks).length
          } catch (error) {
            assert.ok(hasCode(error, 'PROTOCOL_VIOLATION', 'MESSAGE_TOO_LARGE'), String(error))
            return error.code
          }
        }
        assert.equal(outcome(cut(bytes, points)), outcome([bytes]))
      },
    ),
    { numRuns: 3000 },
  )
})
