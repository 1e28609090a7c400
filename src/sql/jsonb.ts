// Promises: jsonb as PostgreSQL keeps and prints it: numbers exact with their scale, keys by length then bytes, last double wins.
import { compareDecimal, type Decimal, decimalText, parseDecimal } from './decimal.ts'

export type Json =
  | { readonly kind: 'null' }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'number'; readonly value: Decimal }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'array'; readonly items: readonly Json[] }
  | { readonly kind: 'object'; readonly entries: ReadonlyMap<string, Json> }

/** Deeper documents are PostgreSQL's to refuse. */
const DEPTH_MAX = 1000

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const SPACE = /[ \t\n\r]*/y
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these inside a string.
const STRING = /"(?:[^"\\\u0000-\u001f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"/y

/** null where it is not JSON that jsonb takes. */
export function parseJson(text: string): Json | null {
  const reader = { text, at: 0 }
  const value = readValue(reader, 0)
  if (value === null) return null
  skip(reader)
  return reader.at === text.length ? value : null
}

interface Reader {
  readonly text: string
  at: number
}

function match(reader: Reader, pattern: RegExp): string | null {
  pattern.lastIndex = reader.at
  const found = pattern.exec(reader.text)
  if (found === null) return null
  reader.at += found[0].length
  return found[0]
}

function skip(reader: Reader): void {
  match(reader, SPACE)
}

function take(reader: Reader, text: string): boolean {
  if (!reader.text.startsWith(text, reader.at)) return false
  reader.at += text.length
  return true
}

function readValue(reader: Reader, depth: number): Json | null {
  if (depth > DEPTH_MAX) return null
  skip(reader)
  const first = reader.text[reader.at]
  if (first === '{') return readObject(reader, depth)
  if (first === '[') return readArray(reader, depth)
  if (first === '"') {
    const value = readString(reader)
    return value === null ? null : { kind: 'string', value }
  }
  if (take(reader, 'true')) return { kind: 'bool', value: true }
  if (take(reader, 'false')) return { kind: 'bool', value: false }
  if (take(reader, 'null')) return { kind: 'null' }
  const number = match(reader, NUMBER)
  const value = number === null ? null : parseDecimal(number)
  return value === null ? null : { kind: 'number', value }
}

function readString(reader: Reader): string | null {
  const raw = match(reader, STRING)
  if (raw === null) return null
  const value = JSON.parse(raw) as string
  // jsonb refuses \u0000 and lone surrogates.
  return value.includes('\0') || /\p{Cs}/u.test(value) ? null : value
}

function readArray(reader: Reader, depth: number): Json | null {
  reader.at++
  skip(reader)
  const items: Json[] = []
  if (take(reader, ']')) return { kind: 'array', items }
  for (;;) {
    const item = readValue(reader, depth + 1)
    if (item === null) return null
    items.push(item)
    skip(reader)
    if (take(reader, ']')) return { kind: 'array', items }
    if (!take(reader, ',')) return null
  }
}

function readObject(reader: Reader, depth: number): Json | null {
  reader.at++
  skip(reader)
  const entries = new Map<string, Json>()
  if (take(reader, '}')) return { kind: 'object', entries }
  for (;;) {
    skip(reader)
    const name = readString(reader)
    if (name === null) return null
    skip(reader)
    if (!take(reader, ':')) return null
    const value = readValue(reader, depth + 1)
    if (value === null) return null
    entries.set(name, value)
    skip(reader)
    if (take(reader, '}')) return { kind: 'object', entries }
    if (!take(reader, ',')) return null
  }
}

export function jsonText(json: Json): string {
  switch (json.kind) {
    case 'null':
      return 'null'
    case 'bool':
      return json.value ? 'true' : 'false'
    case 'number':
      return decimalText(json.value)
    case 'string':
      return quoteJson(json.value)
    case 'array':
      return `[${json.items.map(jsonText).join(', ')}]`
    case 'object':
      return `{${[...json.entries]
        .sort(([a], [b]) => compareKeys(a, b))
        .map(([name, value]) => `${quoteJson(name)}: ${jsonText(value)}`)
        .join(', ')}}`
  }
}

/** escape_json: JSON.stringify escapes the same, and lone surrogates cannot be here. */
function quoteJson(text: string): string {
  return JSON.stringify(text)
}

function compareKeys(a: string, b: string): number {
  const [x, y] = [Buffer.from(a), Buffer.from(b)]
  return x.length - y.length || Buffer.compare(x, y)
}

export function sameJson(a: Json, b: Json): boolean {
  if (a.kind === 'number') return b.kind === 'number' && compareDecimal(a.value, b.value) === 0
  if (a.kind === 'string' || a.kind === 'bool') return a.kind === b.kind && a.value === b.value
  if (a.kind === 'array')
    return b.kind === 'array' && a.items.length === b.items.length && a.items.every((item, i) => sameJson(item, b.items[i]!))
  if (a.kind === 'object') {
    if (b.kind !== 'object' || a.entries.size !== b.entries.size) return false
    for (const [name, value] of a.entries) {
      const other = b.entries.get(name)
      if (other === undefined || !sameJson(value, other)) return false
    }
    return true
  }
  return a.kind === b.kind
}

const scalar = (json: Json) => json.kind !== 'array' && json.kind !== 'object'

/** `outer @> inner`. */
export function contains(outer: Json, inner: Json): boolean {
  // Only at the top may an array contain a bare scalar.
  if (outer.kind === 'array' && scalar(inner)) return outer.items.some((item) => scalar(item) && sameJson(item, inner))
  return containsDeep(outer, inner)
}

function containsDeep(outer: Json, inner: Json): boolean {
  if (outer.kind === 'object') {
    if (inner.kind !== 'object') return false
    for (const [name, value] of inner.entries) {
      const own = outer.entries.get(name)
      if (own === undefined || !containsDeep(own, value)) return false
    }
    return true
  }
  if (outer.kind === 'array') {
    if (inner.kind !== 'array') return false
    return inner.items.every((wanted) =>
      outer.items.some((item) => (scalar(wanted) ? scalar(item) && sameJson(item, wanted) : containsDeep(item, wanted))),
    )
  }
  return scalar(inner) && sameJson(outer, inner)
}

export function hasKey(json: Json, name: string): boolean {
  if (json.kind === 'object') return json.entries.has(name)
  if (json.kind === 'array') return json.items.some((item) => item.kind === 'string' && item.value === name)
  return json.kind === 'string' && json.value === name
}

export function fieldOf(json: Json, name: string): Json | null {
  return json.kind === 'object' ? (json.entries.get(name) ?? null) : null
}

/** From the end where negative. Of a scalar nothing, as `->` with an integer does. */
export function itemOf(json: Json, index: bigint): Json | null {
  if (json.kind !== 'array') return null
  const at = index < 0n ? BigInt(json.items.length) + index : index
  return at < 0n ? null : (json.items[Number(at)] ?? null)
}

const PATH_INDEX = /^\s*[+-]?\d+$/

export function pathOf(json: Json, path: readonly (string | null)[]): Json | null {
  let at: Json | null = json
  for (const step of path) {
    if (at === null || step === null) return null
    if (at.kind === 'array') at = PATH_INDEX.test(step) ? itemOf(at, BigInt(step.trim())) : null
    else at = fieldOf(at, step)
  }
  return at
}

/** What `->>` and `#>>` give: strings bare, JSON's null as SQL's. */
export function bareText(json: Json | null): string | null {
  if (json === null || json.kind === 'null') return null
  return json.kind === 'string' ? json.value : jsonText(json)
}

/** `a || b`; null where PostgreSQL refuses. */
export function concatenated(a: Json, b: Json): Json {
  if (a.kind === 'object' && b.kind === 'object') return { kind: 'object', entries: new Map([...a.entries, ...b.entries]) }
  const items = (json: Json) => (json.kind === 'array' ? json.items : [json])
  return { kind: 'array', items: [...items(a), ...items(b)] }
}
