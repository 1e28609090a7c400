// Promises: identifiers and literals in SQL text, quoted; nobody else builds them.
import type { TableMapping } from '../model/mapping.ts'

export function ident(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

export function tableSql(table: Pick<TableMapping, 'schema' | 'table'>): string {
  return `${ident(table.schema)}.${ident(table.table)}`
}

/** Primary key columns, partition key first, as the keys of RowKey and KeyRange have them. */
export function keyColumns(table: TableMapping): readonly number[] {
  return [table.partition, ...table.clustering]
}

export function columnSql(table: TableMapping, column: number): string {
  return ident(table.columns[column]!.name)
}
