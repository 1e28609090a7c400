// Promises: stands between a connection's socket and its driver while a COPY ... TO STDOUT runs: lines of data are taken here, each as
// one text and without an object or an event a message, everything else is the driver's, byte for byte and in order.
import { BACKEND } from '../wire/backend.ts'
import { MessageWalker } from '../wire/framing.ts'

/** As Node's own socket. */
export interface ByteStream {
  listeners(event: 'data'): unknown[]
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  off(event: 'data', listener: (chunk: Buffer) => void): unknown
}

type Listener = (chunk: Buffer) => void

/** A line is a row, which is at most a gigabyte in PostgreSQL. */
const LINE_BYTES_MAX = 0x3fffffff
const HEADER = 5

/** Returns what gives the socket back to the driver; idempotent. `onFailure`: bytes that are no messages. */
export function takeCopyLines(stream: ByteStream, onLine: (text: string) => void, onFailure: (error: Error) => void): () => void {
  const driver = stream.listeners('data') as Listener[]
  const walker = new MessageWalker({
    direction: 'backend',
    collect: [{ types: 'd', bytesMax: LINE_BYTES_MAX, limitName: 'LINE_BYTES_MAX' }],
  })
  const pass = (bytes: Buffer) => {
    for (const listener of driver) listener.call(stream, bytes)
  }
  /** A header that was cut: whose it is shows with its end. */
  let tail: Buffer | null = null
  const walk = (chunk: Buffer) => {
    walker.feed(chunk)
    const before = tail
    tail = null
    while (walker.next()) {
      const { start, end } = walker
      if (walker.type !== BACKEND.copyData) {
        if (walker.first && start < 0 && before !== null) pass(before)
        pass(chunk.subarray(Math.max(0, start), Math.min(end, chunk.length)))
      } else if (walker.whole) onLine(chunk.toString('utf8', start + HEADER, end - 1))
      else if (walker.last) onLine(lineOf(walker.body()))
    }
    if (walker.undecided < chunk.length) {
      const cut = chunk.subarray(walker.undecided)
      tail = before !== null && walker.undecided === 0 ? Buffer.concat([before, cut]) : cut
    }
  }
  const listener = (chunk: Buffer) => {
    try {
      walk(chunk)
    } catch (error) {
      onFailure(error as Error)
    }
  }
  for (const one of driver) stream.off('data', one)
  stream.on('data', listener)
  return () => {
    if (!stream.listeners('data').includes(listener)) return
    stream.off('data', listener)
    for (const one of driver) stream.on('data', one)
  }
}

/** Without its newline. */
function lineOf(body: Buffer): string {
  return body.toString('utf8', 0, body.length - 1)
}
