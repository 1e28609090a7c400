// Promises: json text validated, and jsonb text as PostgreSQL prints it: keys by length then bytes, the last of equal keys,
// numbers with their scale, one space after comma and colon (faults.md 22).
import { SqlError } from '../model/plan.ts'
import { numericCodec } from './value-numeric.ts'
import { ASK } from './value-types.ts'

/** Deeper than this PostgreSQL's stack limit, which is a setting, comes near: it is asked. */
const DEPTH_MAX = 500
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const BLANK = /[ \t\n\r]*/y
/** All from the space on but quote and backslash. */
const PLAIN = /[ !#-[\]-\uffff]*/y
const HEX4 = /^[0-9a-fA-F]{4}$/
const SHORT: Readonly<Record<string, string>> = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }
const NEEDS_ESCAPE = /[^ !#-[\]-\uffff]/g
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
}

class Deep extends Error {}

/** json keeps its text as it came. */
export function canonicalJson(text: string): string | typeof ASK {
  if (depthOf(text) > DEPTH_MAX) return ASK
  try {
    JSON.parse(text)
  } catch {
    throw invalidJson(text)
  }
  return text
}

export function canonicalJsonb(text: string): string | typeof ASK {
  try {
    const parser = new Parser(text)
    const printed = parser.value(0)
    parser.end()
    return printed
  } catch (error) {
    if (error instanceof Deep) return ASK
    throw error
  }
}

/** Reads a value and gives its canonical text. */
class Parser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
    this.#blank()
  }

  end(): void {
    if (this.#at !== this.#text.length) throw invalidJson(this.#text)
  }

  value(depth: number): string {
    if (depth > DEPTH_MAX) throw new Deep()
    const first = this.#text[this.#at]
    if (first === '{') return this.#object(depth)
    if (first === '[') return this.#array(depth)
    if (first === '"') return quoted(this.#string())
    for (const word of ['true', 'false', 'null']) {
      if (this.#text.startsWith(word, this.#at)) return this.#step(word)
    }
    return this.#number()
  }

  #number(): string {
    const number = this.#match(NUMBER)
    if (number === '') throw invalidJson(this.#text)
    this.#blank()
    const canonical = numericCodec.canonical(number)
    if (canonical === ASK) throw new Deep()
    return canonical
  }

  #array(depth: number): string {
    this.#step('[')
    const items: string[] = []
    if (this.#text[this.#at] !== ']') {
      do items.push(this.value(depth + 1))
      while (this.#take(','))
    }
    this.#step(']')
    return `[${items.join(', ')}]`
  }

  #object(depth: number): string {
    this.#step('{')
    const members = new Map<string, string>()
    if (this.#text[this.#at] !== '}') {
      do {
        if (this.#text[this.#at] !== '"') throw invalidJson(this.#text)
        const key = this.#string()
        this.#step(':')
        members.set(key, this.value(depth + 1))
      } while (this.#take(','))
    }
    this.#step('}')
    const sorted = [...members].map(([key, value]) => ({ bytes: Buffer.from(key, 'utf8'), key, value }))
    sorted.sort((a, b) => a.bytes.length - b.bytes.length || Buffer.compare(a.bytes, b.bytes))
    return `{${sorted.map(({ key, value }) => `${quoted(key)}: ${value}`).join(', ')}}`
  }

  #string(): string {
    this.#at++
    let value = ''
    for (;;) {
      value += this.#match(PLAIN)
      const stop = this.#text[this.#at++]
      if (stop === '"') break
      if (stop !== '\\') throw invalidJson(this.#text)
      value += this.#escape()
    }
    this.#blank()
    if (/\p{Surrogate}/u.test(value)) throw invalidJson(this.#text)
    return value
  }

  #escape(): string {
    const letter = this.#text[this.#at++] ?? ''
    if (letter !== 'u') {
      const short = SHORT[letter]
      if (short === undefined) throw invalidJson(this.#text)
      return short
    }
    const hex = this.#text.slice(this.#at, this.#at + 4)
    if (!HEX4.test(hex)) throw invalidJson(this.#text)
    this.#at += 4
    if (hex === '0000') {
      throw new SqlError('22P05', 'unsupported Unicode escape sequence', { detail: '\\u0000 cannot be converted to text.' })
    }
    return String.fromCharCode(Number.parseInt(hex, 16))
  }

  #take(letter: string): boolean {
    if (this.#text[this.#at] !== letter) return false
    this.#step(letter)
    return true
  }

  #step(word: string): string {
    if (!this.#text.startsWith(word, this.#at)) throw invalidJson(this.#text)
    this.#at += word.length
    this.#blank()
    return word
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0] ?? ''
    this.#at += found.length
    return found
  }

  #blank(): void {
    this.#match(BLANK)
  }
}

function quoted(text: string): string {
  return `"${text.replace(NEEDS_ESCAPE, (letter) => ESCAPES[letter] ?? `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`
}

function depthOf(text: string): number {
  let [depth, deepest, inString] = [0, 0, false]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inString) {
      if (code === 0x5c) i++
      else if (code === 0x22) inString = false
    } else if (code === 0x22) inString = true
    else if (code === 0x7b || code === 0x5b) deepest = Math.max(deepest, ++depth)
    else if (code === 0x7d || code === 0x5d) depth--
  }
  return deepest
}

function invalidJson(text: string): SqlError {
  return new SqlError('22P02', 'invalid input syntax for type json', { detail: `Text: ${text.slice(0, 80)}` })
}
