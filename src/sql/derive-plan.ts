// Promises: what the derivations of all statements share: the context they are made in, and the plan they give.
import type { RangeVar } from 'libpg-query'
import { SwitchbackError } from '../model/errors.ts'
import { type AggregateKey, canonicalKey } from '../model/key.ts'
import type { ColumnType, KeyType, Mapping, TableMapping, TableName } from '../model/mapping.ts'
import type { AggregateRows, KeyedPlan, Params, ReadRequest, StatementEnv } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { conjuncts, type Node, NotDerivable } from './ast.ts'
import { compile } from './expression.ts'
import { type Expression, type Frame, textOf } from './expression-types.ts'
import { comparable } from './operators.ts'
import type { RangeEntry, Scope } from './scope.ts'
import { isInteger } from './types.ts'
import { ONE_TEXT } from './value.ts'
import type { TableRules } from './write-rules.ts'

export type DerivedPlan = KeyedPlan

export interface Deriving {
  readonly mapping: Mapping
  /** Null where a relation's name does not resolve to a mapped table. */
  readonly tableFor: (relation: RangeVar) => TableMapping | null
  readonly foreignFunction: (name: string) => boolean
  readonly rules: ReadonlyMap<TableName, TableRules>
}

/** The range table entry of a plain mention of a mapped table. */
export function entryFor(deriving: Deriving, relation: RangeVar | undefined): RangeEntry {
  if (relation === undefined) throw new NotDerivable('a statement without a table')
  if (relation.catalogname || relation.alias?.colnames?.length)
    throw new NotDerivable(`${relation.relname} with a database or column aliases`)
  const table = deriving.tableFor(relation)
  if (table === null)
    throw new NotDerivable(`${relation.relname} is not a mapped table`, 'keep mapped and other tables in statements of their own')
  const alias = relation.alias?.aliasname
  return { alias: alias ?? table.table, schema: alias === undefined ? table.schema : null, table }
}

export function frameOf(params: Params, env: StatementEnv, entries: number): Frame {
  return { params, env, rows: new Array<Row | null>(entries).fill(null), inserted: 0, aggregates: [] }
}

export const NO_ENV: StatementEnv = { nowText: '', answers: [], uuid: () => '' }

/** A column that a conjunct holds equal to something. */
export interface Equality {
  readonly column: { readonly entry: number; readonly index: number }
  readonly value: Expression
  /** The other side was a bare parameter or literal, casts aside. */
  readonly bare: boolean
}

export interface Equalities {
  readonly values: readonly Equality[]
  /** Columns held equal to each other. */
  readonly columns: readonly (readonly [Equality['column'], Equality['column']])[]
}

export function equalitiesOf(condition: Node | undefined, scope: Scope): Equalities {
  const values: Equality[] = []
  const columns: [Equality['column'], Equality['column']][] = []
  for (const node of conjuncts(condition)) {
    const sides = equalSides(node)
    if (sides === null) continue
    const [left, right] = comparable(scope, compile(sides[0], scope), compile(sides[1], scope))
    if (left.column !== undefined && right.column !== undefined) columns.push([left.column, right.column])
    else if (left.column !== undefined && right.fixed) values.push({ column: left.column, value: right, bare: isBare(sides[1]) })
    else if (right.column !== undefined && left.fixed) values.push({ column: right.column, value: left, bare: isBare(sides[0]) })
  }
  return { values, columns }
}

function equalSides(node: Node): [Node, Node] | null {
  if (!('A_Expr' in node)) return null
  const { kind, name, lexpr, rexpr } = node.A_Expr
  const operator = name?.at(-1)
  if (operator === undefined || !('String' in operator) || operator.String.sval !== '=' || lexpr === undefined || rexpr === undefined)
    return null
  if (kind === 'AEXPR_OP') return [lexpr, rexpr]
  if (kind !== 'AEXPR_IN' || !('List' in rexpr)) return null
  const items = rexpr.List.items ?? []
  return items.length === 1 ? [lexpr, items[0]!] : null
}

export function isBare(node: Node): boolean {
  if ('TypeCast' in node) return node.TypeCast.arg !== undefined && isBare(node.TypeCast.arg)
  return 'ParamRef' in node || 'A_Const' in node
}

/** The value that fixes the partition key. */
export interface KeySource {
  readonly value: Expression
  readonly key: (params: Params) => AggregateKey | null
  /** No row can have it: SQL's null, or a number beyond the key's type. */
  readonly isNull: (params: Params) => boolean
}

export function keySource(keyType: KeyType, value: Expression): KeySource {
  const text = textOf(value)
  // A number beyond the key's own type equals no key; only a wider type can bring one.
  const wider = isInteger(value.type) && value.type !== keyType
  const plain = value.parameter !== undefined && value.type === keyType ? value.parameter - 1 : null
  if (plain !== null) {
    return {
      value,
      key: (params) => {
        const cell = params[plain] ?? null
        return cell === null ? null : canonicalKey(keyType, cell)
      },
      isNull: (params) => (params[plain] ?? null) === null,
    }
  }
  const key = (params: Params) => {
    const cell = text(frameOf(params, NO_ENV, 0))
    if (cell === null) return null
    if (!wider) return canonicalKey(keyType, cell)
    try {
      return canonicalKey(keyType, cell)
    } catch (error) {
      if (error instanceof SwitchbackError) return null
      throw error
    }
  }
  return { value, key, isNull: (params) => key(params) === null }
}

/** The same parameter, or the same constant. */
export function sameSource(a: Expression, b: Expression): boolean {
  if (a.parameter !== undefined || b.parameter !== undefined) return a.parameter === b.parameter && a.type === b.type
  return a.constant && b.constant && textOf(a)(frameOf([], NO_ENV, 0)) === textOf(b)(frameOf([], NO_ENV, 0))
}

export function oneSource(keyType: KeyType, sources: readonly Equality[], table: TableMapping): KeySource {
  const column = table.columns[table.partition]!.name
  const [first, ...others] = sources
  if (first === undefined) {
    throw new NotDerivable(
      `the partition key ${table.name}.${column} is not fixed by an equality that always holds`,
      `add "and ${column} = <parameter or literal>" to the condition`,
    )
  }
  if (!sources.every((one) => one.bare))
    throw new NotDerivable(`the partition key ${column} is computed`, 'give it as a parameter or literal')
  if (!others.every((one) => sameSource(one.value, first.value))) {
    throw new NotDerivable(`the partition key ${column} is fixed to two values`, 'give it once')
  }
  return keySource(keyType, first.value)
}

/** Whether a row is found by the text of its clustering values. Not by a bytea's: such rows are read by range. */
export function hasExactClustering(table: TableMapping): boolean {
  const types = table.clustering.map((index) => table.columns[index]!.type)
  return types.every((type) => ONE_TEXT.has(type) && type !== 'bytea')
}

export interface Access {
  readonly table: TableMapping
  /** Texts of the clustering columns, null where one is null; absent where all rows are read. */
  readonly point: ((frame: Frame) => readonly string[] | null) | null
}

export function accessTo(table: TableMapping, entry: number, equalities: Equalities): Access {
  const texts: ((frame: Frame) => Cell)[] = []
  for (const index of table.clustering) {
    const found = equalities.values.find((one) => one.column.entry === entry && one.column.index === index)
    if (found === undefined) return { table, point: null }
    texts.push(textOf(found.value))
  }
  if (!hasExactClustering(table)) return { table, point: null }
  return { table, point: clusteringFrom(texts) }
}

export function clusteringFrom(texts: readonly ((frame: Frame) => Cell)[]): (frame: Frame) => readonly string[] | null {
  return (frame) => {
    const clustering: string[] = []
    for (const text of texts) {
      const cell = text(frame)
      if (cell === null) return null
      clustering.push(cell)
    }
    return clustering
  }
}

export function readOf(access: Access, frame: Frame): readonly ReadRequest[] {
  if (access.point === null) return [{ kind: 'range', table: access.table.name }]
  const clustering = access.point(frame)
  return clustering === null ? [] : [{ kind: 'point', table: access.table.name, clustering }]
}

export function rowsOf(access: Access, rows: AggregateRows, frame: Frame): readonly Row[] {
  if (access.point === null) return rows.range(access.table.name)
  const clustering = access.point(frame)
  const row = clustering === null ? undefined : rows.point(access.table.name, clustering)
  return row === undefined ? [] : [row]
}

export function mergeReads(requests: readonly ReadRequest[]): readonly ReadRequest[] {
  if (requests.length < 2) return requests
  const ranges = new Set<TableName>()
  for (const one of requests) if (one.kind === 'range') ranges.add(one.table)
  const seen = new Set<string>()
  return requests.filter((one) => {
    if (one.kind === 'point' && ranges.has(one.table)) return false
    const name = one.kind === 'range' ? one.table : `${one.table}\0${one.clustering.join('\0')}`
    if (seen.has(name)) return false
    seen.add(name)
    return true
  })
}

export function parameterTypesOf(parameters: ReadonlyMap<number, ColumnType>): readonly (ColumnType | null)[] {
  const types: (ColumnType | null)[] = []
  for (let number = 1; number <= Math.max(0, ...parameters.keys()); number++) types.push(parameters.get(number) ?? null)
  return types
}
