// Promises: a row that PostgreSQL owns is sent through the stream once more, whole and with a newer stamp, one transaction a row: in
// the replica role, so that no trigger of the user's and no foreign key acts, and without our origin, so that the forward sync does not
// drop it (protocols.md, Parity). The row is locked by its own delete. The guard still stands: a row that has moved is refused.
import type pg from 'pg'
import type { TableMapping } from '../model/mapping.ts'
import type { Row, RowKey } from '../model/row.ts'
import { columnSql, ident, keyColumns, tableSql } from './ident.ts'

export interface SourceRepair {
  /** `onTarget`: the row as the target shows it, null where it has none. Throws what PostgreSQL refuses. */
  repair(table: TableMapping, row: RowKey, onTarget: Row | null): Promise<void>
}

/** `client` has pinned settings and raw text values, and is the repair's own. */
export async function openSourceRepair(client: pg.Client): Promise<SourceRepair> {
  await client.query('set session_replication_role = replica')
  await client.query('set synchronous_commit = on')
  return {
    async repair(table, row, onTarget) {
      const statements = statementsOf(table)
      const keys = [row.key, ...row.clustering]
      await client.query('begin')
      try {
        const again = await client.query(statements.again, keys)
        // Not there: what the target has beyond it is put and deleted here, so that the stream carries a tombstone.
        if (again.rowCount === 0 && onTarget !== null) {
          const put = await client.query(
            statements.put,
            statements.columns.map((column) => onTarget[column] ?? null),
          )
          if (put.rowCount === 1) await client.query(statements.remove, keys)
        }
        await client.query('commit')
      } catch (error) {
        await client.query('rollback').catch(() => undefined)
        throw error
      }
    },
  }
}

interface Statements {
  /** Generated columns compute themselves. */
  readonly columns: readonly number[]
  readonly again: string
  readonly put: string
  readonly remove: string
}

function statementsOf(table: TableMapping): Statements {
  const columns = table.columns.flatMap((column, i) => (column.generatedExpr === null ? [i] : []))
  const names = columns.map((column) => columnSql(table, column)).join(', ')
  const keys = keyColumns(table)
  const where = keys
    .map((column, i) => `${ident(table.columns[column]!.name)} = $${i + 1}::text::${table.columns[column]!.type}`)
    .join(' and ')
  return {
    columns,
    // Delete and insert, not an update: that would send an unchanged TOAST column as unchanged (measured).
    again: `with gone as (delete from ${tableSql(table)} where ${where} returning ${names})
      insert into ${tableSql(table)} (${names}) overriding system value select ${names} from gone`,
    put: `insert into ${tableSql(table)} (${names}) overriding system value
      values (${columns.map((column, i) => `$${i + 1}::text::${table.columns[column]!.type}`).join(', ')})
      on conflict (${keys.map((column) => columnSql(table, column)).join(', ')}) do nothing`,
    remove: `delete from ${tableSql(table)} where ${where}`,
  }
}
