// Promises: what a command prints. People get sentences on stdout and progress on stderr; with --json stdout carries one JSON
// object and nothing else. Exit codes: 0 pass, 1 fail, 2 usage or a wrong environment, 3 inconclusive.
import { type ErrorCode, SwitchbackError } from '../model/errors.ts'

export type ExitCode = 0 | 1 | 2 | 3

export interface Output {
  readonly json: boolean
  /** A sentence for people; nothing under --json. */
  line(text: string): void
  /** A line that replaces the one before on a terminal; elsewhere at most one in `everyMs`. Nothing under --json. */
  progress(text: string): void
  /** All there is to see now: on a terminal in the place of what was there before. Nothing under --json. */
  screen(lines: readonly string[]): void
  /** The command's result: the one object under --json. */
  result(value: Record<string, unknown>): void
  error(error: unknown): ExitCode
}

const PROGRESS_EVERY_MS = 2_000
/** Cursor home, everything below it gone. */
const CLEARED = '\u001b[H\u001b[J'

export function createOutput(options: {
  readonly json: boolean
  readonly stdout?: NodeJS.WritableStream & { readonly isTTY?: boolean }
  readonly stderr?: NodeJS.WritableStream & { readonly isTTY?: boolean }
}): Output {
  const { json, stdout = process.stdout, stderr = process.stderr } = options
  let open = false
  let lastMs = Number.NEGATIVE_INFINITY
  const close = () => {
    if (open) stderr.write('\n')
    open = false
  }
  return {
    json,
    line(text) {
      if (json) return
      close()
      stdout.write(`${text}\n`)
    },
    progress(text) {
      if (json) return
      if (stderr.isTTY) {
        stderr.write(`\r\u001b[2K${text}`)
        open = true
        return
      }
      if (performance.now() - lastMs < PROGRESS_EVERY_MS) return
      lastMs = performance.now()
      stderr.write(`${text}\n`)
    },
    screen(lines) {
      if (json) return
      close()
      stdout.write(`${stdout.isTTY ? CLEARED : ''}${lines.join('\n')}\n`)
    },
    result(value) {
      close()
      if (json) stdout.write(`${JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? v.toString() : v))}\n`)
    },
    error(error) {
      close()
      const told = explain(error)
      if (json) stdout.write(`${JSON.stringify({ error: told })}\n`)
      stderr.write(`error ${told.code}: ${told.message}\n${told.remedy === '' ? '' : `  ${told.remedy}\n`}`)
      return told.exit
    },
  }
}

interface Told {
  readonly code: string
  readonly message: string
  readonly remedy: string
  readonly exit: ExitCode
}

function explain(error: unknown): Told {
  if (error instanceof SwitchbackError) {
    return { code: error.code, message: error.message, remedy: error.remedy, exit: exitOf(error) }
  }
  const pgCode = (error as { code?: unknown }).code
  const message = error instanceof Error ? error.message : String(error)
  if (pgCode === '42501') {
    return { code: 'RIGHT_MISSING', message: `PostgreSQL: ${message}`, remedy: RIGHT_MISSING, exit: 2 }
  }
  if (pgCode === '53100' || pgCode === '58030') {
    return { code: pgCode, message: `PostgreSQL: ${message}`, remedy: NO_ROOM, exit: 2 }
  }
  if (typeof pgCode === 'string' && /^[0-9A-Z]{5}$/.test(pgCode)) {
    return { code: pgCode, message: `PostgreSQL: ${message}`, remedy: '', exit: 1 }
  }
  // What nobody named is ours to mend: it is shown whole.
  return { code: 'UNEXPECTED', message: error instanceof Error ? (error.stack ?? message) : message, remedy: '', exit: 1 }
}

const RIGHT_MISSING = 'The statement that was refused changed nothing. Grant the right to the role and run the command again.'

const NO_ROOM = 'Nothing was changed by the statement that was refused. Make room for PostgreSQL and run the command again.'

/** Stopped by the user, or not decided in time: neither a pass nor a failure. */
const INCONCLUSIVE: ReadonlySet<ErrorCode> = new Set([
  'INTERRUPTED',
  'INTERRUPTED_BACKFILL',
  'INTERRUPTED_RAMP',
  'INTERRUPTED_READING',
  'INTERRUPTED_RECONCILE',
  'INTERRUPTED_SWEEP',
  'PARITY_STUCK',
  'POISON_PENDING',
  'READ_ONLY_PENDING',
])

function exitOf(error: SwitchbackError): ExitCode {
  if (INCONCLUSIVE.has(error.code)) return 3
  // `client`: what the caller gave (a key that is none) is wrong, as with `operator`.
  return error.kind === 'operator' || error.kind === 'client' ? 2 : 1
}

/** A bar for work with a known end. */
export function bar(done: number, total: number, width = 30): string {
  const ratio = total <= 0 ? 1 : Math.min(1, done / total)
  const full = Math.round(ratio * width)
  return `[${'#'.repeat(full)}${'-'.repeat(width - full)}] ${(ratio * 100).toFixed(1).padStart(5)} %`
}
