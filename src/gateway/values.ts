// Promises: a client's parameters as the canonical texts that plans take, and a plan's rows as the client wants to see them: text
// under its session's settings, or binary, each column as its Bind asked (INV-12). What only PostgreSQL can tell is asked of it.
import { SwitchbackError } from '../model/errors.ts'
import type { ColumnType } from '../model/mapping.ts'
import type { Params } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { BACKEND, decodeDataRow, type FieldDescription, writeDataRow } from '../wire/backend.ts'
import { ByteWriter } from '../wire/bytes.ts'
import { type BindMessage, type Format, type FrontendMessage, formatOf } from '../wire/frontend.ts'
import { ASK, canonicalText, decodeBinary, encodeBinary, oidOf, renderText, typeByOid, UNSUPPORTED } from '../wire/values.ts'
import type { SessionCore } from './session-core.ts'

export function hasBinaryParams(bind: BindMessage): boolean {
  return bind.parameters.some((value, i) => value !== null && formatOf(bind.parameterFormats, i) === 1)
}

/** Enough to find the key: text as it came, binary decoded where its type is known. Null: some value cannot be read here. */
export function keyParams(bind: BindMessage, oids: readonly number[] | null): Params | null {
  const params: Cell[] = []
  for (let i = 0; i < bind.parameters.length; i++) {
    const value = bind.parameters[i]!
    if (value === null) params.push(null)
    else if (formatOf(bind.parameterFormats, i) === 0) params.push(value.toString('utf8'))
    else {
      const type = oids === null ? undefined : typeByOid(oids[i] ?? 0)
      if (type === undefined) return null
      params.push(decodeBinary(type, value))
    }
  }
  return params
}

/** Canonical texts of what was bound, one an OID. Throws SqlError for what is not a value of its type, ServerError where PostgreSQL says so. */
export async function canonicalParams(core: SessionCore, bind: BindMessage, oids: readonly number[]): Promise<Params> {
  const params: Cell[] = []
  for (let i = 0; i < oids.length; i++) {
    const value = bind.parameters[i]!
    const type = typeByOid(oids[i]!)
    if (value === null) params.push(null)
    else if (type === undefined) params.push(await askCanonical(core, oids[i]!, value, formatOf(bind.parameterFormats, i)))
    else if (formatOf(bind.parameterFormats, i) === 1) params.push(decodeBinary(type, value))
    else {
      const canonical = canonicalText(type, value.toString('utf8'))
      params.push(canonical === ASK ? await askCanonical(core, oids[i]!, value, 0) : canonical)
    }
  }
  return params
}

/**
 * PostgreSQL reads the value under the session's own settings and gives it back in binary, which no setting changes; types that
 * are not mapped come back as text.
 */
async function askCanonical(core: SessionCore, oid: number, value: Buffer, format: Format): Promise<Cell> {
  const type = typeByOid(oid)
  const kept = await core.askMessages([
    { kind: 'parse', name: '', sql: 'select $1', parameterTypes: [oid] },
    {
      kind: 'bind',
      portal: '',
      statement: '',
      parameterFormats: [format],
      parameters: [value],
      resultFormats: [type === undefined ? 0 : 1],
    },
    { kind: 'execute', portal: '', rowsMax: 0 },
  ])
  const row = kept.find((message) => message.type === BACKEND.dataRow)
  const bytes = row === undefined ? null : (decodeDataRow(row.body)[0] ?? null)
  if (bytes === null) return null
  return type === undefined ? bytes.toString('utf8') : decodeBinary(type, bytes)
}

export interface ResultFormat {
  readonly fields: readonly FieldDescription[]
  readonly formats: readonly Format[]
}

/** Before a statement runs: what could not be shown afterwards is refused while nothing has taken effect (INV-9). */
export function mustBeShowable({ fields, formats }: ResultFormat): void {
  for (const [i, { typeOid }] of fields.entries()) {
    if (formatOf(formats, i) === 1 && typeByOid(typeOid) === undefined)
      throw new SwitchbackError('NOT_ON_TARGET', { what: `a binary result of type ${typeOid}` })
  }
}

export interface EncodedRows {
  /** One DataRow message a row. */
  readonly rows: Buffer[]
  /** PostgreSQL was asked: time has passed since the rows were given. */
  readonly asked: boolean
}

/** What cannot be rendered here (a style, a zone whose data differ, a year beyond them) PostgreSQL renders, in its own session. */
export async function encodeRows(rows: readonly Row[], result: ResultFormat, core: SessionCore): Promise<EncodedRows> {
  const columns = result.fields.map((field, i) => ({ type: typeByOid(field.typeOid), format: formatOf(result.formats, i) }))
  const shownHere = columns.map(({ type, format }) => format === 1 || type === undefined || rendersHere(type, core))
  const toAsk = new Map<ColumnType, Set<string>>()
  const texts = rows.map((row) =>
    row.map((cell, i) => {
      const { type, format } = columns[i]!
      if (cell === null || type === undefined || format === 1) return cell
      const shown = shownHere[i] ? renderText(type, cell, core.settings) : UNSUPPORTED
      if (shown !== UNSUPPORTED) return shown
      const cells = toAsk.get(type) ?? new Set()
      toAsk.set(type, cells.add(cell))
      return UNSUPPORTED
    }),
  )
  const answers = new Map<ColumnType, ReadonlyMap<string, string>>()
  for (const [type, cells] of toAsk) answers.set(type, await askRendered(core, type, [...cells]))
  const encoded = texts.map((row, r) => {
    const writer = new ByteWriter(16 + row.length * 16)
    writeDataRow(
      writer,
      row.map((shown, i) => {
        const { type, format } = columns[i]!
        const cell = rows[r]![i]!
        if (shown === null || cell === null) return null
        if (shown === UNSUPPORTED) return answers.get(type!)!.get(cell)!
        return format === 1 && type !== undefined ? encodeBinary(type, cell) : shown
      }),
    )
    return writer.done()
  })
  return { rows: encoded, asked: toAsk.size > 0 }
}

function rendersHere(type: ColumnType, core: SessionCore): boolean {
  if (/^float[48]/.test(type)) return Number(core.settings.extraFloatDigits) > 0
  return !type.startsWith('timestamptz') || core.context.zones.trusted(core.settings.timeZone)
}

/** Cells of one exchange. */
const RENDERED_MAX = 500

/** Given in binary, which no setting changes, and taken back as text. */
async function askRendered(core: SessionCore, type: ColumnType, cells: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const shown = new Map<string, string>()
  for (let from = 0; from < cells.length; from += RENDERED_MAX) {
    const chunk = cells.slice(from, from + RENDERED_MAX)
    const kept = await core.askMessages([
      { kind: 'parse', name: '', sql: 'select $1', parameterTypes: [oidOf(type)] },
      ...chunk.flatMap((cell): FrontendMessage[] => [
        { kind: 'bind', portal: '', statement: '', parameterFormats: [1], parameters: [encodeBinary(type, cell)], resultFormats: [0] },
        { kind: 'execute', portal: '', rowsMax: 0 },
      ]),
    ])
    const texts = kept.filter((message) => message.type === BACKEND.dataRow).map(({ body }) => decodeDataRow(body)[0]!.toString('utf8'))
    for (const [i, cell] of chunk.entries()) shown.set(cell, texts[i]!)
  }
  return shown
}

/** The description that goes with the formats. */
export function withFormats(fields: readonly FieldDescription[], formats: readonly Format[]): FieldDescription[] {
  return fields.map((field, i) => ({ ...field, format: formatOf(formats, i) }))
}
