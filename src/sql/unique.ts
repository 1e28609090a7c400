// Promises: primary and unique keys inside one aggregate hold as PostgreSQL's indexes hold them, in its order and words.
import type { TableMapping } from '../model/mapping.ts'
import { SqlError } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { NotDerivable } from './ast.ts'
import { hasExactClustering } from './derive-plan.ts'
import { equalityOf, parserOf } from './value.ts'
import { clusteringOf, type WorkingRows } from './working-rows.ts'

export interface Key {
  readonly name: string
  readonly columns: readonly number[]
  readonly primary: boolean
  /** Equal in all of its columns, none of them null. */
  readonly same: (a: readonly Cell[], b: readonly Cell[]) => boolean
}

/** The primary key first. */
export function keysOf(table: TableMapping): readonly Key[] {
  const primary = { name: table.primaryKeyName, columns: [table.partition, ...table.clustering], primary: true }
  const all = [primary, ...table.uniqueKeys.map((key) => ({ name: key.name, columns: key.columns, primary: false }))]
  return all.map((key) => ({ ...key, same: sameIn(table, key.columns) }))
}

/** Whether two rows are equal in columns; nulls are not equal to anything. */
export function sameIn(
  table: TableMapping,
  columns: readonly number[],
  other: { table: TableMapping; columns: readonly number[] } = { table, columns },
): Key['same'] {
  const tests = columns.map((index, i) => {
    const theirs = other.columns[i]!
    const { type } = table.columns[index]!
    const equal = equalityOf(type)
    if (equal === null) throw new NotDerivable(`equality of ${type} in a key of ${table.name}`)
    const [mine, yours] = [parserOf(type), parserOf(other.table.columns[theirs]!.type)]
    return (a: readonly Cell[], b: readonly Cell[]) => {
      const [x, y] = [a[index] ?? null, b[theirs] ?? null]
      if (x === null || y === null) return false
      return x === y || equal(mine(x)!, yours(y)!)
    }
  })
  return (a, b) => tests.every((test) => test(a, b))
}

/** The row that holds a key's value already, `self` aside. */
export function holderOf(table: TableMapping, key: Key, cells: readonly Cell[], rows: WorkingRows, self: Row | null): Row | undefined {
  if (key.primary && hasExactClustering(table)) {
    const found = rows.point(table, clusteringOf(table, cells))
    return found === self ? undefined : found
  }
  return rows.range(table).find((row) => row !== self && key.same(cells, row))
}

export function checkUnique(table: TableMapping, keys: readonly Key[], cells: readonly Cell[], rows: WorkingRows, self: Row | null): void {
  for (const key of keys) {
    if (holderOf(table, key, cells, rows, self) === undefined) continue
    throw new SqlError('23505', `duplicate key value violates unique constraint "${key.name}"`, {
      detail: `${keyText(table, key.columns, cells)} already exists.`,
      table: table.name,
      constraint: key.name,
    })
  }
}

/** `Key (a, b)=(1, x)`. */
export function keyText(table: TableMapping, columns: readonly number[], cells: readonly Cell[]): string {
  const names = columns.map((index) => identifier(table.columns[index]!.name))
  return `Key (${names.join(', ')})=(${columns.map((index) => cells[index] ?? 'null').join(', ')})`
}

function identifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
}
