// Promises: the real grammar, off the thread that serves clients: a hostile text costs this thread only.
import { parentPort } from 'node:worker_threads'
import { hasSqlDetails, loadModule, parseSync } from 'libpg-query'
import { type ParseReply, type ParseRequest, TOO_DEEP } from './parse.ts'

const port = parentPort
if (port === null) throw new Error('parse-worker runs as a worker only')

await loadModule()
port.postMessage({ id: 0, trees: null } satisfies ParseReply)

port.on('message', (request: ParseRequest) => {
  port.postMessage({ id: request.id, trees: request.texts.map(parseOne) } satisfies ParseReply)
})

function parseOne(sql: string): string | null {
  try {
    return JSON.stringify(parseSync(sql).stmts ?? [])
  } catch (error) {
    // The parser's stack is not PostgreSQL's: what is too deep here may be fine there, so it is no syntax error.
    const refused = error instanceof Error && hasSqlDetails(error) && !error.message.startsWith('memory exhausted')
    return refused ? null : TOO_DEEP
  }
}
