import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { freePort } from '../../src/app/embedded/free-port.ts'
import { startMemoryTarget } from '../../src/app/embedded/memory-target.ts'
import { hasCode } from '../../src/model/errors.ts'
import { connectMemoryTarget } from '../../src/targets/memory/client.ts'
import { FaultScript } from '../../src/targets/memory/faults.ts'
import { FRAME_BYTES_MAX, FrameReader, frameOf } from '../../src/targets/memory/frames.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { contractMapping, headAt, numbered } from '../contract/contract-mapping.ts'
import { eventually } from '../support/eventually.ts'

const mapping = contractMapping('line')

test('frames come back however the bytes are sliced', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.string(), { maxLength: 4 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9 })),
      (frames, cuts) => {
        const bytes = Buffer.concat(frames.map((messages) => frameOf(messages.map((message) => JSON.stringify(message)))))
        const reader = new FrameReader<string>()
        const seen: string[] = []
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + (cuts[i % Math.max(1, cuts.length)] ?? 5)
          seen.push(...reader.push(bytes.subarray(at, end)))
          at = end
        }
        assert.deepEqual(seen, frames.flat())
      },
    ),
  )
})

test('a frame that claims too much is never buffered, and a stranger is cut off', async () => {
  const claim = Buffer.alloc(4)
  claim.writeUInt32BE(FRAME_BYTES_MAX + 1, 0)
  assert.throws(() => new FrameReader().push(claim), RangeError)
  await using server = await serveMemoryTarget()
  const socket = connect(server.port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write('GET / HTTP/1.1\r\n\r\n')
  await new Promise((resolve) => socket.once('close', resolve))
})

test('a reset makes what was sent unknown, nothing is sent twice, and the next request finds a new connection', async () => {
  const script = new FaultScript()
  await using server = await serveMemoryTarget({ faults: script.hook })
  const target = connectMemoryTarget({ port: server.port })
  await target.prepare(mapping)
  script.dropNextReply('compareAndSetHead')
  const lost = target.compareAndSetHead('1', null, headAt(1, 1, 'a')).catch((error: unknown) => error)
  await eventually(async () => (await server.target.readHead('1')) !== null, 'the compare-and-set arrived')
  server.resetConnections()
  assert.ok(hasCode(await lost, 'TARGET_UNKNOWN'))
  assert.deepEqual(await target.readHead('1'), headAt(1, 1, 'a'))
  await target.close()
})

test('without a server a request ends as not sent, within its time, and is known not to have taken effect', async () => {
  const port = await freePort()
  const target = connectMemoryTarget({ port, requestTimeoutMs: 100 })
  await assert.rejects(target.readHead('1'), { code: 'TARGET_THROTTLED', message: /not sent/ })
  const patient = connectMemoryTarget({ port, requestTimeoutMs: 10_000 })
  const early = patient.readHead('1')
  await using _server = await serveMemoryTarget({ port })
  assert.equal(await early, null, 'sent once the server is there')
  await Promise.all([target.close(), patient.close()])
  await assert.rejects(target.readHead('1'), { code: 'TARGET_THROTTLED' })
})

test('what waits is bounded, in requests and in bytes', async () => {
  const port = await freePort()
  const codes = (target: ReturnType<typeof connectMemoryTarget>) =>
    Promise.all([1, 2, 3].map(() => target.readHead('x'.repeat(100)).catch((error: Error) => error.message)))
  for (const [limits, named] of [
    [{ requestsMax: 2 }, /requestsMax 2/],
    [{ unsentBytesMax: 300 }, /unsentBytesMax 300/],
  ] as const) {
    const target = connectMemoryTarget({ port, requestTimeoutMs: 50, ...limits })
    const [, , third] = await codes(target)
    assert.match(String(third), named)
    await target.close()
  }
})

test('thousands of puts are pipelined, each answered, through a process of its own that ends with its parent', async () => {
  const child = await startMemoryTarget()
  const target = connectMemoryTarget({ port: child.port, requestTimeoutMs: 30_000 })
  await target.prepare(mapping)
  const rows = Array.from({ length: 20_000 }, (_, i) => numbered(String(i % 1_000), i, 1, [`body ${i}`, null]))
  await Promise.all(rows.map((row) => target.putRows([row])))
  const read = await target.readRows(rows)
  assert.deepEqual(read, rows)
  await target.close()
  await child.stop()
  assert.throws(() => process.kill(child.pid, 0), { code: 'ESRCH' })
})
