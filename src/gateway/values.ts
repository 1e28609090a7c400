// Promises: a client's parameters as the canonical texts that plans take, and a plan's rows as the client wants to see them: text
// under its session's settings, or binary, each column as its Bind asked (INV-12). What only PostgreSQL can tell is asked of it.
import { SwitchbackError } from '../model/errors.ts'
import type { Params } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { BACKEND, decodeDataRow, type FieldDescription, writeDataRow } from '../wire/backend.ts'
import { ByteWriter } from '../wire/bytes.ts'
import { type BindMessage, type Format, formatOf } from '../wire/frontend.ts'
import { ASK, canonicalText, decodeBinary, encodeBinary, renderText, typeByOid, UNSUPPORTED } from '../wire/values.ts'
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

/** Canonical texts. Throws SqlError for what is not a value of its type, ServerError where PostgreSQL says so. */
export async function canonicalParams(core: SessionCore, bind: BindMessage, oids: readonly number[]): Promise<Params> {
  if (bind.parameters.length !== oids.length) {
    throw new SwitchbackError('PROTOCOL_VIOLATION', {
      problem: `bind message supplies ${bind.parameters.length} parameters, but prepared statement requires ${oids.length}`,
    })
  }
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

/** One DataRow message a row. */
export function encodeRows(rows: readonly Row[], result: ResultFormat, core: SessionCore): Buffer[] {
  const columns = result.fields.map((field, i) => ({ type: typeByOid(field.typeOid), format: formatOf(result.formats, i) }))
  return rows.map((row) => {
    const writer = new ByteWriter(16 + row.length * 16)
    writeDataRow(
      writer,
      row.map((cell, i) => {
        if (cell === null) return null
        const column = columns[i]
        if (column === undefined || column.type === undefined) {
          if (column?.format === 1)
            throw new SwitchbackError('NOT_ON_TARGET', { what: `a binary result of type ${result.fields[i]?.typeOid}` })
          return cell
        }
        if (column.format === 1) return encodeBinary(column.type, cell)
        const shown = renderText(column.type, cell, core.settings)
        if (shown === UNSUPPORTED) {
          throw new SwitchbackError('NOT_ON_TARGET', { what: `output of ${column.type} under DateStyle "${core.settings.dateStyle}"` })
        }
        return shown
      }),
    )
    return writer.done()
  })
}

/** The description that goes with the formats. */
export function withFormats(fields: readonly FieldDescription[], formats: readonly Format[]): FieldDescription[] {
  return fields.map((field, i) => ({ ...field, format: formatOf(formats, i) }))
}
