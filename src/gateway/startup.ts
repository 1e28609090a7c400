// Promises: what may open a session. Length, encryption requests and parameters are checked before PostgreSQL hears of the client
// (faults.md 32, 34, 36); sign-in itself is PostgreSQL's, relayed end to end, so that the gateway keeps no password.
import { SwitchbackError } from '../model/errors.ts'
import type { StartupPacket } from '../wire/frontend.ts'

/** Parameters of the session that a client may set at startup, beside user and database. */
const ALLOWED = new Set([
  'user',
  'database',
  'application_name',
  'client_encoding',
  'client_min_messages',
  'datestyle',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'extra_float_digits',
  'geqo',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'intervalstyle',
  'jit',
  'lock_timeout',
  'options',
  'plan_cache_mode',
  'search_path',
  'statement_timeout',
  'synchronous_commit',
  'tcp_keepalives_idle',
  'timezone',
  'transaction_timeout',
  'work_mem',
])
const OFF = new Set(['', '0', 'false', 'off', 'no', 'f', 'n'])

/** Throws STARTUP_REFUSED for what would leave the gateway's sight. */
export function checkStartup(packet: Extract<StartupPacket, { kind: 'startup' }>): void {
  for (const [name, value] of packet.parameters) {
    const lower = name.toLowerCase()
    if (lower === 'replication') {
      if (!OFF.has(value.trim().toLowerCase())) throw new SwitchbackError('STARTUP_REFUSED', { what: `replication=${value.slice(0, 40)}` })
      continue
    }
    // Protocol extensions are negotiated by PostgreSQL itself.
    if (lower.startsWith('_pq_.')) continue
    if (!ALLOWED.has(lower)) throw new SwitchbackError('STARTUP_REFUSED', { what: name.slice(0, 80) })
    if (lower === 'options') checkOptions(value)
  }
}

/** `-c name=value`, `-cname=value` and `--name=value`, with backslash escapes, as PostgreSQL splits them. */
function checkOptions(text: string): void {
  const words = splitOptions(text)
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    let setting: string | undefined
    if (word === '-c') setting = words[++i]
    else if (word.startsWith('-c')) setting = word.slice(2)
    else if (word.startsWith('--')) setting = word.slice(2)
    const name = setting?.split('=')[0]?.trim().toLowerCase().replaceAll('-', '_')
    if (name === undefined || !ALLOWED.has(name) || name === 'options' || name === 'user' || name === 'database') {
      throw new SwitchbackError('STARTUP_REFUSED', { what: `options ${word.slice(0, 80)}` })
    }
  }
}

function splitOptions(text: string): string[] {
  const words: string[] = []
  let word = ''
  let inWord = false
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!
    if (/\s/.test(char)) {
      if (inWord) words.push(word)
      word = ''
      inWord = false
      continue
    }
    inWord = true
    word += char === '\\' ? (text[++i] ?? '') : char
  }
  if (inWord) words.push(word)
  return words
}
