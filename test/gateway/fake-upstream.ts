// Promises: a gateway over a server of a test's own, which lets everybody in and answers what the test says; and clients of it that see
// every message.
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { GatewayOptions } from '../../src/gateway/gateway.ts'
import type { GatewayLimits } from '../../src/model/migration.ts'
import { decodeBackend, encodeBackend } from '../../src/wire/backend.ts'
import { MessageWalker } from '../../src/wire/framing.ts'
import { decodeQuery, encodeFrontends, encodeStartup, FRONTEND } from '../../src/wire/frontend.ts'
import { eventually } from '../support/eventually.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { rawSocket, type TestGateway, testGateway } from './support.ts'

export type Client = Awaited<ReturnType<typeof rawSocket>>

/** One message: its type, what its length says, and what follows. */
export function message(type: string, claims: number, body: Buffer | string = ''): Buffer {
  const header = Buffer.alloc(5)
  header.write(type, 'latin1')
  header.writeInt32BE(claims, 1)
  return Buffer.concat([header, Buffer.from(body)])
}

export const honest = (type: string, body: Buffer | string) => message(type, Buffer.from(body).length + 4, body)
export const query = (sql: string) => encodeFrontends([{ kind: 'query', sql }])
export const SYNC = encodeFrontends([{ kind: 'sync' }])

/** Everything that was received, message by message; a tail that is none yet is left out. */
export function heard(socket: Client): string[] {
  const walker = new MessageWalker({
    direction: 'backend',
    collect: [{ types: 'RSKZTDCENA123nstIGHWcdvV', bytesMax: 1e7, limitName: 'test' }],
  })
  walker.feed(socket.received())
  const seen: string[] = []
  while (walker.next()) {
    if (!walker.last) continue
    try {
      const decoded = decodeBackend(walker.type, walker.body())
      if (decoded.kind === 'errorResponse') seen.push(`${decoded.fields['S']} ${decoded.fields['C'] ?? 'no code'} ${decoded.fields['M']}`)
      else seen.push(decoded.kind)
    } catch {
      seen.push('what the server sent, and nobody can read')
    }
  }
  return seen
}

/** Signed in as by a server that asks for no password. */
export async function signedIn(port: number): Promise<Client> {
  const socket = await begun(port)
  await eventually(() => heard(socket).includes('readyForQuery'), 'signed in')
  return socket
}

/** Its startup packet has been sent. */
export async function begun(port: number): Promise<Client> {
  const socket = await rawSocket(port)
  const parameters: [string, string][] = [
    ['user', 'postgres'],
    ['database', 'x'],
  ]
  socket.write(encodeStartup({ kind: 'startup', major: 3, minor: 0, parameters }))
  return socket
}

export const ended = (socket: Client) => eventually(() => socket.destroyed, 'the session has ended')
export const readies = (socket: Client) => heard(socket).filter((one) => one === 'readyForQuery').length

/** It asks, and has heard the whole answer. */
export async function served(socket: Client, sql = 'select 1'): Promise<void> {
  const before = readies(socket)
  socket.write(query(sql))
  await eventually(() => readies(socket) === before + 1, 'the session goes on')
}

export interface Upstream extends AsyncDisposable {
  readonly port: number
  open(): number
}

export const READY = encodeBackend({ kind: 'readyForQuery', status: 'idle' })
export const ROW = encodeBackend({ kind: 'dataRow', values: [Buffer.from('1')] })
export const DONE = encodeBackend({ kind: 'commandComplete', tag: 'SELECT 1' })
const SETTINGS = [
  'postgres',
  '["public"]',
  'ISO, MDY',
  'UTC',
  'postgres',
  'hex',
  '1',
  'UTF8',
  'read committed',
  'off',
  '0',
  '77',
  'on',
  'f',
]

/** A server that lets everybody in, or who gives a password. What it answers to a text of the client is the hook's to say; null: politely. */
export async function upstream(
  answer: (sql: string, socket: Socket) => Buffer | null,
  options: { readonly password?: boolean } = {},
): Promise<Upstream> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    const walker = new MessageWalker({ direction: 'frontend', collect: [{ types: 'QPBDECFSHXp', bytesMax: 1e7, limitName: 'test' }] })
    socket.on('data', (chunk: Buffer) => {
      walker.feed(chunk)
      while (walker.next()) {
        if (!walker.last) continue
        if (walker.type === 0 && options.password) socket.write(honest('R', '\0\0\0\x03'))
        else if (walker.type === 0 || walker.type === FRONTEND.password)
          socket.write(Buffer.concat([honest('R', '\0\0\0\0'), honest('K', '\0\0\0\x07\0\0\0\x09'), READY]))
        else if (walker.type === FRONTEND.sync) socket.write(READY)
        else if (walker.type === FRONTEND.query) {
          const { sql } = decodeQuery(walker.body())
          const row = encodeBackend({ kind: 'dataRow', values: SETTINGS.map((value) => Buffer.from(value)) })
          const polite = sql.includes('current_schemas') ? Buffer.concat([row, DONE, READY]) : Buffer.concat([ROW, DONE, READY])
          socket.write(answer(sql, socket) ?? polite)
        }
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    open: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export async function gatewayOver(
  fake: Upstream,
  bound: boolean,
  limits: Partial<GatewayLimits> = {},
  more: Partial<GatewayOptions> = {},
): Promise<TestGateway> {
  const nowhere = { url: 'postgres://x@127.0.0.1/x', server: { port: fake.port } } as unknown as TestDatabase
  const at = await testGateway(nowhere, { bound, limits: { messageBytesMax: 100_000, connectionsMax: 1_000, ...limits }, more })
  await eventually(() => at.gateway.status().lease !== null, 'a lease')
  return at
}

export async function nothingLeft(at: TestGateway, fake: Upstream): Promise<void> {
  await eventually(() => Object.values(at.gateway.status().sessions).every((n) => n === 0), 'no session is left')
  await eventually(() => fake.open() === 0, 'no server connection is left')
}
