// Promises: what PostgreSQL does to every row written to a table: defaults, generated columns, NOT NULL, CHECK. Compiled once a
// mapping from the catalog's own texts; what cannot be derived makes writes of that table unroutable, by name.
import type { ColumnMapping, Mapping, TableMapping, TableName } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { type Node, NotDerivable } from './ast.ts'
import { applyModifier, coerce } from './coerce.ts'
import { compile, condition } from './expression.ts'
import { constant, type Expression, type Frame, textOf } from './expression-types.ts'
import { askFor } from './functions.ts'
import type { Parser } from './parse.ts'
import { type Scope, scopeOver } from './scope.ts'

export interface TableRules {
  readonly table: TableMapping
  /** Why rows of this table cannot be written on the target; null where they can. */
  readonly refused: NotDerivable | null
  readonly generated: readonly { readonly index: number; readonly text: (frame: Frame) => Cell }[]
  readonly checks: readonly { readonly name: string; readonly test: Expression }[]
  /** Trees of the default expressions, where they parse. */
  readonly defaults: readonly (Node | null)[]
}

/** Parses and compiles the expressions of all tables. */
export async function tableRules(
  mapping: Mapping,
  parser: Parser,
  foreignFunction: (name: string) => boolean,
): Promise<Map<TableName, TableRules>> {
  const rules = new Map<TableName, TableRules>()
  for (const table of mapping.tables) rules.set(table.name, await rulesOf(table, parser, foreignFunction))
  return rules
}

async function rulesOf(table: TableMapping, parser: Parser, foreignFunction: (name: string) => boolean): Promise<TableRules> {
  const defaults: (Node | null)[] = []
  for (const column of table.columns) defaults.push(await parsed(parser, column.defaultExpr))
  const generatedNodes = await Promise.all(table.columns.map((column) => parsed(parser, column.generatedExpr)))
  // PostgreSQL checks them by name.
  const named = [...table.checks].sort((a, b) => (a.name < b.name ? -1 : 1))
  const checkNodes = await Promise.all(named.map((check) => parsed(parser, check.expr)))
  const scope = scopeOver([{ alias: table.table, schema: table.schema, table }], { parameters: new Map(), foreignFunction })
  const rules = { table, defaults, generated: [], checks: [] }
  try {
    const generated = table.columns.flatMap((column, index) => {
      if (column.generatedExpr === null) return []
      return [{ index, text: textOf(stored(generatedNodes[index] ?? undefined, column, scope)) }]
    })
    const checks = named.map((check, i) => ({ name: check.name, test: checkOf(check.name, checkNodes[i] ?? undefined, scope) }))
    return { ...rules, generated, checks, refused: null }
  } catch (error) {
    if (error instanceof NotDerivable) return { ...rules, refused: error }
    throw error
  }
}

function stored(node: Node | undefined, column: ColumnMapping, scope: Scope): Expression {
  try {
    return assigned(compile(node, scope), column, scope)
  } catch (error) {
    if (!(error instanceof NotDerivable)) throw error
    throw new NotDerivable(`the generated column ${column.name} is not derived: ${error.message}`, error.wouldRoute)
  }
}

function checkOf(name: string, node: Node | undefined, scope: Scope): Expression {
  try {
    return condition(node, scope)
  } catch (error) {
    if (!(error instanceof NotDerivable)) throw error
    throw new NotDerivable(`the check constraint ${name} is not derived: ${error.message}`, error.wouldRoute)
  }
}

async function parsed(parser: Parser, expr: string | null): Promise<Node | null> {
  if (expr === null) return null
  const statements = await parser.parse(`select (${expr})`)
  if (typeof statements === 'string') return null
  const node = statements[0]?.node
  if (statements.length !== 1 || node === undefined || !('SelectStmt' in node)) return null
  const target = node.SelectStmt.targetList?.[0]
  return target !== undefined && 'ResTarget' in target ? (target.ResTarget.val ?? null) : null
}

/** A value on its way into a column: assignment cast, then its length or precision. */
export function assigned(value: Expression, column: ColumnMapping, scope: Scope): Expression {
  return applyModifier(coerce(scope, value, column.type, 'assignment'), column.typmod, false)
}

/** What a column gets that is not given: its default, what PostgreSQL is asked for, or null. */
export function defaultOf(rules: TableRules, index: number, scope: Scope): Expression {
  const { table } = rules
  const column = table.columns[index]!
  if (column.generatedExpr !== null) return constant(column.type, null)
  if (column.identity !== null) {
    return assigned(askFor(scope, nextIdentity(table, column), 'int8'), column, scope)
  }
  if (column.defaultExpr === null) return constant(column.type, null)
  const node = rules.defaults[index] ?? undefined
  const before = scope.asks?.length ?? 0
  try {
    return assigned(compile(node, scope), column, scope)
  } catch (error) {
    if (!(error instanceof NotDerivable) || scope.asks === null) throw error
    // A default names no column, so PostgreSQL can always be asked for it. It gives the column's own type.
    scope.asks.length = before
    return applyModifier(askFor(scope, `cast((${column.defaultExpr}) as ${typeName(column)})`, column.type), column.typmod, false)
  }
}

/** By the role's own right where it has one; an INSERT needs none on the sequence of an identity (store/schema-identity.ts). */
function nextIdentity(table: TableMapping, column: ColumnMapping): string {
  const relation = quoteLiteral(`${quoteIdentifier(table.schema)}.${quoteIdentifier(table.table)}`)
  const name = quoteLiteral(column.name)
  const sequence = `pg_catalog.pg_get_serial_sequence(${relation}, ${name})`
  return `case when pg_catalog.has_sequence_privilege(${sequence}, 'usage') then pg_catalog.nextval(${sequence})
    else switchback.next_identity(${relation}::pg_catalog.regclass, ${name}) end`
}

function typeName(column: ColumnMapping): string {
  return `pg_catalog.${column.type}`
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** Fills the generated columns and checks the row as ExecConstraints does: NOT NULL in column order, then CHECK by name. */
export function finishRow(rules: TableRules, cells: Cell[], frame: Frame): Row {
  const { table } = rules
  const before = frame.rows[0] ?? null
  frame.rows[0] = cells
  for (const { index, text } of rules.generated) cells[index] = text(frame)
  for (let i = 0; i < cells.length; i++) {
    if (cells[i] !== null || !table.columns[i]!.notNull) continue
    const column = table.columns[i]!.name
    throw new SqlError('23502', `null value in column "${column}" of relation "${table.table}" violates not-null constraint`, {
      detail: failingRow(cells),
      table: table.name,
      column,
    })
  }
  for (const { name, test } of rules.checks) {
    if (test.evaluate(frame) !== false) continue
    throw new SqlError('23514', `new row for relation "${table.table}" violates check constraint "${name}"`, {
      detail: failingRow(cells),
      table: table.name,
      constraint: name,
    })
  }
  frame.rows[0] = before
  return cells
}

const DETAIL_BYTES_MAX = 64

function failingRow(cells: readonly Cell[]): string {
  return `Failing row contains (${cells.map((cell) => (cell === null ? 'null' : clipped(cell))).join(', ')}).`
}

function clipped(text: string): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= DETAIL_BYTES_MAX) return text
  let end = DETAIL_BYTES_MAX
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return `${bytes.subarray(0, end).toString()}...`
}
