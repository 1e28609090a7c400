// Promises: the 64-bit digest of a text that PostgreSQL computes as hashtextextended(text, seed), and sums of digests that do not
// depend on order; so that either side can digest its own rows and only digests travel.
// Algorithm: Bob Jenkins, lookup3 (2006, public domain), as PostgreSQL uses it for hash partitions. A parity run compares known
// texts with the server's own function first, since PostgreSQL promises nothing of it between major versions.

const FIRST_BYTES = 4_096

/** A digest as two unsigned 32-bit halves. */
export interface Digest64 {
  hi: number
  lo: number
}

export class TextDigester implements Digest64 {
  hi = 0
  lo = 0
  #bytes = Buffer.alloc(FIRST_BYTES)
  #words = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, FIRST_BYTES >> 2)

  /** Leaves the digest of the text's UTF-8 bytes in `hi` and `lo`. `seed` is below 2^32. */
  digest(text: string, seed = 0): this {
    if (text.length * 3 > this.#bytes.length) this.#grow(text.length * 3)
    const length = this.#bytes.write(text, 0, 'utf8')
    this.#mix(length, seed)
    return this
  }

  #grow(bytes: number): void {
    this.#bytes = Buffer.alloc(Math.ceil(bytes / FIRST_BYTES) * FIRST_BYTES * 2)
    this.#words = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length >> 2)
  }

  #mix(length: number, seed: number): void {
    const words = this.#words
    let a = (0x9e3779b9 + length + 3923095) | 0
    let b = a
    let c = a
    if (seed !== 0) {
      b = (b + seed) | 0
      a = (a - c) ^ ((c << 4) | (c >>> 28))
      c = (c + b) | 0
      b = (b - a) ^ ((a << 6) | (a >>> 26))
      a = (a + c) | 0
      c = (c - b) ^ ((b << 8) | (b >>> 24))
      b = (b + a) | 0
      a = (a - c) ^ ((c << 16) | (c >>> 16))
      c = (c + b) | 0
      b = (b - a) ^ ((a << 19) | (a >>> 13))
      a = (a + c) | 0
      c = (c - b) ^ ((b << 4) | (b >>> 28))
      b = (b + a) | 0
    }
    let at = 0
    let left = length
    for (; left >= 12; left -= 12) {
      a = (a + words[at]!) | 0
      b = (b + words[at + 1]!) | 0
      c = (c + words[at + 2]!) | 0
      at += 3
      a = (a - c) ^ ((c << 4) | (c >>> 28))
      c = (c + b) | 0
      b = (b - a) ^ ((a << 6) | (a >>> 26))
      a = (a + c) | 0
      c = (c - b) ^ ((b << 8) | (b >>> 24))
      b = (b + a) | 0
      a = (a - c) ^ ((c << 16) | (c >>> 16))
      c = (c + b) | 0
      b = (b - a) ^ ((a << 19) | (a >>> 13))
      a = (a + c) | 0
      c = (c - b) ^ ((b << 4) | (b >>> 28))
      b = (b + a) | 0
    }
    // The last 0..11 bytes, padded with zeros; c's lowest byte is reserved for the length.
    const bytes = this.#bytes
    const from = at << 2
    bytes.fill(0, length, from + 12)
    a = (a + words[at]!) | 0
    b = (b + words[at + 1]!) | 0
    c = (c + (words[at + 2]! << 8)) | 0
    c ^= b
    c = (c - ((b << 14) | (b >>> 18))) | 0
    a ^= c
    a = (a - ((c << 11) | (c >>> 21))) | 0
    b ^= a
    b = (b - ((a << 25) | (a >>> 7))) | 0
    c ^= b
    c = (c - ((b << 16) | (b >>> 16))) | 0
    a ^= c
    a = (a - ((c << 4) | (c >>> 28))) | 0
    b ^= a
    b = (b - ((a << 14) | (a >>> 18))) | 0
    c ^= b
    c = (c - ((b << 24) | (b >>> 8))) | 0
    this.hi = b >>> 0
    this.lo = c >>> 0
  }
}

/** Digest as PostgreSQL's bigint. */
export function digestOf(digest: Digest64): bigint {
  return BigInt.asIntN(64, (BigInt(digest.hi) << 32n) | BigInt(digest.lo))
}

/** Sums and counts of digests by bucket, modulo 2^64: the digest of a multiset. */
export class BucketSums {
  readonly counts: Uint32Array
  readonly #hi: Uint32Array
  readonly #lo: Uint32Array

  constructor(buckets: number) {
    this.counts = new Uint32Array(buckets)
    this.#hi = new Uint32Array(buckets)
    this.#lo = new Uint32Array(buckets)
  }

  add(bucket: number, digest: Digest64): void {
    const lo = this.#lo[bucket]! + digest.lo
    this.#lo[bucket] = lo
    this.#hi[bucket] = this.#hi[bucket]! + digest.hi + (lo > 0xffffffff ? 1 : 0)
    this.counts[bucket]!++
  }

  /** Adds what another reader summed for a bucket. */
  merge(bucket: number, sum: bigint, count: number): void {
    const value = BigInt.asUintN(64, this.sum(bucket) + sum)
    this.#hi[bucket] = Number(value >> 32n)
    this.#lo[bucket] = Number(value & 0xffffffffn)
    this.counts[bucket]! += count
  }

  sum(bucket: number): bigint {
    return (BigInt(this.#hi[bucket]!) << 32n) | BigInt(this.#lo[bucket]!)
  }

  get buckets(): number {
    return this.counts.length
  }

  /** Buckets in which the two differ. */
  differing(other: BucketSums): number[] {
    const found: number[] = []
    for (let i = 0; i < this.counts.length; i++) {
      if (this.counts[i] !== other.counts[i] || this.#lo[i] !== other.#lo[i] || this.#hi[i] !== other.#hi[i]) found.push(i)
    }
    return found
  }
}

/** The text of a row as PostgreSQL prints `row(...)::text` (record_out): unambiguous, and one C call there. */
export function recordText(cells: readonly (string | null)[]): string {
  let text = '('
  for (let i = 0; i < cells.length; i++) {
    const cell = cells[i]!
    if (i > 0) text += ','
    if (cell === null) continue
    text += cell === '' || NEEDS_QUOTES.test(cell) ? `"${cell.replace(QUOTE_OR_BACKSLASH, '$&$&')}"` : cell
  }
  return `${text})`
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: isspace() of C's locale
const NEEDS_QUOTES = /["\\(),\u0009-\u000d ]/
const QUOTE_OR_BACKSLASH = /["\\]/g
