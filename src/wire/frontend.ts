// Promises: what a client sends, decoded from a message's body and encoded to a whole message. Values and SQL stay in the
// message's own memory: a decoded message is good as long as the buffer it came from.
import { ByteReader, ByteWriter, violation } from './bytes.ts'
import { STARTUP } from './framing.ts'

export type Format = 0 | 1
export type DescribeTarget = 'statement' | 'portal'

export interface QueryMessage {
  readonly kind: 'query'
  readonly sql: string
}
export interface ParseMessage {
  readonly kind: 'parse'
  readonly name: string
  readonly sql: string
  readonly parameterTypes: readonly number[]
}
export interface BindMessage {
  readonly kind: 'bind'
  readonly portal: string
  readonly statement: string
  /** As sent: empty: all text; one: for all; else one each. `formatOf` resolves it. */
  readonly parameterFormats: readonly Format[]
  readonly parameters: readonly (Buffer | null)[]
  readonly resultFormats: readonly Format[]
}
export interface DescribeMessage {
  readonly kind: 'describe'
  readonly target: DescribeTarget
  readonly name: string
}
export interface ExecuteMessage {
  readonly kind: 'execute'
  readonly portal: string
  /** 0: no limit. */
  readonly rowsMax: number
}
export interface CloseMessage {
  readonly kind: 'close'
  readonly target: DescribeTarget
  readonly name: string
}
/** PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse look alike: what was asked for tells them apart. */
export interface PasswordMessage {
  readonly kind: 'password'
  readonly data: Buffer
}
export interface CopyDataMessage {
  readonly kind: 'copyData'
  readonly data: Buffer
}
export interface CopyFailMessage {
  readonly kind: 'copyFail'
  readonly reason: string
}
/** The obsolete fast path call: known, never taken apart. */
export interface FunctionCallMessage {
  readonly kind: 'functionCall'
  readonly data: Buffer
}
export type FrontendMessage =
  | QueryMessage
  | ParseMessage
  | BindMessage
  | DescribeMessage
  | ExecuteMessage
  | CloseMessage
  | { readonly kind: 'sync' }
  | { readonly kind: 'flush' }
  | { readonly kind: 'terminate' }
  | CopyDataMessage
  | { readonly kind: 'copyDone' }
  | CopyFailMessage
  | PasswordMessage
  | FunctionCallMessage

export type StartupPacket =
  | {
      readonly kind: 'startup'
      readonly major: number
      readonly minor: number
      /** In the order sent; a name may come twice, and the last one counts. */
      readonly parameters: readonly (readonly [string, string])[]
    }
  | { readonly kind: 'sslRequest' }
  | { readonly kind: 'gssencRequest' }
  /** The key has 4 bytes up to protocol 3.0, up to 256 from 3.2 on. */
  | { readonly kind: 'cancelRequest'; readonly processId: number; readonly secretKey: Buffer }

/** Type bytes of what clients send. */
export const FRONTEND = {
  query: 0x51,
  parse: 0x50,
  bind: 0x42,
  describe: 0x44,
  execute: 0x45,
  close: 0x43,
  sync: 0x53,
  flush: 0x48,
  terminate: 0x58,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  password: 0x70,
  functionCall: 0x46,
} as const

const CODE_FAMILY = 1234
const CODE_CANCEL = 5678
const CODE_SSL = 5679
const CODE_GSSENC = 5680
const CANCEL_KEY_BYTES_MAX = 256

/** Decodes a message of the given type byte. Throws PROTOCOL_VIOLATION. */
export function decodeFrontend(type: number, body: Buffer): FrontendMessage {
  switch (type) {
    case FRONTEND.query:
      return decodeQuery(body)
    case FRONTEND.parse:
      return decodeParse(body)
    case FRONTEND.bind:
      return decodeBind(body)
    case FRONTEND.describe:
    case FRONTEND.close:
      return decodeDescribeOrClose(type, body)
    case FRONTEND.execute: {
      const reader = new ByteReader(body)
      const message: ExecuteMessage = { kind: 'execute', portal: reader.cstring(), rowsMax: Math.max(0, reader.int32()) }
      reader.end('Execute')
      return message
    }
    case FRONTEND.sync:
      return empty(body, { kind: 'sync' })
    case FRONTEND.flush:
      return empty(body, { kind: 'flush' })
    case FRONTEND.terminate:
      return empty(body, { kind: 'terminate' })
    case FRONTEND.copyDone:
      return empty(body, { kind: 'copyDone' })
    case FRONTEND.copyData:
      return { kind: 'copyData', data: body }
    case FRONTEND.copyFail: {
      const reader = new ByteReader(body)
      const message: CopyFailMessage = { kind: 'copyFail', reason: reader.cstring() }
      reader.end('CopyFail')
      return message
    }
    case FRONTEND.password:
      return { kind: 'password', data: body }
    case FRONTEND.functionCall:
      return { kind: 'functionCall', data: body }
    default:
      throw violation(`a message of type 0x${type.toString(16)}, which clients do not send`)
  }
}

export function decodeQuery(body: Buffer): QueryMessage {
  const reader = new ByteReader(body)
  const sql = reader.cstring()
  reader.end('Query')
  return { kind: 'query', sql }
}

export function decodeParse(body: Buffer): ParseMessage {
  const reader = new ByteReader(body)
  const name = reader.cstring()
  const sql = reader.cstring()
  const count = reader.count16(4)
  const parameterTypes: number[] = []
  for (let i = 0; i < count; i++) parameterTypes.push(reader.uint32())
  reader.end('Parse')
  return { kind: 'parse', name, sql, parameterTypes }
}

/** The bytes of the SQL text of a Query or Parse body, without its NUL: what a plan is keyed by (gateway.md, Plans). */
export function sqlBytes(type: number, body: Buffer): Buffer {
  const reader = new ByteReader(body)
  if (type === FRONTEND.parse) reader.cstringBytes()
  return reader.cstringBytes()
}

export function decodeBind(body: Buffer): BindMessage {
  const reader = new ByteReader(body)
  const portal = reader.cstring()
  const statement = reader.cstring()
  const parameterFormats = readFormats(reader)
  const count = reader.count16(4)
  if (parameterFormats.length > 1 && parameterFormats.length !== count) {
    throw violation(`a Bind with ${parameterFormats.length} parameter formats and ${count} parameters`)
  }
  const parameters: (Buffer | null)[] = []
  for (let i = 0; i < count; i++) {
    const length = reader.int32()
    if (length < -1) throw violation(`a parameter with a length of ${length}`)
    parameters.push(length === -1 ? null : reader.slice(length))
  }
  const resultFormats = readFormats(reader)
  reader.end('Bind')
  return { kind: 'bind', portal, statement, parameterFormats, parameters, resultFormats }
}

/** The format of one parameter or column: none sent means text, one holds for all. */
export function formatOf(formats: readonly Format[], index: number): Format {
  return formats.length === 1 ? formats[0]! : (formats[index] ?? 0)
}

/** Decodes an untyped packet, its length word left out. Throws PROTOCOL_VIOLATION. */
export function decodeStartup(body: Buffer): StartupPacket {
  const reader = new ByteReader(body)
  const major = reader.uint16()
  const minor = reader.uint16()
  if (major === CODE_FAMILY) {
    if (minor === CODE_SSL || minor === CODE_GSSENC) {
      reader.end('an encryption request')
      return { kind: minor === CODE_SSL ? 'sslRequest' : 'gssencRequest' }
    }
    if (minor !== CODE_CANCEL) throw violation(`a startup packet with the code ${major}.${minor}`)
    const processId = reader.int32()
    const secretKey = reader.rest()
    if (secretKey.length === 0 || secretKey.length > CANCEL_KEY_BYTES_MAX) throw violation(`a cancel key of ${secretKey.length} bytes`)
    return { kind: 'cancelRequest', processId, secretKey }
  }
  if (major !== 3) throw violation(`protocol version ${major}.${minor}, where 3 is spoken`)
  const parameters: [string, string][] = []
  for (let name = reader.cstring(); name !== ''; name = reader.cstring()) parameters.push([name, reader.cstring()])
  reader.end('StartupMessage')
  return { kind: 'startup', major, minor, parameters }
}

export function encodeStartup(packet: StartupPacket): Buffer {
  const writer = new ByteWriter(128).begin(STARTUP)
  switch (packet.kind) {
    case 'sslRequest':
      writer.int16(CODE_FAMILY).int16(CODE_SSL)
      break
    case 'gssencRequest':
      writer.int16(CODE_FAMILY).int16(CODE_GSSENC)
      break
    case 'cancelRequest':
      writer.int16(CODE_FAMILY).int16(CODE_CANCEL).int32(packet.processId).raw(packet.secretKey)
      break
    case 'startup':
      writer.int16(packet.major).int16(packet.minor)
      for (const [name, value] of packet.parameters) writer.cstring(name).cstring(value)
      writer.uint8(0)
  }
  return writer.finish().done()
}

export function encodeFrontend(message: FrontendMessage): Buffer {
  const writer = new ByteWriter(64)
  writeFrontend(writer, message)
  return writer.done()
}

/** Several messages in one buffer: one write to the socket. */
export function encodeFrontends(messages: readonly FrontendMessage[]): Buffer {
  const writer = new ByteWriter(64 * messages.length)
  for (const message of messages) writeFrontend(writer, message)
  return writer.done()
}

/** Bind with parameters given as texts (format text) or Buffers; formats as in BindMessage. */
export function encodeBind(
  bind: Omit<BindMessage, 'kind' | 'parameters'> & { readonly parameters: readonly (string | Buffer | null)[] },
): Buffer {
  const writer = new ByteWriter(128).begin(FRONTEND.bind)
  writeBind(writer, bind)
  return writer.finish().done()
}

function writeFrontend(writer: ByteWriter, message: FrontendMessage): void {
  writer.begin(FRONTEND[message.kind])
  switch (message.kind) {
    case 'query':
      writer.cstring(message.sql)
      break
    case 'parse':
      writer.cstring(message.name).cstring(message.sql).int16(checkedCount(message.parameterTypes.length, 'parameter types'))
      for (const oid of message.parameterTypes) writer.int32(oid)
      break
    case 'bind':
      writeBind(writer, message)
      break
    case 'describe':
    case 'close':
      writer.uint8(message.target === 'statement' ? 0x53 : 0x50).cstring(message.name)
      break
    case 'execute':
      writer.cstring(message.portal).int32(message.rowsMax)
      break
    case 'copyFail':
      writer.cstring(message.reason)
      break
    case 'copyData':
    case 'password':
    case 'functionCall':
      writer.raw(message.data)
  }
  writer.finish()
}

function writeBind(writer: ByteWriter, bind: Parameters<typeof encodeBind>[0]): void {
  writer.cstring(bind.portal).cstring(bind.statement)
  writer.int16(checkedCount(bind.parameterFormats.length, 'parameter formats'))
  for (const format of bind.parameterFormats) writer.int16(format)
  writer.int16(checkedCount(bind.parameters.length, 'parameters'))
  for (const value of bind.parameters) writer.value(value)
  writer.int16(checkedCount(bind.resultFormats.length, 'result formats'))
  for (const format of bind.resultFormats) writer.int16(format)
}

function decodeDescribeOrClose(type: number, body: Buffer): DescribeMessage | CloseMessage {
  const reader = new ByteReader(body)
  const letter = reader.uint8()
  if (letter !== 0x53 && letter !== 0x50) throw violation(`a Describe or Close of 0x${letter.toString(16)}`)
  const target = letter === 0x53 ? 'statement' : 'portal'
  const name = reader.cstring()
  reader.end('Describe or Close')
  return { kind: type === FRONTEND.describe ? 'describe' : 'close', target, name }
}

function readFormats(reader: ByteReader): Format[] {
  const count = reader.count16(2)
  const formats: Format[] = []
  for (let i = 0; i < count; i++) {
    const format = reader.int16()
    if (format !== 0 && format !== 1) throw violation(`the format code ${format}`)
    formats.push(format)
  }
  return formats
}

function empty(body: Buffer, message: FrontendMessage): FrontendMessage {
  if (body.length !== 0) throw violation(`${body.length} bytes too many in ${message.kind}`)
  return message
}

function checkedCount(count: number, what: string): number {
  if (count > 65_535) throw violation(`${count} ${what}, where 65535 fit`)
  return count
}
