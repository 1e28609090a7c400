// Promises: the messages between a gateway and the controller about settled entries and measurements, framed and bounded: 4 bytes of length, then JSON.
// Whatever comes that is not one of them ends the connection (FEED_FRAME_INVALID); the outboxes on the target have every entry, so a
// connection may be lost at any time. Pure; the sockets are app's.
import { SwitchbackError } from '../model/errors.ts'
import type { SettledEntry } from '../model/executor.ts'
import type { MeasuredReport } from '../model/measured.ts'
import type { RowChange } from '../model/row.ts'
import { fromMeasuredWire, toMeasuredWire } from './measured.ts'

export const FEED_PROTOCOL = 1
/** An entry is at most what the target takes (400 KB on DynamoDB); a frame holds several. */
export const FEED_FRAME_BYTES_MAX = 8 * 1024 * 1024
export const FEED_ENTRIES_PER_FRAME_MAX = 512

export interface FeedPosition {
  readonly group: number
  readonly lease: string
  readonly sequence: number
}

export type FeedMessage =
  /** From the gateway, first. `lease` changes with each new lease on the same connection. */
  | { readonly type: 'hello'; readonly protocol: number; readonly gateway: string; readonly lease: string; readonly secret: string }
  | { readonly type: 'settled'; readonly entries: readonly SettledEntry[] }
  /** From the gateway: everything that it held has been told again on this connection; from here on the feed is alive. */
  | { readonly type: 'toldAll'; readonly lease: string; readonly copiesDropped: number }
  /** From the gateway, if the leader's welcome said that it takes them: what it measured since it told last. */
  | { readonly type: 'measured'; readonly report: MeasuredReport }
  /** From the controller: durable positions, copies up to them may go. */
  | { readonly type: 'positions'; readonly positions: readonly FeedPosition[] }
  /** From the controller, first. `measures`: it takes measurements; an older controller says nothing of it, an older gateway does not look. */
  | { readonly type: 'welcome'; readonly protocol: number; readonly token: number; readonly measures: boolean }

export function encodeFeedMessage(message: FeedMessage): Buffer {
  const body = Buffer.from(JSON.stringify(wired(message)), 'utf8')
  if (body.length > FEED_FRAME_BYTES_MAX) throw invalid(`a frame of ${body.length} bytes is longer than ${FEED_FRAME_BYTES_MAX}`)
  const frame = Buffer.allocUnsafe(4 + body.length)
  frame.writeUInt32BE(body.length, 0)
  body.copy(frame, 4)
  return frame
}

function wired(message: FeedMessage): unknown {
  if (message.type === 'settled') return { ...message, entries: message.entries.map(toWire) }
  return message.type === 'measured' ? { ...message, report: toMeasuredWire(message.report) } : message
}

/** Settled entries in as few frames as the limits allow. */
export function encodeSettled(entries: readonly SettledEntry[]): Buffer[] {
  const frames: Buffer[] = []
  let from = 0
  let bytes = 0
  for (let i = 0; i <= entries.length; i++) {
    // JSON escapes at most six-fold; a quarter of the frame leaves room for the one that tips it over and for usual escapes.
    if (i < entries.length && i - from < FEED_ENTRIES_PER_FRAME_MAX && bytes < FEED_FRAME_BYTES_MAX / 16) {
      bytes += settledBytes(entries[i]!)
      continue
    }
    if (i > from) frames.push(encodeFeedMessage({ type: 'settled', entries: entries.slice(from, i) }))
    from = i
    bytes = i < entries.length ? settledBytes(entries[i]!) : 0
  }
  return frames
}

export interface FeedDecoder {
  /** Complete messages in what has come so far. Throws FEED_FRAME_INVALID; the decoder is of no use then. */
  push(chunk: Buffer): FeedMessage[]
}

export function createFeedDecoder(limits: { readonly frameBytesMax?: number } = {}): FeedDecoder {
  const frameBytesMax = limits.frameBytesMax ?? FEED_FRAME_BYTES_MAX
  let chunks: Buffer[] = []
  let buffered = 0
  const take = (bytes: number): Buffer => {
    const all = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, buffered)
    buffered -= bytes
    chunks = buffered > 0 ? [all.subarray(bytes)] : []
    return all.subarray(0, bytes)
  }
  let length: number | null = null
  return {
    push(chunk) {
      const messages: FeedMessage[] = []
      if (chunk.length > 0) chunks.push(chunk)
      buffered += chunk.length
      for (;;) {
        if (length === null) {
          if (buffered < 4) return messages
          length = take(4).readUInt32BE(0)
          // Refused before anything of it is buffered.
          if (length > frameBytesMax) throw invalid(`a frame of ${length} bytes is longer than ${frameBytesMax}`)
        }
        if (buffered < length) return messages
        messages.push(parseMessage(length === 0 ? '' : take(length).toString('utf8')))
        length = null
      }
    },
  }
}

function parseMessage(text: string): FeedMessage {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid('not JSON', error)
  }
  const message = record(value, 'message')
  switch (field(message, 'type')) {
    case 'hello':
      return {
        type: 'hello',
        protocol: count(message, 'protocol'),
        gateway: string(message, 'gateway'),
        lease: string(message, 'lease'),
        secret: string(message, 'secret'),
      }
    case 'settled':
      return { type: 'settled', entries: list(message, 'entries').map(fromWire) }
    case 'toldAll':
      return { type: 'toldAll', lease: string(message, 'lease'), copiesDropped: count(message, 'copiesDropped') }
    case 'measured': {
      const report = fromMeasuredWire(field(message, 'report'))
      if (report === null) throw invalid('a report of measurements that is none')
      return { type: 'measured', report }
    }
    case 'positions':
      return { type: 'positions', positions: list(message, 'positions').map(toPosition) }
    case 'welcome':
      return {
        type: 'welcome',
        protocol: count(message, 'protocol'),
        token: count(message, 'token'),
        measures: field(message, 'measures') === true,
      }
    default:
      throw invalid('unknown type')
  }
}

// ---- settled entries. An undefined cell has no JSON: it is 0 there, which no text or null can be taken for.

function toWire(told: SettledEntry): unknown {
  const { changes } = told.entry
  const partial = changes.some((change) => change.values?.includes(undefined) ?? false)
  if (!partial) return told
  const wired = changes.map((change) => ({ ...change, values: change.values?.map((cell) => (cell === undefined ? 0 : cell)) ?? null }))
  return { ...told, entry: { ...told.entry, changes: wired } }
}

function fromWire(value: unknown): SettledEntry {
  const told = record(value, 'entry')
  const verdict = field(told, 'verdict')
  if (verdict !== 'committed' && verdict !== 'void') throw invalid('a verdict that is neither committed nor void')
  const entry = record(field(told, 'entry'), 'entry')
  const prev = field(entry, 'prev')
  if (prev !== null && typeof prev !== 'string') throw invalid('prev is not a text')
  const sequence = count(told, 'sequence')
  if (sequence < 1) throw invalid('a sequence below 1')
  return {
    group: count(told, 'group'),
    lease: string(told, 'lease'),
    sequence,
    verdict,
    entry: {
      key: string(entry, 'key'),
      slot: count(entry, 'slot'),
      tenure: count(entry, 'tenure'),
      version: count(entry, 'version'),
      txnId: string(entry, 'txnId'),
      prev,
      changes: list(entry, 'changes').map(toChange),
    },
  }
}

function toChange(value: unknown): RowChange {
  const change = record(value, 'change')
  const clustering = list(change, 'clustering')
  for (const text of clustering) if (typeof text !== 'string') throw invalid('clustering is not texts')
  const values = field(change, 'values')
  if (values !== null && !Array.isArray(values)) throw invalid('values are not a list')
  return {
    table: string(change, 'table'),
    clustering: clustering as string[],
    values: values === null ? null : values.map(toCell),
  }
}

function toCell(cell: unknown): string | null | undefined {
  if (cell === 0) return undefined
  if (cell !== null && typeof cell !== 'string') throw invalid('a cell is neither a text nor null')
  return cell
}

function toPosition(value: unknown): FeedPosition {
  const position = record(value, 'position')
  return { group: count(position, 'group'), lease: string(position, 'lease'), sequence: count(position, 'sequence') }
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`${what} is not an object`)
  return value as Record<string, unknown>
}

function field(of: Record<string, unknown>, name: string): unknown {
  return of[name]
}

function string(of: Record<string, unknown>, name: string): string {
  const value = of[name]
  if (typeof value !== 'string') throw invalid(`${name} is not a text`)
  return value
}

function count(of: Record<string, unknown>, name: string): number {
  const value = of[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw invalid(`${name} is not a count`)
  return value
}

function list(of: Record<string, unknown>, name: string): readonly unknown[] {
  const value = of[name]
  if (!Array.isArray(value)) throw invalid(`${name} is not a list`)
  return value
}

function invalid(problem: string, cause?: unknown): SwitchbackError {
  return new SwitchbackError('FEED_FRAME_INVALID', { problem }, cause)
}

/** About how much memory, and how many bytes of JSON, an entry takes. */
export function settledBytes(told: SettledEntry): number {
  let bytes = 200 + told.entry.key.length
  for (const change of told.entry.changes) {
    bytes += 40 + change.table.length
    for (const text of change.clustering) bytes += text.length + 4
    if (change.values !== null) for (const cell of change.values) bytes += (cell?.length ?? 4) + 4
  }
  return bytes
}
