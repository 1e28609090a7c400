// Promises: mapped tables for tests that need no catalog: a name, columns, and what is said of the rest.
import type { ColumnMapping, ColumnType, TableMapping } from '../../src/model/mapping.ts'

/** The first column partitions; `clustering` are indexes. */
export function mappedTable(name: string, columns: readonly ColumnMapping[], more: Partial<TableMapping> = {}): TableMapping {
  return {
    name: `public.${name}`,
    schema: 'public',
    table: name,
    relationOid: 1,
    primaryKeyName: `${name}_pkey`,
    columns,
    partition: 0,
    clustering: [],
    checks: [],
    foreignKeys: [],
    uniqueKeys: [],
    targetName: name,
    ...more,
  }
}

export function mappedColumn(name: string, type: ColumnType, more: Partial<ColumnMapping> = {}): ColumnMapping {
  return { name, type, typeOid: 0, typmod: -1, notNull: true, defaultExpr: null, identity: null, generatedExpr: null, ...more }
}
