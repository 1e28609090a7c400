// Promises: one text per row of an aggregate, made of its clustering texts, whose UTF-8 byte order is the target's clustering order
// and from which the texts come back exactly (INV-12). Every target orders rows by it. Integers are in order of value, text in
// order of its UTF-8 bytes, bytea in order of its bytes, false before true, uuid, date, time and timestamps in order of their text
// (PostgreSQL's order but for years beyond 9999, BC and mixed offsets), all else in order of text, which is not PostgreSQL's.
// PostgreSQL's text holds no NUL, and none is made here.
import { SwitchbackError } from '../model/errors.ts'
import type { ColumnType, TableMapping } from '../model/mapping.ts'

const INTEGER_TYPES: ReadonlySet<ColumnType> = new Set(['int2', 'int4', 'int8'])
const CANONICAL_INTEGER = /^(?:0|-?[1-9]\d{0,18})$/
const LENGTH_BASE = 0x60
const TERMINATOR = '\u0001'
const ESCAPE = '\u0002'

export function isInteger(type: ColumnType): boolean {
  return INTEGER_TYPES.has(type)
}

export function clusteringTypes(table: TableMapping): readonly ColumnType[] {
  return table.clustering.map((index) => table.columns[index]!.type)
}

/** Throws TARGET_REFUSED where a text cannot be a key of its type. */
export function encodeClustering(types: readonly ColumnType[], texts: readonly string[]): string {
  if (types.length !== texts.length) throw refused(`a key of ${texts.length} parts where the table has ${types.length}`)
  if (types.length === 1) return isInteger(types[0]!) ? encodeInteger(texts[0]!) : encodeText(texts[0]!)
  let encoded = ''
  for (let i = 0; i < types.length; i++) encoded += isInteger(types[i]!) ? encodeInteger(texts[i]!) : encodeText(texts[i]!)
  return encoded
}

/** The inverse of encodeClustering. */
export function decodeClustering(types: readonly ColumnType[], encoded: string): string[] {
  const texts: string[] = []
  let at = 0
  for (const type of types) {
    let end: number
    if (isInteger(type)) {
      const length = encoded.charCodeAt(at) - LENGTH_BASE
      end = at + 1 + Math.abs(length)
      const digits = encoded.slice(at + 1, end)
      texts.push(length > 0 ? digits : `-${complement(digits)}`)
    } else {
      end = encoded.indexOf(TERMINATOR, at)
      texts.push(unescapeText(encoded.slice(at, end)))
      end++
    }
    at = end
  }
  return texts
}

/** Compares two texts by their UTF-8 bytes, which is not the order of their UTF-16 units above U+D7FF. */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i)
    const right = b.charCodeAt(i)
    if (left === right) continue
    // A surrogate stands for a code point above all of the basic plane.
    if (left >= 0xd800 && right >= 0xd800)
      return (isSurrogate(left) ? left + 0x10000 : left) - (isSurrogate(right) ? right + 0x10000 : right)
    return left - right
  }
  return a.length - b.length
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff
}

/** The number of digits goes first, mirrored for negative ones, whose digits are complemented. All ASCII. */
function encodeInteger(text: string): string {
  if (!CANONICAL_INTEGER.test(text)) throw refused(`"${text.slice(0, 40)}" is not a canonical integer key`)
  if (text.charCodeAt(0) !== 0x2d) return String.fromCharCode(LENGTH_BASE + text.length) + text
  const digits = text.slice(1)
  return String.fromCharCode(LENGTH_BASE - digits.length) + complement(digits)
}

function complement(digits: string): string {
  let result = ''
  for (let i = 0; i < digits.length; i++) result += String.fromCharCode(0x69 - digits.charCodeAt(i))
  return result
}

/** The terminator sorts below all that a text may hold, so that a prefix sorts first; what would collide with it is escaped. */
function encodeText(text: string): string {
  if (!text.includes(TERMINATOR) && !text.includes(ESCAPE)) return text + TERMINATOR
  return text.replaceAll(ESCAPE, `${ESCAPE}\u0003`).replaceAll(TERMINATOR, `${ESCAPE}${ESCAPE}`) + TERMINATOR
}

function unescapeText(text: string): string {
  if (!text.includes(ESCAPE)) return text
  let result = ''
  for (let i = 0; i < text.length; i++) {
    const unit = text[i]!
    if (unit !== ESCAPE) result += unit
    else result += text[++i] === ESCAPE ? TERMINATOR : ESCAPE
  }
  return result
}

function refused(reason: string): SwitchbackError {
  return new SwitchbackError('TARGET_REFUSED', { operation: 'a row', reason })
}
