// Promises: every write is on disk's way before it is sent, with its unique value; afterwards its outcome. So loss and doubling
// can be proven from the stores alone. One JSON line each.
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'

export type Outcome = 'acknowledged' | 'refused' | 'unknown'

export interface Intent {
  readonly op: string
  readonly kind: 'deposit' | 'profile'
  readonly account: number
  /** deposit: the amount, a decimal text. profile: the profile's kind. */
  readonly value: string
  readonly atMs: number
}

export interface JournaledWrite extends Intent {
  /** A write whose outcome was never written down counts as unknown. */
  outcome: Outcome
  doneMs: number
  sqlstate: string | null
}

export class Journal {
  readonly #file: number
  #buffer = ''

  constructor(path: string) {
    this.#file = openSync(path, 'a')
  }

  intend(intent: Intent): void {
    writeSync(this.#file, `${this.#buffer}${JSON.stringify(intent)}\n`)
    this.#buffer = ''
  }

  /** Outcomes may be written a little late: one that is missing reads as unknown, which claims less. */
  settle(op: string, outcome: Outcome, doneMs: number, sqlstate: string | null): void {
    this.#buffer += `${JSON.stringify({ op, outcome, doneMs, sqlstate })}\n`
    if (this.#buffer.length > 16_384) this.flush()
  }

  flush(): void {
    if (this.#buffer !== '') writeSync(this.#file, this.#buffer)
    this.#buffer = ''
  }

  close(): void {
    this.flush()
    closeSync(this.#file)
  }
}

export function readJournal(path: string): JournaledWrite[] {
  const writes = new Map<string, JournaledWrite>()
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue
    const record = JSON.parse(line) as Partial<JournaledWrite> & { op: string }
    const known = writes.get(record.op)
    if (known === undefined) {
      writes.set(record.op, { ...(record as Intent), outcome: 'unknown', doneMs: Number.POSITIVE_INFINITY, sqlstate: null })
    } else {
      known.outcome = record.outcome!
      known.doneMs = record.doneMs!
      known.sqlstate = record.sqlstate ?? null
    }
  }
  return [...writes.values()]
}
