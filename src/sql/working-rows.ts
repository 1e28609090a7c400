// Promises: the rows that a statement works on: what was read, with its own changes folded over it, each row's changes folded
// into the last (model/row.ts). Deletes come before inserts, so that a key freed and taken again is no false conflict.
import type { TableMapping } from '../model/mapping.ts'
import type { AggregateRows } from '../model/plan.ts'
import type { Cell, Row, RowChange } from '../model/row.ts'

export interface WorkingRows {
  point(table: TableMapping, clustering: readonly string[]): Row | undefined
  range(table: TableMapping): readonly Row[]
  put(table: TableMapping, row: Row): void
  remove(table: TableMapping, row: Row): void
  changes(): readonly RowChange[]
}

export function clusteringOf(table: TableMapping, row: readonly Cell[]): string[] {
  return table.clustering.map((index) => row[index] ?? '')
}

interface Touched {
  readonly table: TableMapping
  readonly clustering: readonly string[]
  values: Row | null
}

export function workingRows(rows: AggregateRows): WorkingRows {
  const touched = new Map<string, Touched>()
  const nameOf = (table: TableMapping, clustering: readonly string[]) => JSON.stringify([table.name, ...clustering])
  const set = (table: TableMapping, row: Row, values: Row | null) => {
    const clustering = clusteringOf(table, row)
    const name = nameOf(table, clustering)
    const before = touched.get(name)
    if (before === undefined) touched.set(name, { table, clustering, values })
    else before.values = values
  }
  return {
    point(table, clustering) {
      const own = touched.get(nameOf(table, clustering))
      return own === undefined ? rows.point(table.name, clustering) : (own.values ?? undefined)
    },
    range(table) {
      const read = rows.range(table.name)
      if (touched.size === 0) return read
      const kept = read.filter((row) => !touched.has(nameOf(table, clusteringOf(table, row))))
      for (const own of touched.values()) if (own.table === table && own.values !== null) kept.push(own.values)
      return kept
    },
    put: (table, row) => set(table, row, row),
    remove: (table, row) => set(table, row, null),
    changes() {
      const all = [...touched.values()].map(({ table, clustering, values }) => ({ table: table.name, clustering, values }))
      return [...all.filter((one) => one.values === null), ...all.filter((one) => one.values !== null)]
    },
  }
}
