// Promises: the types that expressions have here, how their names and modifiers are written, and how they combine.
import type { TypeName } from 'libpg-query'
import { type ColumnType, SCALAR_TYPES, type ScalarType } from '../model/mapping.ts'
import { NotDerivable, names } from './ast.ts'

/** `unknown` is a quoted literal or a parameter whose type nothing has decided yet. */
export type SqlType = ColumnType | 'unknown'

export interface TypeRef {
  readonly type: ColumnType
  readonly typmod: number
}

const SCALARS: ReadonlySet<string> = new Set(SCALAR_TYPES)
/** In the order of implicit widening. */
const NUMERIC_RANK: Readonly<Record<string, number>> = { int2: 0, int4: 1, int8: 2, numeric: 3, float4: 4, float8: 5 }

const NAMES: Readonly<Record<string, string>> = {
  int2: 'smallint',
  int4: 'integer',
  int8: 'bigint',
  float4: 'real',
  float8: 'double precision',
  bool: 'boolean',
  varchar: 'character varying',
  bpchar: 'character',
  timestamp: 'timestamp without time zone',
  timestamptz: 'timestamp with time zone',
  time: 'time without time zone',
}

/** As PostgreSQL's messages call it. */
export function typeLabel(type: SqlType): string {
  return NAMES[type] ?? type
}

export function isArray(type: SqlType): boolean {
  return type.endsWith('[]')
}

export function elementOf(type: SqlType): ScalarType {
  return type.slice(0, -2) as ScalarType
}

export function isInteger(type: SqlType): boolean {
  return type === 'int2' || type === 'int4' || type === 'int8'
}

export function isNumber(type: SqlType): boolean {
  return NUMERIC_RANK[type] !== undefined
}

export function isText(type: SqlType): boolean {
  return type === 'text' || type === 'varchar' || type === 'bpchar'
}

/** The wider of two number types, as PostgreSQL picks for CASE, COALESCE, GREATEST and IN. */
export function widerNumber(a: SqlType, b: SqlType): SqlType {
  return NUMERIC_RANK[a]! >= NUMERIC_RANK[b]! ? a : b
}

/** The type in which an operator over two number types is computed. */
export function operatorNumber(a: SqlType, b: SqlType): SqlType {
  if (a === b) return a
  const wide = widerNumber(a, b)
  return wide === 'float4' ? 'float8' : wide
}

export function resolveTypeName(name: TypeName | undefined): TypeRef {
  const parts = names(name?.names)
  const local = parts[parts.length - 1] ?? ''
  if (name?.setof || name?.pct_type || parts.length > 2 || (parts.length === 2 && parts[0] !== 'pg_catalog') || !SCALARS.has(local)) {
    throw new NotDerivable(`the type ${parts.join('.')} is not one that is derived`, 'use a type that is mapped')
  }
  const dimensions = name?.arrayBounds?.length ?? 0
  if (dimensions > 1) throw new NotDerivable('a type of several array dimensions')
  const scalar = local as ScalarType
  const modifiers = (name?.typmods ?? []).map((node) => {
    if (!('A_Const' in node) || node.A_Const.ival === undefined) throw new NotDerivable('a type modifier that is no number')
    return node.A_Const.ival.ival ?? 0
  })
  const typmod = modifiers.length === 0 ? -1 : typmodOf(scalar, modifiers)
  return { type: dimensions === 1 ? `${scalar}[]` : scalar, typmod }
}

function typmodOf(type: ScalarType, modifiers: readonly number[]): number {
  const [first = 0, second = 0] = modifiers
  switch (type) {
    case 'numeric':
      return ((first << 16) | (second & 0x7ff)) + 4
    case 'varchar':
    case 'bpchar':
      return first + 4
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return first
    default:
      throw new NotDerivable(`a modifier of the type ${type}`)
  }
}
