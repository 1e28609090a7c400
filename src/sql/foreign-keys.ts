// Promises: foreign keys whose both ends lie in the aggregate hold on the target too, with their actions, since the reverse applier
// writes as replica and PostgreSQL would not look (gateway.md, Plans). Checked at the statement's end, as PostgreSQL's triggers do.
import type { ForeignKey, Mapping, TableMapping } from '../model/mapping.ts'
import { type ReadRequest, SqlError } from '../model/plan.ts'
import type { Cell, Row } from '../model/row.ts'
import { NotDerivable } from './ast.ts'
import { hasExactClustering } from './derive-plan.ts'
import { keyText, sameIn } from './unique.ts'
import type { WorkingRows } from './working-rows.ts'

/** A constraint of `child` on `parent`. */
export interface Reference {
  readonly key: ForeignKey
  readonly child: TableMapping
  readonly parent: TableMapping
  /** child row against parent row */
  readonly matches: (child: readonly Cell[], parent: readonly Cell[]) => boolean
  /** For each clustering column of the parent, the child's column that refers to it; null where a unique key is referred to. */
  readonly point: readonly number[] | null
}

function reference(child: TableMapping, key: ForeignKey, mapping: Mapping): Reference {
  const parent = mapping.tables.find((table) => table.name === key.references)
  if (parent === undefined) throw new NotDerivable(`the foreign key ${key.name} refers to ${key.references}, which is not mapped`)
  const matches = sameIn(child, key.columns, { table: parent, columns: key.referencedColumns })
  const columns = parent.clustering.map((index) => key.columns[key.referencedColumns.indexOf(index)])
  const whole = key.referencedColumns.length === parent.clustering.length + 1 && key.referencedColumns.includes(parent.partition)
  const point = whole && hasExactClustering(parent) && columns.every((index) => index !== undefined) ? (columns as number[]) : null
  return { key, child, parent, matches, point }
}

/** What rows of `table` refer to. */
export function referencesFrom(table: TableMapping, mapping: Mapping): readonly Reference[] {
  return table.foreignKeys.map((key) => reference(table, key, mapping))
}

/** What refers to rows of `table`. */
export function referencesTo(table: TableMapping, mapping: Mapping): readonly Reference[] {
  return mapping.tables.flatMap((child) =>
    child.foreignKeys.filter((key) => key.references === table.name).map((key) => reference(child, key, mapping)),
  )
}

/** Reads that the check of `row`'s own references needs. `cell` gives a column's text before the row is there, undefined if it cannot. */
export function parentReads(references: readonly Reference[], cell: (index: number) => Cell | undefined): ReadRequest[] {
  return references.flatMap((one): ReadRequest[] => {
    if (one.point === null) return [{ kind: 'range', table: one.parent.name }]
    const clustering = one.point.map(cell)
    if (clustering.includes(null)) return []
    if (clustering.includes(undefined)) return [{ kind: 'range', table: one.parent.name }]
    return [{ kind: 'point', table: one.parent.name, clustering: clustering as string[] }]
  })
}

function parentOf(one: Reference, row: readonly Cell[], rows: WorkingRows): Row | undefined {
  if (one.point === null) return rows.range(one.parent).find((parent) => one.matches(row, parent))
  return rows.point(
    one.parent,
    one.point.map((index) => row[index]!),
  )
}

/** Every row's references point to something. */
export function checkReferences(references: readonly Reference[], written: readonly Row[], rows: WorkingRows): void {
  for (const row of written) {
    for (const one of references) {
      if (one.key.columns.some((index) => row[index] === null)) continue
      if (parentOf(one, row, rows) !== undefined) continue
      const parent = one.parent.table
      throw new SqlError('23503', `insert or update on table "${one.child.table}" violates foreign key constraint "${one.key.name}"`, {
        detail: `${keyText(one.child, one.key.columns, row)} is not present in table "${parent}".`,
        table: one.child.name,
        constraint: one.key.name,
      })
    }
  }
}

/** The tables whose rows a delete from `table` needs and may change; refuses what an action would do that is not derived. */
export function deleteReach(table: TableMapping, mapping: Mapping): ReadonlyMap<TableMapping, readonly Reference[]> {
  const reach = new Map<TableMapping, readonly Reference[]>()
  const visit = (parent: TableMapping) => {
    if (reach.has(parent)) return
    const references = referencesTo(parent, mapping)
    reach.set(parent, references)
    for (const one of references) {
      if (one.key.onDelete === 'set null' || one.key.onDelete === 'set default') {
        throw new NotDerivable(
          `the foreign key ${one.key.name} is on delete ${one.key.onDelete}`,
          'delete the children in a statement of its own, or make it cascade',
        )
      }
      if (one.key.onDelete === 'cascade') visit(one.child)
    }
  }
  visit(table)
  return reach
}

/** Cascades from the deleted rows, then refuses what is left pointing at nothing. */
export function deleteChildren(
  reach: ReadonlyMap<TableMapping, readonly Reference[]>,
  deleted: readonly { table: TableMapping; row: Row }[],
  rows: WorkingRows,
): void {
  const queue = [...deleted]
  const removed: { table: TableMapping; row: Row }[] = []
  for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
    removed.push(one)
    for (const ref of reach.get(one.table) ?? []) {
      const children = rows.range(ref.child).filter((child) => ref.matches(child, one.row))
      if (children.length === 0) continue
      if (ref.key.onDelete === 'restrict') throw restricted(ref, one.row)
      if (ref.key.onDelete !== 'cascade') continue
      for (const child of children) {
        rows.remove(ref.child, child)
        queue.push({ table: ref.child, row: child })
      }
    }
  }
  for (const { table, row } of removed) checkUnreferenced(reach.get(table) ?? [], row, rows)
}

/** NO ACTION: nothing points at a row that is gone, unless another took its place. */
export function checkUnreferenced(references: readonly Reference[], gone: Row, rows: WorkingRows): void {
  for (const ref of references) {
    if (!rows.range(ref.child).some((child) => ref.matches(child, gone))) continue
    const sameKey = sameIn(ref.parent, ref.key.referencedColumns)
    if (rows.range(ref.parent).some((parent) => sameKey(parent, gone))) continue
    throw new SqlError(
      '23503',
      `update or delete on table "${ref.parent.table}" violates foreign key constraint "${ref.key.name}" on table "${ref.child.table}"`,
      {
        detail: `${keyText(ref.parent, ref.key.referencedColumns, gone)} is still referenced from table "${ref.child.table}".`,
        table: ref.child.name,
        constraint: ref.key.name,
      },
    )
  }
}

/** As PostgreSQL 18 says it; older ones say it as NO ACTION does. */
function restricted(ref: Reference, gone: Row): SqlError {
  const message = `update or delete on table "${ref.parent.table}" violates RESTRICT setting of foreign key constraint "${ref.key.name}" on table "${ref.child.table}"`
  return new SqlError('23001', message, {
    detail: `${keyText(ref.parent, ref.key.referencedColumns, gone)} is referenced from table "${ref.child.table}".`,
    table: ref.child.name,
    constraint: ref.key.name,
  })
}
