// Promises: bool, integers, text, uuid and bytea between text and binary, and from what a client may send.
import { SqlError } from '../model/plan.ts'
import { ASK, expectLength, integerOutOfRange, invalidText, type ScalarCodec } from './value-types.ts'

type IntegerType = 'int2' | 'int4' | 'int8'

const INTEGER_BYTES: Readonly<Record<IntegerType, 2 | 4 | 8>> = { int2: 2, int4: 4, int8: 8 }
const INTEGER = /^[ \t\n\r\v\f]*([+-]?)0*(\d+)[ \t\n\r\v\f]*$/
/** Other bases and underscores, from PostgreSQL 16 on; and digits of which PostgreSQL checks the range before what follows. */
const STARTS_AS_INTEGER = /^[ \t\n\r\v\f]*[+-]?(?:0[xXoObB]|\d+_|\d{5})/
const CANONICAL_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** A hyphen may follow any two bytes but the last. */
const UUID = /^(\{?)([0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}(\}?)$/
const WORDS = ['true', 'yes', 'on', '1', 'false', 'no', 'off', '0'] as const

export const boolCodec: ScalarCodec = {
  encode(text) {
    if (text !== 't' && text !== 'f') throw invalidText('bool', text)
    return Buffer.from([text === 't' ? 1 : 0])
  },
  decode(bytes) {
    expectLength('bool', bytes, 1)
    return bytes[0] === 0 ? 'f' : 't'
  },
  canonical(text) {
    const word = text.replace(/^[ \t\n\r\v\f]+|[ \t\n\r\v\f]+$/g, '').toLowerCase()
    // Any beginning of a word that is not the beginning of two: `o` alone is on and off.
    const found = word === '' || word === 'o' ? -1 : WORDS.findIndex((known) => known.startsWith(word))
    if (found === -1) throw invalidText('bool', text)
    return found < 4 ? 't' : 'f'
  },
}

export const int2Codec = integerCodec('int2')
export const int4Codec = integerCodec('int4')
export const int8Codec = integerCodec('int8')

function integerCodec(type: IntegerType): ScalarCodec {
  const size = INTEGER_BYTES[type]
  const bound = 1n << BigInt(size * 8 - 1)
  const canonical = (text: string) => {
    const match = INTEGER.exec(text)
    if (match === null) {
      if (STARTS_AS_INTEGER.test(text)) return ASK
      throw invalidText(type, text)
    }
    const digits = match[2]!
    // Up to 9 digits fit a Number and int4; int2 has fewer.
    if (digits.length < 5 || (size > 2 && digits.length < 10)) return match[1] === '-' && digits !== '0' ? `-${digits}` : digits
    const value = digits.length > 19 ? bound : BigInt(match[1] === '-' ? `-${digits}` : digits)
    if (value >= bound || value < -bound) throw integerOutOfRange(type, text)
    return value.toString()
  }
  return {
    encode(text) {
      const plain = canonical(text)
      if (plain === ASK) throw invalidText(type, text)
      const bytes = Buffer.allocUnsafe(size)
      if (size === 8) bytes.writeBigInt64BE(BigInt(plain))
      else if (size === 4) bytes.writeInt32BE(Number(plain))
      else bytes.writeInt16BE(Number(plain))
      return bytes
    },
    decode(bytes) {
      expectLength(type, bytes, size)
      if (size === 8) return bytes.readBigInt64BE(0).toString()
      return String(size === 4 ? bytes.readInt32BE(0) : bytes.readInt16BE(0))
    },
    canonical,
  }
}

export const textCodec: ScalarCodec = {
  encode: (text) => Buffer.from(checkedText(text), 'utf8'),
  decode: decodeText,
  canonical: checkedText,
}

/** UTF-8 as PostgreSQL takes it: without NUL, without lone surrogates (faults.md 22). */
export function decodeText(bytes: Buffer): string {
  const text = bytes.toString('utf8')
  if (text.includes('\ufffd') && !Buffer.from(text, 'utf8').equals(bytes)) {
    throw new SqlError('22021', 'invalid byte sequence for encoding "UTF8"')
  }
  return checkedText(text)
}

export function checkedText(text: string): string {
  if (text.includes('\0')) throw new SqlError('22021', 'invalid byte sequence for encoding "UTF8": 0x00')
  if (/\p{Surrogate}/u.test(text)) throw new SqlError('22021', 'invalid byte sequence for encoding "UTF8": a lone surrogate')
  return text
}

export const uuidCodec: ScalarCodec = {
  encode(text) {
    if (!CANONICAL_UUID.test(text)) throw invalidText('uuid', text)
    return Buffer.from(text.replaceAll('-', ''), 'hex')
  },
  decode(bytes) {
    expectLength('uuid', bytes, 16)
    return dashed(bytes.toString('hex'))
  },
  canonical(text) {
    const match = UUID.exec(text)
    if (match === null || (match[1] === '') !== (match[3] === '')) throw invalidText('uuid', text)
    return dashed(text.replace(/[{}-]/g, '').toLowerCase())
  },
}

function dashed(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

export const byteaCodec: ScalarCodec = {
  encode(text) {
    if (!/^\\x[0-9a-f]*$/.test(text) || text.length % 2 !== 0) throw invalidText('bytea', text)
    return Buffer.from(text.slice(2), 'hex')
  },
  decode: (bytes) => `\\x${bytes.toString('hex')}`,
  canonical(text) {
    checkedText(text)
    if (!text.startsWith('\\x')) return byteaFromEscapes(text)
    const bad = /[^0-9a-fA-F \t\n\r]/u.exec(text.slice(2))
    if (bad !== null) throw new SqlError('22023', `invalid hexadecimal digit: "${bad[0]}"`)
    // Space may stand between bytes, not inside one.
    const pieces = text.slice(2).split(/[ \t\n\r]+/)
    if (pieces.some((piece) => piece.length % 2 !== 0)) throw new SqlError('22023', 'invalid hexadecimal data: odd number of digits')
    return `\\x${pieces.join('').toLowerCase()}`
  },
}

function byteaFromEscapes(text: string): string | typeof ASK {
  // What other characters are in bytes depends on the client's encoding.
  if (/[\u0080-\uffff]/.test(text)) return ASK
  const escapes = /\\(\\|[0-3][0-7]{2})/g
  if (text.replace(escapes, '').includes('\\')) throw new SqlError('22P02', 'invalid input syntax for type bytea')
  const plain = text.replace(escapes, (_, escaped: string) => (escaped === '\\' ? '\\' : String.fromCharCode(Number.parseInt(escaped, 8))))
  return `\\x${Buffer.from(plain, 'latin1').toString('hex')}`
}

/** bytea_output escape: a backslash doubled, what is not printable ASCII in octal. */
export function byteaEscaped(text: string): string {
  let shown = ''
  for (const byte of byteaCodec.encode(text)) {
    if (byte === 0x5c) shown += '\\\\'
    else if (byte < 0x20 || byte > 0x7e) shown += `\\${byte.toString(8).padStart(3, '0')}`
    else shown += String.fromCharCode(byte)
  }
  return shown
}

/** varchar(n) and char(n): spaces beyond the length are cut, other characters refused; char(n) is padded. */
export function applyLengthTypmod(type: 'varchar' | 'bpchar', typmod: number, text: string): string {
  if (typmod < 4) return text
  const limit = typmod - 4
  // UTF-16 units are never fewer than characters.
  let characters = text.length
  let kept = text
  if (text.length > limit) {
    const points = [...text]
    characters = points.length
    if (characters > limit) {
      if (points.slice(limit).some((point) => point !== ' ')) {
        throw new SqlError('22001', `value too long for type ${type === 'bpchar' ? 'character' : 'character varying'}(${limit})`)
      }
      kept = points.slice(0, limit).join('')
      characters = limit
    }
  } else if (type === 'bpchar' && /[\ud800-\udfff]/.test(text)) characters = [...text].length
  return type === 'bpchar' ? kept + ' '.repeat(limit - characters) : kept
}
