import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import fc from 'fast-check'
import { takeCopyLines } from '../../src/source/copy-lines.ts'
import { encodeBackend } from '../../src/wire/backend.ts'

const copyData = (line: string) => {
  const body = Buffer.from(`${line}\n`)
  const header = Buffer.alloc(5)
  header.write('d', 'latin1')
  header.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([header, body])
}
const notice = (text: string) => encodeBackend({ kind: 'noticeResponse', fields: { S: 'NOTICE', C: '00000', M: text } })

test('however the bytes come, each line is taken once and in order, and the driver gets the rest, byte for byte', () => {
  const message = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 40 }).map((line) => ({ line: line.replaceAll('\n', ' ') })),
    fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => ({ other: notice(text.replaceAll('\0', ' ')) })),
  )
  fc.assert(
    fc.property(fc.array(message, { maxLength: 20 }), fc.array(fc.nat(30), { minLength: 1, maxLength: 10 }), (messages, sizes) => {
      const stream = new EventEmitter()
      const driver: Buffer[] = []
      stream.on('data', (chunk: Buffer) => driver.push(Buffer.from(chunk)))
      const lines: string[] = []
      const giveBack = takeCopyLines(
        stream,
        (line) => lines.push(line),
        (error) => assert.fail(error),
      )
      const bytes = Buffer.concat(messages.map((one) => ('line' in one ? copyData(one.line) : one.other)))
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = 1 + sizes[i % sizes.length]!
        stream.emit('data', bytes.subarray(at, at + size))
        at += size
      }
      assert.deepEqual(
        lines,
        messages.flatMap((one) => ('line' in one ? [one.line] : [])),
      )
      const others = messages.flatMap((one) => ('line' in one ? [] : [one.other]))
      assert.deepEqual(Buffer.concat(driver), Buffer.concat(others))
      giveBack()
      stream.emit('data', copyData('after'))
      assert.deepEqual(driver.at(-1), copyData('after'))
    }),
  )
})

test('bytes that are no messages end the copy', () => {
  const stream = new EventEmitter()
  const failures: string[] = []
  takeCopyLines(
    stream,
    () => assert.fail('a line'),
    (error) => failures.push(error.message),
  )
  stream.emit('data', Buffer.from('HTTP/1.1 400 Bad Request'))
  assert.equal(failures.length, 1)
})
