// Promises: what is looked at in the stores while a move goes on: that a flip takes no difference along, and that nothing is acknowledged
// to the slot which is not on the target.
import type { VerifyReport } from '../../src/flip/parts.ts'
import type { SourceChange } from '../../src/model/change.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import { formatLsn, type Lsn, NO_LSN, type SlotId } from '../../src/model/ids.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { RoutingView } from '../../src/model/ownership.ts'
import { Tenures } from '../../src/model/tenures.ts'
import { forwardStamp, tenureHistory } from '../../src/sync/stamps.ts'
import { POTS } from '../commit/fake-plans.ts'
import { ORIGIN } from './leader-parts.ts'
import { KEYS, ROW_NAMES, type World } from './world.ts'

/** Both stores, after a drain: the same rows, or the flip would take a difference along. */
export function verified({ postgres, store, kernel }: World, slots: readonly SlotId[]): VerifyReport {
  const moving = new Set(slots)
  let compared = 0
  for (const key of KEYS) {
    if (!moving.has(hashSlotOf(key))) continue
    for (const pot of ROW_NAMES) {
      compared++
      const here = postgres.rows.get(key + pot)!.at(-1)!.value.values
      const there = store.row({ table: POTS, key, clustering: [pot] })?.values ?? null
      if (String(here) !== String(there))
        kernel.violated('INV-2', `at a flip ${key}${pot} is ${here} in PostgreSQL, ${there} on the target`)
    }
  }
  return { rowsCompared: compared, differences: 0, notChecked: 0, firstDifference: null, differing: [] }
}

/** INV-3: what is acknowledged is on the target. */
export function mustBeApplied({ postgres, store, kernel }: World, from: Lsn, to: Lsn): void {
  const history = tenureHistory({ tenures: new Tenures(postgres.tenures), slotOf: hashSlotOf, completeBelow: NO_LSN })
  const { wal } = postgres
  // Its positions only rise, and what is acknowledged is near its end.
  let first = wal.length
  while (first > 0 && wal[first - 1]!.endLsn > from) first--
  for (const { commitLsn, endLsn, origin, changes } of wal.slice(first)) {
    if (endLsn > to || origin === ORIGIN) continue
    for (const [key, pot] of changes.flatMap(rowsOf)) {
      const record = history.tenureAt(hashSlotOf(key), commitLsn)
      const row = store.row({ table: POTS, key, clustering: [pot] })
      if (record?.owner === 'source' && (row === undefined || row.stamp < forwardStamp(record, endLsn)))
        kernel.violated('INV-3', `${formatLsn(to)} is acknowledged, and ${key}${pot} of ${formatLsn(endLsn)} is not on the target`)
    }
  }
}

function rowsOf(change: SourceChange): [string, string][] {
  if (change.kind === 'message' || change.kind === 'truncate') return []
  const images = change.kind === 'delete' ? [change.before] : change.kind === 'insert' ? [change.after] : [change.before, change.after]
  return images.flatMap((row): [string, string][] => (row === null ? [] : [[row[0]!, row[1]!]]))
}

/** What a flip looks at before it begins: of this world nothing else can hold it up. */
export function observation(slots: readonly SlotId[], view: RoutingView, leases: readonly LeaseRow[], openFlips: readonly string[]) {
  return {
    rows: slots.map((slot) => view.ownership(slot)!),
    leases,
    epoch: view.bindingEpoch ?? 0,
    poison: [],
    forwardLagMs: 0,
    backfillDone: true,
    forwardStopped: null,
    guardProblems: [],
    catalogUnchanged: true,
    wayBackProven: true,
    openFlips,
    debts: [],
    gates: [],
    standbysNotNamed: [],
  }
}
