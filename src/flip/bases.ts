// Promises: a new tenure's base lies above every stamp that was issued before it (INV-4). Pure.

import { assert } from '../lib/assert.ts'
import type { Lsn, Owner, Stamp } from '../model/ids.ts'
import type { Ownership } from '../model/ownership.ts'
import type { Tenures } from '../model/tenures.ts'

export interface StampCeiling {
  /** Read after the marker of this flip has been written: no change of these slots lies above it. */
  readonly walLsn: Lsn
  /** Highest version applied of any aggregate of these slots in their present tenures. Later heads never got rows. */
  readonly highestVersion: number
}

/** One base for all slots of the flip: the highest stamp that any of them can have issued, plus one. */
export function newBaseFor(to: Owner, rows: readonly Ownership[], history: Tenures, ceiling: StampCeiling): Stamp {
  let highest = 0n
  for (const row of rows) {
    const record = history.newest(row.slot)
    assert(record !== undefined && record.tenure === row.tenure, `slot ${row.slot} has no record of its tenure ${row.tenure}`)
    assert(row.owner !== to, `slot ${row.slot} is owned by the ${to} already`)
    const offset = to === 'target' ? ceiling.walLsn - record.firstLsn : BigInt(ceiling.highestVersion)
    const top = row.base + (offset > 0n ? offset : 0n)
    if (top > highest) highest = top
  }
  return highest + 1n
}
