// Promises: carries a repair plan out, row by row, each copied from the store that owns it when its turn comes: ownership is read again,
// so a row that has moved since the comparison is repaired from its new owner. A row that cannot be is left, with the reason.

import { randomUUID } from 'node:crypto'
import { SwitchbackError } from '../model/errors.ts'
import { tableOf } from '../model/mapping.ts'
import type { KeyedPlan } from '../model/plan.ts'
import type { RowKey } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import type { RepairOutcome, RepairStep } from '../parity/repair.ts'
import { connectSource } from '../source/connect.ts'
import { openSourceRepair } from '../source/source-repair.ts'
import { readView } from '../store/read-view.ts'
import { ownPlan } from './own-plan.ts'
import { type LeasedExecutor, openLeasedExecutor } from './repair-lease.ts'
import type { Workspace } from './workspace.ts'

export interface RepairOptions {
  readonly workspace: Workspace
  readonly target: Target
  readonly steps: readonly RepairStep[]
  readonly onProgress: (done: number, total: number) => void
  readonly signal: AbortSignal
}

export async function repairNow({ workspace, target, steps, onProgress, signal }: RepairOptions): Promise<RepairOutcome> {
  const client = await connectSource({ url: workspace.url, applicationName: 'switchback repair' })
  let leased: LeasedExecutor | null = null
  const left: (RowKey & { because: string })[] = []
  let repaired = 0
  try {
    const source = await openSourceRepair(client)
    for (const { table: name, key, clustering } of steps) {
      if (signal.aborted) break
      const row = { table: name, key, clustering }
      const table = tableOf(workspace.mapping, name)!
      try {
        const view = await readView(workspace.session)
        if (view.ownership(view.slotOf(key))?.owner === 'target') {
          leased ??= openLeasedExecutor(workspace, target, `switchback repair ${process.pid}`)
          await rewriteOnTarget(leased, row)
        } else {
          const [onTarget] = await target.readRows([row])
          await source.repair(table, row, onTarget?.values ?? null)
        }
        repaired++
      } catch (error) {
        left.push({ ...row, because: error instanceof Error ? error.message : String(error) })
      }
      onProgress(repaired + left.length, steps.length)
    }
  } finally {
    await leased?.close()
    await client.end().catch(() => undefined)
  }
  return { repaired, left }
}

/** The row as the target has it, tombstone included, goes through head, outbox and reverse sync once more. */
function rewriteOnTarget(leased: LeasedExecutor, row: RowKey): Promise<unknown> {
  return leased.run(async ({ lease, view, executor }) => {
    const slot = view.slotOf(row.key)
    const ownership = view.ownership(slot)
    if (ownership === undefined || ownership.owner !== 'target' || ownership.phase !== 'steady' || ownership.readOnly) {
      throw new SwitchbackError('REPAIR_NOT_NOW', { key: row.key })
    }
    const address = { key: row.key, slot, group: view.groupOf(slot), tenure: ownership.tenure, base: ownership.base }
    await executor.autocommit(lease, address, rewriting(row), [], { nowText: '', answers: [], uuid: randomUUID })
  })
}

function rewriting({ table, key, clustering }: RowKey): KeyedPlan {
  return ownPlan({
    key,
    insertedRows: 0,
    reads: () => [{ kind: 'point', table, clustering }],
    run: (_, rows) => ({
      rows: [],
      commandTag: 'UPDATE 1',
      changes: [{ table, clustering, values: rows.point(table, clustering) ?? null }],
    }),
  })
}
