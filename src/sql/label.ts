// Promises: a name for a statement that is the same whatever values, comments and spaces it was sent with: its text with values left
// out, lists of them told as one, cut to a bounded length. For people and for counting; nothing is decided by it. Pure.
import { hash } from 'node:crypto'
import { LABEL_CHARACTERS_MAX } from '../model/measured.ts'

const DIGEST_CHARACTERS = 8

/** Comments, strings of each kind, quoted names, parameters, words, numbers, spaces: the first that fits; else a character by itself. */
const TOKENS = new RegExp(
  [
    String.raw`--[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|$)`,
    String.raw`\b[eE]'(?:[^'\\]|\\.|'')*(?:'|$)`,
    String.raw`(?:\b[bBxXnN]|\b[uU]&)?'(?:[^']|'')*(?:'|$)`,
    String.raw`\$([A-Za-z_]\w*)?\$[^]*?(?:\$\1\$|$)`,
    String.raw`(?:\b[uU]&)?"(?:[^"]|"")*(?:"|$)`,
    String.raw`\$\d+`,
    String.raw`[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*`,
    String.raw`(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?\w*`,
    String.raw`\s+`,
    '[^]',
  ].join('|'),
  'g',
)

export function labelOf(sql: string): string {
  const text = sql
    .replace(TOKENS, toldAs)
    .replace(/\s+/g, ' ')
    .replace(/\?(?:\s*,\s*\?)+/g, '?, ...')
    .replace(/(\((?:\?|\?, \.\.\.)\))(?:\s*,\s*\((?:\?|\?, \.\.\.)\))+/g, '$1, ...')
    .trim()
  if (text.length <= LABEL_CHARACTERS_MAX) return text
  return `${text.slice(0, LABEL_CHARACTERS_MAX - DIGEST_CHARACTERS - 2)} #${hash('sha256', text).slice(0, DIGEST_CHARACTERS)}`
}

function toldAs(token: string): string {
  const first = token[0]!
  if (token.startsWith('--') || token.startsWith('/*')) return ' '
  if (/^(?:[uU]&)?"/.test(token)) return token
  if (token.endsWith("'") && token.length > 1) return '?'
  if (first === "'" || first === '$' || /^(?:[0-9]|\.\d)/.test(token)) return '?'
  return token.toLowerCase()
}
