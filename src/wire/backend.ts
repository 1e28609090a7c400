// Promises: what a server sends, decoded from a message's body and encoded to whole messages, many rows into one buffer.
import { ByteReader, ByteWriter, violation } from './bytes.ts'
import type { Format } from './frontend.ts'

export interface FieldDescription {
  readonly name: string
  readonly tableOid: number
  readonly columnNumber: number
  readonly typeOid: number
  /** -1: of variable length, -2: a C string. */
  readonly typeLength: number
  readonly typmod: number
  readonly format: Format
}

/** Fields of ErrorResponse and NoticeResponse by their protocol letter; unknown letters are kept. */
export type ErrorFields = Readonly<Record<string, string>>

/** Letters of the fields. A message has at least S, C and M. */
export const ERROR_FIELD = {
  severity: 'S',
  severityNonLocalised: 'V',
  sqlstate: 'C',
  message: 'M',
  detail: 'D',
  hint: 'H',
  position: 'P',
  internalPosition: 'p',
  internalQuery: 'q',
  where: 'W',
  schema: 's',
  table: 't',
  column: 'c',
  dataType: 'd',
  constraint: 'n',
  file: 'F',
  line: 'L',
  routine: 'R',
} as const

export type TransactionStatus = 'idle' | 'transaction' | 'failed'

export type AuthenticationMessage =
  | { readonly kind: 'authenticationOk' }
  | { readonly kind: 'authenticationCleartextPassword' }
  | { readonly kind: 'authenticationMd5Password'; readonly salt: Buffer }
  | { readonly kind: 'authenticationSasl'; readonly mechanisms: readonly string[] }
  | { readonly kind: 'authenticationSaslContinue'; readonly data: Buffer }
  | { readonly kind: 'authenticationSaslFinal'; readonly data: Buffer }
  | { readonly kind: 'authenticationGss' }
  | { readonly kind: 'authenticationSspi' }
  | { readonly kind: 'authenticationGssContinue'; readonly data: Buffer }
  /** A method of a later day (Kerberos V5 is the obsolete code 2): relayed, not understood. */
  | { readonly kind: 'authenticationOther'; readonly code: number; readonly data: Buffer }

export type CopyKind = 'copyInResponse' | 'copyOutResponse' | 'copyBothResponse'

export type BackendMessage =
  | AuthenticationMessage
  | { readonly kind: 'parameterStatus'; readonly name: string; readonly value: string }
  | { readonly kind: 'backendKeyData'; readonly processId: number; readonly secretKey: Buffer }
  | { readonly kind: 'negotiateProtocolVersion'; readonly minor: number; readonly unrecognised: readonly string[] }
  | { readonly kind: 'readyForQuery'; readonly status: TransactionStatus }
  | { readonly kind: 'rowDescription'; readonly fields: readonly FieldDescription[] }
  | { readonly kind: 'dataRow'; readonly values: readonly (Buffer | null)[] }
  | { readonly kind: 'commandComplete'; readonly tag: string }
  | { readonly kind: 'errorResponse'; readonly fields: ErrorFields }
  | { readonly kind: 'noticeResponse'; readonly fields: ErrorFields }
  | { readonly kind: 'parseComplete' }
  | { readonly kind: 'bindComplete' }
  | { readonly kind: 'closeComplete' }
  | { readonly kind: 'noData' }
  | { readonly kind: 'portalSuspended' }
  | { readonly kind: 'emptyQueryResponse' }
  | { readonly kind: 'parameterDescription'; readonly parameterTypes: readonly number[] }
  | { readonly kind: CopyKind; readonly format: Format; readonly columnFormats: readonly Format[] }
  | { readonly kind: 'copyData'; readonly data: Buffer }
  | { readonly kind: 'copyDone' }
  | { readonly kind: 'notificationResponse'; readonly processId: number; readonly channel: string; readonly payload: string }
  | { readonly kind: 'functionCallResponse'; readonly data: Buffer }

/** Type bytes of what servers send. */
export const BACKEND = {
  authentication: 0x52,
  parameterStatus: 0x53,
  backendKeyData: 0x4b,
  negotiateProtocolVersion: 0x76,
  readyForQuery: 0x5a,
  rowDescription: 0x54,
  dataRow: 0x44,
  commandComplete: 0x43,
  errorResponse: 0x45,
  noticeResponse: 0x4e,
  parseComplete: 0x31,
  bindComplete: 0x32,
  closeComplete: 0x33,
  noData: 0x6e,
  portalSuspended: 0x73,
  emptyQueryResponse: 0x49,
  parameterDescription: 0x74,
  copyInResponse: 0x47,
  copyOutResponse: 0x48,
  copyBothResponse: 0x57,
  copyData: 0x64,
  copyDone: 0x63,
  notificationResponse: 0x41,
  functionCallResponse: 0x56,
} as const

const STATUS: Readonly<Record<TransactionStatus, number>> = { idle: 0x49, transaction: 0x54, failed: 0x45 }
const FIELD_BYTES_MIN = 19

// ---- decode

/** Decodes a message of the given type byte. Throws PROTOCOL_VIOLATION. */
export function decodeBackend(type: number, body: Buffer): BackendMessage {
  const reader = new ByteReader(body)
  const message = decode(type, reader)
  reader.end(message.kind)
  return message
}

/** Values of a DataRow in the body's own memory. */
export function decodeDataRow(body: Buffer): (Buffer | null)[] {
  const reader = new ByteReader(body)
  const values = readValues(reader)
  reader.end('dataRow')
  return values
}

export function decodeReadyForQuery(body: Buffer): TransactionStatus {
  const status = body.length === 1 ? body[0] : undefined
  if (status === STATUS.idle) return 'idle'
  if (status === STATUS.transaction) return 'transaction'
  if (status === STATUS.failed) return 'failed'
  throw violation('a ReadyForQuery without a transaction status')
}

const EMPTY_KIND: Readonly<Record<number, BackendMessage>> = {
  [BACKEND.parseComplete]: { kind: 'parseComplete' },
  [BACKEND.bindComplete]: { kind: 'bindComplete' },
  [BACKEND.closeComplete]: { kind: 'closeComplete' },
  [BACKEND.noData]: { kind: 'noData' },
  [BACKEND.portalSuspended]: { kind: 'portalSuspended' },
  [BACKEND.emptyQueryResponse]: { kind: 'emptyQueryResponse' },
  [BACKEND.copyDone]: { kind: 'copyDone' },
}

function decode(type: number, reader: ByteReader): BackendMessage {
  switch (type) {
    case BACKEND.authentication:
      return decodeAuthentication(reader)
    case BACKEND.parameterStatus:
      return { kind: 'parameterStatus', name: reader.cstring(), value: reader.cstring() }
    case BACKEND.backendKeyData:
      return { kind: 'backendKeyData', processId: reader.int32(), secretKey: reader.rest() }
    case BACKEND.negotiateProtocolVersion: {
      const minor = reader.int32()
      return { kind: 'negotiateProtocolVersion', minor, unrecognised: repeat(reader, reader.int32(), () => reader.cstring()) }
    }
    case BACKEND.readyForQuery:
      return { kind: 'readyForQuery', status: decodeReadyForQuery(reader.rest()) }
    case BACKEND.rowDescription:
      return { kind: 'rowDescription', fields: readFields(reader) }
    case BACKEND.dataRow:
      return { kind: 'dataRow', values: readValues(reader) }
    case BACKEND.commandComplete:
      return { kind: 'commandComplete', tag: reader.cstring() }
    case BACKEND.errorResponse:
      return { kind: 'errorResponse', fields: readErrorFields(reader) }
    case BACKEND.noticeResponse:
      return { kind: 'noticeResponse', fields: readErrorFields(reader) }
    case BACKEND.parameterDescription:
      return { kind: 'parameterDescription', parameterTypes: repeat(reader, reader.count16(4), () => reader.uint32()) }
    case BACKEND.copyInResponse:
      return decodeCopy('copyInResponse', reader)
    case BACKEND.copyOutResponse:
      return decodeCopy('copyOutResponse', reader)
    case BACKEND.copyBothResponse:
      return decodeCopy('copyBothResponse', reader)
    case BACKEND.copyData:
      return { kind: 'copyData', data: reader.rest() }
    case BACKEND.notificationResponse:
      return { kind: 'notificationResponse', processId: reader.int32(), channel: reader.cstring(), payload: reader.cstring() }
    case BACKEND.functionCallResponse:
      return { kind: 'functionCallResponse', data: reader.rest() }
  }
  const message = EMPTY_KIND[type]
  if (message === undefined) throw violation(`a message of type 0x${type.toString(16)}, which servers do not send`)
  return message
}

function decodeAuthentication(reader: ByteReader): AuthenticationMessage {
  const code = reader.int32()
  switch (code) {
    case 0:
      return { kind: 'authenticationOk' }
    case 3:
      return { kind: 'authenticationCleartextPassword' }
    case 5:
      return { kind: 'authenticationMd5Password', salt: reader.slice(4) }
    case 7:
      return { kind: 'authenticationGss' }
    case 8:
      return { kind: 'authenticationGssContinue', data: reader.rest() }
    case 9:
      return { kind: 'authenticationSspi' }
    case 10: {
      const mechanisms: string[] = []
      for (let name = reader.cstring(); name !== ''; name = reader.cstring()) mechanisms.push(name)
      return { kind: 'authenticationSasl', mechanisms }
    }
    case 11:
      return { kind: 'authenticationSaslContinue', data: reader.rest() }
    case 12:
      return { kind: 'authenticationSaslFinal', data: reader.rest() }
    default:
      return { kind: 'authenticationOther', code, data: reader.rest() }
  }
}

function decodeCopy(kind: CopyKind, reader: ByteReader): BackendMessage {
  const format = asFormat(reader.uint8())
  return { kind, format, columnFormats: repeat(reader, reader.count16(2), () => asFormat(reader.int16())) }
}

function readFields(reader: ByteReader): FieldDescription[] {
  return repeat(reader, reader.count16(FIELD_BYTES_MIN), () => ({
    name: reader.cstring(),
    tableOid: reader.uint32(),
    columnNumber: reader.int16(),
    typeOid: reader.uint32(),
    typeLength: reader.int16(),
    typmod: reader.int32(),
    format: asFormat(reader.int16()),
  }))
}

function readValues(reader: ByteReader): (Buffer | null)[] {
  const count = reader.count16(4)
  const values: (Buffer | null)[] = []
  for (let i = 0; i < count; i++) {
    const length = reader.int32()
    if (length < -1) throw violation(`a value with a length of ${length}`)
    values.push(length === -1 ? null : reader.slice(length))
  }
  return values
}

function readErrorFields(reader: ByteReader): ErrorFields {
  const fields: Record<string, string> = {}
  for (let letter = reader.uint8(); letter !== 0; letter = reader.uint8()) fields[String.fromCharCode(letter)] = reader.cstring()
  return fields
}

function asFormat(code: number): Format {
  if (code !== 0 && code !== 1) throw violation(`the format code ${code}`)
  return code
}

function repeat<T>(reader: ByteReader, count: number, one: () => T): T[] {
  if (count < 0 || count > reader.bytes.length) throw violation(`${count} entries expected where ${reader.remaining} bytes are left`)
  const all: T[] = []
  for (let i = 0; i < count; i++) all.push(one())
  return all
}

// ---- encode

export function encodeBackend(message: BackendMessage): Buffer {
  const writer = new ByteWriter(64)
  writeBackend(writer, message)
  return writer.done()
}

/** Several messages in one buffer: one write to the socket. */
export function encodeBackends(messages: readonly BackendMessage[]): Buffer {
  const writer = new ByteWriter(64 * messages.length)
  for (const message of messages) writeBackend(writer, message)
  return writer.done()
}

/** Texts and bytes (already in the column's format), null for SQL's null. */
export type RowValues = readonly (string | Uint8Array | null)[]

/** Hot path: all rows as DataRow messages in one buffer. */
export function encodeDataRows(rows: readonly RowValues[]): Buffer {
  const first = rows[0]
  const writer = new ByteWriter(rows.length * (8 + (first?.length ?? 0) * 16))
  for (const row of rows) writeDataRow(writer, row)
  return writer.done()
}

export function writeDataRow(writer: ByteWriter, row: RowValues): void {
  writer.begin(BACKEND.dataRow).int16(row.length)
  for (let i = 0; i < row.length; i++) writer.value(row[i]!)
  writer.finish()
}

/** An ErrorResponse as PostgreSQL would send it, from named parts. */
export function errorResponse(parts: {
  readonly severity?: 'ERROR' | 'FATAL' | 'PANIC'
  readonly sqlstate: string
  readonly message: string
  readonly detail?: string | null
  readonly hint?: string | null
  readonly schema?: string | null
  readonly table?: string | null
  readonly column?: string | null
  readonly constraint?: string | null
}): BackendMessage {
  const severity = parts.severity ?? 'ERROR'
  const fields: Record<string, string> = { S: severity, V: severity, C: parts.sqlstate, M: parts.message }
  const optional = { D: parts.detail, H: parts.hint, s: parts.schema, t: parts.table, c: parts.column, n: parts.constraint }
  for (const [letter, text] of Object.entries(optional)) if (text !== undefined && text !== null) fields[letter] = text
  return { kind: 'errorResponse', fields }
}

const AUTHENTICATION_CODE: Readonly<Record<Exclude<AuthenticationMessage['kind'], 'authenticationOther'>, number>> = {
  authenticationOk: 0,
  authenticationCleartextPassword: 3,
  authenticationMd5Password: 5,
  authenticationGss: 7,
  authenticationGssContinue: 8,
  authenticationSspi: 9,
  authenticationSasl: 10,
  authenticationSaslContinue: 11,
  authenticationSaslFinal: 12,
}

function isAuthentication(message: BackendMessage): message is AuthenticationMessage {
  return message.kind.startsWith('authentication')
}

export function writeBackend(writer: ByteWriter, message: BackendMessage): void {
  if (isAuthentication(message)) {
    writeAuthentication(writer, message)
    return
  }
  if (message.kind === 'dataRow') {
    writeDataRow(writer, message.values)
    return
  }
  writer.begin(BACKEND[message.kind])
  switch (message.kind) {
    case 'parameterStatus':
      writer.cstring(message.name).cstring(message.value)
      break
    case 'backendKeyData':
      writer.int32(message.processId).raw(message.secretKey)
      break
    case 'negotiateProtocolVersion':
      writer.int32(message.minor).int32(message.unrecognised.length)
      for (const name of message.unrecognised) writer.cstring(name)
      break
    case 'readyForQuery':
      writer.uint8(STATUS[message.status])
      break
    case 'rowDescription':
      writer.int16(message.fields.length)
      for (const field of message.fields) writeField(writer, field)
      break
    case 'commandComplete':
      writer.cstring(message.tag)
      break
    case 'errorResponse':
    case 'noticeResponse':
      for (const [letter, text] of Object.entries(message.fields)) writer.uint8(letter.charCodeAt(0)).cstring(text)
      writer.uint8(0)
      break
    case 'parameterDescription':
      writer.int16(message.parameterTypes.length)
      for (const oid of message.parameterTypes) writer.int32(oid)
      break
    case 'copyInResponse':
    case 'copyOutResponse':
    case 'copyBothResponse':
      writer.uint8(message.format).int16(message.columnFormats.length)
      for (const format of message.columnFormats) writer.int16(format)
      break
    case 'copyData':
    case 'functionCallResponse':
      writer.raw(message.data)
      break
    case 'notificationResponse':
      writer.int32(message.processId).cstring(message.channel).cstring(message.payload)
  }
  writer.finish()
}

function writeAuthentication(writer: ByteWriter, message: AuthenticationMessage): void {
  writer.begin(BACKEND.authentication)
  writer.int32(message.kind === 'authenticationOther' ? message.code : AUTHENTICATION_CODE[message.kind])
  if ('salt' in message) writer.raw(message.salt)
  if ('data' in message) writer.raw(message.data)
  if ('mechanisms' in message) {
    for (const name of message.mechanisms) writer.cstring(name)
    writer.uint8(0)
  }
  writer.finish()
}

function writeField(writer: ByteWriter, field: FieldDescription): void {
  writer.cstring(field.name).int32(field.tableOid).int16(field.columnNumber)
  writer.int32(field.typeOid).int16(field.typeLength).int32(field.typmod).int16(field.format)
}
