// Promises: reads that never leave their buffer, whatever the bytes say, and one growing buffer to write messages into.
// Nothing is allocated on the word of a length before the bytes are there (faults.md 32, 33).
import { SwitchbackError } from '../model/errors.ts'

export function violation(what: string): SwitchbackError {
  return new SwitchbackError('PROTOCOL_VIOLATION', { what })
}

/** A cursor over one message. Slices share memory with it. */
export class ByteReader {
  readonly bytes: Buffer
  position: number
  readonly #fail: (problem: string) => Error

  constructor(bytes: Buffer, fail: (problem: string) => Error = violation) {
    this.bytes = bytes
    this.position = 0
    this.#fail = fail
  }

  get remaining(): number {
    return this.bytes.length - this.position
  }

  fail(problem: string): Error {
    return this.#fail(problem)
  }

  #take(count: number): number {
    const at = this.position
    if (count < 0 || count > this.bytes.length - at) throw this.#fail(`${count} bytes expected where ${this.bytes.length - at} are left`)
    this.position = at + count
    return at
  }

  uint8(): number {
    return this.bytes[this.#take(1)]!
  }

  int16(): number {
    return this.bytes.readInt16BE(this.#take(2))
  }

  uint16(): number {
    return this.bytes.readUInt16BE(this.#take(2))
  }

  int32(): number {
    return this.bytes.readInt32BE(this.#take(4))
  }

  uint32(): number {
    return this.bytes.readUInt32BE(this.#take(4))
  }

  int64(): bigint {
    return this.bytes.readBigInt64BE(this.#take(8))
  }

  uint64(): bigint {
    return this.bytes.readBigUInt64BE(this.#take(8))
  }

  /** Shares memory with the message. */
  slice(count: number): Buffer {
    const at = this.#take(count)
    return this.bytes.subarray(at, at + count)
  }

  rest(): Buffer {
    return this.slice(this.remaining)
  }

  utf8(count: number): string {
    const at = this.#take(count)
    return this.bytes.toString('utf8', at, at + count)
  }

  /** Bytes up to the next NUL, which is passed over. */
  cstringBytes(): Buffer {
    const end = this.bytes.indexOf(0, this.position)
    if (end === -1) throw this.#fail('a string without its end')
    const bytes = this.bytes.subarray(this.position, end)
    this.position = end + 1
    return bytes
  }

  cstring(): string {
    const end = this.bytes.indexOf(0, this.position)
    if (end === -1) throw this.#fail('a string without its end')
    const text = this.bytes.toString('utf8', this.position, end)
    this.position = end + 1
    return text
  }

  /** A count of things of at least `bytesEach` bytes each, believed only if that many can be there. */
  count16(bytesEach: number): number {
    const count = this.uint16()
    if (count * bytesEach > this.remaining) throw this.#fail(`${count} entries expected where ${this.remaining} bytes are left`)
    return count
  }

  end(what: string): void {
    if (this.remaining !== 0) throw this.#fail(`${this.remaining} bytes too many in ${what}`)
  }
}

/** Up to this many characters a loop here is faster than a call into the runtime. */
const SHORT_TEXT = 24
/** From here on room is measured, not guessed at three bytes a character. */
const LONG_TEXT = 4096

/** Writes messages one behind the other into one growing buffer. */
export class ByteWriter {
  #bytes: Buffer
  #length = 0
  #messageAt = 0

  constructor(initialBytes = 256) {
    this.#bytes = Buffer.allocUnsafe(Math.max(16, initialBytes))
  }

  get length(): number {
    return this.#length
  }

  #room(count: number): number {
    const at = this.#length
    if (at + count > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, at + count))
      this.#bytes.copy(grown, 0, 0, at)
      this.#bytes = grown
    }
    this.#length = at + count
    return at
  }

  uint8(value: number): this {
    const at = this.#room(1)
    this.#bytes[at] = value
    return this
  }

  int16(value: number): this {
    const at = this.#room(2)
    const bytes = this.#bytes
    bytes[at] = value >>> 8
    bytes[at + 1] = value
    return this
  }

  int32(value: number): this {
    this.#put32(this.#room(4), value)
    return this
  }

  int64(value: bigint): this {
    const at = this.#room(8)
    this.#bytes.writeBigInt64BE(BigInt.asIntN(64, value), at)
    return this
  }

  raw(source: Uint8Array): this {
    const at = this.#room(source.length)
    this.#bytes.set(source, at)
    return this
  }

  utf8(text: string): this {
    this.#utf8(text)
    return this
  }

  cstring(text: string): this {
    if (text.includes('\0')) throw violation('a NUL inside a string')
    this.#utf8(text)
    return this.uint8(0)
  }

  /** A value as DataRow and Bind carry it: its length and its bytes, -1 for null. */
  value(value: string | Uint8Array | null): this {
    const at = this.#room(4)
    if (value === null) {
      this.#put32(at, -1)
    } else if (typeof value === 'string') {
      this.#utf8(value)
      this.#put32(at, this.#length - at - 4)
    } else {
      this.#put32(at, value.length)
      this.raw(value)
    }
    return this
  }

  /** Opens a message; `finish` fills its length in. Type 0 is a message without a type byte. */
  begin(type: number): this {
    if (type !== 0) this.uint8(type)
    this.#messageAt = this.#room(4)
    return this
  }

  finish(): this {
    this.#put32(this.#messageAt, this.#length - this.#messageAt)
    return this
  }

  /** What has been written, as a view: the writer must not be used again. */
  done(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  #put32(at: number, value: number): void {
    const bytes = this.#bytes
    bytes[at] = value >>> 24
    bytes[at + 1] = value >>> 16
    bytes[at + 2] = value >>> 8
    bytes[at + 3] = value
  }

  #utf8(text: string): void {
    const length = text.length
    const at = this.#room(length > LONG_TEXT ? Buffer.byteLength(text) : length * 3)
    const bytes = this.#bytes
    if (length <= SHORT_TEXT) {
      let i = 0
      for (; i < length; i++) {
        const code = text.charCodeAt(i)
        if (code > 0x7f) break
        bytes[at + i] = code
      }
      if (i === length) {
        this.#length = at + length
        return
      }
    }
    this.#length = at + bytes.write(text, at, 'utf8')
  }
}
