// Promises: a memory target as a process of its own. Arguments: --port N (0: any free one), --host H. Says `ready {json}` on its
// standard output once it serves; ends on SIGTERM and SIGINT.
import { parseArgs } from 'node:util'
import { serveMemoryTarget } from './server.ts'

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' }, host: { type: 'string', default: '127.0.0.1' } } })
const server = await serveMemoryTarget({ port: Number(values.port), host: values.host })
const stop = () => void server.close().then(() => process.exit(0)) // a signal handler cannot wait
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
process.stdout.write(`ready ${JSON.stringify({ host: server.host, port: server.port, pid: process.pid })}\n`)
