// Promises: PostgreSQL's array text, read and written as it prints it. Bounds other than 1 are told apart, not guessed.

/** Elements of an array text, nested ones flattened (as ANY and ALL see them); null where it is not one, or has explicit bounds. */
export function parseArray(text: string): (string | null)[] | null {
  if (!text.startsWith('{')) return null
  const elements: (string | null)[] = []
  let at = 0
  let depth = 0
  let expectValue = false
  while (at < text.length) {
    const char = text[at]!
    if (char === '{') {
      depth++
      at++
      expectValue = text[at] !== '}'
      continue
    }
    if (char === '}') {
      if (expectValue && elements.length > 0) return null
      depth--
      at++
      expectValue = false
      if (depth === 0) return at === text.length ? elements : null
      continue
    }
    if (char === ',') {
      at++
      expectValue = true
      continue
    }
    const element = char === '"' ? quoted(text, at) : bare(text, at)
    if (element === null) return null
    elements.push(element.value)
    at = element.end
    expectValue = false
  }
  return null
}

function quoted(text: string, start: number): { value: string; end: number } | null {
  let value = ''
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at]!
    if (char === '"') return { value, end: at + 1 }
    if (char === '\\') {
      at++
      if (at >= text.length) return null
    }
    value += text[at]!
  }
  return null
}

function bare(text: string, start: number): { value: string | null; end: number } | null {
  let end = start
  while (end < text.length && !',{}'.includes(text[end]!)) {
    if (text[end] === '"' || text[end] === '\\') return null
    end++
  }
  const raw = text.slice(start, end).trim()
  if (raw === '') return null
  return { value: raw.toUpperCase() === 'NULL' ? null : raw, end }
}

const NEEDS_QUOTES = /^$|^null$|[\s"\\{},]/i

export function arrayText(elements: readonly (string | null)[]): string {
  return `{${elements.map((element) => (element === null ? 'NULL' : NEEDS_QUOTES.test(element) ? quote(element) : element)).join(',')}}`
}

function quote(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`
}
