// Promises: dynalite as a process of its own, which goes on when a client resets its connection (dynalite throws that from an event
// handler, and would end). Arguments: one JSON { port, path? }. Says `ready {json}` once it serves.
import { createRequire } from 'node:module'

interface Dynalite {
  listen(port: number, host: string, done: () => void): void
  address(): { port: number }
  close(done: () => void): void
  on(event: 'error', call: (error: Error) => void): void
  closeAllConnections(): void
}
type DynaliteModule = (options: { createTableMs: number; deleteTableMs: number; updateTableMs: number; path?: string }) => Dynalite

const STARTING_MS = 10_000
const { port, path } = JSON.parse(process.argv[2]!) as { port: number; path?: string }
const dynalite = createRequire(import.meta.url)('dynalite') as DynaliteModule
const server = dynalite({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0, ...(path === undefined ? {} : { path }) })

process.on('uncaughtException', (error: Error & { code?: string }) => {
  // A client that went away; anything else is told too, and the next request shows whether it still serves.
  if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') process.stderr.write(`${error.stack ?? error.message}\n`)
})
const startup = setTimeout(() => process.exit(1), STARTING_MS)
server.on('error', (error) => {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
})
server.listen(port, '127.0.0.1', () => {
  clearTimeout(startup)
  process.stdout.write(`ready ${JSON.stringify({ port: server.address().port, pid: process.pid })}\n`)
})
const stop = () => {
  server.close(() => process.exit(0))
  server.closeAllConnections()
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
