// Promises: after a run, each failed test with its error, and of a file that failed by itself how it ended and what it said last; one closing
// line with the counts; nothing else.
import type { TestEvent } from 'node:test/reporters'

const SLOW_MS = 20_000
const SAID_MAX = 4_000

export default async function* summary(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let [passed, failed, skipped] = [0, 0, 0]
  const files = new Set<string>()
  const said = new Map<string, string>()
  const startedMs = performance.now()
  for await (const event of source) {
    if (event.type === 'test:stderr') {
      const { file, message } = event.data
      said.set(file, `${said.get(file) ?? ''}${message}`.slice(-SAID_MAX))
    }
    // What a test leaves behind fails its file, and is told of no file.
    if (event.type === 'test:diagnostic' && event.data.message.includes('asynchronous activity after the test ended'))
      yield `\nleft behind: ${event.data.message}\n`
    if (event.type === 'test:pass' || event.type === 'test:fail') files.add(event.data.file ?? '')
    const top = event.type === 'test:pass' && event.data.nesting === 0 ? event.data : null
    if (top?.details.duration_ms !== undefined && top.details.duration_ms > SLOW_MS)
      yield `slow: ${Math.round(top.details.duration_ms)} ms ${top.name}\n`
    if (event.type === 'test:pass' && event.data.details.type !== 'suite') {
      if (event.data.skip !== undefined) skipped++
      else passed++
    }
    if (event.type === 'test:fail' && event.data.details.type !== 'suite') {
      failed++
      const error = event.data.details.error
      yield `\nnot ok: ${event.data.file ?? ''}: ${event.data.name}\n${told(error.cause ?? error)}\n`
      if (event.data.file === event.data.name) yield `${ended(error)}\n${said.get(event.data.file) ?? ''}\n`
    }
  }
  yield `\n${files.size} files, ${Math.round((performance.now() - startedMs) / 1000)} s\n${passed} passed, ${failed} failed, ${skipped} skipped\n`
}

function ended(error: object): string {
  const { exitCode, signal } = error as { exitCode?: number | null; signal?: string | null }
  return `the process ended with code ${exitCode ?? 'unknown'}, signal ${signal ?? 'none'}; it said last:`
}

/** Of an error that another one on the way out hid (`await using`), both. */
function told(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { error: later, suppressed } = error as { error?: unknown; suppressed?: unknown }
  return suppressed === undefined ? (error.stack ?? error.message) : `${told(suppressed)}\nand on the way out: ${told(later)}`
}
