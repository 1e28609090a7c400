// Promises: SQL text becomes statements by PostgreSQL's own grammar, on a worker thread. Text that the grammar refuses, or that
// is longer than the limit, is told apart and never throws: PostgreSQL itself says what is wrong with it.
import { Worker } from 'node:worker_threads'
import type { Node } from './ast.ts'

export interface ParsedStatement {
  readonly node: Node
  /** Its own text: no semicolon, nothing before or after it. */
  readonly sql: string
}

/** `too deep`: nested beyond what a tree is walked to here; PostgreSQL may well take it. */
export type Parsed = readonly ParsedStatement[] | 'refused' | 'too long' | 'too deep'

export interface Parser {
  /** Rejects only when the worker is gone. */
  parse(sql: string): Promise<Parsed>
  close(): Promise<void>
}

export interface ParserLimits {
  /** UTF-8 bytes of one text; a longer one is not parsed (an IN list of 100,000 elements takes 0.7 s). */
  readonly sqlBytesMax: number
  /** Texts waiting for the worker; more are refused as the worker's failure would be. */
  readonly queuedMax: number
}

export const PARSER_LIMITS: ParserLimits = { sqlBytesMax: 65_536, queuedMax: 10_000 }

export interface ParseRequest {
  readonly id: number
  readonly texts: readonly string[]
}

export const TOO_DEEP = 'too deep'

/** `trees` null greets; a tree is JSON, or null for text that the grammar refused, or TOO_DEEP. */
export interface ParseReply {
  readonly id: number
  readonly trees: readonly (string | null)[] | null
}

interface RawStatement {
  readonly stmt?: Node
  readonly stmt_location?: number
  readonly stmt_len?: number
}

interface Waiting {
  readonly sql: string
  readonly resolve: (parsed: Parsed) => void
  readonly reject: (error: Error) => void
}

export async function startParser(limits: ParserLimits = PARSER_LIMITS): Promise<Parser> {
  const worker = await startWorker()
  const waiting = new Map<number, Waiting>()
  let lastId = 0
  let gone: Error | null = null
  const fail = (error: Error) => {
    gone ??= error
    for (const one of waiting.values()) one.reject(gone)
    waiting.clear()
    worker.unref()
  }
  worker.on('error', fail)
  worker.on('exit', (code) => fail(new Error(`the SQL parser's worker ended (${code})`)))
  worker.on('message', (reply: ParseReply) => {
    const one = waiting.get(reply.id)
    if (one === undefined) return
    waiting.delete(reply.id)
    if (waiting.size === 0) worker.unref()
    one.resolve(read(one.sql, reply.trees?.[0] ?? null))
  })
  worker.unref()
  return {
    parse(sql) {
      if (gone !== null) return Promise.reject(gone)
      // PostgreSQL's protocol cannot carry NUL in a text; the parser would cut there.
      if (sql.trim() === '') return Promise.resolve([])
      if (sql.includes('\0')) return Promise.resolve('refused')
      if (Buffer.byteLength(sql) > limits.sqlBytesMax) return Promise.resolve('too long')
      if (waiting.size >= limits.queuedMax)
        return Promise.reject(new Error(`more than ${limits.queuedMax} texts wait for the SQL parser (queuedMax)`))
      return new Promise((resolve, reject) => {
        const id = ++lastId
        waiting.set(id, { sql, resolve, reject })
        worker.ref()
        worker.postMessage({ id, texts: [sql] } satisfies ParseRequest)
      })
    },
    async close() {
      gone ??= new Error("the SQL parser's worker was closed")
      await worker.terminate()
    },
  }
}

async function startWorker(): Promise<Worker> {
  // It would inherit `--import tsx`, which does not take effect in a worker.
  const worker = new Worker(workerUrl(), { execArgv: [] })
  await new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve())
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`the SQL parser's worker ended at its start (${code})`)))
  })
  return worker
}

/** Compiled, the worker is a .js beside us. From source, its .ts needs tsx inside the worker too, which a data: module registers. */
function workerUrl(): URL {
  if (!import.meta.url.endsWith('.ts')) return new URL('./parse-worker.js', import.meta.url)
  const script = new URL('./parse-worker.ts', import.meta.url).href
  const tsx = import.meta.resolve('tsx/esm/api')
  const source = `import { register } from ${JSON.stringify(tsx)}\nregister()\nawait import(${JSON.stringify(script)})`
  return new URL(`data:text/javascript,${encodeURIComponent(source)}`)
}

function read(sql: string, tree: string | null): Parsed {
  if (tree === null) return 'refused'
  if (tree === TOO_DEEP || depthOf(tree) > TREE_DEPTH_MAX) return 'too deep'
  return split(sql, JSON.parse(tree) as RawStatement[])
}

/** Objects and arrays within each other; a statement people write stays far below. Deeper ones would overflow the stack of a walk. */
const TREE_DEPTH_MAX = 1000

function depthOf(json: string): number {
  let depth = 0
  let deepest = 0
  let quoted = false
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at)
    if (quoted) {
      if (code === 92) at++
      else if (code === 34) quoted = false
    } else if (code === 34) quoted = true
    else if (code === 123 || code === 91) deepest = Math.max(deepest, ++depth)
    else if (code === 125 || code === 93) depth--
  }
  return deepest
}

/** Locations are bytes of UTF-8. */
function split(sql: string, statements: readonly RawStatement[]): ParsedStatement[] {
  const bytes = statements.length > 1 ? Buffer.from(sql) : null
  const parsed: ParsedStatement[] = []
  for (const { stmt, stmt_location = 0, stmt_len = 0 } of statements) {
    if (stmt === undefined) continue
    const raw = bytes ?? Buffer.from(sql)
    const end = stmt_len === 0 ? raw.length : stmt_location + stmt_len
    parsed.push({ node: stmt, sql: raw.subarray(stmt_location, end).toString().trim() })
  }
  return parsed
}
