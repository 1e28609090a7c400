// Promises: a MemoryTarget for other processes, over TCP on one address. Replies are batched a frame, and a reader that is too slow
// is not read from until it has caught up. Faults are injected here, where a real line would fail. No sign-in: it listens on
// 127.0.0.1 unless told otherwise, and holds no real data.
import { createServer, type Server, type Socket } from 'node:net'
import type { Clock } from '../../lib/clock.ts'
import { systemClock } from '../../lib/clock.ts'
import { SwitchbackError } from '../../model/errors.ts'
import type { OutboxId } from '../../model/head.ts'
import type { Mapping, TableName } from '../../model/mapping.ts'
import type { RowKey } from '../../model/row.ts'
import type { ControlItem, RowRange } from '../../model/target.ts'
import {
  decodeEntry,
  decodeHead,
  decodePut,
  encodeEntry,
  encodeHead,
  encodeRow,
  type WireEntry,
  type WireHead,
  type WireRow,
} from '../codec.ts'
import { digestPart } from './digest-part.ts'
import { type FaultHook, type TargetOperation, withFault } from './faults.ts'
import { FrameReader, frameOf, type ReplyMessage, type RequestMessage } from './frames.ts'
import { MemoryTarget, type ScanCursor } from './memory-target.ts'

export interface MemoryServerOptions {
  readonly host?: string
  /** 0, the default: any free port. */
  readonly port?: number
  readonly target?: MemoryTarget
  readonly faults?: FaultHook
  readonly clock?: Clock
}

export interface MemoryServer extends AsyncDisposable {
  readonly host: string
  readonly port: number
  readonly target: MemoryTarget
  /** Resets every connection, as a failing line would; the server goes on. */
  resetConnections(): void
  close(): Promise<void>
}

/** Beyond so many unsent bytes a connection is not read from. */
const UNSENT_BYTES_MAX = 8 * 1024 * 1024

export async function serveMemoryTarget(options: MemoryServerOptions = {}): Promise<MemoryServer> {
  const target = options.target ?? new MemoryTarget()
  const host = options.host ?? '127.0.0.1'
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    serveConnection(socket, target, options.faults, options.clock ?? systemClock)
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(options.port ?? 0, host, resolve))
  const close = () => closeServer(server, sockets)
  return {
    host,
    port: (server.address() as { port: number }).port,
    target,
    resetConnections: () => {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function closeServer(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  if (!server.listening) return
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  for (const socket of sockets) socket.destroy()
  await closed
}

function serveConnection(socket: Socket, target: MemoryTarget, faults: FaultHook | undefined, clock: Clock): void {
  const reader = new FrameReader<RequestMessage>()
  let replies: string[] = []
  const flush = () => {
    const batch = replies
    replies = []
    if (socket.destroyed) return
    if (!socket.write(frameOf(batch)) && socket.writableLength > UNSENT_BYTES_MAX) socket.pause()
  }
  const reply = (message: ReplyMessage) => {
    if (replies.length === 0) setImmediate(flush)
    replies.push(JSON.stringify(message))
  }
  socket.on('error', () => undefined) // a close follows
  socket.on('drain', () => socket.resume())
  socket.on('data', (chunk) => {
    try {
      for (const request of reader.push(chunk)) void answer(request, target, faults, clock, reply) // never rejects
    } catch {
      socket.destroy() // not our protocol
    }
  })
}

async function answer(
  [id, operation, ...args]: RequestMessage,
  target: MemoryTarget,
  faults: FaultHook | undefined,
  clock: Clock,
  reply: (message: ReplyMessage) => void,
): Promise<void> {
  try {
    const call = CALLS[operation as TargetOperation | 'bucketSums']
    if (call === undefined)
      throw new SwitchbackError('TARGET_REFUSED', { operation: String(operation), reason: 'there is no such operation' })
    const fault = faults?.(operation as TargetOperation)
    reply([
      id,
      0,
      await (fault === undefined ? call(target, args) : withFault(fault, operation as TargetOperation, () => call(target, args), clock)),
    ])
  } catch (error) {
    if (!(error instanceof SwitchbackError)) reply([id, 1, 'TARGET_UNKNOWN', { operation, reason: String(error) }])
    else if (error.code !== 'TARGET_UNKNOWN') reply([id, 1, error.code, error.details])
    // A lost reply is one that is never sent: the client's own timeout finds it.
  }
}

type Call = (target: MemoryTarget, args: unknown[]) => Promise<unknown>

const CALLS: Record<TargetOperation | 'bucketSums', Call> = {
  prepare: (target, [mapping]) => target.prepare(mapping as Mapping),
  remove: (target, [mapping, what]) => target.remove(mapping as Mapping, what as { rows: boolean }),
  readHead: async (target, [key]) => orNull(await target.readHead(key as string), encodeHead),
  compareAndSetHead: async (target, [key, expected, next]) => {
    const result = await target.compareAndSetHead(
      key as string,
      orNull(expected as WireHead | null, decodeHead),
      decodeHead(next as WireHead),
    )
    return result.won ? 1 : orNull(result.head, encodeHead)
  },
  appendEntry: (target, [group, lease, sequence, entry]) =>
    target.appendEntry(outboxOf(group, lease), sequence as number, decodeEntry(entry as WireEntry)),
  readOutbox: async (target, [group, lease, after, limit]) => {
    const page = await target.readOutbox(outboxOf(group, lease), after as number, limit as number)
    return [page.end, page.entries.map(({ sequence, entry }) => [sequence, encodeEntry(entry)])]
  },
  deleteBucket: (target, [group, lease, bucket]) => target.deleteBucket(outboxOf(group, lease), bucket as number),
  putRows: (target, rows) => target.putRows((rows as WireRow[]).map(decodePut)),
  readRows: async (target, keys) => {
    const rows = await target.readRows((keys as [string, string, string[]][]).map(rowKeyOf))
    return rows.map((row) => (row === undefined ? null : encodeRow(row)))
  },
  readRange: async (target, [range]) => {
    const page = await target.readRange(range as RowRange)
    return [page.next, page.rows.map(encodeRow)]
  },
  scanRows: async (target, [table, segment, segments, cursor, limit]) => {
    const part = { segment: segment as number, segments: segments as number }
    const page = target.scanPage(table as TableName, part, cursor as ScanCursor, limit as number)
    return [page.next, page.rows.map(encodeRow)]
  },
  bucketSums: (target, [table, buckets, only, from, rows]) => {
    const choice = { buckets: buckets as number, only: only === null ? null : new Set(only as number[]) }
    return digestPart(target, table as TableName, choice, { from: from as number, rows: rows as number })
  },
  purgeTombstones: (target, [table, below]) => target.purgeTombstones(table as TableName, BigInt(below as string)),
  readControl: (target) => target.readControl(),
  writeControl: (target, [expected, next]) => target.writeControl(expected as ControlItem | null, next as ControlItem),
}

function rowKeyOf([table, key, clustering]: [string, string, string[]]): RowKey {
  return { table, key, clustering }
}

function outboxOf(group: unknown, lease: unknown): OutboxId {
  return { group: group as number, lease: lease as string }
}

function orNull<A, B>(value: A | null, convert: (value: A) => B): B | null {
  return value === null ? null : convert(value)
}
