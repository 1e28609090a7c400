// Promises: one connection whose replies are seen message by message, so that two servers' answers can be compared whole. What two
// databases cannot have alike is left out: oids of tables, and where in PostgreSQL's source an error was raised.
import type { Socket } from 'node:net'
import pg from 'pg'
import { BACKEND, decodeBackend } from '../../src/wire/backend.ts'
import { MessageWalker } from '../../src/wire/framing.ts'
import { encodeFrontends, type FrontendMessage } from '../../src/wire/frontend.ts'

export interface RawSession {
  /** Sends, and waits for as many ReadyForQuery as there are Syncs and Queries. Rows in no given order are sorted. */
  say(messages: readonly FrontendMessage[]): Promise<string[]>
  end(): void
}

const REPLY_MS = 20_000
const COLLECT = [{ types: 'RSKZTDCENA123nstIGHWcdvV', bytesMax: 10_000_000, limitName: 'test' }]
/** File, line and routine; the context of a PL/pgSQL function; positions, which the gateway does not know. */
const NOT_COMPARED = new Set(['F', 'L', 'R', 'W', 'P'])

export async function rawSession(url: string, config: pg.ClientConfig = {}): Promise<RawSession> {
  const client = new pg.Client({ connectionString: url, ...config })
  client.on('error', () => undefined)
  await client.connect()
  const { stream: socket } = (client as unknown as { connection: { stream: Socket } }).connection
  socket.removeAllListeners('data')
  const walker = new MessageWalker({ direction: 'backend', collect: COLLECT })
  return {
    end: () => socket.destroy(),
    say(messages) {
      const expected = messages.filter(({ kind }) => kind === 'sync' || kind === 'query').length
      return new Promise((resolve, reject) => {
        const seen: string[] = []
        let ready = 0
        const timer = setTimeout(() => finish(new Error(`${ready} of ${expected} answers: ${seen.slice(-3).join(' | ')}`)), REPLY_MS)
        const lost = () => finish(new Error(`closed: ${seen.slice(-3).join(' | ')}`))
        const finish = (error: Error | null) => {
          clearTimeout(timer)
          socket.removeAllListeners('data')
          socket.removeListener('close', lost)
          if (error === null) resolve(seen)
          else reject(error)
        }
        socket.once('close', lost)
        socket.on('data', (chunk: Buffer) => {
          walker.feed(chunk)
          while (walker.next()) {
            if (!walker.last) continue
            if (walker.type === BACKEND.readyForQuery) ready++
            if (walker.type !== BACKEND.parameterStatus) seen.push(shown(walker.type, walker.body()))
          }
          if (ready === expected) finish(null)
        })
        socket.write(encodeFrontends(messages))
      })
    },
  }
}

function shown(type: number, body: Buffer): string {
  const message = decodeBackend(type, Buffer.from(body))
  switch (message.kind) {
    case 'rowDescription':
      return `fields ${JSON.stringify(message.fields.map((field) => ({ ...field, tableOid: field.tableOid === 0 ? 0 : 1 })))}`
    case 'dataRow':
      return `row ${message.values.map((value) => (value === null ? 'null' : printable(value))).join(' | ')}`
    case 'errorResponse':
    case 'noticeResponse':
      return `${message.kind} ${JSON.stringify(Object.fromEntries(Object.entries(message.fields).filter(([name]) => !NOT_COMPARED.has(name))))}`
    default:
      return JSON.stringify(message)
  }
}

function printable(value: Buffer): string {
  const text = value.toString('utf8')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: binary values are shown as hex
  return /[\x00-\x1f\ufffd]/.test(text) ? `0x${value.toString('hex')}` : JSON.stringify(text)
}
