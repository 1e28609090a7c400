// Promises: rows of a select in batches, by COPY ... TO STDOUT in text format: the output functions' own texts, one statement and no
// parsing a value. The socket is paused while nobody takes the batches, so that memory stays flat. Whoever stops before the last row
// has ended the connection with it.
import type pg from 'pg'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Row } from '../model/row.ts'
import { type ByteStream, takeCopyLines } from './copy-lines.ts'

/** So many batches wait to be taken, and the socket is paused. */
const BATCHES_AHEAD = 1
/** A server that sends nothing for so long while it is read from is gone. */
const SILENT_MAX_MS = 60_000

/** What `pg` has of a connection and does not type. */
interface CopyConnection {
  query(text: string): void
  readonly stream: ByteStream & { pause(): void; resume(): void; destroy(error?: Error): void }
}

/** `connection`: its query_timeout is 0, since a copy goes on for as long as its rows are taken. */
export async function* copyRows(
  client: pg.Client,
  select: string,
  options: { readonly columns: number; readonly batchRows: number; readonly clock: Clock },
): AsyncIterable<readonly Row[]> {
  const { stream } = (client as unknown as { connection: CopyConnection }).connection
  const copy = new CopyOut(stream, select, options)
  client.query(copy)
  try {
    for (;;) {
      const batch = await copy.next()
      if (batch === null) return
      yield batch
    }
  } finally {
    if (!copy.over) stream.destroy()
    copy.close()
  }
}

/** A query in the shape that `pg` calls a Submittable. */
class CopyOut implements pg.Submittable {
  readonly #stream: CopyConnection['stream']
  readonly #select: string
  readonly #columns: number
  readonly #batchRows: number
  readonly #clock: Clock
  readonly #came = new Signal()
  readonly #full: Row[][] = []
  #batch: Row[] = []
  #paused = false
  #failure: Error | null = null
  #heardMs: number
  #cancelWatch: (() => void) | null = null
  #giveBack: () => void = () => undefined
  over = false
  /** `pg` wraps it when it has a timeout of its own. */
  callback: ((error: Error | null) => void) | undefined = undefined

  constructor(stream: CopyConnection['stream'], select: string, options: { columns: number; batchRows: number; clock: Clock }) {
    this.#stream = stream
    this.#select = select
    this.#columns = options.columns
    this.#batchRows = options.batchRows
    this.#clock = options.clock
    this.#heardMs = options.clock.monotonicMs()
    this.#watch()
  }

  submit(connection: unknown): void {
    this.#giveBack = takeCopyLines(
      this.#stream,
      (line) => this.#line(line),
      (error) => {
        this.#fail(error)
        this.#stream.destroy()
      },
    )
    ;(connection as CopyConnection).query(`copy (${this.#select}) to stdout`)
  }

  /** Null: that was all. */
  async next(): Promise<readonly Row[] | null> {
    for (;;) {
      const batch = this.#full.shift()
      if (batch !== undefined) {
        this.#resumeIfRoom()
        return batch
      }
      if (this.#failure !== null) throw this.#failure
      if (this.over) return null
      await this.#came.next()
    }
  }

  close(): void {
    this.#cancelWatch?.()
    if (this.#paused) this.#stream.resume()
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    this.#cut()
    this.#end()
  }

  handleError(error: Error): void {
    this.#fail(error)
  }

  #line(line: string): void {
    const row = rowOfCopyLine(line)
    if (row.length !== this.#columns) return this.#fail(new Error(`a COPY line of ${row.length} columns, ${this.#columns} expected`))
    this.#batch.push(row)
    if (this.#batch.length >= this.#batchRows) this.#cut()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#end()
  }

  #end(): void {
    if (this.over) return
    this.over = true
    this.#giveBack()
    this.#cancelWatch?.()
    this.callback?.(this.#failure)
    this.#came.notify()
  }

  #cut(): void {
    this.#heardMs = this.#clock.monotonicMs()
    if (this.#batch.length === 0) return
    this.#full.push(this.#batch)
    this.#batch = []
    if (this.#full.length >= BATCHES_AHEAD && !this.#paused) {
      this.#paused = true
      this.#stream.pause()
    }
    this.#came.notify()
  }

  #resumeIfRoom(): void {
    if (!this.#paused || this.#full.length >= BATCHES_AHEAD) return
    this.#paused = false
    this.#heardMs = this.#clock.monotonicMs()
    this.#stream.resume()
  }

  #watch(): void {
    this.#cancelWatch = this.#clock.after(SILENT_MAX_MS, () => {
      const silentMs = this.#clock.monotonicMs() - this.#heardMs
      if (this.#paused || silentMs < SILENT_MAX_MS) return this.#watch()
      this.#stream.destroy(new Error(`no row came for ${Math.round(silentMs)} ms`))
    })
  }
}

/** One line of COPY's text format, without its newline. Octal and hex escapes are read by PostgreSQL and never written by it. */
export function rowOfCopyLine(line: string): Row {
  const fields: (string | null)[] = line.split('\t')
  if (!line.includes('\\')) return fields
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i]!
    if (field.includes('\\')) fields[i] = field === '\\N' ? null : field.replace(ESCAPE, unescaped)
  }
  return fields
}

const ESCAPE = /\\(.)/gs
const UNESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

function unescaped(_: string, letter: string): string {
  return UNESCAPED[letter] ?? letter
}
