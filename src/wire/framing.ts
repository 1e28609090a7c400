// Promises: walks the message headers of a PostgreSQL protocol v3 stream fed in arbitrary chunks, without a copy and without an
// object a message. Every length is validated before anything is allocated for it (faults.md 31-33; gateway.md, Hot path).
import { assert } from '../lib/assert.ts'
import { SwitchbackError } from '../model/errors.ts'
import { violation } from './bytes.ts'

export type Direction = 'frontend' | 'backend'

/** `type` of messages without a type byte: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest. */
export const STARTUP = 0

/** Length word of a startup packet. */
export const STARTUP_BYTES_MAX = 10_000

/** PostgreSQL's own bounds (PQ_LARGE_MESSAGE_LIMIT, PQ_SMALL_MESSAGE_LIMIT, PG_MAX_AUTH_TOKEN_LENGTH). */
const LARGE = 0x3fffffff
const SMALL = 10_000
const AUTH = 65_535
/** libpq takes short messages only up to here; a server's error may be longer. */
const BACKEND_SMALL = 30_000

const FRONTEND_MAX = lengths({ QFPBd: LARGE, XEDCHScf: SMALL, p: AUTH })
const BACKEND_MAX = lengths({ DTdtENASCRV: LARGE, KZ123nsIGHWcv: BACKEND_SMALL })

/** Types to be reassembled, each with the largest message it may be, and the name of that limit. */
export interface CollectLimit {
  readonly types: string
  readonly bytesMax: number
  readonly limitName: string
}

export interface WalkerOptions {
  readonly direction: Direction
  readonly collect?: readonly CollectLimit[]
  /** False for a frontend stream that is past its startup. Backend streams have none. */
  readonly startup?: boolean
}

const FIRST_ASSEMBLY_BYTES = 16_384
const SSL_REQUEST_FAMILY = 1234
const EMPTY = Buffer.alloc(0)

/**
 * A cursor: `feed` a chunk, then `next` until it says false. It stops once for each message in the chunk, as soon as the header
 * is complete, and once more for each later chunk that the message reaches into. Offsets are in the current chunk: `start` is
 * negative if the message began in an earlier one, `end` lies past the chunk if it goes on.
 */
export class MessageWalker {
  /** Type byte, or STARTUP. */
  type = 0
  /** All bytes of the message, type byte and length word included. */
  length = 0
  start = 0
  end = 0
  /** This is the first stop at this message. */
  first = false

  readonly #max: Int32Array
  readonly #collectMax: Float64Array
  readonly #limitNames: (string | undefined)[] = []
  #startup: boolean
  #chunk: Buffer = EMPTY
  #position = 0
  /** Bytes of the message under way that lie in earlier chunks, its header included. */
  #before = 0
  #open = false
  /** Header bytes cut by the end of a chunk: 0 to 4 of them. */
  readonly #header = Buffer.alloc(8)
  #headerLength = 0
  #assembly: Buffer | null = null
  #assembled = 0

  constructor(options: WalkerOptions) {
    this.#max = options.direction === 'frontend' ? FRONTEND_MAX : BACKEND_MAX
    this.#startup = options.direction === 'frontend' && options.startup !== false
    this.#collectMax = new Float64Array(128)
    for (const limit of options.collect ?? []) {
      for (const type of limit.types) {
        this.#collectMax[type.charCodeAt(0)] = limit.bytesMax
        this.#limitNames[type.charCodeAt(0)] = limit.limitName
      }
    }
  }

  /** The message lies in the current chunk from its first byte to its last. */
  get whole(): boolean {
    return this.start >= 0 && this.end <= this.#chunk.length
  }

  /** The message's last byte is in the current chunk. */
  get last(): boolean {
    return this.end <= this.#chunk.length
  }

  /** Offset in the chunk of the first byte that no message of this chunk holds: the cut header, or the chunk's end. */
  get undecided(): number {
    return Math.max(0, this.#chunk.length - this.#headerLength)
  }

  /** The next message has no type byte: the startup is not over. */
  get inStartup(): boolean {
    return this.#startup
  }

  feed(chunk: Buffer): void {
    assert(this.#position >= this.#chunk.length, 'a chunk is fed when the one before it has been walked')
    this.#chunk = chunk
    this.#position = 0
  }

  next(): boolean {
    const chunk = this.#chunk
    const size = chunk.length
    const at = this.#position
    if (at >= size) return false
    if (!this.#open && this.#headerLength === 0 && !this.#startup && size - at >= 5) {
      const type = chunk[at]!
      const word = (chunk[at + 1]! << 24) | (chunk[at + 2]! << 16) | (chunk[at + 3]! << 8) | chunk[at + 4]!
      const limit = type < 128 ? this.#max[type]! : 0
      if (word < 4 || word > limit) throw badHeader(type, word, limit)
      const end = at + 1 + word
      this.type = type
      this.length = word + 1
      this.start = at
      this.end = end
      this.first = true
      if (this.#collectMax[type] !== 0) this.#admit()
      if (end <= size) {
        this.#position = end
        return true
      }
      this.#position = size
      this.#goOn()
      return true
    }
    return this.#open ? this.#continue() : this.#slowHeader()
  }

  /**
   * The message without its header, once its last byte is there: a view where it is whole in the chunk, else reassembled, which
   * only requested types and startup packets are.
   */
  body(): Buffer {
    const header = this.type === STARTUP ? 4 : 5
    if (this.whole) return this.#chunk.subarray(this.start + header, this.end)
    assert(this.last && this.#assembly !== null, 'only a message that was to be collected, and is complete, has a body')
    return this.#assembly.subarray(header, this.length)
  }

  /** A message goes on in the next chunk. */
  #goOn(): void {
    this.#open = true
    this.#before = this.#chunk.length - this.start
    this.#assembly = null
    if (this.type === STARTUP || this.#collectMax[this.type] !== 0) {
      this.#assembly = Buffer.allocUnsafe(Math.min(this.length, FIRST_ASSEMBLY_BYTES))
      this.#assembled = 0
      if (this.start < 0) this.#keep(this.#header, 0, -this.start)
      this.#keep(this.#chunk, Math.max(0, this.start), this.#chunk.length)
    }
  }

  #continue(): boolean {
    const size = this.#chunk.length
    this.first = false
    this.start = -this.#before
    this.end = this.start + this.length
    const here = Math.min(this.end, size)
    if (this.#assembly !== null) this.#keep(this.#chunk, 0, here)
    this.#position = here
    if (this.end <= size) this.#close()
    else this.#before += size
    return true
  }

  /** A header that is cut, or of a startup packet. */
  #slowHeader(): boolean {
    const chunk = this.#chunk
    const wanted = this.#startup ? 4 : 5
    const held = this.#headerLength
    const began = this.#position - held
    let filled = held
    while (filled < wanted && this.#position < chunk.length) this.#header[filled++] = chunk[this.#position++]!
    if (!this.#startup && filled > 0) this.#checkType(this.#header[0]!)
    if (filled < wanted) {
      this.#headerLength = filled
      return false
    }
    this.#headerLength = 0
    const word = this.#header.readInt32BE(wanted - 4)
    this.type = this.#startup ? STARTUP : this.#header[0]!
    const limit = this.#startup ? STARTUP_BYTES_MAX : this.#max[this.type]!
    if (word < (this.#startup ? 8 : 4) || word > limit) throw badHeader(this.type, word, limit)
    this.length = word + wanted - 4
    this.start = began
    this.end = began + this.length
    this.first = true
    this.#admit()
    const size = chunk.length
    if (this.end <= size) {
      if (held > 0 && (this.type === STARTUP || this.#collectMax[this.type] !== 0)) {
        this.#assembly = Buffer.allocUnsafe(this.length)
        this.#assembled = 0
        this.#keep(this.#header, 0, held)
        this.#keep(chunk, 0, this.end)
      }
      this.#position = this.end
      this.#close()
    } else {
      this.#position = size
      this.#goOn()
    }
    return true
  }

  #close(): void {
    this.#open = false
    this.#before = 0
    if (this.type !== STARTUP) return
    // StartupMessage opens the typed stream; behind SSLRequest, GSSENCRequest and CancelRequest the next is untyped again.
    if (this.body().readUInt16BE(0) !== SSL_REQUEST_FAMILY) this.#startup = false
  }

  #admit(): void {
    const limit = this.#collectMax[this.type]!
    if (limit !== 0 && this.length > limit) {
      throw new SwitchbackError('MESSAGE_TOO_LARGE', { bytes: this.length, limit, limitName: this.#limitNames[this.type]! })
    }
  }

  #checkType(type: number): void {
    if (type >= 128 || this.#max[type] === 0) throw badHeader(type, 4, 0)
  }

  /** Grows with what has arrived, not with what is claimed: a claim of megabytes costs its sender megabytes. */
  #keep(source: Buffer, from: number, to: number): void {
    const needed = this.#assembled + (to - from)
    let assembly = this.#assembly!
    if (needed > assembly.length) {
      assembly = Buffer.allocUnsafe(Math.min(this.length, Math.max(needed, assembly.length * 2)))
      this.#assembly!.copy(assembly, 0, 0, this.#assembled)
      this.#assembly = assembly
    }
    source.copy(assembly, this.#assembled, from, to)
    this.#assembled = needed
  }
}

function badHeader(type: number, word: number, limit: number): SwitchbackError {
  const name = type === STARTUP ? 'a startup packet' : `a message of type 0x${type.toString(16)}`
  if (limit === 0) return violation(`${name}, which does not exist in this direction`)
  return violation(`${name} with a length of ${word}, which is ${word > limit ? `more than ${limit}` : 'too little'}`)
}

function lengths(table: Record<string, number>): Int32Array {
  const max = new Int32Array(128)
  for (const [types, length] of Object.entries(table)) for (const type of types) max[type.charCodeAt(0)] = length
  return max
}
