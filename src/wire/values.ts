// Promises: values of every mapped type and arrays of them, exact between PostgreSQL's canonical text (DateStyle ISO, TimeZone
// UTC, IntervalStyle postgres, bytea_output hex, extra_float_digits 1) and its binary wire format, both ways (INV-12;
// faults.md 22); what a client sent in text normalised to that text or left for PostgreSQL to say; and that text as a client's
// session settings would show it.
import type { ColumnType, ScalarType } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import { arrayText, decodeArray, encodeArray, mapArray, parseArray } from './value-array.ts'
import { float4Codec, float8Codec } from './value-float.ts'
import { applyIntervalTypmod, intervalCodec } from './value-interval.ts'
import { canonicalJson, canonicalJsonb } from './value-json.ts'
import { applyNumericTypmod, numericCodec } from './value-numeric.ts'
import {
  applyLengthTypmod,
  boolCodec,
  byteaCodec,
  byteaEscaped,
  checkedText,
  decodeText,
  int2Codec,
  int4Codec,
  int8Codec,
  textCodec,
  uuidCodec,
} from './value-plain.ts'
import { applyTimeTypmod, dateCodec, timeCodec, timestampCodec, timestampText, timestamptzCodec, timestampUs } from './value-time.ts'
import { ASK, badBinary, elementOf, type ScalarCodec, UNSUPPORTED } from './value-types.ts'
import { offsetAt } from './value-zone.ts'

const JSONB_VERSION = 1

const jsonCodec: ScalarCodec = {
  encode: textCodec.encode,
  decode: (bytes) => certain('json', canonicalJson(decodeText(bytes))),
  canonical: (text) => canonicalJson(checkedText(text)),
}

const jsonbCodec: ScalarCodec = {
  encode: (text) => Buffer.concat([Buffer.from([JSONB_VERSION]), textCodec.encode(text)]),
  decode(bytes) {
    if (bytes[0] !== JSONB_VERSION) throw badBinary('jsonb')
    return certain('jsonb', canonicalJsonb(decodeText(bytes.subarray(1))))
  },
  canonical: (text) => canonicalJsonb(checkedText(text)),
}

const CODECS: Readonly<Record<ScalarType, ScalarCodec>> = {
  bool: boolCodec,
  int2: int2Codec,
  int4: int4Codec,
  int8: int8Codec,
  float4: float4Codec,
  float8: float8Codec,
  numeric: numericCodec,
  text: textCodec,
  varchar: textCodec,
  bpchar: textCodec,
  uuid: uuidCodec,
  json: jsonCodec,
  jsonb: jsonbCodec,
  bytea: byteaCodec,
  date: dateCodec,
  time: timeCodec,
  timestamp: timestampCodec,
  timestamptz: timestamptzCodec,
  interval: intervalCodec,
}

/** Canonical text to the binary format. Throws SqlError for what is not the type's canonical text. */
export function encodeBinary(type: ColumnType, text: string): Buffer {
  const element = elementOf(type)
  if (element === null) return CODECS[type as ScalarType].encode(text)
  const array = parseArray(text)
  if (array === null) throw malformedArray(text)
  return encodeArray(element, array, CODECS[element].encode)
}

/** The binary format, as a server sends it or a client binds it, to canonical text. Throws SqlError for bytes that are neither. */
export function decodeBinary(type: ColumnType, bytes: Buffer): string {
  const element = elementOf(type)
  if (element === null) return CODECS[type as ScalarType].decode(bytes)
  return arrayText(decodeArray(element, bytes, CODECS[element].decode))
}

/**
 * What a client sent in text format, as PostgreSQL would print the value; ASK where only PostgreSQL can tell. Throws SqlError
 * with PostgreSQL's SQLSTATE for what is clearly not a value of the type. Settings that change how text is read (DateStyle,
 * IntervalStyle, TimeZone) do not change what is answered here: what depends on them is ASK.
 */
export function canonicalText(type: ColumnType, text: string): string | typeof ASK {
  const element = elementOf(type)
  if (element === null) return CODECS[type as ScalarType].canonical(text)
  const array = parseArray(checkedText(text))
  if (array === null) return ASK
  const elements: (string | null)[] = []
  for (const item of array.elements) {
    const canonical = item === null ? null : CODECS[element].canonical(item)
    if (canonical === ASK) return ASK
    elements.push(canonical)
  }
  return arrayText({ dimensions: array.dimensions, elements })
}

/** A session's output settings, as `show` prints them. Whoever lets a time zone in asks `zoneDiffers` of it first. */
export interface RenderSettings {
  readonly timeZone: string
  readonly dateStyle: string
  readonly intervalStyle: string
  readonly byteaOutput: string
}

/** Canonical text as the session would see it; UNSUPPORTED for styles that are not rendered here. */
export function renderText(type: ColumnType, text: string, settings: RenderSettings): string | typeof UNSUPPORTED {
  const element = elementOf(type)
  if (element === null) return renderScalar(type as ScalarType, text, settings)
  if (!dependsOnSettings(element)) return text
  const array = parseArray(text)
  if (array === null) throw malformedArray(text)
  const elements: (string | null)[] = []
  for (const item of array.elements) {
    const shown = item === null ? null : renderScalar(element, item, settings)
    if (shown === UNSUPPORTED) return UNSUPPORTED
    elements.push(shown)
  }
  return arrayText({ dimensions: array.dimensions, elements })
}

function renderScalar(type: ScalarType, text: string, settings: RenderSettings): string | typeof UNSUPPORTED {
  switch (type) {
    case 'date':
    case 'timestamp':
      return isIso(settings.dateStyle) ? text : UNSUPPORTED
    case 'timestamptz': {
      if (!isIso(settings.dateStyle)) return UNSUPPORTED
      if (text === 'infinity' || text === '-infinity') return text
      const us = timestampUs('timestamptz', text)
      const offset = offsetAt(settings.timeZone, us)
      return offset === UNSUPPORTED ? UNSUPPORTED : timestampText('timestamptz', us, offset)
    }
    case 'interval':
      return settings.intervalStyle.toLowerCase() === 'postgres' ? text : UNSUPPORTED
    case 'bytea': {
      const style = settings.byteaOutput.toLowerCase()
      return style === 'hex' ? text : style === 'escape' ? byteaEscaped(text) : UNSUPPORTED
    }
    default:
      return text
  }
}

function dependsOnSettings(type: ScalarType): boolean {
  return type === 'date' || type === 'timestamp' || type === 'timestamptz' || type === 'interval' || type === 'bytea'
}

function isIso(dateStyle: string): boolean {
  return /^iso\b/i.test(dateStyle)
}

/** What PostgreSQL makes of a canonical text on its way into a column with this type modifier. Throws SqlError 22003, 22001. */
export function applyTypmod(type: ColumnType, typmod: number, text: string): string {
  if (typmod === -1) return text
  const element = elementOf(type)
  if (element === null) return applyScalarTypmod(type as ScalarType, typmod, text)
  const array = parseArray(text)
  if (array === null) throw malformedArray(text)
  return arrayText(mapArray(array, (item) => applyScalarTypmod(element, typmod, item)))
}

function applyScalarTypmod(type: ScalarType, typmod: number, text: string): string {
  switch (type) {
    case 'numeric':
      return applyNumericTypmod(typmod, text)
    case 'varchar':
    case 'bpchar':
      return applyLengthTypmod(type, typmod, text)
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return applyTimeTypmod(type, typmod, text)
    case 'interval':
      return applyIntervalTypmod(typmod, text)
    default:
      return text
  }
}

function certain(type: ScalarType, text: string | typeof ASK): string {
  if (text === ASK) throw new SqlError('54001', `the ${type} value is nested too deep or has too large a number to be carried over exactly`)
  return text
}

function malformedArray(text: string): SqlError {
  return new SqlError('22P02', `malformed array literal: "${text}"`)
}

export { ASK, oidOf, typeByOid, typeLengthOf, UNSUPPORTED } from './value-types.ts'
export { ZONE_SAMPLES_SQL, zoneDiffers } from './value-zone.ts'
