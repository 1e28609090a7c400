// Promises: the frames between a memory target's client and server: four bytes of length, then a JSON array of messages, many a
// frame. Bounded: a frame above FRAME_BYTES_MAX is never buffered.
import type { ErrorDetails } from '../../model/errors.ts'

const OPEN = 0x5b
const CLOSE = 0x5d

export const FRAME_BYTES_MAX = 32 * 1024 * 1024

/** [id, operation, ...arguments] */
export type RequestMessage = readonly [id: number, operation: string, ...args: unknown[]]
/** [id, 0, result], or [id, 1, error code, details] */
export type ReplyMessage =
  | readonly [id: number, failed: 0, result: unknown]
  | readonly [id: number, failed: 1, code: string, details: ErrorDetails]

/** A frame of messages that are JSON texts already. */
export function frameOf(messages: readonly string[]): Buffer {
  return frameOfPieces([messages.join(',')])
}

/** The messages and the commas between them, cut anywhere: long texts are not joined, which would copy them. */
export function frameOfPieces(pieces: readonly string[]): Buffer {
  // Measured first: room for the most that it may be would be three times as much memory, until it is collected.
  let bytes = 2
  for (const piece of pieces) bytes += Buffer.byteLength(piece, 'utf8')
  const frame = Buffer.allocUnsafe(4 + bytes)
  frame.writeUInt32BE(bytes, 0)
  frame[4] = OPEN
  let at = 5
  for (const piece of pieces) at += frame.write(piece, at, 'utf8')
  frame[at] = CLOSE
  return frame
}

/** Cuts a byte stream into frames, however it was sliced. Throws RangeError on a frame that is too large, SyntaxError on bad JSON. */
export class FrameReader<M> {
  #chunks: Buffer[] = []
  #bytes = 0
  #needed = 4

  push(chunk: Buffer): M[] {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    const messages: M[] = []
    while (this.#bytes >= this.#needed) {
      const buffer = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
      const length = buffer.readUInt32BE(0)
      if (length > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${length} bytes, above ${FRAME_BYTES_MAX}`)
      const end = 4 + length
      if (buffer.length >= end) for (const message of JSON.parse(buffer.toString('utf8', 4, end)) as M[]) messages.push(message)
      const rest = buffer.length >= end ? buffer.subarray(end) : buffer
      this.#chunks = rest.length > 0 ? [rest] : []
      this.#bytes = rest.length
      this.#needed = buffer.length >= end ? 4 : end
    }
    return messages
  }
}
