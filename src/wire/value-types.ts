// Promises: which PostgreSQL type has which OID, and how PostgreSQL words its refusals of a value.
import type { ColumnType, ScalarType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'

/** The value's canonical text cannot be told here with certainty: PostgreSQL must be asked (`select $1::type`). */
export const ASK: unique symbol = Symbol('ask PostgreSQL')

/** The text cannot be rendered here under these settings. */
export const UNSUPPORTED: unique symbol = Symbol('not rendered here')

/** Between canonical text (ISO dates, UTC, hex bytea, shortest floats) and the binary format, and from a client's text. */
export interface ScalarCodec {
  encode(text: string): Buffer
  decode(bytes: Buffer): string
  canonical(text: string): string | typeof ASK
}

/** OIDs of a type and of its array, as in pg_type.dat: these never change. */
const OIDS: Readonly<Record<ScalarType, readonly [scalar: number, array: number]>> = {
  bool: [16, 1000],
  bytea: [17, 1001],
  int8: [20, 1016],
  int2: [21, 1005],
  int4: [23, 1007],
  text: [25, 1009],
  json: [114, 199],
  float4: [700, 1021],
  float8: [701, 1022],
  bpchar: [1042, 1014],
  varchar: [1043, 1015],
  date: [1082, 1182],
  time: [1083, 1183],
  timestamp: [1114, 1115],
  timestamptz: [1184, 1185],
  interval: [1186, 1187],
  numeric: [1700, 1231],
  uuid: [2950, 2951],
  jsonb: [3802, 3807],
}

const TYPE_BY_OID: ReadonlyMap<number, ColumnType> = new Map(
  Object.entries(OIDS).flatMap(([name, [scalar, array]]): [number, ColumnType][] => [
    [scalar, name as ScalarType],
    [array, `${name as ScalarType}[]`],
  ]),
)

/** pg_type.typlen, as a RowDescription says it. */
const LENGTHS: Readonly<Partial<Record<ScalarType, number>>> = {
  bool: 1,
  int2: 2,
  int4: 4,
  int8: 8,
  float4: 4,
  float8: 8,
  uuid: 16,
  date: 4,
  time: 8,
  timestamp: 8,
  timestamptz: 8,
  interval: 16,
}

const NAMES: Readonly<Partial<Record<ScalarType, string>>> = {
  bool: 'boolean',
  int2: 'smallint',
  int4: 'integer',
  int8: 'bigint',
  float4: 'real',
  float8: 'double precision',
  timestamptz: 'timestamp with time zone',
}

const DATETIMES: ReadonlySet<ScalarType> = new Set(['date', 'time', 'timestamp', 'timestamptz', 'interval'])

export function typeByOid(oid: number): ColumnType | undefined {
  return TYPE_BY_OID.get(oid)
}

export function oidOf(type: ColumnType): number {
  const element = elementOf(type)
  return element === null ? OIDS[type as ScalarType][0] : OIDS[element][1]
}

/** pg_type.typlen: -1 for what varies. */
export function typeLengthOf(type: ColumnType): number {
  return elementOf(type) === null ? (LENGTHS[type as ScalarType] ?? -1) : -1
}

/** The element's type of an array type; null for a scalar. */
export function elementOf(type: ColumnType): ScalarType | null {
  return type.endsWith('[]') ? (type.slice(0, -2) as ScalarType) : null
}

export function invalidText(type: ScalarType, text: string): SqlError {
  const sqlstate = DATETIMES.has(type) ? '22007' : '22P02'
  return new SqlError(sqlstate, `invalid input syntax for type ${NAMES[type] ?? type}: "${text}"`)
}

export function outOfRange(type: ScalarType, text: string): SqlError {
  return new SqlError('22003', `"${text}" is out of range for type ${NAMES[type] ?? type}`)
}

export function integerOutOfRange(type: ScalarType, text: string): SqlError {
  return new SqlError('22003', `value "${text}" is out of range for type ${NAMES[type] ?? type}`)
}

export function badBinary(type: ColumnType): SqlError {
  return new SqlError('22P03', `incorrect binary data format for type ${type}`)
}

export function expectLength(type: ScalarType, bytes: Buffer, length: number): void {
  if (bytes.length !== length) throw badBinary(type)
}
