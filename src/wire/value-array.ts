// Promises: arrays between PostgreSQL's text and binary forms, with nulls, quotes, dimensions and lower bounds.
import type { ScalarType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { badBinary, oidOf } from './value-types.ts'

export interface ArrayValue {
  readonly dimensions: readonly { readonly length: number; readonly lowerBound: number }[]
  /** In row-major order. */
  readonly elements: readonly (string | null)[]
}

const DIMENSIONS_MAX = 6
/** MaxArraySize. */
const ELEMENTS_MAX = 0x7ffffff
const BOUNDS = /^((?:\[[+-]?\d+(?::[+-]?\d+)?\])+)\s*=/
const BLANK = ' \t\n\r\v\f'

/** Parses an array's text. Null: not one that is understood here with certainty. */
export function parseArray(text: string): ArrayValue | null {
  const parser = new ArrayParser(text.replace(/^[ \t\n\r\v\f]+|[ \t\n\r\v\f]+$/g, ''))
  return parser.parse()
}

export function arrayText(array: ArrayValue): string {
  if (array.elements.length === 0) return '{}'
  let next = 0
  const level = (depth: number): string => {
    const items: string[] = []
    for (let i = 0; i < array.dimensions[depth]!.length; i++) {
      items.push(depth + 1 < array.dimensions.length ? level(depth + 1) : quoted(array.elements[next++]!))
    }
    return `{${items.join(',')}}`
  }
  const shown = array.dimensions.some((dimension) => dimension.lowerBound !== 1)
  const bounds = shown ? `${array.dimensions.map(({ lowerBound, length }) => `[${lowerBound}:${lowerBound + length - 1}]`).join('')}=` : ''
  return bounds + level(0)
}

export function encodeArray(element: ScalarType, array: ArrayValue, encode: (text: string) => Buffer): Buffer {
  const writer = new ByteWriter(20 + array.elements.length * 12)
  const { dimensions, elements } = array
  writer
    .int32(elements.length === 0 ? 0 : dimensions.length)
    .int32(elements.includes(null) ? 1 : 0)
    .int32(oidOf(element))
  if (elements.length === 0) return writer.done()
  for (const { length, lowerBound } of dimensions) writer.int32(length).int32(lowerBound)
  for (const text of elements) writer.value(text === null ? null : encode(text))
  return writer.done()
}

export function decodeArray(element: ScalarType, bytes: Buffer, decode: (bytes: Buffer) => string): ArrayValue {
  const reader = new ByteReader(bytes, () => badBinary(`${element}[]`))
  const count = reader.int32()
  const flags = reader.int32()
  const oid = reader.uint32()
  if (count < 0 || count > DIMENSIONS_MAX || (flags !== 0 && flags !== 1)) throw badBinary(`${element}[]`)
  if (oid !== oidOf(element)) throw new SqlError('42804', `binary data has array element type ${oid} instead of expected ${oidOf(element)}`)
  const dimensions: { length: number; lowerBound: number }[] = []
  let total = count === 0 ? 0 : 1
  for (let i = 0; i < count; i++) {
    const length = reader.int32()
    const lowerBound = reader.int32()
    total *= length
    if (length < 0 || total > ELEMENTS_MAX || lowerBound + length - 1 > 0x7fffffff) throw badBinary(`${element}[]`)
    dimensions.push({ length, lowerBound })
  }
  if (total * 4 > reader.remaining) throw badBinary(`${element}[]`)
  const elements: (string | null)[] = []
  for (let i = 0; i < total; i++) {
    const length = reader.int32()
    elements.push(length === -1 ? null : decode(reader.slice(length)))
  }
  reader.end('array')
  return total === 0 ? { dimensions: [], elements: [] } : { dimensions, elements }
}

export function mapArray(array: ArrayValue, map: (text: string) => string): ArrayValue {
  return { dimensions: array.dimensions, elements: array.elements.map((text) => (text === null ? null : map(text))) }
}

class ArrayParser {
  readonly #text: string
  #at = 0
  readonly #lengths: number[] = []
  readonly #elements: (string | null)[] = []

  constructor(text: string) {
    this.#text = text
  }

  parse(): ArrayValue | null {
    const bounds = BOUNDS.exec(this.#text)
    if (bounds !== null) {
      this.#at = bounds[0].length
      this.#blank()
    }
    if (!this.#level(0) || this.#at !== this.#text.length) return null
    const lengths = this.#lengths
    if (this.#elements.length === 0) return lengths.length === 1 && bounds === null ? { dimensions: [], elements: [] } : null
    const lowerBounds = bounds === null ? lengths.map(() => 1) : declared(bounds[1]!, lengths)
    if (lowerBounds === null || lengths.length > DIMENSIONS_MAX) return null
    return { dimensions: lengths.map((length, i) => ({ length, lowerBound: lowerBounds[i]! })), elements: this.#elements }
  }

  #level(depth: number): boolean {
    if (this.#text[this.#at] !== '{' || depth >= DIMENSIONS_MAX) return false
    this.#at++
    this.#blank()
    let length = 0
    const nested = this.#text[this.#at] === '{'
    if (this.#text[this.#at] !== '}') {
      do {
        this.#blank()
        if (!(nested ? this.#level(depth + 1) : this.#element())) return false
        length++
        this.#blank()
      } while (this.#text[this.#at] === ',' && this.#at++ >= 0)
    }
    if (this.#text[this.#at] !== '}') return false
    this.#at++
    // All arrays of one depth have one length, and elements stand at one depth alone.
    if (this.#lengths[depth] === undefined) this.#lengths[depth] = length
    else if (this.#lengths[depth] !== length) return false
    return nested || this.#lengths.length === depth + 1
  }

  #element(): boolean {
    if (this.#text[this.#at] === '"') return this.#quotedElement()
    const from = this.#at
    while (this.#at < this.#text.length && !'{},"\\'.includes(this.#text[this.#at]!)) this.#at++
    const text = this.#text.slice(from, this.#at).replace(/[ \t\n\r\v\f]+$/, '')
    // A backslash or quote in bare text is legal and rare.
    if (text === '' || !',}'.includes(this.#text[this.#at] ?? '?')) return false
    this.#elements.push(text.toLowerCase() === 'null' ? null : text)
    return true
  }

  #quotedElement(): boolean {
    let value = ''
    for (let i = this.#at + 1; i < this.#text.length; i++) {
      const letter = this.#text[i]!
      if (letter === '"') {
        this.#at = i + 1
        this.#elements.push(value)
        return true
      }
      value += letter === '\\' ? (this.#text[++i] ?? '') : letter
    }
    return false
  }

  #blank(): void {
    while (this.#at < this.#text.length && BLANK.includes(this.#text[this.#at]!)) this.#at++
  }
}

/** The lower bounds that `[0:2][3:4]=` names, if they fit the lengths found. */
function declared(text: string, lengths: readonly number[]): number[] | null {
  const bounds = [...text.matchAll(/\[([+-]?\d+)(?::([+-]?\d+))?\]/g)].map((match) =>
    match[2] === undefined ? { lower: 1, upper: Number(match[1]) } : { lower: Number(match[1]), upper: Number(match[2]) },
  )
  if (bounds.length !== lengths.length || bounds.some(({ lower, upper }, i) => upper - lower + 1 !== lengths[i])) return null
  if (bounds.some(({ lower, upper }) => lower < -0x80000000 || upper >= 0x7fffffff)) return null
  return bounds.map(({ lower }) => lower)
}

function quoted(text: string | null): string {
  if (text === null) return 'NULL'
  if (text !== '' && text.toLowerCase() !== 'null' && !/["\\{}, \t\n\r\v\f]/.test(text)) return text
  return `"${text.replace(/["\\]/g, (letter) => `\\${letter}`)}"`
}
