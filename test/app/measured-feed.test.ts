import assert from 'node:assert/strict'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { test } from 'node:test'
import { ArmMeter } from '../../src/app/arm-meter.ts'
import { startFeedClient } from '../../src/app/feed-client.ts'
import { startFeedServer } from '../../src/app/feed-server.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { MeasuredReport } from '../../src/model/measured.ts'
import { createFeedDecoder, encodeFeedMessage, type FeedMessage } from '../../src/sync/feed.ts'
import type { ReverseSync } from '../../src/sync/reverse.ts'
import { eventually } from '../support/eventually.ts'
import { answered } from './measuring.ts'

const SECRET = 'secret'
const REVERSE = { feedAlive() {}, positionsOf: () => [], settled() {}, room: async () => undefined } as unknown as ReverseSync

async function leader(port = 0) {
  const told: { lease: string; report: MeasuredReport }[] = []
  const warnings: string[] = []
  const server = await startFeedServer({
    host: '127.0.0.1',
    port,
    secret: SECRET,
    token: 1,
    reverse: REVERSE,
    measured: (lease, report) => told.push({ lease, report }),
    warn: (details) => warnings.push(JSON.stringify(details)),
  })
  return { told, warnings, port: server.port, close: () => server.close() }
}

function gateway(port: () => number | null) {
  const meter = new ArmMeter(systemClock)
  const client = startFeedClient({
    gateway: 'one',
    endpoint: async () => (port() === null ? null : { token: 1, host: '127.0.0.1', port: port()!, secret: SECRET }),
    meter,
    clock: systemClock,
    random: seededRandom(1),
  })
  client.lease('lease-1')
  return { meter, client }
}

const requestsOf = ({ report }: { report: MeasuredReport }) =>
  report.statements.reduce((sum, { source }) => sum + (source?.requests ?? 0), 0)

test('what a gateway measured comes once a second; what it could not tell comes with the next, once, also after a change of leaders', async () => {
  let port: number | null = null
  const { meter, client } = gateway(() => port)
  meter.statement(answered('a'))
  const first = await leader()
  port = first.port
  await eventually(() => first.told.length >= 2, 'two reports have come')
  assert.deepEqual([first.told[0]!.lease, first.told.map(requestsOf).slice(0, 2)], ['lease-1', [1, 0]])
  port = null
  await first.close()
  const before = first.told.map(requestsOf).reduce((sum, one) => sum + one, 0)
  meter.statement(answered('b'))
  meter.statement(answered('b'))
  const second = await leader()
  port = second.port
  await eventually(() => second.told.length >= 2, 'the new leader is told')
  assert.equal(before + second.told.map(requestsOf).reduce((sum, one) => sum + one, 0), 3)
  await client.close()
  await second.close()
})

test('a leader that does not say that it takes measurements, as an older one, is sent none', async () => {
  const seen: FeedMessage[] = []
  const sockets: Socket[] = []
  const server: Server = createServer((socket) => {
    sockets.push(socket)
    const decoder = createFeedDecoder()
    socket.on('data', (chunk: Buffer) => {
      for (const message of decoder.push(chunk)) {
        seen.push(message)
        if (message.type !== 'hello') continue
        const body = Buffer.from(JSON.stringify({ type: 'welcome', protocol: 1, token: 1 }))
        socket.write(Buffer.concat([Buffer.from([0, 0, 0, body.length]), body]))
      }
    })
    socket.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const port = (server.address() as { port: number }).port
  const { meter, client } = gateway(() => port)
  let kept = 0
  const keep = meter.keep.bind(meter)
  meter.keep = () => {
    kept++
    keep()
  }
  await eventually(() => seen.some(({ type }) => type === 'toldAll') && kept >= 2, 'two seconds after the welcome have passed')
  assert.deepEqual(
    seen.map(({ type }) => type),
    ['hello', 'toldAll'],
  )
  await client.close()
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => server.close(resolve))
})

test('a report that is none ends its connection and reaches no book', async () => {
  const at = await leader()
  const report = new ArmMeter(systemClock).take()
  const good = JSON.parse(encodeFeedMessage({ type: 'measured', report }).subarray(4).toString()) as { report: object }
  const arm = [2, 1, [0, 5], [1, 1]]
  const bad: Record<string, unknown> = {
    'a statement without a label': { statements: [[null, arm, null]] },
    'a label without end': { statements: [['x'.repeat(161), arm, null]] },
    'a label twice': {
      statements: [
        ['x', arm, null],
        ['x', null, arm],
      ],
    },
    'more errors than requests': { statements: [['x', [1, 2, [], []], null]] },
    'more latencies than requests': { statements: [['x', [1, 0, [0, 1], [1, 1]], null]] },
    'a bucket twice': { statements: [['x', [2, 0, [3, 0], [1, 1]], null]] },
    'a bucket beyond the last': { statements: [['x', [1, 0, [100_000], [1]], null]] },
    'a count for each bucket, and one more': { statements: [['x', [2, 0, [3], [1, 1]], null]] },
    'a negative count': { slots: [1, -1] },
    'half a slot': { slots: [1] },
    'a slot twice': { slots: [1, 1, 1, 1] },
    'a time that is none': { overMs: null },
    'holds that are none': { holds: [1, 2, 'x', 3] },
    'a key without its numbers': { keys: [['a', 1]] },
    'a sketch that does not descend': {
      hot: {
        source: {
          requests: {
            capacity: 9,
            total: 3,
            absentMax: 0,
            refused: 0,
            keys: [
              ['a', 1, 0],
              ['b', 2, 0],
            ],
          },
          casRetries: null,
          queueMs: null,
        },
        target: { requests: null, casRetries: null, queueMs: null },
      },
    },
    'sketches of one arm': { hot: { source: { requests: null, casRetries: null, queueMs: null } } },
    'sketches of no arm': { hot: [] },
  }
  const tell = async (body: unknown) => {
    const socket = connect(at.port, '127.0.0.1')
    socket.on('error', () => undefined)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.write(encodeFeedMessage({ type: 'hello', protocol: 1, gateway: 'one', lease: 'l', secret: SECRET }))
    const bytes = Buffer.from(JSON.stringify({ type: 'measured', report: body }))
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    socket.write(Buffer.concat([length, bytes]))
    return { socket, closed }
  }
  for (const [what, change] of Object.entries(bad)) {
    const { socket } = await tell({ ...good.report, ...(change as object) })
    await eventually(() => socket.closed || at.told.length > 0, what)
    assert.equal(at.told.length, 0, what)
  }
  assert.equal(
    at.warnings.filter((text) => text.includes('FEED_FRAME_INVALID') || text.includes('report of measurements')).length,
    Object.keys(bad).length,
  )
  const { socket, closed } = await tell({ ...good.report, statements: [['x', arm, null]] })
  await eventually(() => at.told.length === 1, 'the good one has come')
  socket.destroy()
  await closed
  await at.close()
})
