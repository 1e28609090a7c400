// Promises: pgoutput protocol version 1 and the replication envelope around it, decoded into plain messages with raw text values,
// and committed transactions of mapped tables made of them (change.ts). The stream stops with a named error before a row of a
// table that is no longer as planned is handed on (protocols.md, Forward sync; faults.md 17, 18; INV-12).
import type { SourceChange, SourceTransaction, StreamRow } from '../model/change.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type Lsn, lsnOf } from '../model/ids.ts'
import { type Mapping, type TableMapping, type TableName, tableOf } from '../model/mapping.ts'
import type { Cell } from '../model/row.ts'
import { ByteReader, ByteWriter } from './bytes.ts'

/** A tuple's values in the relation's column order; undefined: an unchanged TOAST column. */
export type Tuple = readonly (Cell | undefined)[]

export interface RelationColumn {
  readonly name: string
  readonly typeOid: number
  readonly typmod: number
  /** Part of the replica identity; with FULL all are. */
  readonly key: boolean
}

export type ReplicaIdentity = 'default' | 'nothing' | 'full' | 'index'

export interface RelationMessage {
  readonly kind: 'relation'
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly identity: ReplicaIdentity
  readonly columns: readonly RelationColumn[]
}

/** `old` holds the key columns alone, the others null in it, or (identity FULL) the whole row. */
export interface OldTuple {
  readonly of: 'key' | 'row'
  readonly values: Tuple
}

export type PgoutputMessage =
  | { readonly kind: 'begin'; readonly finalLsn: Lsn; readonly committedAtMs: number; readonly xid: number }
  | { readonly kind: 'commit'; readonly commitLsn: Lsn; readonly endLsn: Lsn; readonly committedAtMs: number }
  | { readonly kind: 'origin'; readonly commitLsn: Lsn; readonly name: string }
  | RelationMessage
  | { readonly kind: 'type'; readonly oid: number; readonly schema: string; readonly name: string }
  /** `bytes` of insert, update, delete and message: the size they had, by which a transaction is bounded. */
  | { readonly kind: 'insert'; readonly relation: number; readonly after: Tuple; readonly bytes: number }
  | { readonly kind: 'update'; readonly relation: number; readonly before: OldTuple | null; readonly after: Tuple; readonly bytes: number }
  | { readonly kind: 'delete'; readonly relation: number; readonly before: OldTuple; readonly bytes: number }
  | { readonly kind: 'truncate'; readonly relations: readonly number[]; readonly cascade: boolean; readonly restartIdentity: boolean }
  | {
      readonly kind: 'message'
      readonly transactional: boolean
      readonly lsn: Lsn
      readonly prefix: string
      readonly content: string
      readonly bytes: number
    }

export type ReplicationMessage =
  /** `payload` shares memory with what was decoded. */
  | { readonly kind: 'xlogData'; readonly startLsn: Lsn; readonly serverLsn: Lsn; readonly sentAtMs: number; readonly payload: Buffer }
  | { readonly kind: 'keepalive'; readonly serverLsn: Lsn; readonly sentAtMs: number; readonly replyRequested: boolean }

/** 2000-01-01 in milliseconds of the Unix epoch. */
const POSTGRES_EPOCH_MS = 946_684_800_000
const IDENTITY: Readonly<Record<string, ReplicaIdentity>> = { d: 'default', n: 'nothing', f: 'full', i: 'index' }
const RELATION_COLUMN_BYTES_MIN = 10

export function streamInvalid(problem: string): SwitchbackError {
  return new SwitchbackError('STREAM_INVALID', { problem })
}

// ---- envelope

/** Decodes the data of one CopyData message of a replication connection. Throws STREAM_INVALID. */
export function decodeReplication(data: Buffer): ReplicationMessage {
  const reader = new ByteReader(data, streamInvalid)
  const type = reader.uint8()
  if (type === 0x77) {
    const startLsn = lsnOf(reader.uint64())
    const serverLsn = lsnOf(reader.uint64())
    return { kind: 'xlogData', startLsn, serverLsn, sentAtMs: timeMs(reader.int64()), payload: reader.rest() }
  }
  if (type !== 0x6b) throw streamInvalid(`a replication message of type 0x${type.toString(16)}`)
  const serverLsn = lsnOf(reader.uint64())
  const sentAtMs = timeMs(reader.int64())
  const replyRequested = reader.uint8() !== 0
  reader.end('keepalive')
  return { kind: 'keepalive', serverLsn, sentAtMs, replyRequested }
}

export interface StandbyStatus {
  readonly writtenLsn: Lsn
  /** What the server may forget everything before. INV-3. */
  readonly flushedLsn: Lsn
  readonly appliedLsn: Lsn
  readonly nowMs: number
  readonly replyRequested?: boolean
}

/** The data of the CopyData message that answers a keepalive and confirms a position. */
export function encodeStandbyStatus(status: StandbyStatus): Buffer {
  const writer = new ByteWriter(34).uint8(0x72)
  writer.int64(status.writtenLsn).int64(status.flushedLsn).int64(status.appliedLsn)
  writer.int64(BigInt(Math.round((status.nowMs - POSTGRES_EPOCH_MS) * 1000)))
  return writer.uint8(status.replyRequested === true ? 1 : 0).done()
}

// ---- pgoutput

/** Decodes one pgoutput message. Throws STREAM_INVALID, or STREAM_TEXT_INVALID for text that is not UTF-8. */
export function decodePgoutput(bytes: Buffer): PgoutputMessage {
  const reader = new ByteReader(bytes, streamInvalid)
  const message = decode(reader)
  reader.end(message.kind)
  return message
}

function decode(reader: ByteReader): PgoutputMessage {
  const type = String.fromCharCode(reader.uint8())
  switch (type) {
    case 'B': {
      const finalLsn = lsnOf(reader.uint64())
      return { kind: 'begin', finalLsn, committedAtMs: timeMs(reader.int64()), xid: reader.uint32() }
    }
    case 'C': {
      reader.uint8()
      const commitLsn = lsnOf(reader.uint64())
      const endLsn = lsnOf(reader.uint64())
      return { kind: 'commit', commitLsn, endLsn, committedAtMs: timeMs(reader.int64()) }
    }
    case 'O': {
      const commitLsn = lsnOf(reader.uint64())
      return { kind: 'origin', commitLsn, name: exact(reader.cstringBytes()) }
    }
    case 'R':
      return decodeRelation(reader)
    case 'Y':
      return { kind: 'type', oid: reader.uint32(), schema: exact(reader.cstringBytes()), name: exact(reader.cstringBytes()) }
    case 'I': {
      const relation = reader.uint32()
      expectNew(reader.uint8())
      return { kind: 'insert', relation, after: readTuple(reader), bytes: reader.bytes.length }
    }
    case 'U': {
      const relation = reader.uint32()
      let before: OldTuple | null = null
      let letter = reader.uint8()
      if (letter !== 0x4e) {
        before = readOld(letter, reader)
        letter = reader.uint8()
      }
      expectNew(letter)
      return { kind: 'update', relation, before, after: readTuple(reader), bytes: reader.bytes.length }
    }
    case 'D': {
      const relation = reader.uint32()
      return { kind: 'delete', relation, before: readOld(reader.uint8(), reader), bytes: reader.bytes.length }
    }
    case 'T': {
      const count = reader.uint32()
      const flags = reader.uint8()
      if (count * 4 !== reader.remaining) throw streamInvalid(`a truncate of ${count} relations in ${reader.remaining} bytes`)
      const relations = Array.from({ length: count }, () => reader.uint32())
      return { kind: 'truncate', relations, cascade: (flags & 1) !== 0, restartIdentity: (flags & 2) !== 0 }
    }
    case 'M': {
      const transactional = (reader.uint8() & 1) !== 0
      const lsn = lsnOf(reader.uint64())
      const prefix = exact(reader.cstringBytes())
      // Content is bytes to PostgreSQL. Switchback's own is text; another's, which nobody reads, need not be.
      return { kind: 'message', transactional, lsn, prefix, content: reader.utf8(reader.int32()), bytes: reader.bytes.length }
    }
    default:
      throw streamInvalid(`a pgoutput message of type ${JSON.stringify(type)}, which protocol version 1 does not have`)
  }
}

function decodeRelation(reader: ByteReader): RelationMessage {
  const oid = reader.uint32()
  const schema = exact(reader.cstringBytes())
  const name = exact(reader.cstringBytes())
  const identity = IDENTITY[String.fromCharCode(reader.uint8())]
  if (identity === undefined) throw streamInvalid('a relation with an unknown replica identity')
  const columns: RelationColumn[] = []
  for (let left = reader.count16(RELATION_COLUMN_BYTES_MIN); left > 0; left--) {
    const key = (reader.uint8() & 1) !== 0
    columns.push({ key, name: exact(reader.cstringBytes()), typeOid: reader.uint32(), typmod: reader.int32() })
  }
  // pg_catalog is sent as an empty schema name.
  return { kind: 'relation', oid, schema: schema === '' ? 'pg_catalog' : schema, name, identity, columns }
}

function readOld(letter: number, reader: ByteReader): OldTuple {
  if (letter !== 0x4b && letter !== 0x4f) throw streamInvalid('an old row that is neither key nor row')
  return { of: letter === 0x4b ? 'key' : 'row', values: readTuple(reader) }
}

function expectNew(letter: number): void {
  if (letter !== 0x4e) throw streamInvalid('a change without its new row')
}

function readTuple(reader: ByteReader): Tuple {
  const values: (Cell | undefined)[] = []
  for (let left = reader.count16(1); left > 0; left--) {
    switch (reader.uint8()) {
      case 0x6e:
        values.push(null)
        break
      case 0x75:
        values.push(undefined)
        break
      case 0x74:
        values.push(exact(reader.slice(reader.int32())))
        break
      default:
        throw streamInvalid('a value that is neither null, unchanged nor text')
    }
  }
  return values
}

/** INV-12: a replacement character stands for itself or for bytes that were lost; only the rare text that has one is compared. */
function exact(bytes: Buffer): string {
  const text = bytes.toString('utf8')
  if (text.includes('\ufffd') && !Buffer.from(text, 'utf8').equals(bytes)) throw new SwitchbackError('STREAM_TEXT_INVALID')
  return text
}

function timeMs(microseconds: bigint): number {
  return POSTGRES_EPOCH_MS + Number(microseconds) / 1000
}

// ---- transactions

export interface AssemblerOptions {
  readonly mapping: Mapping
  /** A larger transaction stops the stream by name instead of the process by lack of memory. */
  readonly transactionBytesMax?: number
}

const TRANSACTION_BYTES_MAX = 512 * 1024 * 1024

/** A mapped table as the stream sends it: where each of the mapping's columns stands in the stream's tuples. */
interface StreamTable {
  readonly name: TableName
  readonly positions: readonly number[]
  /** The stream's columns are the mapping's, in its order. */
  readonly straight: boolean
  /** By mapping column: is it in a key-only tuple? */
  readonly keyed: readonly boolean[]
  readonly streamColumns: number
}

/**
 * Makes committed transactions of the messages of one stream, in order. Its memory is the transaction under way: texts as
 * decoded, once. A transaction without a mapped change is returned too, since its end is a position to confirm.
 */
export class TransactionAssembler {
  readonly #mapping: Mapping
  readonly #bytesMax: number
  /** By relation OID; null: not mapped. */
  readonly #tables = new Map<number, StreamTable | null>()
  #begin: Extract<PgoutputMessage, { kind: 'begin' }> | null = null
  #origin: string | null = null
  #changes: SourceChange[] = []
  #bytes = 0

  constructor(options: AssemblerOptions) {
    this.#mapping = options.mapping
    this.#bytesMax = options.transactionBytesMax ?? TRANSACTION_BYTES_MAX
  }

  /** Stream bytes of the transaction under way. */
  get heldBytes(): number {
    return this.#bytes
  }

  /** Returns the transaction that this message commits, else null. Throws TABLE_CHANGED, REPLICA_IDENTITY_CHANGED, STREAM_INVALID. */
  push(message: PgoutputMessage): SourceTransaction | null {
    switch (message.kind) {
      case 'begin':
        if (this.#begin !== null) throw streamInvalid('a transaction inside a transaction')
        this.#begin = message
        return null
      case 'commit':
        return this.#commit(message)
      case 'origin':
        this.#inTransaction()
        this.#origin = message.name
        return null
      case 'relation':
        this.#tables.set(message.oid, this.#fit(message))
        return null
      case 'type':
        return null
      case 'message':
        // One outside a transaction is no commit and has no place in the order of changes.
        if (message.transactional) this.#add({ kind: 'message', prefix: message.prefix, content: message.content }, message.bytes)
        return null
      case 'truncate': {
        const tables = message.relations.flatMap((oid) => this.#table(oid)?.name ?? [])
        if (tables.length > 0) this.#add({ kind: 'truncate', tables }, tables.length)
        return null
      }
      default:
        this.#change(message)
        return null
    }
  }

  #change(message: Extract<PgoutputMessage, { kind: 'insert' | 'update' | 'delete' }>): void {
    const table = this.#table(message.relation)
    if (table === null) return
    if (message.kind === 'insert') {
      this.#add({ kind: 'insert', table: table.name, after: ordered(table, message.after) }, message.bytes)
    } else if (message.kind === 'update') {
      const before = message.before === null ? null : old(table, message.before)
      this.#add({ kind: 'update', table: table.name, before, after: ordered(table, message.after) }, message.bytes)
    } else {
      this.#add({ kind: 'delete', table: table.name, before: old(table, message.before) }, message.bytes)
    }
  }

  #commit(message: Extract<PgoutputMessage, { kind: 'commit' }>): SourceTransaction {
    const begin = this.#inTransaction()
    if (begin.finalLsn !== message.commitLsn) throw streamInvalid('a commit of another transaction than the one begun')
    const { commitLsn, endLsn, committedAtMs } = message
    const transaction = { commitLsn, endLsn, committedAtMs, origin: this.#origin, changes: this.#changes }
    this.#begin = null
    this.#origin = null
    this.#changes = []
    this.#bytes = 0
    return transaction
  }

  #add(change: SourceChange, bytes: number): void {
    this.#inTransaction()
    this.#bytes += bytes
    if (this.#bytes > this.#bytesMax) {
      throw new SwitchbackError('SOURCE_TRANSACTION_TOO_LARGE', { limit: this.#bytesMax, limitName: 'transactionBytesMax' })
    }
    this.#changes.push(change)
  }

  #inTransaction(): Extract<PgoutputMessage, { kind: 'begin' }> {
    if (this.#begin === null) throw streamInvalid('a change outside a transaction')
    return this.#begin
  }

  #table(oid: number): StreamTable | null {
    const table = this.#tables.get(oid)
    if (table === undefined) throw streamInvalid(`a change of relation ${oid}, which was not described`)
    return table
  }

  #fit(relation: RelationMessage): StreamTable | null {
    const name = `${relation.schema}.${relation.name}`
    const mapped = tableOf(this.#mapping, name)
    const byOid = this.#mapping.tables.find((table) => table.relationOid === relation.oid)
    if (byOid !== undefined && byOid !== mapped) throw changed(byOid.name, `it is called ${name} now`)
    if (mapped === undefined) return null
    if (byOid === undefined) throw changed(name, 'it was dropped and made again')
    return fit(mapped, relation)
  }
}

/** Finds the mapping's columns in the stream's, or says what no longer fits. */
function fit(mapped: TableMapping, relation: RelationMessage): StreamTable {
  const positions = mapped.columns.map((column) => {
    const position = relation.columns.findIndex((sent) => sent.name === column.name)
    const sent = relation.columns[position]
    if (sent === undefined) {
      const why = column.generatedExpr === null ? '' : ' (a generated column must be published: publish_generated_columns)'
      throw changed(mapped.name, `column ${column.name} is not in the stream${why}`)
    }
    if (sent.typeOid !== column.typeOid)
      throw changed(mapped.name, `column ${column.name} has type ${sent.typeOid}, planned ${column.typeOid}`)
    if (sent.typmod !== column.typmod) {
      throw changed(mapped.name, `column ${column.name} has type modifier ${sent.typmod}, planned ${column.typmod}`)
    }
    return position
  })
  const added = relation.columns.find((sent) => !mapped.columns.some((column) => column.name === sent.name))
  if (added !== undefined) throw changed(mapped.name, `column ${added.name} was added`)
  const keyed = positions.map((position) => relation.columns[position]!.key)
  if (relation.identity === 'nothing') throw identityChanged(mapped.name, 'it is NOTHING')
  const missing = [mapped.partition, ...mapped.clustering].find((column) => keyed[column] !== true)
  if (missing !== undefined) throw identityChanged(mapped.name, `the key column ${mapped.columns[missing]!.name} is not part of it`)
  const straight = positions.every((position, i) => position === i)
  return { name: mapped.name, positions, straight, keyed, streamColumns: relation.columns.length }
}

function ordered(table: StreamTable, tuple: Tuple): StreamRow {
  if (tuple.length !== table.streamColumns) throw streamInvalid(`a row of ${tuple.length} columns in ${table.name}`)
  return table.straight ? tuple : table.positions.map((position) => tuple[position])
}

function old(table: StreamTable, before: OldTuple): StreamRow {
  const row = ordered(table, before.values)
  return before.of === 'row' ? row : row.map((cell, i) => (table.keyed[i] ? cell : undefined))
}

function changed(table: TableName, problem: string): SwitchbackError {
  return new SwitchbackError('TABLE_CHANGED', { table, problem })
}

function identityChanged(table: TableName, problem: string): SwitchbackError {
  return new SwitchbackError('REPLICA_IDENTITY_CHANGED', { table, problem })
}
